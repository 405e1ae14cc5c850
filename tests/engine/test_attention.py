"""Entropies and probabilities: exact on known patterns, equal to eager attention, in the order of the prompts."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from auditkit.adapters.chat import Prompt
from auditkit.adapters.hf.adapter import HFAdapter
from auditkit.adapters.protocol import Batch, Component, Look, Support
from auditkit.claims.outcomes import NotApplicable
from auditkit.engine import attention
from auditkit.engine.attention import entropies, entropy, probabilities
from auditkit.engine.continuation import shared_prefix
from auditkit.engine.guards import GuardTripped
from auditkit.engine.sites import Position, SiteError

pytestmark = pytest.mark.unit

ROUNDING = 1e-5
"""Between sdpa and eager, and between batches: probabilities and nats; the largest seen is 3e-6."""


@pytest.fixture(scope="module")
def prompts() -> list[Prompt]:
    generator = torch.Generator().manual_seed(5)
    lengths = (7, 15, 3, 15, 11)
    return [Prompt("", tuple(torch.randint(10, 290, (n,), generator=generator).tolist())) for n in lengths]


@pytest.fixture(scope="module")
def eager(tiny: HFAdapter, prompts: list[Prompt]) -> list[Tensor]:
    """For each prompt alone, (layer, head, query, key) as eager attention gives it."""
    twin = copy.deepcopy(tiny.module)
    twin.set_attn_implementation("eager")
    with torch.no_grad():
        runs = [twin(torch.tensor([prompt.ids]), output_attentions=True).attentions for prompt in prompts]
    return [torch.cat(run) for run in runs]


# -- entropy -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 7, 64, 1000])
def test_uniform_attention_has_the_entropy_of_its_number_of_keys(n: int) -> None:
    assert float(entropy(torch.full((n,), 1 / n))) == pytest.approx(math.log(n), rel=1e-6, abs=0)
    assert float(entropy(torch.full((n,), 1 / n).double())) == pytest.approx(math.log(n), rel=1e-14, abs=0)


def test_attention_to_one_key_has_none() -> None:
    assert torch.equal(entropy(torch.eye(5)), torch.zeros(5))


def test_halves_quarters_and_what_goes_to_a_sink() -> None:
    rows = torch.tensor([[0.5, 0.25, 0.25, 0.0], [0.25, 0.125, 0.125, 0.0], [0.25, 0.25, 0.25, 0.25]])
    assert torch.allclose(entropy(rows), torch.tensor([1.5, 1.5, 2.0]) * math.log(2), atol=1e-7)


rows = st.lists(st.integers(0, 1000), min_size=1, max_size=20).filter(any)


@given(rows)
def test_entropy_lies_between_none_and_that_of_equal_shares(weights: list[int]) -> None:
    value = float(entropy(torch.tensor(weights, dtype=torch.float32)))
    assert 0.0 <= value <= math.log(sum(weight > 0 for weight in weights)) + 1e-6


@given(rows, st.randoms(use_true_random=False), st.integers(1, 9))
def test_entropy_knows_neither_the_order_of_keys_nor_those_without_a_share(weights, shuffler, padding) -> None:
    other = [*weights, *[0] * padding]
    shuffler.shuffle(other)
    both = [entropy(torch.tensor(row, dtype=torch.float64)) for row in (weights, other)]
    torch.testing.assert_close(*both, rtol=0, atol=1e-12)


# -- reading -------------------------------------------------------------------------------------------------------


def test_probabilities_are_those_of_eager_attention(
    tiny: HFAdapter, prompts: list[Prompt], eager: list[Tensor]
) -> None:
    got = probabilities(tiny, prompts, "all")
    assert len(got) == len(prompts)
    for prompt, ours, theirs in zip(prompts, got, eager, strict=True):
        assert ours.shape == (tiny.layers, tiny.heads, len(prompt), len(prompt))
        torch.testing.assert_close(ours, theirs, rtol=0, atol=ROUNDING)
        assert not ours.triu(1).any()


@pytest.mark.parametrize(
    ("queries", "start", "stop"),
    [("last", -1, None), (-1, -1, None), (0, 0, 1), ((1, 3), 1, 3), ("all", 0, None), ("word", 1, 3)],
)
def test_entropies_are_those_of_eager_attention(
    tiny: HFAdapter, prompts: list[Prompt], eager: list[Tensor], queries: Position, start: int, stop: int | None
) -> None:
    got = entropies(tiny, prompts, queries, spans=[{"word": (1, 3)}] * len(prompts))
    for ours, theirs in zip(got, eager, strict=True):
        expected = -(theirs * theirs.clamp(min=1e-30).log()).sum(-1)[..., start:stop]
        assert ours.shape == expected.shape
        torch.testing.assert_close(ours, expected, rtol=0, atol=ROUNDING)


def test_each_prompt_has_its_own_span(tiny: HFAdapter, prompts: list[Prompt]) -> None:
    spans = [{"word": (len(prompt) - 2 - i % 2, len(prompt) - 1)} for i, prompt in enumerate(prompts)]
    got = entropies(tiny, prompts, "word", spans=spans)
    whole = entropies(tiny, prompts, "all")
    for i, span in enumerate(spans):
        assert got[i].shape[-1] == 1 + i % 2
        torch.testing.assert_close(got[i], whole[i][..., slice(*span["word"])], rtol=0, atol=ROUNDING)


def test_layers_and_heads_come_in_the_order_asked_for(tiny: HFAdapter, prompts: list[Prompt]) -> None:
    whole = probabilities(tiny, prompts)
    some = probabilities(tiny, prompts, layers=[4, 1], heads=[2, 0, 3])
    for ours, every in zip(some, whole, strict=True):
        assert torch.equal(ours, every[[4, 1]][:, [2, 0, 3]])


def test_a_prompt_alone_and_in_any_batch_gives_the_same(
    tiny: HFAdapter, prompts: list[Prompt], monkeypatch: pytest.MonkeyPatch
) -> None:
    together = entropies(tiny, prompts, "all")
    backwards = entropies(tiny, prompts[::-1], "all")[::-1]
    monkeypatch.setattr(attention, "QUERIES", 4)
    few = entropies(tiny, prompts, "all")
    for i, prompt in enumerate(prompts):
        alone = entropies(tiny, [prompt], "all")[0]
        for other in (together[i], backwards[i], few[i]):
            torch.testing.assert_close(other, alone, rtol=0, atol=ROUNDING)


class Counting:
    """Passes everything on, and notes how large a piece of attention was asked for."""

    def __init__(self, adapter: HFAdapter, drop: int | None = None) -> None:
        self.adapter, self.drop, self.asked = adapter, drop, []

    def __getattr__(self, name: str):
        return getattr(self.adapter, name)

    def attend(self, batch: Batch, looks: Mapping[int, Look]) -> Tensor:
        def noting(look: Look) -> Look:
            def see(view) -> None:
                noted = copy.copy(view)
                own = view.probabilities
                object.__setattr__(noted, "probabilities", lambda q: self.asked.append(q.shape) or own(q))
                look(noted)

            return see

        return self.adapter.attend(batch, {n: noting(look) for n, look in looks.items() if n != self.drop})


def test_only_chosen_queries_are_computed_a_few_at_once(
    tiny: HFAdapter, prompts: list[Prompt], monkeypatch: pytest.MonkeyPatch
) -> None:
    counting = Counting(tiny)
    entropies(counting, prompts)
    assert {shape[1] for shape in counting.asked} == {1}
    monkeypatch.setattr(attention, "QUERIES", 4)
    counting = Counting(tiny)
    entropies(counting, prompts, "all", layers=[0])
    assert sum(shape[0] * shape[1] for shape in counting.asked) <= len(prompts) * 15
    assert max(shape[1] for shape in counting.asked) == 4


def test_the_cost_is_one_run(tiny: HFAdapter, prompts: list[Prompt]) -> None:
    before = tiny.meter.token_layers
    entropies(tiny, prompts, "all")
    assert tiny.meter.token_layers - before == tiny.layers * sum(len(prompt) for prompt in prompts)


@pytest.mark.parametrize("queries", ["all", "last", (2, 8), (0, 3)])
def test_what_prompts_begin_with_is_read_once_and_is_that_of_whole_prompts(
    tiny: HFAdapter, monkeypatch: pytest.MonkeyPatch, queries: Position
) -> None:
    heads, tails = (tuple(range(30, 36)), tuple(range(40, 47))), ((50, 51), (52, 53, 54), (55, 51, 60, 61))
    some = [Prompt("", head + tail) for tail in tails for head in heads]
    whole = [read(tiny, some, queries) for read in (probabilities, entropies)]
    monkeypatch.setattr(shared_prefix, "WORTH", 4)
    before = tiny.meter.token_layers
    shared = [read(tiny, some, queries) for read in (probabilities, entropies)]
    assert tiny.meter.token_layers - before == 2 * tiny.layers * (
        6 + 7 + 2 * (2 + 3 + 4) + 2 * 1 + 2 * (1 + 2) - 2
    )
    for one, other in zip(shared, whole, strict=True):
        for ours, theirs in zip(one, other, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=ROUNDING)


def test_no_prompts_give_nothing(tiny: HFAdapter) -> None:
    assert entropies(tiny, []) == probabilities(tiny, []) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"layers": [0, 99]},
            "attention probabilities of layer 99: layers 99 to 99 asked for, this model has layers 0",
        ),
        ({"layers": [-1]}, "layers -1 to -1: give 0 <= first <= last"),
        ({"layers": []}, "attention of no layers asked for"),
        ({"heads": [0, 9]}, "this model has heads 0 to 3"),
        ({"heads": [1, 1]}, r"heads \(1, 1\) asked for, give different indices"),
        ({"queries": 5}, "positions 5 to 5 asked for, this prompt has positions 0 to 2"),
        ({"queries": "identity"}, "no span named 'identity'; this prompt has all, last"),
        ({"spans": [{}]}, "spans of 1 prompts were given for 5 prompts"),
    ],
)
def test_what_is_not_there_is_refused_before_anything_runs(
    tiny: HFAdapter, prompts: list[Prompt], options: dict, message: str
) -> None:
    runs = tiny.meter.runs
    with pytest.raises(SiteError, match=message):
        entropies(tiny, prompts, **options)
    assert tiny.meter.runs == runs


def test_a_model_that_does_not_show_its_attention_is_not_applicable(
    tiny: HFAdapter, prompts: list[Prompt], monkeypatch: pytest.MonkeyPatch
) -> None:
    support = {**tiny.support(), Component.PATTERN: Support(False, "it has none")}
    monkeypatch.setattr(tiny, "support", lambda: support)
    with pytest.raises(
        NotApplicable, match=r"attention probabilities .* cannot be read on this model: it has none"
    ):
        probabilities(tiny, prompts)


def test_guards_find_attention_that_was_not_reached_or_is_not_finite(
    tiny: HFAdapter, prompts: list[Prompt], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(GuardTripped, match="of layer 2 were not reached"):
        entropies(Counting(tiny, drop=2), prompts)
    weight = tiny.module.model.layers[3].self_attn.q_proj.weight
    before = weight.detach().clone()
    try:
        with torch.no_grad():
            weight[0, 0] = torch.nan
        with pytest.raises(GuardTripped, match="of layer 3 are not finite"):
            entropies(tiny, prompts)
    finally:
        weight.data.copy_(before)
