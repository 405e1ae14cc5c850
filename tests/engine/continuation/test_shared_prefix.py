"""Prompts that share their beginning come to the numbers of whole prompts."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from auditkit.adapters.chat import Prompt
from auditkit.adapters.protocol import Component, Support
from auditkit.engine.continuation import likelihoods, shared_prefix
from auditkit.engine.continuation.likelihoods import after, log_likelihoods
from auditkit.engine.continuation.shared_prefix import begin, by_beginning, run_heads, shared_head
from auditkit.engine.forward import capture

pytestmark = pytest.mark.unit


def whole(adapter, ids) -> torch.Tensor:
    return adapter.module(torch.tensor([ids])).logits[0].float()


def test_the_next_token_is_that_of_the_whole_prompt(circuit, monkeypatch) -> None:
    monkeypatch.setattr(likelihoods, "KEPT_TOKENS", 40)  # several batches of one family
    head = list(range(10, 20))
    prompts = [(*head, *tail) for tail in ([21], [22], [21, 23], [24, 25, 26], [27, 28])] + [
        (30, 31),
        (30, 32, 33),
    ]
    families = ["a"] * 5 + ["b", "c"]
    found: dict[int, torch.Tensor] = {}
    before = circuit.meter.token_layers
    after(circuit, prompts, families, lambda i, logits: found.update({i: logits.clone()}))
    assert sorted(found) == list(range(7))
    for i, prompt in enumerate(prompts):
        torch.testing.assert_close(found[i], whole(circuit, prompt)[-1], atol=1e-4, rtol=1e-4)
    tokens = (circuit.meter.token_layers - before) / circuit.layers
    assert tokens == 10 + sum(len(p) - 10 for p in prompts[:5]) + 5, "the beginning was run once"


def test_likelihoods_are_those_of_the_continuation(circuit) -> None:
    prompts = [(10, 11, 12)] * 3 + [(13, 14)]
    continuations = [(20,), (21, 22), (23, 24, 25), (26, 27)]
    for prompt, continuation, got in zip(
        prompts, continuations, log_likelihoods(circuit, prompts, continuations), strict=True
    ):
        said = whole(circuit, prompt + continuation).log_softmax(-1)[len(prompt) - 1 : -1]
        expected = said[range(len(continuation)), list(continuation)].double()
        torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match="at least one token"):
        log_likelihoods(circuit, [(1,)], [()])


def test_a_model_that_cannot_go_on_gives_the_same(circuit, monkeypatch) -> None:
    prompts, continuations = [(10, 11, 12)] * 2, [(20, 21), (22,)]
    able = log_likelihoods(circuit, prompts, continuations)
    offered = {**circuit.support(), "generation": Support(False, "no")}
    monkeypatch.setattr(circuit, "support", lambda: offered)
    for one, other in zip(able, log_likelihoods(circuit, prompts, continuations), strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


@settings(max_examples=50)
@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=6), min_size=1, max_size=5))
def test_the_shared_head_is_common_and_leaves_a_token(prompts: list[list[int]]) -> None:
    cut = shared_head([tuple(p) for p in prompts])
    assert all(len(p) > cut for p in prompts)
    assert len({tuple(p[:cut]) for p in prompts}) == 1
    longer = {tuple(p[: cut + 1]) for p in prompts}
    assert len(longer) > 1 or cut == min(map(len, prompts)) - 1


def test_numbers_that_are_no_numbers_are_refused(circuit, monkeypatch) -> None:
    from auditkit.engine.guards import GuardTripped

    monkeypatch.setattr(circuit, "run", lambda batch: torch.full((len(batch), 5), torch.nan))
    with pytest.raises(GuardTripped, match="NaN"):
        after(circuit, [(10, 11)], ["a"], lambda i, logits: None)


COMMON = tuple(range(10, 60))
"""Enough to be run by itself."""
UNEQUAL = [(*COMMON, *tail) for tail in ((60,), (61, 62, 63), (60, 64), tuple(range(70, 75)))]


def test_what_all_prompts_begin_with_is_run_once_and_changes_no_logit(circuit) -> None:
    before = circuit.meter.token_layers
    logits, memory, tokens, _ = begin(circuit, [Prompt("", ids) for ids in UNEQUAL])
    # Rows end together, so that short ones run some of the beginning again.
    assert circuit.meter.token_layers - before == tokens * circuit.layers == (len(COMMON) + 4 * 5) * circuit.layers
    again, _ = circuit.extend(memory, circuit.batch([Prompt("", (9,))] * 4))
    for row, ids in enumerate(UNEQUAL):
        torch.testing.assert_close(logits[row, 0], whole(circuit, ids)[-1], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(again[row, 0], whole(circuit, (*ids, 9))[-1], atol=1e-4, rtol=1e-4)


def test_a_beginning_that_saves_little_is_not_run_by_itself(circuit) -> None:
    runs = circuit.meter.runs
    begin(circuit, [Prompt("", (10, 11, token)) for token in (20, 21, 22)])
    assert circuit.meter.runs == runs + 1


def test_longer_beginnings_go_on_from_shorter_ones_that_were_run(circuit) -> None:
    known = run_heads(circuit, [ids[:51] for ids in UNEQUAL])
    assert len(known.rows) == 3
    before = circuit.meter.token_layers
    found = run_heads(circuit, UNEQUAL, known)
    assert circuit.meter.token_layers - before == 4 * 4 * circuit.layers, (
        "as much of each as is left of the longest"
    )
    again, _ = circuit.extend(found.memory, circuit.batch([Prompt("", (9,))] * 4))
    for row, ids in enumerate(found.rows):
        torch.testing.assert_close(again[row, 0], whole(circuit, (*ids, 9))[-1], atol=1e-4, rtol=1e-4)
    before = circuit.meter.token_layers
    run_heads(circuit, list(known.rows), known)
    assert circuit.meter.token_layers == before
    with pytest.raises(ValueError, match="does not begin with one of the heads"):
        run_heads(circuit, [(1, 2, 3)], known)


def test_without_families_prompts_are_cut_where_most_is_saved(circuit) -> None:
    prompts = [(word, *COMMON, *tail) for word in (5, 6) for tail in ([60], [61], [62, 63], [64])]
    found: dict[int, torch.Tensor] = {}
    before = circuit.meter.token_layers
    after(circuit, prompts, None, lambda i, logits: found.update({i: logits.clone()}))
    assert circuit.meter.token_layers - before == (2 * 51 + 2 * 5) * circuit.layers
    for i, prompt in enumerate(prompts):
        torch.testing.assert_close(found[i], whole(circuit, prompt)[-1], atol=1e-4, rtol=1e-4)


def test_prompts_are_grouped_by_what_they_begin_with(circuit, monkeypatch) -> None:
    """Two that share most, three others that share little with them and each other, and one that begins with nothing
    that is worth running once."""
    monkeypatch.setattr(shared_prefix, "WORTH", 6)
    shared, few = tuple(range(1, 13)), (1, 2, 3)
    prompts = [
        (*shared, 50),
        *((*few, *range(20 + n, 32 + n)) for n in range(3)),
        (*shared, 51),
        (*shared, 52, 53),
    ]
    prompts.append(tuple(range(60, 80)))
    assert by_beginning(circuit, prompts) == [((), [6]), ((few,), [1, 2, 3]), ((shared,), [0, 4, 5])]
    assert by_beginning(circuit, prompts, 2) == [((), [6]), (((1, 2),), [0, 1, 2, 3, 4, 5])]
    monkeypatch.setattr(circuit, "support", lambda: {"generation": Support(False, "no")})
    assert by_beginning(circuit, prompts) == [((), list(range(7)))]
    assert by_beginning(circuit, []) == []


def test_beginnings_of_beginnings_are_run_once(circuit) -> None:
    twice = tuple(range(60, 90))
    prompts = [(*COMMON, word, *twice, tail) for word in (5, 6, 7, 8, 9) for tail in range(100, 110)]
    place = (Component.RESIDUAL, 2)
    logits, memory, tokens, kept = begin(circuit, [Prompt("", ids) for ids in prompts], [place])
    assert tokens == 50 + 5 * 31 + 50
    for row, ids in list(enumerate(prompts))[::7]:
        _, seen = capture(circuit, circuit.batch([Prompt("", ids)]), [place])
        pad = memory.batch.pads[row]
        torch.testing.assert_close(kept[place][row, pad:], seen[place][0], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(logits[row, 0], whole(circuit, ids)[-1], atol=1e-4, rtol=1e-4)
