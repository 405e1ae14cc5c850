"""The wavefront: an exact sweep over single sites at a small part of the work of one run per site.

A *sweep* restores one site at a time from the source run and reads the answers, over a grid of sites. It means
what `patch` with one site per condition means. Done so, nearly all of the work is repeated: nothing before the
patched block changes, nothing before the patched token changes, and a patch of a token that both prompts share
changes nothing at all.

So each (site, pair) becomes a *row*: the residual stream after one block (`level`; -1 is before the first), from
the first changed token on. All components come to that, since a block adds attention and MLP to the stream:

- residual and block input: the source's stream at the patched positions;
- MLP: the base's stream plus the difference of the two MLP contributions;
- attention: what the block makes of the base's input with the source's attention. MLPs work token by token, so a
  single run per pair, with every block given the base's input, makes this for all blocks and positions at once.

Rows of equal suffix length walk the blocks together, and each joins after its own block: the batch grows like a
wave front, and a block's weights are read once for all rows before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import cast

import torch
from torch import Tensor

from auditkit.adapters.blockwise import allowed
from auditkit.adapters.protocol import Adapter, Batch, Component, Joining, Memory, Place, Restartable, Touch
from auditkit.engine import patching
from auditkit.engine.guards import GuardTripped
from auditkit.engine.patching import PatchPair, patch
from auditkit.engine.progress import progress
from auditkit.engine.runs import capture
from auditkit.engine.sampling import offer
from auditkit.engine.sites import Position, Site, SiteError
from auditkit.stats.verdicts import NotApplicable

ROW_BUDGET = 4096
"""Tokens in one walk: enough that a block's weights are read rarely, few enough for the caches."""

SPARE = 0.02
"""Share of the work that may be spent on tokens before the first changed one, to let rows of neighbouring suffix
lengths walk together: few large walks are faster than many small ones."""


@dataclass(frozen=True)
class Sweep:
    """Answer logits of a sweep: right and wrong answer.

    Attributes:
        sites: what was restored, in the order of `values`.
        values: (sites, pairs, 2) the base run with one site restored from the source run.
        base, source: (pairs, 2) the two runs without edits.
        method: "wavefront", or "plain" with the `reason` why the model's blocks cannot be restarted.
        token_layers: tokens times blocks truly run, guards included.
        minimum: the least that any exact method needs: both runs, and for every site that can change anything the
            later blocks on the tokens from the first changed one on (for attention also the own block's MLP there).
        identity_error, full_patch_error: what the guards measured, in logits.
    """

    sites: tuple[Site, ...]
    values: Tensor
    base: Tensor
    source: Tensor
    method: str
    reason: str
    token_layers: int
    minimum: int
    identity_error: float
    full_patch_error: float

    @property
    def share_of_minimum(self) -> float:
        """Work done over the least possible work; 1 is perfect."""
        return self.token_layers / self.minimum


def grid(components: Iterable[Component], layers: Iterable[int], positions: Iterable[Position]) -> list[Site]:
    """Every component at every layer and position, in this order."""
    layers, positions = list(layers), list(positions)
    return [Site(c, layer, layer, position=p) for c in components for layer in layers for p in positions]


def sweep(
    adapter: Adapter, pairs: Sequence[PatchPair], sites: Sequence[Site], description: str = "sweep"
) -> Sweep:
    """Restore each site, alone, from the source run in every pair's base run.

    Where the model's blocks cannot be restarted, every site is one run of `patch`; `Sweep.reason` says why.

    Raises:
        SiteError: a site that the model or a prompt does not have or that has several layers; no pairs.
        NotApplicable: a component that this model does not offer.
        GuardTripped: a guard found the numbers not to be trusted.
    """
    if not pairs or not sites:
        raise SiteError(f"a sweep needs pairs and sites, got {len(pairs)} pairs and {len(sites)} sites")
    rows, minimum = _plan(adapter, pairs, sites)
    offered = adapter.support().get("blockwise")
    before = adapter.meter.token_layers
    if not offered:
        reason = offered.reason if offered is not None else "the adapter cannot restart a run from a block"
        conditions = {str(i): [[site]] * len(pairs) for i, site in enumerate(sites)}
        plain = patch(adapter, pairs, conditions, description)
        values = torch.stack([plain.conditions[name] for name in conditions])
        base, source, method = plain.base, plain.source, "plain"
        errors = (plain.identity_error, plain.full_patch_error)
    else:
        work = _Work(cast(Restartable, adapter), pairs, len(sites))
        groups = list(patching.chunks([len(pair.base) for pair in pairs], description))
        for group in groups:
            work.run(group, [row for row in rows if row.pair in set(group)], description)
        declared = work.declared
        if adapter.meter.token_layers - before != declared:
            raise GuardTripped(
                f"the sweep ran {adapter.meter.token_layers - before} token-layers and had declared {declared}"
            )
        for i, counts in enumerate(work.filled.tolist()):
            for count in counts:
                if count != 1:
                    raise GuardTripped(f"the edit at {sites[i]} was applied {count} times instead of once")
        values, base, source, method, reason = work.values, work.base, work.source, "wavefront", ""
        errors = (work.identity_error, work.full_error)
        offer(pairs, (([[site]] * len(pairs), logits) for site, logits in zip(sites, values, strict=True)))
    spent = adapter.meter.token_layers - before
    return Sweep(tuple(sites), values, base, source, method, reason, spent, minimum, *errors)


