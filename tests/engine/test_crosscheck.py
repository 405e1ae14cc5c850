"""A uniform sample of what was measured, and its measurement through another adapter."""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from auditkit.adapters.hf.adapter import HFAdapter
from auditkit.adapters.loading.load import Loaded
from auditkit.adapters.nnterp import NnterpAdapter
from auditkit.adapters.protocol import Component, Support
from auditkit.engine.crosscheck import allowed_difference, cross_check
from auditkit.engine.edits import Edited, scale
from auditkit.engine.edits import replace as restored
from auditkit.engine.patching.plain import patch
from auditkit.engine.patching.sweep import grid, sweep
from auditkit.engine.sampling import Sample, offer, sampling
from auditkit.engine.sites import attention, mlp

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def second(tiny: HFAdapter) -> NnterpAdapter:
    return NnterpAdapter(
        Loaded("t", "t", "t", copy.deepcopy(tiny.module), tiny.tokenizer, weights_sha256="", tokenizer_sha256="")
    )


# -- sampling --------------------------------------------------------------------------------------------------


@given(size=st.integers(1, 12), offered=st.integers(0, 40), seed=st.integers(0, 3))
def test_a_sample_has_its_size_no_repeats_and_is_the_same_again(size: int, offered: int, seed: int) -> None:
    samples = [Sample(size, seed), Sample(size, seed)]
    for sample in samples:
        for number in range(offered):
            sample.add(number)  # type: ignore[arg-type]  # what is kept is not looked at
    first, again = samples
    assert first.kept == again.kept
    assert first.offered == offered
    assert len(first.kept) == len(set(first.kept)) == min(size, offered)
    assert set(first.kept) <= set(range(offered))


def test_every_edit_is_kept_with_the_same_probability() -> None:
    counts: Counter[int] = Counter()
    for seed in range(2000):
        sample = Sample(3, seed)
        for number in range(10):
            sample.add(number)  # type: ignore[arg-type]
        counts.update(sample.kept)
    # 2000 draws of probability 0.3: standard deviation 20.5; ten counts within 5 of them
    assert all(abs(counts[number] - 600) < 103 for number in range(10)), counts


def test_patch_and_sweep_offer_each_edit_once_with_its_answer(tiny, pairs) -> None:
    sample = Sample(1000, 0)
    sites = grid([Component.RESIDUAL, Component.MLP], [0, 3], [-1, 3])
    with sampling(sample):
        patched = patch(tiny, pairs, {"one": [[mlp.layer(1)["word"]]] * 5, "none": [[]] * 5})
        swept = sweep(tiny, pairs, sites)
    assert sample.offered == len(sample.kept) == 5 + len(sites) * 5
    expected = [(pair, (mlp.layer(1)["word"],), patched.conditions["one"][i]) for i, pair in enumerate(pairs)]
    expected += [
        (pair, (site,), swept.values[row, i]) for row, site in enumerate(sites) for i, pair in enumerate(pairs)
    ]
    assert [(one.pair, one.edits) for one in sample.kept] == [(pair, edits) for pair, edits, _ in expected]
    for one, (_, _, logits) in zip(sample.kept, expected, strict=True):
        assert one.logits == tuple(logits.tolist())
    patch(tiny, pairs, {"one": [[mlp.layer(1)]] * 5})  # nobody samples any more
    assert sample.offered == 45


def test_the_plain_way_of_a_sweep_is_offered_once_too(second, pairs) -> None:
    sample = Sample(1000, 0)
    with sampling(sample):
        assert sweep(second, pairs, grid([Component.MLP], [1], [3, -1])).method == "plain"
    assert sample.offered == 2 * len(pairs)


def test_what_is_offered_is_not_even_made_when_nobody_samples(pairs) -> None:
    def fail():
        raise AssertionError("looked at")
        yield

    offer(pairs, fail())


# -- measuring again -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sample(tiny, pairs) -> Sample:
    """Everything of a sweep, and edits of other kinds."""
    made = Sample(1000, 0)
    through = [
        [scale(mlp.layer(2), 0.5), restored(attention.layer(1), Edited(pair.source, (scale(mlp.layer(0), 0.0),)))]
        for pair in pairs
    ]
    with sampling(made):
        sweep(tiny, pairs, grid([Component.RESIDUAL, Component.ATTENTION, Component.MLP], range(6), [3, -1]))
        patch(tiny, pairs, {"edits": through})
    return made


def test_two_engines_give_the_same_logits(tiny, second, sample) -> None:
    result = cross_check(second, sample.kept, tiny.info.parity_max_abs)
    assert result.measured == sample.offered == 5 * (3 * 6 * 2 + 1)
    assert result.missing == {}
    assert result.agrees is True
    assert 0 < result.largest <= 2e-5
    assert result.where


def test_the_largest_difference_is_found_and_placed(tiny, second, sample) -> None:
    kept = list(sample.kept)
    right, wrong = kept[7].logits
    kept[7] = replace(kept[7], logits=(right, wrong - 0.02))
    result = cross_check(second, kept, tiny.info.parity_max_abs)
    assert result.agrees is False
    assert result.largest == pytest.approx(0.02, rel=1e-2)
    assert result.where == str(kept[7].edits[0])


def test_edits_that_the_other_adapter_cannot_make_are_counted(tiny, second, sample, monkeypatch) -> None:
    """Also where only a run that gives activations has the edit."""
    support = {**second.support(), Component.MLP: Support(False, "no MLP here")}
    monkeypatch.setattr(second, "support", lambda: support)
    result = cross_check(second, sample.kept, 0.0)
    assert result.missing == {"no MLP here": 5 * (6 * 2 + 1)}
    assert result.measured == 5 * 2 * 6 * 2
    nothing = cross_check(second, [one for one in sample.kept if "MLP" in str(one.edits[0])], 0.0)
    assert (nothing.measured, nothing.largest, nothing.allowed, nothing.agrees) == (0, None, None, None)


def test_nothing_sampled_is_no_agreement(second) -> None:
    assert cross_check(second, [], 0.0).agrees is None


@pytest.mark.parametrize("where", [0, 3, 6])
def test_not_a_number_never_agrees(second, sample, where: int) -> None:
    kept = list(sample.kept[::25])
    kept[where] = replace(kept[where], logits=(float("nan"), 0.0))
    result = cross_check(second, kept, 0.0)
    assert result.agrees is False
    assert result.where == str(kept[where].edits[0])


@pytest.mark.parametrize(
    ("dtype", "parity", "expected"),
    [
        ("float32", 0.0, 256 * 2**-23 * 20),
        ("float32", 1e-3, 4e-3),
        ("bfloat16", 0.01, 2 * 2**-7 * 20),
        ("bfloat16", 0.1, 0.4),
    ],
)
def test_what_rounding_explains(dtype: str, parity: float, expected: float) -> None:
    assert allowed_difference(20.0, dtype, parity) == pytest.approx(expected)
    assert allowed_difference(40.0, dtype, parity) <= 2 * expected
    assert torch.finfo(getattr(torch, dtype)).eps * 20 < expected
