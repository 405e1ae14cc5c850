"""Reading attention: where heads look, and how spread out that is.

    entropies(adapter, prompts)                            every head at each prompt's last token
    entropies(adapter, prompts, "identity", spans=spans)   at the identity words
    probabilities(adapter, prompts, -1, layers=[5], heads=[8])

The model runs with its own attention; probabilities are computed a second time for the chosen queries only, a few
queries at once. So reading needs memory for heads x tokens for each query, not for whole squares of attention. What
several prompts begin with is run and read once, since no later token changes it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple, TypedDict, Unpack, cast

import torch
from torch import Tensor, nn

from auditkit.adapters.chat import Prompt
from auditkit.adapters.protocol import Attending, AttentionView, Component, Continuable, Look
from auditkit.claims.outcomes import Unsupported
from auditkit.engine import arguments
from auditkit.engine.batching import in_batches
from auditkit.engine.continuation.shared_prefix import Heads, Ids, by_beginning, moved, run_heads
from auditkit.engine.guards import GuardTripped, costing
from auditkit.engine.sites import Position, Site, SiteError, Span, pattern

QUERIES = 32
"""Queries whose probabilities over all keys are held at once."""


class Chosen(TypedDict, total=False):
    """What is read, beside the queries.

    Attributes:
        layers, heads: which, in the order of the result; None is all.
        spans: for each prompt, its named spans.
    """

    layers: Sequence[int] | None
    heads: Sequence[int] | None
    spans: Sequence[Mapping[str, Span]] | None


def entropies(
    adapter: Attending, prompts: Sequence[Prompt], queries: Position = "last", **chosen: Unpack[Chosen]
) -> list[Tensor]:
    """For each prompt, entropy (layer, head, query) in nats of the attention at the chosen queries; see `entropy`.

    Args:
        queries: "last", "all", a named span, an index (negative from the end), or a half-open span.
        chosen: layers, heads and spans; see `Chosen`.

    Raises:
        SiteError: a layer, head or query that the model or a prompt does not have, before anything runs.
        NotApplicable: this model does not show its attention.
        GuardTripped: probabilities that are NaN, or a layer whose attention was not reached.
        TypeError: an argument of another shape, such as one prompt where a list is meant, before anything runs.
    """
    return _read(adapter, prompts, queries, entropy, "entropies", False, **chosen)


def probabilities(
    adapter: Attending, prompts: Sequence[Prompt], queries: Position = "last", **chosen: Unpack[Chosen]
) -> list[Tensor]:
    """For each prompt, attention probabilities (layer, head, query, key) over its own tokens, in float32.

    Keys after the query have probability exactly 0. Arguments and errors are those of `entropies`.
    """
    return _read(adapter, prompts, queries, lambda values: values, "attention", True, **chosen)


def entropy(probabilities: Tensor) -> Tensor:
    """Shannon entropy in nats over the last axis: 0 when one key gets everything, ln n when n keys get the same.

    Of the share that goes to keys: where a family has attention sinks, what goes to the sink is left out and the
    rest is scaled to sum to 1.
    """
    shares = probabilities / probabilities.sum(-1, keepdim=True)
    nats: Tensor = torch.special.entr(shares).sum(-1).clamp(min=0.0)
    return nats


def _read(
    adapter: Attending,
    prompts: Sequence[Prompt],
    queries: Position,
    reduce: Callable[[Tensor], Tensor],
    description: str,
    keys: bool,
    layers: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
    spans: Sequence[Mapping[str, Span]] | None = None,
) -> list[Tensor]:
    """For each prompt (layer, head, query, ...): `reduce` of (batch, head, query, key).

    Args:
        keys: whether what `reduce` gives has an axis of keys.
    """
    arguments.model(adapter)
    arguments.indices("layers", layers, "layers")
    arguments.indices("heads", heads, "heads")
    ranges = _ranges(prompts, queries, spans)
    chosen_layers, chosen_heads = _layers(adapter, layers), _heads(adapter, heads)
    offered = adapter.support()[Component.PATTERN]
    if not offered:
        site = Site(Component.PATTERN, position=queries)
        raise Unsupported(f"{site} cannot be read on this model: {offered.reason}")
    reading = _Reading(adapter, prompts, ranges, chosen_layers, chosen_heads, reduce, keys)
    for beginnings, rows in by_beginning(adapter, [prompt.ids for prompt in prompts]):
        begun = reading.begin(beginnings, rows) if beginnings else None
        in_batches(partial(reading.read, rows, begun), [len(prompts[i]) for i in rows], description)
    return [reading.results[i] for i in range(len(prompts))]


class _Begun(NamedTuple):
    """What some prompts begin with: its runs, and what was read of it, (head, layer, attention head, query, ...) from
    the query in column `first` on."""

    heads: Heads
    first: int
    read: Tensor | None


@dataclass
class _Reading:
    """Reading under way; see `_read`."""

    adapter: Attending
    prompts: Sequence[Prompt]
    ranges: Sequence[Span]
    layers: Sequence[int]
    heads: Sequence[int]
    reduce: Callable[[Tensor], Tensor]
    keys: bool
    results: dict[int, Tensor] = field(default_factory=dict)

    def begin(self, heads: Sequence[Ids], rows: Sequence[int]) -> _Begun:
        """Run what the prompts in `rows` begin with, and read those of their queries that it holds."""
        able, width = cast(Continuable, self.adapter), max(map(len, heads))
        pads = {head: width - len(head) for head in heads}
        first = min(
            self.ranges[i][0] + pads[next(head for head in heads if self.prompts[i].ids[: len(head)] == head)]
            for i in rows
        )
        if first >= width:
            return _Begun(run_heads(able, heads), first, None)
        seen: dict[int, Tensor] = {}
        # Padding attends to nothing; in its place the first token is looked at.
        where = torch.arange(first, width).maximum(torch.tensor([[pads[head]] for head in heads]))
        known = run_heads(able, heads, looks=self._looks(where, seen))
        return _Begun(known, first, self._stacked(seen))

    def read(self, among: Sequence[int], begun: _Begun | None, chosen: Sequence[int]) -> None:
        """Read one batch: prompts by their place in `among`."""
        rows = [among[k] for k in chosen]
        some = [self.prompts[i] for i in rows]
        batch, cut, at = self.adapter.batch(some), 0, [0] * len(rows)
        if begun is not None:
            at = begun.heads.at(some)
            cut = begun.heads.before(some, batch, at)
        # Columns of the padded batch; what stands before the cut was read with the beginnings.
        asked = [self.ranges[i] for i in rows]
        spans = [(start + pad, stop + pad) for (start, stop), pad in zip(asked, batch.pads, strict=True)]
        late = [(max(start, cut), max(stop, cut)) for start, stop in spans]
        most = max(1, *(stop - start for start, stop in late))
        steps = torch.arange(most).expand(len(rows), -1)
        counts = torch.tensor([[stop - start] for start, stop in late])
        firsts = torch.tensor([[min(start, batch.width - 1)] for start, _ in late])
        where = firsts + steps.minimum((counts - 1).clamp(min=0))  # short rows repeat their last
        seen: dict[int, Tensor] = {}
        looks = self._looks(where - cut, seen)
        if begun is None:
            self.adapter.attend(batch, looks)
        else:
            past, rest = moved(begun.heads.memory, at, batch.columns(0, cut)), batch.columns(cut, batch.width)
            with costing(self.adapter, int(rest.mask.sum())):
                cast(Continuable, self.adapter).extend(past, rest, None, 1, looks)
        stacked = self._stacked(seen)
        for row, (i, pad) in enumerate(zip(rows, batch.pads, strict=True)):
            own = stacked[row, :, :, : late[row][1] - late[row][0]]
            own = own[..., pad:] if self.keys else own
            if begun is not None and begun.read is not None and spans[row][0] < cut:
                shift = begun.heads.memory.batch.pads[at[row]]
                start, stop = (min(end, cut) - pad + shift - begun.first for end in spans[row])
                early = begun.read[at[row], :, :, start:stop]
                if self.keys:
                    early = nn.functional.pad(early[..., shift:], (0, own.shape[-1] - early.shape[-1] + shift))
                own = torch.cat([early, own], 2)
            self.results[i] = own

    def _looks(self, where: Tensor, seen: dict[int, Tensor]) -> dict[int, Look]:
        """Looks that put what is read at these queries, (row, query), into `seen`."""

        def look(layer: int) -> Look:
            def see(view: AttentionView) -> None:
                parts = [
                    self.reduce(view.probabilities(part)[:, self.heads]) for part in torch.split(where, QUERIES, 1)
                ]
                seen[layer] = torch.cat(parts, 2).cpu()

            return see

        return {layer: look(layer) for layer in self.layers}

    def _stacked(self, seen: Mapping[int, Tensor]) -> Tensor:
        """(row, layer, head, query, ...).

        Raises:
            GuardTripped: a layer whose attention was not reached, or is not finite.
        """
        for layer in self.layers:
            if layer not in seen or not torch.isfinite(seen[layer]).all():
                what = "are not finite" if layer in seen else "were not reached"
                raise GuardTripped(f"guard: the attention probabilities of layer {layer} {what}")
        return torch.stack([seen[layer] for layer in self.layers], 1)


def _ranges(
    prompts: Sequence[Prompt], queries: Position, spans: Sequence[Mapping[str, Span]] | None
) -> list[Span]:
    """Start and stop of the queries in each prompt, after a check of the arguments that say which."""
    arguments.several("prompts", prompts, Prompt, arguments.PROMPTS)
    arguments.position("queries", queries)
    if spans is not None:
        arguments.several("spans", spans, Mapping, "a list with a dict of spans for each prompt, or None")
        if len(spans) != len(prompts):
            raise SiteError(f"spans of {len(spans)} prompts were given for {len(prompts)} prompts")
    site = Site(Component.PATTERN, position=queries)
    return [site.span(len(prompt), {} if spans is None else spans[i]) for i, prompt in enumerate(prompts)]


def _layers(adapter: Attending, layers: Sequence[int] | None) -> list[int]:
    if layers is None:
        return list(range(adapter.layers))
    if not layers:
        raise SiteError("attention of no layers asked for; give at least one, or None for all")
    return [pattern.layer(layer).layer_indices(adapter.layers)[0] for layer in layers]


def _heads(adapter: Attending, heads: Sequence[int] | None) -> list[int]:
    if heads is None:
        return list(range(adapter.heads))
    Site(Component.PATTERN).head(*heads).head_indices(adapter.heads, adapter.groups)
    return list(heads)