_IDENTITY, _FULL = -1, -2
"""In place of a site's number: rows of the guards."""


@dataclass(frozen=True)
class _Row:
    """One edit of one pair: positions [start, stop) of the stream after block `level` come from a donor."""

    site: int
    pair: int
    level: int
    component: Component
    start: int
    stop: int
    tokens: int
    """Tokens from the first changed one to the end; 0 where nothing can change."""

    def cost(self, layers: int, tokens: int | None = None) -> int:
        """Token-layers of this row when `tokens` are restarted."""
        return (layers - 1 - self.level) * (self.tokens if tokens is None else tokens)


def _plan(adapter: Adapter, pairs: Sequence[PatchPair], sites: Sequence[Site]) -> tuple[list[_Row], int]:
    """Every (site, pair) as a row, and the least work that they need."""
    support = adapter.support()
    rows: list[_Row] = []
    differs = [_first_difference(pair) for pair in pairs]
    minimum = 2 * adapter.layers * sum(len(pair.base) for pair in pairs)
    attention: set[tuple[int, int, int]] = set()
    for i, site in enumerate(sites):
        offered = support[site.component]
        if not offered:
            raise NotApplicable(f"{site} cannot be patched on this model: {offered.reason}")
        within = site.layer_indices(adapter.layers)
        if len(within) != 1:
            raise SiteError(f"{site}: a sweep restores one layer at a time, this site has {len(within)}")
        level = within[0] - (site.component is Component.BLOCK_INPUT)
        for j, (pair, differ) in enumerate(zip(pairs, differs, strict=True)):
            length = len(pair.base)
            start, stop = site.span(length, pair.spans)
            changed = max(start, differ)
            if level == adapter.layers - 1:  # only the last token is read after the last block
                changed = max(changed, length - 1)
            row = _Row(i, j, level, site.component, start, stop, length - changed if changed < stop else 0)
            rows.append(row)
            minimum += row.cost(adapter.layers)
            if row.tokens and site.component is Component.ATTENTION:
                attention |= {(j, level, position) for position in range(changed, stop)}
    return rows, minimum + len(attention)


def _first_difference(pair: PatchPair) -> int:
    """First position at which the prompts differ; their length where they do not."""
    both = zip(pair.base.ids, pair.source.ids, strict=True)
    return next((i for i, (a, b) in enumerate(both) if a != b), len(pair.base))


@dataclass
class _Streams:
    """The runs of a group of pairs that rows are made of; streams are level -> (pair, position, width)."""

    memory: Memory
    base: dict[int, Tensor]
    donors: dict[tuple[Component, int], Tensor]


