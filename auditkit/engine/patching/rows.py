"""What a sweep runs, decided before anything runs: its rows, the walks that they share, and what that costs.

A *row* is one site of one pair: the residual stream of the base run from the first changed token on, after the
block (`level`; -1 is before the first) that the site's change reaches the stream at. Rows of nearly equal suffix
length walk the blocks together. The unit of cost is the token-layer: one token through one block.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from auditkit.adapters.chat import Prompt
from auditkit.adapters.protocol import Adapter, Component
from auditkit.engine.batching import batches
from auditkit.engine.edits import layers_of, located
from auditkit.engine.pairs import PatchPair
from auditkit.engine.patching.plain import GUARDED_PAIRS
from auditkit.engine.sites import Site, SiteError

ROW_BUDGET = 6144
"""Tokens in one walk: enough that a block's weights are read rarely, few enough for the caches."""

SPARE = 0.02
"""Share of the work that may be spent on tokens before the first changed one, to let rows of neighbouring suffix
lengths walk together: few large walks are faster than many small ones."""

IDENTITY, FULL = -1, -2
"""In place of a site's number: rows of the guards."""

CACHED = frozenset({Component.K, Component.V})
"""Components that the block reads from its cache, where they are swapped."""

TRANSPLANTED = frozenset({Component.ATTENTION, Component.MIDDLE, Component.Q, Component.PATTERN, Component.Z})
"""Components whose effect on the stream after the block is at the same token, through the block's later parts."""

_BEFORE = frozenset({Component.EMBEDDINGS, Component.BLOCK_INPUT}) | CACHED
"""Components whose row passes their own block."""

Transplant = Mapping[int, tuple[Component, tuple[int, ...]]]
"""What one run transplants, by level: a component, and the heads of it (none: it has no heads)."""


@dataclass(frozen=True)
class SweepRow:
    """One edit of one pair: positions [start, stop) come from a donor."""

    site: int
    pair: int
    level: int
    component: Component
    heads: tuple[int, ...]
    start: int
    stop: int
    tokens: int
    """Tokens from the first changed one to the end; 0 where nothing can change."""

    def cost(self, layers: int, tokens: int | None = None) -> int:
        """Token-layers of this row when `tokens` are restarted."""
        return (layers - 1 - self.level) * (self.tokens if tokens is None else tokens)


@dataclass(frozen=True)
class PairGroup:
    """Pairs whose runs are made together, and the walks over their rows: (tokens, rows)."""

    pairs: Sequence[int]
    transplants: Sequence[Transplant]
    walks: Sequence[tuple[int, Sequence[SweepRow]]]

    @property
    def rows(self) -> Iterator[SweepRow]:
        """Every row that is run."""
        return (row for _, walk in self.walks for row in walk)


@dataclass(frozen=True)
class SweepRows:
    """A sweep that has not run yet.

    Attributes:
        idle: rows that can change nothing: the edit is before the first differing token, or after the last block at
            a token that is not read.
        token_layers: what the sweep costs, guards included.
        minimum: the least that any exact method needs, see `Sweep`.
    """

    groups: Sequence[PairGroup]
    idle: Sequence[SweepRow]
    token_layers: int
    minimum: int


