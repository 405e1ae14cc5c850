"""Keys and values of one prompt in the run of another.

What later tokens know of earlier ones is in the keys and values that those left behind. A transplant exchanges
them and leaves everything else of the host's run alone:

    PrefixGraft(host, 30, donor, 34)           host's tokens from 30 on, after the donor's first 34 tokens
    SpanGraft(host, donor, ((12, 15),))        host's run, in which tokens 12 to 14 are remembered as the donor's
    SpanGraft(host, donor, ((12, 15),), (4, 9))   in layers 4 to 9 only

After a donor's prefix positions go on from where the donor's end, so that a prefix may be longer or shorter than the
one it stands for. A span's donor is aligned: same length, same positions. The tokens of a span are run as the
host's, and what *later* tokens find in the chosen layers is the donor's; so a span ends before the last token of the
prompt. (A replacement at `k` and `v` sites is another thing where only some layers are meant: there the span's own
tokens attend to the donor's keys and values too, and are changed by them in the layers above.)

A transplant is read over given continuations of its host, as a `Forced` run: `divergence` takes it as a condition,
and `answers` reads the answers after the prompt.

Guards, on the first few rows: a prompt given its own keys and values keeps its logits; a prompt given everything of
the donor before its last part has the logits of the two written one after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import cast

import torch
from torch import Tensor, nn

from auditkit.adapters.chat import Prompt
from auditkit.adapters.protocol import Adapter, Capability, Continuable, Support
from auditkit.claims.outcomes import Unsupported
from auditkit.engine import arguments
from auditkit.engine.batching import in_batches
from auditkit.engine.continuation.shared_prefix import begin, beginning, on
from auditkit.engine.continuation.timed import GUARDED_ROWS, Continued, Forced, forced, window_lengths
from auditkit.engine.exchange.turns import Divided
from auditkit.engine.guards import GuardTripped, costing, note_edits, pieces_floor
from auditkit.engine.sites import SiteError, Span


@dataclass(frozen=True)
class PrefixGraft:
    """A host whose first `own` tokens are forgotten for the first `given` tokens of the donor.

    Raises:
        SiteError: nothing left of the host, or prefixes that the prompts do not have.
        TypeError: an argument of another kind.
    """

    host: Prompt
    own: int
    donor: Prompt
    given: int

    def __post_init__(self) -> None:
        _hosted(self.host, self.donor)
        for name, tokens in (("own", self.own), ("given", self.given)):
            arguments.one(name, tokens, Integral, "a number of tokens")
        if not 0 <= self.own < len(self.host):
            raise SiteError(f"a prefix of {self.own} of the host's {len(self.host)} tokens; give 0 to one less")
        if not 1 <= self.given <= len(self.donor):
            raise SiteError(f"a prefix of {self.given} of the donor's {len(self.donor)} tokens; give 1 to all")


@dataclass(frozen=True)
class SpanGraft:
    """A host whose tokens in some half-open `spans` are remembered as the donor's, in layers first to last.

    Attributes:
        layers: (first, last), both included (0-based); None is all.

    Raises:
        SiteError: prompts of unequal length, a span that is empty, overlaps another or reaches the last token.
        TypeError: an argument of another kind, such as one span where a list is meant.
    """

    host: Prompt
    donor: Prompt
    spans: tuple[Span, ...]
    layers: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        _hosted(self.host, self.donor)
        expected = "a list of half-open spans of tokens, such as [(12, 15)]"
        arguments.nested("spans", self.spans, Integral, expected, "a position")
        if self.layers is not None:
            arguments.several("layers", self.layers, Integral, "(first, last), or None for all", "a layer")
        if len(self.host) != len(self.donor):
            raise SiteError(
                f"host and donor must have equal length for a span, got {len(self.host)} and {len(self.donor)} tokens"
            )
        if not self.spans:
            raise SiteError("no span to take from the donor")
        end = 0
        for start, stop in sorted(self.spans):
            if not end <= start < stop <= len(self.host) - 1:
                raise SiteError(
                    f"span {start} to {stop - 1} of a prompt with positions 0 to {len(self.host) - 1}: give spans "
                    "that do not overlap and end before the last token, which alone would read nothing of them"
                )
            end = stop


def _hosted(host: object, donor: object) -> None:
    for name, prompt in (("host", host), ("donor", donor)):
        arguments.one(f"the {name}", prompt, Prompt, "one prompt, such as model.chat(chat)")


def prefixes(adapter: Adapter, grafts: Sequence[PrefixGraft], continuations: Sequence[Sequence[int]]) -> Forced:
    """The rest of each host, and its continuation, on the donor's prefix. The guards run now, the rest when asked for.

    Cost in token-layers: blocks times (given + rest of the host + continuation - 1).

    Raises:
        NotApplicable: a model that cannot go on from keys and values.
        SiteError: a missing or empty continuation; before anything runs.
        GuardTripped: a guard found transplants not to be trusted.
        TypeError: an argument of another shape, before anything runs.
    """
    _checked(adapter, grafts, PrefixGraft, continuations)
    able = _continuable(adapter)
    made = _Prefixes(able, grafts, continuations)
    some = grafts[:GUARDED_ROWS]
    given = continuations[: len(some)]
    own = [PrefixGraft(g.host, g.own, g.host, g.own) for g in some if g.own]
    kept = [tokens for g, tokens in zip(some, given, strict=True) if g.own]
    _guard(able, "a prompt's own prefix changes", _Prefixes(able, own, kept).run, [g.host.ids for g in own], kept)
    joined = [g.donor.ids[: g.given] + g.host.ids[g.own :] for g in some]
    _guard(able, "a donor's prefix misses", _Prefixes(able, some, given).run, joined, given)
    return made.run


def spans(adapter: Adapter, grafts: Sequence[SpanGraft], continuations: Sequence[Sequence[int]]) -> Forced:
    """Each host with its continuation, spans remembered as the donor's. The guards run now, the rest when asked for.

    Cost in token-layers: blocks times (the donor up to the end of the last span + host + continuation - 1).

    Raises:
        NotApplicable: a model that cannot go on from keys and values.
        SiteError: layers that the model does not have, a missing or empty continuation; before anything runs.
        GuardTripped: a guard found transplants not to be trusted.
        TypeError: an argument of another shape, before anything runs.
    """
    _checked(adapter, grafts, SpanGraft, continuations)
    able = _continuable(adapter)
    for first, last in (graft.layers for graft in grafts if graft.layers is not None):
        if not 0 <= first <= last < adapter.layers:
            raise SiteError(
                f"keys and values: layers {first} to {last} asked for, this model has layers 0 to {adapter.layers - 1}"
            )
    made = _Spans(able, grafts, continuations)
    some = grafts[:GUARDED_ROWS]
    given = continuations[: len(some)]
    own = [SpanGraft(g.host, g.host, g.spans, g.layers) for g in some]
    _guard(able, "a prompt's own span changes", _Spans(able, own, given).run, [g.host.ids for g in own], given)
    ends = [max(stop for _, stop in g.spans) for g in some]
    whole = [SpanGraft(g.host, g.donor, ((0, end),)) for g, end in zip(some, ends, strict=True)]
    joined = [g.donor.ids[:end] + g.host.ids[end:] for g, end in zip(some, ends, strict=True)]
    _guard(able, "everything before the rest misses", _Spans(able, whole, given).run, joined, given)
    return made.run


def answers(adapter: Adapter, run: Forced, pairs: Sequence[tuple[int, int]]) -> Tensor:
    """Logits (row, 2) of each row's (right, wrong) answer token after its prompt, in float32.

    Args:
        run: over continuations; only the first token's prediction is read.

    Raises:
        SiteError: not one pair for each row, before anything runs.
        GuardTripped: logits that are NaN or infinite.
        TypeError: an argument of another shape, before anything runs.
    """
    arguments.model(adapter)
    arguments.one("run", run, Forced, "a Forced run, such as prefixes(...) makes")
    arguments.nested("pairs", pairs, Integral, "a list with (right, wrong) token ids for each run", "a token id")
    if len(pairs) != len(run.windows):
        raise SiteError(f"{len(run.windows)} runs need one pair of answers each, got {len(pairs)}")
    out = torch.empty(len(pairs), 2)

    def work(rows: list[int]) -> None:
        logits = run.logits(rows)
        for k, row in enumerate(rows):
            out[row] = logits[k, -run.windows[row], list(pairs[row])].cpu()

    divided = None if run.of is None else Divided(adapter, ("answers", pairs, *run.of), {"answers": out})
    in_batches(work, run.lengths, "answers", divided=divided)
    if not torch.isfinite(out).all():
        raise GuardTripped("answer logits contain NaN or infinity (try --dtype float32)")
    return out


class _Prefixes:
    """Rows that go on from a donor's prefix."""

    def __init__(
        self, adapter: Continuable, grafts: Sequence[PrefixGraft], continuations: Sequence[Sequence[int]]
    ) -> None:
        self.adapter, self.grafts = adapter, grafts
        windows = window_lengths(len(grafts), continuations)
        self.rests = [
            (*graft.host.ids[graft.own :], *tokens[:-1])
            for graft, tokens in zip(grafts, continuations, strict=True)
        ]
        lengths = (graft.given + len(rest) for graft, rest in zip(grafts, self.rests, strict=True))
        self.run = Forced(tuple(lengths), windows, self.logits, ("prefixes", grafts, continuations))

    def logits(self, rows: list[int]) -> Tensor:
        note_edits()
        most = max(self.run.windows[row] for row in rows)
        parts: dict[int, Tensor] = {}
        for length in sorted({len(self.rests[row]) for row in rows}):  # what goes on has no padding
            same = [row for row in rows if len(self.rests[row]) == length]
            heads = [Prompt("", graft.donor.ids[: graft.given]) for graft in (self.grafts[row] for row in same)]
            memory = begin(self.adapter, heads).memory
            rest = self.adapter.batch([Prompt("", self.rests[row]) for row in same])
            with costing(self.adapter, length * len(same)):
                got, _ = self.adapter.extend(memory, rest, None, min(most, length))
            # Rows of a short rest have a short window: what stands before it is never read.
            parts |= dict(zip(same, nn.functional.pad(got, (0, 0, most - got.shape[1], 0)), strict=True))
        return torch.stack([parts[row] for row in rows])