@dataclass
class _Work:
    """The sweep under way: results so far, and what they cost."""

    adapter: Restartable
    pairs: Sequence[PatchPair]
    sites: int
    values: Tensor = field(init=False)
    filled: Tensor = field(init=False)
    base: Tensor = field(init=False)
    source: Tensor = field(init=False)
    declared: int = 0
    walks: int = 0
    identity_error: float = 0.0
    full_error: float = 0.0

    def __post_init__(self) -> None:
        n = len(self.pairs)
        self.values, self.filled = torch.empty(self.sites, n, 2), torch.zeros(self.sites, n, dtype=torch.long)
        self.base, self.source = torch.empty(n, 2), torch.empty(n, 2)

    def run(self, group: Sequence[int], rows: Sequence[_Row], description: str) -> None:
        """All rows of a group of pairs that fit into one batch."""
        streams = self._streams(group, rows)
        for row in rows:
            if not row.tokens:
                self.values[row.site, row.pair] = self.base[row.pair]
                self.filled[row.site, row.pair] += 1
        full = [
            _Row(
                _FULL,
                j,
                -1,
                Component.BLOCK_INPUT,
                differ,
                len(self.pairs[j].base),
                len(self.pairs[j].base) - differ,
            )
            for j in group
            if j < patching.GUARDED_PAIRS
            and (differ := _first_difference(self.pairs[j])) < len(self.pairs[j].base)
        ]
        walks = [
            (tokens, walk)
            for tokens, bucket in _buckets([*(row for row in rows if row.tokens), *full], self.adapter.layers)
            for walk in _split(bucket, max(1, ROW_BUDGET // tokens))
        ]
        place = {pair: k for k, pair in enumerate(group)}
        for tokens, walk in progress(walks, description, len(walks)):
            self._walk(streams, place, [*walk, self._identity(walk, tokens)], tokens)
            self.walks += 1

    def _streams(self, group: Sequence[int], rows: Sequence[_Row]) -> _Streams:
        adapter, chunk = self.adapter, [self.pairs[j] for j in group]
        answers = [pair.answers for pair in chunk]
        active = [row for row in rows if row.tokens]
        layers = range(adapter.layers)
        mlps = sorted({(Component.MLP, row.level) for row in active if row.component is Component.MLP})
        attention = any(row.component is Component.ATTENTION for row in active)
        kept: dict[Place, Tensor] = {}

        def keep(place: Place) -> Touch:
            return lambda value: kept.__setitem__(place, value.detach().clone())

        stream: list[Place] = [(Component.BLOCK_INPUT, 0), *((Component.RESIDUAL, layer) for layer in layers)]
        batch = adapter.batch([pair.base for pair in chunk])
        logits, memory = adapter.record(batch, {place: keep(place) for place in (*stream, *mlps)})
        self.base[group] = patching.answer_rows(logits, answers)
        base = {level: kept[place] for level, place in zip(range(-1, adapter.layers), stream, strict=True)}
        wanted = [*stream, *mlps, *((Component.ATTENTION, layer) for layer in layers if attention)]
        source = adapter.batch([pair.source for pair in chunk])
        logits, donors = capture(adapter, source, wanted)
        self.source[group] = patching.answer_rows(logits, answers)
        made: dict[tuple[Component, int], Tensor] = {}
        for level, place in zip(range(-1, adapter.layers), stream, strict=True):
            made[Component.RESIDUAL, level] = made[Component.BLOCK_INPUT, level] = donors[place]
        for place in mlps:
            made[place] = base[place[1]] + (donors[place] - kept[place])
        if attention:
            made |= self._with_attention(batch, base, donors)
        self.declared += int(batch.mask.sum()) * adapter.layers * (3 if attention else 2)
        return _Streams(memory, base, made)

    def _with_attention(
        self, batch: Batch, base: dict[int, Tensor], donors: dict[Place, Tensor]
    ) -> dict[tuple[Component, int], Tensor]:
        """The stream after each block that has the base's input and the source's attention, everywhere at once."""
        made: dict[tuple[Component, int], Tensor] = {}

        def give(value: Tensor) -> Touch:
            return lambda _: value.clone()

        def keep(layer: int) -> Touch:
            return lambda value: made.__setitem__((Component.ATTENTION, layer), value.detach().clone())

        touches: dict[Place, Touch] = {}
        for layer in range(self.adapter.layers):
            touches[Component.BLOCK_INPUT, layer] = give(base[layer - 1])
            touches[Component.ATTENTION, layer] = give(donors[Component.ATTENTION, layer])
            touches[Component.RESIDUAL, layer] = keep(layer)
        self.adapter.run(batch, touches)
        return made

    def _identity(self, walk: Sequence[_Row], tokens: int) -> _Row:
        """A guard row that changes nothing: through all blocks of the first walk, then through a few of the last."""
        layers = self.adapter.layers
        depth = 1 + self.walks % max(1, layers // 4)
        level = max(-1, layers - 1 - depth) if self.walks else min(row.level for row in walk)
        length = len(self.pairs[walk[0].pair].base)
        return _Row(_IDENTITY, walk[0].pair, level, Component.RESIDUAL, length - 1, length, tokens)

    def _walk(self, streams: _Streams, place: dict[int, int], rows: Sequence[_Row], tokens: int) -> None:
        """One walk; on a device whose memory is too small for it, two of half the rows."""
        rows = sorted(rows, key=lambda row: row.level)
        try:
            logits = self._restart(streams, place, rows, tokens)
        except torch.OutOfMemoryError:
            if len(rows) == 1:
                raise
            logits = None
        if logits is None:  # outside the handler, which would keep the failed walk's tensors alive
            for half in (rows[: len(rows) // 2], rows[len(rows) // 2 :]):
                self._walk(streams, place, half, tokens)
            return
        if len(logits) != len(rows) or not torch.isfinite(logits).all():
            raise GuardTripped(
                f"a walk of {len(rows)} edits gave {int(torch.isfinite(logits).all(1).sum())} finite answers "
                "(try --dtype float32)"
            )
        real = streams.memory.batch.mask[:, -tokens:].sum(1).tolist()
        for row, value in zip(rows, logits, strict=True):
            self.declared += row.cost(self.adapter.layers, real[place[row.pair]])
            if row.site == _IDENTITY:
                error = self._within_rounding("identity edit changes", value, self.base[row.pair])
                self.identity_error = max(self.identity_error, error)
            elif row.site == _FULL:
                error = self._within_rounding("full patch misses the source run's", value, self.source[row.pair])
                self.full_error = max(self.full_error, error)
            else:
                self.values[row.site, row.pair] = value
                self.filled[row.site, row.pair] += 1

    def _restart(self, streams: _Streams, place: dict[int, int], rows: Sequence[_Row], tokens: int) -> Tensor:
        joining: dict[int, Joining] = {}
        width, device = streams.memory.batch.width, streams.memory.batch.ids.device
        for level, together in groupby(rows, key=lambda row: row.level):
            same = list(together)
            prompts = torch.tensor([place[row.pair] for row in same], device=device)
            stream = streams.base[level][:, -tokens:][prompts.to(streams.base[level].device)]
            for k, row in enumerate(same):
                if row.site != _IDENTITY:
                    pad = width - len(self.pairs[row.pair].base)
                    start, stop = max(pad + row.start, width - tokens), pad + row.stop
                    donor = streams.donors[row.component, level][place[row.pair], start:stop]
                    stream[k, start - (width - tokens) : stop - (width - tokens)] = donor.to(stream.device)
            joining[level] = Joining(prompts, stream)
        answers = torch.tensor([self.pairs[row.pair].answers for row in rows], device=device)
        return self.adapter.restart(streams.memory, tokens, joining, answers).cpu()

    def _within_rounding(self, what: str, got: Tensor, expected: Tensor) -> float:
        error = float((got - expected).abs().max())
        dtype = getattr(torch, self.adapter.info.dtype)
        floor = max(self.adapter.info.parity_max_abs, allowed(expected, dtype))
        if not error <= floor:
            raise GuardTripped(f"guard: the {what} logits by up to {error:.3g}, the noise floor is {floor:.3g}")
        return error


def _buckets(rows: Sequence[_Row], layers: int) -> list[tuple[int, list[_Row]]]:
    """(tokens, rows that restart there), longest first; neighbours share while the waste stays within `SPARE`."""
    buckets: list[tuple[int, list[_Row]]] = []
    work = waste = 0
    for tokens, together in groupby(sorted(rows, key=lambda row: -row.tokens), key=lambda row: row.tokens):
        same = list(together)
        work += sum(row.cost(layers) for row in same)
        if buckets:
            more = sum(row.cost(layers, buckets[-1][0] - tokens) for row in same)
            if waste + more <= SPARE * work:
                waste += more
                buckets[-1][1].extend(same)
                continue
        buckets.append((tokens, same))
    return buckets


def _split(rows: Sequence[_Row], most: int) -> list[list[_Row]]:
    """Rows in walks of nearly equal size; a pair's rows stay together, so that a walk passes all blocks."""
    ordered = sorted(rows, key=lambda row: (row.pair, row.level))
    walks = -(-len(ordered) // most)
    size = -(-len(ordered) // walks)
    return [ordered[i : i + size] for i in range(0, len(ordered), size)]