def planned(adapter: Adapter, pairs: Sequence[PatchPair], sites: Sequence[Site]) -> SweepRows:
    """The plan of a sweep.

    Raises:
        SiteError: a site that the model or a prompt does not have or that has several layers.
        NotApplicable: a component that this model does not offer.
    """
    layers, lengths = adapter.layers, [len(pair.base) for pair in pairs]
    rows = [
        row
        for i, site in enumerate(sites)
        for j, pair in enumerate(pairs)
        for row in [_row(adapter, i, site, j, pair)]
    ]
    active = [row for row in rows if row.tokens]
    groups = []
    for together in batches(lengths):
        mine = [row for row in active if row.pair in set(together)]
        guards = [_full(j, pairs[j]) for j in together if j < GUARDED_PAIRS]
        walks: list[tuple[int, Sequence[SweepRow]]] = []
        for tokens, bucket in _buckets([*mine, *(row for row in guards if row.tokens)], layers):
            for walk in _split(bucket, max(1, ROW_BUDGET // tokens)):
                walks.append((tokens, [*walk, _identity(walk, tokens, layers, lengths, len(walks))]))
        groups.append(PairGroup(together, _transplants(mine), walks))
    spent = sum(
        layers * sum(lengths[j] for j in group.pairs) * (2 + len(group.transplants))
        + sum(row.cost(layers, min(tokens, lengths[row.pair])) for tokens, walk in group.walks for row in walk)
        for group in groups
    )
    # A transplanted token passes the rest of its own block, once for all sites that contain it.
    passed = {
        (row.component, row.heads, row.pair, row.level, position)
        for row in active
        if row.component in TRANSPLANTED
        for position in range(max(row.start, lengths[row.pair] - row.tokens), row.stop)
    }
    least = 2 * layers * sum(lengths) + sum(row.cost(layers) for row in active) + len(passed)
    return SweepRows(groups, [row for row in rows if not row.tokens], spent, least)


def _transplants(rows: Iterable[SweepRow]) -> list[Transplant]:
    """As few runs as hold everything, since a run holds one transplant for each block."""
    wanted: dict[int, set[tuple[Component, tuple[int, ...]]]] = {}
    for row in rows:
        if row.component in TRANSPLANTED:
            wanted.setdefault(row.level, set()).add((row.component, row.heads))
    ordered = {level: sorted(parts) for level, parts in wanted.items()}
    runs = max(map(len, ordered.values()), default=0)
    return [{level: parts[n] for level, parts in ordered.items() if n < len(parts)} for n in range(runs)]


def _row(adapter: Adapter, i: int, site: Site, j: int, pair: PatchPair) -> SweepRow:
    start, stop = located(adapter, site, len(pair.base), pair.spans)
    layer, length, last = one_layer(adapter, site), len(pair.base), adapter.layers - 1
    level = layer - (site.component in _BEFORE)
    changed = max(start, first_difference(pair.base, pair.source))
    if level == last:  # only the last token is read after the last block
        changed = max(changed, length - 1)
    tokens = length - changed if changed < stop else 0
    if layer == last and site.component in CACHED:  # and only its query meets the keys and values of that block
        tokens = min(tokens, 1)
    heads = site.head_indices(adapter.heads, adapter.groups)
    return SweepRow(i, j, level, site.component, heads, start, stop, tokens)


def one_layer(adapter: Adapter, site: Site) -> int:
    """The layer of a site that a sweep can restore.

    Raises:
        SiteError: a layer that the model does not have, or several.
    """
    within = layers_of(adapter, site)
    if len(within) != 1:
        raise SiteError(f"{site}: a sweep restores one layer at a time, this site has {len(within)}")
    return within[0]


def first_difference(one: Prompt, other: Prompt) -> int:
    """First position at which prompts of one length differ; their length where they do not."""
    both = zip(one.ids, other.ids, strict=True)
    return next((i for i, (a, b) in enumerate(both) if a != b), len(one))


def _full(j: int, pair: PatchPair) -> SweepRow:
    """A guard row that gives the base run the source's stream before the first block."""
    differ, length = first_difference(pair.base, pair.source), len(pair.base)
    return SweepRow(FULL, j, -1, Component.BLOCK_INPUT, (), differ, length, length - differ)


def _identity(walk: Sequence[SweepRow], tokens: int, layers: int, lengths: Sequence[int], number: int) -> SweepRow:
    """A guard row that changes nothing: through all blocks of the first walk, then through a few of the last."""
    depth = 1 + number % max(1, layers // 4)
    level = max(-1, layers - 1 - depth) if number else min(row.level for row in walk)
    pair = walk[0].pair
    return SweepRow(IDENTITY, pair, level, Component.RESIDUAL, (), lengths[pair] - 1, lengths[pair], tokens)


def _buckets(rows: Sequence[SweepRow], layers: int) -> list[tuple[int, list[SweepRow]]]:
    """(tokens, rows that restart there), longest first; neighbours share while the waste stays within `SPARE`."""
    buckets: list[tuple[int, list[SweepRow]]] = []
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


def _split(rows: Sequence[SweepRow], most: int) -> list[list[SweepRow]]:
    """Rows in walks of nearly equal size; a pair's rows stay together, so that a walk passes all blocks."""
    ordered = sorted(rows, key=lambda row: (row.pair, row.level))
    walks = -(-len(ordered) // most)
    size = -(-len(ordered) // walks)
    return [ordered[i : i + size] for i in range(0, len(ordered), size)]
