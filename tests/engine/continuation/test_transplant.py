"""Transplants: what they must not change, what they must reproduce, and grafts that make no sense."""

from __future__ import annotations

import pytest
import torch

from auditkit.adapters.chat import Prompt
from auditkit.adapters.protocol import Memory
from auditkit.engine.continuation.transplant import PrefixGraft, SpanGraft, answers, prefixes, spans
from auditkit.engine.guards import GuardTripped
from auditkit.engine.sites import SiteError

pytestmark = pytest.mark.unit


def prompt(length: int, seed: int) -> Prompt:
    generator = torch.Generator().manual_seed(seed)
    return Prompt("", tuple(torch.randint(10, 300, (length,), generator=generator).tolist()))


HOSTS = [prompt(n, n) for n in (9, 12, 15)]
ONE = [(11,)] * 3
PAIRS = [(11, 12)] * 3


def donor(host: Prompt, start: int, stop: int) -> Prompt:
    """The host with other tokens in a span."""
    other = [(token - 10 + 77) % 290 + 10 for token in host.ids]
    return Prompt("", (*host.ids[:start], *other[start:stop], *host.ids[stop:]))


def test_with_equal_ends_the_donors_prefix_gives_the_donors_logits(tiny) -> None:
    """Both kinds of graft, and both give what the donor itself says."""
    donors = [donor(host, 2, 6) for host in HOSTS]
    expected = tiny.run(tiny.batch(donors))[:, [11, 12]]
    own = tiny.run(tiny.batch(HOSTS))[:, [11, 12]]
    whole = [PrefixGraft(h, 6, d, 6) for h, d in zip(HOSTS, donors, strict=True)]
    span = [SpanGraft(h, d, ((2, 6),)) for h, d in zip(HOSTS, donors, strict=True)]
    for got in (answers(tiny, prefixes(tiny, whole, ONE), PAIRS), answers(tiny, spans(tiny, span, ONE), PAIRS)):
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)
    assert float((own - expected).abs().max()) > 0.01


def test_only_the_layer_that_reads_the_word_matters(planted) -> None:
    """In the planted model the attention of layer 4 alone carries position 3 to the end."""
    hosts = [Prompt("", h.ids) for h in HOSTS]
    donors = [donor(h, 3, 4) for h in hosts]
    own = planted.run(planted.batch(hosts))[:, [11, 12]]
    expected = planted.run(planted.batch(donors))[:, [11, 12]]
    for layer in range(6):
        grafts = [SpanGraft(h, d, ((3, 4),), (layer, layer)) for h, d in zip(hosts, donors, strict=True)]
        got = answers(planted, spans(planted, grafts, ONE), PAIRS)
        torch.testing.assert_close(got, expected if layer == 4 else own, rtol=0, atol=1e-5)
    assert float((own - expected).abs().max()) > 0.01


def test_the_cost_is_as_declared(tiny) -> None:
    graft = SpanGraft(HOSTS[1], donor(HOSTS[1], 3, 5), ((3, 5),))
    run = spans(tiny, [graft], [(5, 6, 7)])
    before = tiny.meter.token_layers
    run.logits([0])
    assert tiny.meter.token_layers - before == tiny.layers * (5 + 12 + 3 - 1)
    run = prefixes(tiny, [PrefixGraft(HOSTS[1], 4, HOSTS[2], 7)], [(5, 6, 7)])
    before = tiny.meter.token_layers
    run.logits([0])
    assert tiny.meter.token_layers - before == tiny.layers * (7 + (12 - 4) + 3 - 1)


class Tampered:
    def __init__(self, adapter, extend) -> None:
        self._adapter, self._extend = adapter, extend

    def __getattr__(self, name):
        return getattr(self._adapter, name)

    def extend(self, past, batch, touches=None, tokens=1):
        return self._extend(self._adapter, past, batch, touches, tokens)


def test_a_cache_that_loses_something_is_found_out(tiny) -> None:
    def lossy(adapter, past, batch, touches, tokens):
        logits, memory = adapter.extend(past, batch, touches, tokens)
        keys = [keys.clone() for keys in memory.keys]
        keys[2][:, 0, 1] = 0
        return logits, Memory(memory.batch, keys, memory.values)

    whole = [PrefixGraft(h, 6, h, 6) for h in HOSTS]
    with pytest.raises(GuardTripped, match="a prompt's own prefix changes the logits of prompt 0"):
        prefixes(Tampered(tiny, lossy), whole, ONE)
    with pytest.raises(GuardTripped, match="a prompt's own span changes the logits of prompt"):
        spans(Tampered(tiny, lossy), [SpanGraft(h, h, ((3, 6),)) for h in HOSTS], ONE)


def test_a_prefix_that_is_not_the_donors_is_found_out(tiny) -> None:
    """An adapter that runs the wrong prompt for the donor."""

    def stubborn(adapter, past, batch, touches, tokens):
        if past is None:
            batch = type(batch)(batch.ids.clamp(max=50), batch.mask, batch.pads)
        return adapter.extend(past, batch, touches, tokens)

    grafts = [PrefixGraft(h, 0, donor(h, 0, 9), 5) for h in HOSTS]
    with pytest.raises(GuardTripped, match="a donor's prefix misses the logits of prompt 0"):
        prefixes(Tampered(tiny, stubborn), grafts, ONE)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda h, d: PrefixGraft(h, 9, d, 3), "a prefix of 9 of the host's 9 tokens; give 0 to one less"),
        (lambda h, d: PrefixGraft(h, -1, d, 3), "a prefix of -1 of the host's 9 tokens"),
        (lambda h, d: PrefixGraft(h, 3, d, 0), "a prefix of 0 of the donor's 9 tokens; give 1 to all"),
        (lambda h, d: PrefixGraft(h, 3, d, 10), "a prefix of 10 of the donor's 9 tokens"),
        (lambda h, d: SpanGraft(h, HOSTS[1], ((1, 2),)), "must have equal length for a span, got 9 and 12 tokens"),
        (lambda h, d: SpanGraft(h, d, ()), "no span"),
        (lambda h, d: SpanGraft(h, d, ((3, 3),)), "span 3 to 2 of a prompt with positions 0 to 8"),
        (lambda h, d: SpanGraft(h, d, ((7, 9),)), "span 7 to 8 .* end before the last token"),
        (lambda h, d: SpanGraft(h, d, ((2, 5), (4, 6))), "span 4 to 5 .* do not overlap"),
    ],
)
def test_grafts_that_make_no_sense_are_refused(make, message) -> None:
    with pytest.raises(SiteError, match=message):
        make(HOSTS[0], donor(HOSTS[0], 1, 3))


def test_layers_and_continuations_are_checked_before_anything_runs(tiny) -> None:
    runs = tiny.meter.runs
    with pytest.raises(SiteError, match="layers 4 to 6 asked for, this model has layers 0 to 5"):
        spans(tiny, [SpanGraft(HOSTS[0], donor(HOSTS[0], 1, 2), ((1, 2),), (4, 6))], [(1,)])
    with pytest.raises(SiteError, match="1 runs need one continuation"):
        prefixes(tiny, [PrefixGraft(HOSTS[0], 3, HOSTS[1], 3)], [()])
    assert tiny.meter.runs == runs