class _Spans:
    """Rows whose later tokens find some earlier ones as the donor left them."""

    def __init__(
        self, adapter: Continuable, grafts: Sequence[SpanGraft], continuations: Sequence[Sequence[int]]
    ) -> None:
        self.adapter, self.grafts, self.continuations = adapter, grafts, continuations
        windows = window_lengths(len(grafts), continuations)
        lengths = (len(graft.host) + window - 1 for graft, window in zip(grafts, windows, strict=True))
        self.run = Forced(tuple(lengths), windows, self.logits, ("spans", grafts, continuations))

    def logits(self, rows: list[int]) -> Tensor:
        """One run in pieces: at the end of every span the donor's keys and values take their place."""
        note_edits()
        most = max(self.run.windows[row] for row in rows)
        own, theirs = (
            [(*getattr(self.grafts[row], side).ids, *self.continuations[row][:-1]) for row in rows]
            for side in ("host", "donor")
        )
        given = {ids: k for k, ids in enumerate(dict.fromkeys(theirs))}  # several grafts of one donor
        hosts, donors = (self.adapter.batch([Prompt("", ids) for ids in side]) for side in (own, given))
        ends: dict[int, list[tuple[int, int]]] = {}  # column -> (row, first column) of the spans that end there
        for k, row in enumerate(rows):
            for start, stop in self.grafts[row].spans:
                ends.setdefault(hosts.pads[k] + stop, []).append((k, hosts.pads[k] + start))
        cut, head = beginning(self.adapter, [*own, *given], min(ends) - 1)
        early, late = donors.columns(cut, max(ends)), hosts.columns(cut, hosts.width)
        with costing(self.adapter, int(early.mask.sum() + late.mask.sum())):
            _, donor = self.adapter.extend(on(head, donors.columns(0, cut)), early)
            past, at, out = on(head, hosts.columns(0, cut)), cut, []
            for end in sorted({*ends, hosts.width}):
                wanted = end - max(at, hosts.width - most)
                logits, past = self.adapter.extend(past, hosts.columns(at, end), None, max(wanted, 1))
                if wanted > 0:
                    out.append(logits)
                for k, start in ends.get(end, ()):
                    one, span = given[theirs[k]], slice(start, end)
                    for layer in self._layers(rows[k]):
                        past.keys[layer][k, :, span] = donor.keys[layer][one, :, span]
                        past.values[layer][k, :, span] = donor.values[layer][one, :, span]
                at = end
        return torch.cat(out, 1)

    def _layers(self, row: int) -> range:
        """Layers whose keys and values are exchanged."""
        first, last = self.grafts[row].layers or (0, self.adapter.layers - 1)
        return range(first, last + 1)


