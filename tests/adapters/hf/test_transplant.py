"""Transplants of keys and values, of every family: equal to caches exchanged by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from transformers import DynamicCache

from auditkit.adapters.chat import Prompt
from auditkit.adapters.hf.adapter import HFAdapter
from auditkit.adapters.hf.continuing import remembering
from auditkit.claims.outcomes import NotApplicable
from auditkit.engine.continuation.transplant import PrefixGraft, SpanGraft, answers, prefixes, spans

pytestmark = pytest.mark.unit

ROUNDING = 1e-5
"""Largest fp32 difference between one computation in another order; the largest seen over all families is 2e-6."""

NO_WINDOW = {"olmo2"}  # its tiny config names one; the cache made from it has a window that the model has not

WITHOUT = {"lfm2_hybrid"}  # keeps a state of another kind than keys and values


def prompt(length: int, seed: int) -> Prompt:
    generator = torch.Generator().manual_seed(seed)
    return Prompt("", tuple(torch.randint(3, 290, (length,), generator=generator).tolist()))


CONTINUATIONS = [(21, 22, 23), (31,), (41, 42), (51, 52, 53)]


def go_on(adapter: HFAdapter, ids: tuple[int, ...], cache: DynamicCache) -> Tensor:
    with torch.no_grad():
        return adapter.module(torch.tensor([ids]), use_cache=True, **remembering(adapter._accepts, cache)).logits[
            0
        ]


def test_a_prefix_equals_a_cache_handed_over(family: str, adapter: HFAdapter) -> None:
    """Donor prefixes longer, shorter and as long as the host's; rests of several lengths; windows of the family."""
    grafts = [
        PrefixGraft(prompt(12, 1), 5, prompt(11, 2), 8),
        PrefixGraft(prompt(12, 3), 8, prompt(6, 4), 6),
        PrefixGraft(prompt(9, 5), 2, prompt(10, 6), 2),
        PrefixGraft(prompt(6, 7), 0, prompt(9, 8), 9),
    ]
    if family in WITHOUT:
        with pytest.raises(NotApplicable, match="cannot be transplanted on this model: going on from a run fails"):
            prefixes(adapter, grafts, CONTINUATIONS)
        return
    got = prefixes(adapter, grafts, CONTINUATIONS).logits([0, 1, 2, 3])
    assert got.shape[:2] == (4, 3)
    for row, (graft, tokens) in enumerate(zip(grafts, CONTINUATIONS, strict=True)):
        cache = DynamicCache() if family in NO_WINDOW else DynamicCache(config=adapter.module.config)
        go_on(adapter, graft.donor.ids[: graft.given], cache)
        logits = go_on(adapter, (*graft.host.ids[graft.own :], *tokens[:-1]), cache)[-len(tokens) :]
        torch.testing.assert_close(got[row, -len(tokens) :], logits, rtol=0, atol=ROUNDING)


def test_a_span_equals_keys_and_values_exchanged_by_hand(family: str, adapter: HFAdapter) -> None:
    """Several spans, at places that differ by row, in all layers or in a band; prompts of three lengths."""
    if family in WITHOUT:
        with pytest.raises(NotApplicable, match="cannot be transplanted on this model: going on from a run fails"):
            spans(adapter, [SpanGraft(prompt(9, 1), prompt(9, 2), ((1, 2),))], [(1,)])
        return
    grafts = [
        SpanGraft(prompt(12, 1), prompt(12, 2), ((9, 11),)),
        SpanGraft(prompt(12, 3), prompt(12, 4), ((1, 3), (6, 10)), (1, 1)),
        SpanGraft(prompt(8, 5), prompt(8, 6), ((5, 6),), (0, 1)),
        SpanGraft(prompt(15, 7), prompt(15, 8), ((12, 14), (2, 4))),
    ]
    got = spans(adapter, grafts, CONTINUATIONS).logits([0, 1, 2, 3])
    for row, (graft, tokens) in enumerate(zip(grafts, CONTINUATIONS, strict=True)):
        given, cache = DynamicCache(), DynamicCache()
        go_on(adapter, graft.donor.ids, given)
        at, first, last = 0, *(graft.layers or (0, 2))
        for start, stop in sorted(graft.spans):
            go_on(adapter, graft.host.ids[at:stop], cache)
            for layer in range(first, last + 1):
                for name in ("keys", "values"):
                    mine, theirs = getattr(cache.layers[layer], name), getattr(given.layers[layer], name)
                    mine[:, :, start:stop] = theirs[:, :, start:stop]
            at = stop
        logits = go_on(adapter, (*graft.host.ids[at:], *tokens[:-1]), cache)[-len(tokens) :]
        torch.testing.assert_close(got[row, -len(tokens) :], logits, rtol=0, atol=ROUNDING)
        alone = spans(adapter, [graft], [tokens]).logits([0])[0]
        torch.testing.assert_close(got[row, -len(tokens) :], alone, rtol=0, atol=ROUNDING)


def test_answers_are_read_after_the_prompt(llama: HFAdapter) -> None:
    graft = PrefixGraft(prompt(9, 1), 4, prompt(9, 2), 4)
    joined = Prompt("", graft.donor.ids[:4] + graft.host.ids[4:])
    expected = llama.run(llama.batch([joined]))[:, [7, 8]]
    for continuation in ((5,), (5, 6, 7)):
        got = answers(llama, prefixes(llama, [graft], [continuation]), [(7, 8)])
        torch.testing.assert_close(got, expected, rtol=0, atol=ROUNDING)
