"""Restoring over items, against plain forward hooks; the bands that are drawn."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from auditkit.adapters.chat import Prompt
from auditkit.adapters.hf.adapter import HFAdapter
from auditkit.claims.evidence import gathering
from auditkit.engine.pairs import PatchPair
from auditkit.engine.sites import attention, embeddings, mlp
from auditkit.methods.patching import (
    LOGITS,
    PROBABILITY,
    FromDonor,
    Held,
    LayerSweep,
    PairedItems,
    RandomBands,
    Restoration,
    Restored,
    cumulative,
)
from auditkit.stats.measurement import Measurement
from tests.planted.circuits import Circuit, open_circuit

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def noisy() -> HFAdapter:
    return open_circuit(Circuit(noise=1.0, seed=2))


@pytest.fixture(scope="module")
def paired(noisy: HFAdapter) -> PairedItems:
    """Six pairs of one length that differ at position 3, in six clusters."""
    generator = torch.Generator().manual_seed(0)
    pairs = []
    for _ in range(6):
        ids = torch.randint(8, 60, (9,), generator=generator).tolist()
        base, source = Prompt("", tuple(ids)), Prompt("", (*ids[:3], ids[3] + 1, *ids[4:]))
        pairs.append(PatchPair(base, source, (61, 62), {"word": (3, 4)}))
    names = [f"item {i}" for i in range(6)]
    clusters = pd.DataFrame({"cluster": names}, index=names)
    return PairedItems(tuple(pairs), Measurement("tried", "logit", pd.DataFrame(index=names), clusters))


def _hooked(adapter: HFAdapter, prompt: Prompt, kind: str, layer: int, donor: Prompt, where: slice) -> float:
    """Answer difference of a run in which one module's output comes from a donor, with plain hooks."""
    block = adapter.module.model.layers[layer]
    part = block.mlp if kind == "mlp" else block.self_attn
    kept: list[torch.Tensor] = []

    def first(out: object) -> torch.Tensor:
        return out[0] if isinstance(out, tuple) else out

    hook = part.register_forward_hook(lambda _, __, out: kept.append(first(out).clone()))
    adapter.module(torch.tensor([donor.ids]))
    hook.remove()

    def put(_: object, __: object, out: object) -> object:
        first(out)[:, where] = kept[0][:, where]
        return out

    hook = part.register_forward_hook(put)
    logits = adapter.module(torch.tensor([prompt.ids])).logits[0, -1]
    hook.remove()
    return float(logits[61] - logits[62])


def _plain(adapter: HFAdapter, prompt: Prompt) -> float:
    logits = adapter.module(torch.tensor([prompt.ids])).logits[0, -1]
    return float(logits[61] - logits[62])


@pytest.mark.parametrize("noising", [False, True])
def test_a_sweep_is_what_hooks_do(noisy: HFAdapter, paired: PairedItems, noising: bool) -> None:
    sites = [mlp.layer(1), attention.layer(3), mlp.layer(0)["word"]]
    swept = LayerSweep(noisy, paired, sites, noising=noising, description="tried")
    for site, kind, layer, where in zip(
        sites, ("mlp", "attention", "mlp"), (1, 3, 0), (slice(None), slice(None), slice(3, 4)), strict=True
    ):
        for value, pair in zip(swept.values(site), paired.pairs, strict=True):
            base, donor = (pair.source, pair.base) if noising else (pair.base, pair.source)
            change = _hooked(noisy, base, kind, layer, donor, where) - _plain(noisy, base)
            assert value == pytest.approx(-change if noising else change, abs=1e-4)
    total = swept.total().numerator
    expected = [_plain(noisy, pair.source) - _plain(noisy, pair.base) for pair in paired.pairs]
    assert total == pytest.approx(expected, abs=1e-4)
    assert swept.agreement(sites[0], sites[0]).describe().estimate == pytest.approx(1.0)


def test_a_donor_of_its_own_is_what_hooks_do(noisy: HFAdapter, paired: PairedItems) -> None:
    donors = tuple(pair.source for pair in (*paired.pairs[1:], paired.pairs[0]))
    restoration = Restoration(noisy, paired, seed=0, description="tried")
    (effect,) = restoration.effects(FromDonor(mlp.layer(1), donors, "the next item"))
    expected = [
        _hooked(noisy, pair.base, "mlp", 1, donor, slice(None)) - _plain(noisy, pair.base)
        for pair, donor in zip(paired.pairs, donors, strict=True)
    ]
    assert effect.numerator == pytest.approx(expected, abs=1e-4)
    assert effect.name == "MLP of layer 1 from the next item"


def test_holding_everything_behind_the_sender_leaves_its_own_contribution(
    noisy: HFAdapter, paired: PairedItems
) -> None:
    restoration = Restoration(noisy, paired, seed=0, description="tried")
    free, held = restoration.effects(mlp.layer(1)["word"], Held(mlp.layer(1)["word"], attention.layers(2, 5)))
    assert abs(free.numerator).max() > 1e-3
    assert abs(held.numerator).max() < 1e-4, "the word is not the last token, and no attention passes it on"