def _checked(adapter: object, grafts: object, kind: type, continuations: object) -> None:
    arguments.model(adapter)
    arguments.several("grafts", grafts, kind, f"a list of {kind.__name__}", f"a {kind.__name__}")
    arguments.continuations(continuations)


def _continuable(adapter: Adapter) -> Continuable:
    support = adapter.support().get(Capability.GENERATION, Support(False, "this adapter keeps no keys and values"))
    if not support:
        raise Unsupported(f"keys and values cannot be transplanted on this model: {support.reason}")
    return cast(Continuable, adapter)


def _guard(
    adapter: Adapter,
    what: str,
    run: Forced,
    plain: Sequence[tuple[int, ...]],
    continuations: Sequence[Sequence[int]],
) -> None:
    """A transplant must have the logits of the prompts written out in `plain`."""
    known = forced(adapter, [Continued(Prompt("", ids)) for ids in plain], continuations)

    def work(rows: list[int]) -> None:
        expected, got = known.logits(rows), run.logits(rows)
        floor = pieces_floor(adapter, expected)
        for k, row in enumerate(rows):
            error = float((got[k, -run.windows[row] :] - expected[k, -run.windows[row] :]).abs().max())
            if not error <= floor:
                raise GuardTripped(
                    f"guard: {what} the logits of prompt {row} by up to {error:.3g}, the noise floor is {floor:.3g}"
                )

    in_batches(work, known.lengths, "guards")