def test_what_was_run_is_not_run_again_and_the_total_serves_the_rest(
    noisy: HFAdapter, paired: PairedItems
) -> None:
    restoration = Restoration(noisy, paired, seed=0, description="tried")
    sites = mlp.layers(0, 1), RandomBands(mlp.layers(0, 1))
    first = restoration.recoveries(*sites)
    runs = noisy.meter.runs
    again = restoration.recoveries(*sites)
    restoration.total()
    assert noisy.meter.runs == runs
    assert [list(e.numerator) for e in first] == [list(e.numerator) for e in again]


FIRST, WORD = mlp.layers(0, 1), mlp.layer(1)["word"]
USED = {
    "restarted": (FIRST, RandomBands(FIRST)),
    "whole runs": (embeddings["word"],),
    "two batches": (embeddings["word"], WORD),
    "held": (WORD, Held(WORD, attention.layers(2, 5))),
    "donors": (WORD, "the next item"),
}
"""What a claim uses, by how it is run; a name stands for donors."""


@pytest.mark.parametrize("used", USED.values(), ids=USED)
def test_every_claim_that_uses_a_condition_notes_the_guards_of_its_batch(
    noisy: HFAdapter, paired: PairedItems, used: tuple
) -> None:
    others = tuple(pair.source for pair in (*paired.pairs[1:], paired.pairs[0]))
    used = tuple(FromDonor(WORD, others, one) if isinstance(one, str) else one for one in used)

    def noted(restoration: Restoration, *what: Restored) -> list[str]:
        with gathering() as evidence:
            restoration.effects(*what)
        return evidence.notes

    alone = noted(Restoration(noisy, paired, seed=0, description="tried"), *used)
    restoration = Restoration(noisy, paired, seed=0, description="tried")
    restoration.effects(*used)  # outside a claim
    assert alone
    assert all(text.startswith("guards (tried") for text in alone)
    assert [noted(restoration, *used) for _ in range(2)] == [alone] * 2
    for one in used:
        (of_its_batch,) = noted(restoration, one)
        assert of_its_batch in alone


@pytest.mark.parametrize(
    "read",
    [
        lambda swept: swept.values(WORD),
        lambda swept: swept.effect(WORD),
        lambda swept: swept.total(),
        lambda swept: swept.agreement(WORD, mlp.layer(1)),
    ],
)
def test_every_claim_that_reads_a_sweep_notes_its_guards(
    noisy: HFAdapter, paired: PairedItems, read: Callable[[LayerSweep], object]
) -> None:
    swept = LayerSweep(noisy, paired, [WORD, mlp.layer(1)], noising=False, description="tried")
    for _ in range(2):
        with gathering() as evidence:
            read(swept)
            read(swept)
        (text,) = evidence.notes
        assert text.startswith("guards (tried, ")


@given(
    layers=st.integers(2, 40), first=st.integers(0, 39), width=st.integers(1, 12), after=st.integers(-1, 20),
    seed=st.integers(0, 5),
)  # fmt: skip
def test_random_bands_are_as_wide_and_elsewhere(
    layers: int, first: int, width: int, after: int, seed: int
) -> None:
    first, last = min(first, layers - 1), min(first + width - 1, layers - 1)
    first = min(first, last)
    bands = RandomBands(attention.layers(first, last)["word"], after)
    starts = bands.starts(layers)
    possible = [
        start
        for start in range(layers)
        if start + last - first < layers
        and start > after
        and not set(range(start, start + last - first + 1)) & set(range(first, last + 1))
    ]
    assert starts == possible
    if starts:
        drawn = bands.drawn(layers, 30, seed)
        assert {site.first for site in drawn} <= set(starts)
        assert {site.last - site.first for site in drawn} == {last - first}
        assert {site.position for site in drawn} == {"word"}
        assert drawn == bands.drawn(layers, 30, seed)


@given(layers=st.integers(1, 80), points=st.integers(1, 12))
def test_cumulative_bands_begin_with_the_first_layer_and_end_with_the_last(layers: int, points: int) -> None:
    bands = cumulative(mlp.everywhere(), layers, points)
    assert {band.first for band in bands} == {0}
    lasts = [band.last for band in bands]
    assert lasts == sorted(set(lasts))
    assert len(lasts) <= points
    if points > 1:
        assert (lasts[0], lasts[-1]) == (0, layers - 1)


def test_on_the_scale_of_probability_a_share_is_that_of_the_two_answers_probabilities(
    noisy: HFAdapter, paired: PairedItems
) -> None:
    site = mlp.layer(1)
    restoration = Restoration(noisy, paired, seed=0, description="tried")
    (share,) = restoration.recoveries(site, scale=PROBABILITY)
    (logits,) = restoration.recoveries(site, scale=LOGITS)
    runs = [
        (_plain(noisy, p.base), _hooked(noisy, p.base, "mlp", 1, p.source, slice(None)), _plain(noisy, p.source))
        for p in paired.pairs
    ]
    base, patched, clean = torch.tensor(runs).double().sigmoid().mean(0).tolist()
    assert share.describe().estimate == pytest.approx((patched - base) / (clean - base), rel=1e-3)
    assert share.describe().estimate != pytest.approx(logits.describe().estimate, rel=1e-2)
    assert (share.measurement.unit, logits.measurement.unit) == ("1", "logit")
    assert share.name == f"{logits.name}, probability"
