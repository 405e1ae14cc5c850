"""The wavefront: an exact sweep over single sites at a small part of the work of one run per site.

A *sweep* restores one site at a time from the source run and reads the answers, over a grid of sites. It means
what `patch` with one site per condition means. Done so, nearly all of the work is repeated: nothing before the
patched block changes, nothing before the patched token changes, and a patch of a token that both prompts share
changes nothing at all.

So each (site, pair) becomes a *row* (`auditkit.engine.patching.rows`): the residual stream after one block, from the
first changed token on. All components come to that:

- residual, block input and embeddings: the source's stream at the patched positions;
- MLP: the base's stream plus the difference of the two MLP contributions, since a block adds them to the stream;
- attention, middle, and z, q or attention probabilities of some heads: what the block makes of the base's input with
  the source's value. A change there stays at its token until the block ends, so a single run per pair and heads, with
  every block given the base's input, makes this for all blocks and positions at once;
- keys and values: the base's stream before the block, and the block is shown the source's keys or values of these
  groups at the patched positions.

Rows of equal suffix length walk the blocks together, and each joins after its own block: the batch grows like a
wave front, and a block's weights are read once for all rows before it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from auditkit.adapters.hf.touches import keep
from auditkit.adapters.protocol import (
    Adapter,
    Batch,
    Capability,
    Component,
    Joining,
    Memory,
    Place,
    Restartable,
    Shape,
    Support,
    Swap,
    Touch,
)
from auditkit.engine import arguments
from auditkit.engine.batching import in_units
from auditkit.engine.exchange.turns import Divided
from auditkit.engine.forward import reached, words
from auditkit.engine.guards import GuardTripped, note_edits, within_noise
from auditkit.engine.pairs import PatchPair, answer_rows, right_and_wrong, right_minus_wrong
from auditkit.engine.patching.plain import patch
from auditkit.engine.patching.rows import CACHED, FULL, IDENTITY, PairGroup, SweepRow, Transplant, planned
from auditkit.engine.progress import progress
from auditkit.engine.sampling import offer
from auditkit.engine.sites import Position, Site, SiteError
from auditkit.notebook import Showable
from auditkit.record.figures import Figure, Heatmap

if TYPE_CHECKING:
    import pandas as pd

_GUARDS = {
    IDENTITY: (0, "identity edit changes", "base"),
    FULL: (1, "full patch misses the source run's", "source"),
}
"""Row of a guard -> its column among the errors, what is said where it fails, and the run that it must reproduce."""


@dataclass(frozen=True)
class Sweep(Showable):
    """Answer logits of a sweep: right answer, and mean of the wrong ones.

    Attributes:
        sites: what was restored, in the order of `values`.
        values: (sites, pairs, 2) the base run with one site restored from the source run.
        base, source: (pairs, 2) the two runs without edits.
        method: "wavefront", or "plain" with the `reason` why the model's blocks cannot be restarted.
        token_layers: tokens times blocks truly run, guards included.
        minimum: the least that any exact method needs: both runs, and for every site that can change anything the
            later blocks on the tokens from the first changed one on (for attention, middle, z, q and probabilities also
            the rest of the own block at the patched tokens, once for all sites that contain them).
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

    def in_words(self) -> str:
        means = self._effects().mean(1)
        best = int(means.abs().argmax())
        most = f"most by {self.sites[best]} ({float(means[best]):+.3g} logits in the mean)"
        return f"{len(self.sites)} sites on {len(self.base)} pairs, {self.method}; {most}"

    def to_frame(self) -> pd.DataFrame:
        """A row for each site: the mean change of the answer over the pairs, and its share of source minus base."""
        import pandas as pd

        means = self._effects().mean(1)
        total = float((right_minus_wrong(self.source) - right_minus_wrong(self.base)).mean())
        rows = []
        for site, effect in zip(self.sites, means.tolist(), strict=True):
            row: dict[str, object] = {"site": str(site), "component": str(site.component), "layer": site.first}
            row |= {"last layer": None if site.last == site.first else site.last, "heads": site.heads}
            row |= {"position": str(site.position), "effect": effect, "share": effect / total if total else None}
            rows.append(row)
        frame = pd.DataFrame(rows)
        return frame.drop(columns=[name for name in ("last layer", "heads") if frame[name].isna().all()])

    def figures(self, title: str = "") -> tuple[Figure, ...]:
        """A map of layers and positions for each component, of sites of one layer and all heads."""
        frame = self.to_frame()
        plain = frame[[site.heads is None and site.first is not None for site in self.sites]]
        plain = plain[plain["last layer"].isna()] if "last layer" in plain else plain
        caption = "Mean change of the answer by restoring each place of the base run from the source run."
        drawn = []
        for component, part in plain.groupby("component", sort=False):
            grid = part.pivot_table(index="position", columns="layer", values="effect", sort=False).sort_index(
                axis=1
            )
            values = [[None if value != value else float(value) for value in row] for row in grid.to_numpy()]
            columns, rows = [str(int(layer)) for layer in grid.columns], [str(name) for name in grid.index]
            label = "right minus wrong answer (logits)"
            map_ = Heatmap("layer", "position", label, caption, columns, rows, values, scale="centred")
            drawn.append(map_.titled(f"{title or 'what restoring brings back'}: {component}"))
        return tuple(drawn)

    def _effects(self) -> Tensor:
        """(sites, pairs) change of the answer difference."""
        return right_minus_wrong(self.values) - right_minus_wrong(self.base)


def grid(components: Iterable[Component], layers: Iterable[int], positions: Iterable[Position]) -> list[Site]:
    """Every component at every layer and position, in this order; of components with heads, all heads together.

    Raises:
        TypeError: an argument of another kind, such as a text where a list of positions is meant.
    """
    for name, values, example in (
        ("components", components, "[Component.MLP]"),
        ("layers", layers, "range(model.layers)"),
        ("positions", positions, "['identity', 'last']"),
    ):
        if isinstance(values, str) or not isinstance(values, Iterable) or arguments.is_site(values):
            raise arguments.refused(name, values, f"a list, such as {example}")
    layers, positions = list(layers), list(positions)
    return [Site(c, layer, layer, position=p) for c in components for layer in layers for p in positions]


def sweep(
    adapter: Adapter, pairs: Sequence[PatchPair], sites: Sequence[Site], description: str = "sweep"
) -> Sweep:
    """Restore each site, alone, from the source run in every pair's base run.

    Where the model's blocks cannot be restarted for these components, every site is one run of `patch`; `Sweep.reason`
    says why.

    Raises:
        SiteError: a site that the model or a prompt does not have or that has several layers; no pairs.
        NotApplicable: a component that this model does not offer.
        GuardTripped: a guard found the numbers not to be trusted.
        TypeError: an argument of another shape, such as a bare site where a list is meant, before anything runs.
    """
    arguments.model(adapter)
    arguments.pairs(pairs)
    arguments.several("sites", sites, Site, arguments.SITES, "a site")
    if not pairs or not sites:
        raise SiteError(f"a sweep needs pairs and sites, got {len(pairs)} pairs and {len(sites)} sites")
    plan = planned(adapter, pairs, sites)
    offered = restartable(adapter, {site.component for site in sites})
    before = adapter.meter.token_layers
    if not offered:
        reason = offered.reason
        conditions = {str(i): [[site]] * len(pairs) for i, site in enumerate(sites)}
        plain = patch(adapter, pairs, conditions, description)
        values = torch.stack([plain.conditions[name] for name in conditions])
        base, source, method = plain.base, plain.source, "plain"
        errors = (plain.identity_error, plain.full_patch_error)
    else:
        work = _Work(cast(Restartable, adapter), pairs, sites)
        work.measure(plan.groups, description)
        for row in plan.idle:
            work.fill(row, work.base[row.pair])
        work.confirm(adapter.meter.token_layers - before, plan.token_layers)
        values, base, source, method, reason = work.values, work.base, work.source, "wavefront", ""
        errors = float(work.errors[:, 0].max()), float(work.errors[:, 1].max())
        offer(pairs, (([[site]] * len(pairs), logits) for site, logits in zip(sites, values, strict=True)))
    spent = adapter.meter.token_layers - before
    return Sweep(tuple(sites), values, base, source, method, reason, spent, plan.minimum, *errors)


def restartable(adapter: Adapter, components: Collection[Component]) -> Support:
    """Whether the effect of these components is had by restarting blocks on this model, else why not."""
    for name in (Capability.BLOCKWISE, Capability.SWAPS) if CACHED & set(components) else (Capability.BLOCKWISE,):
        offered = adapter.support().get(name, Support(False, "the adapter cannot restart a run from a block"))
        if not offered:
            return offered
    return Support(True)


@dataclass
class _Streams:
    """The runs of a group of pairs that rows are made of.

    Attributes:
        place: pair -> its row in the batch.
        base: level -> the base's stream (pair, position, width).
        after: (component, heads, level) -> the stream after the block once the source's value is in it.
        cached: keys and values of the source (pair, position, group, size).
    """

    memory: Memory
    place: dict[int, int]
    base: dict[int, Tensor]
    after: dict[tuple[Component, tuple[int, ...], int], Tensor]
    cached: dict[Place, Tensor]


class _Work:
    """The sweep under way: results so far, and what the guards have measured, (pair, 2) of identity and full patch."""

    def __init__(self, adapter: Restartable, pairs: Sequence[PatchPair], sites: Sequence[Site]) -> None:
        self.adapter, self.pairs, self.sites = adapter, pairs, sites
        n = len(pairs)
        self.values, self.filled = torch.empty(len(sites), n, 2), torch.zeros(len(sites), n, dtype=torch.long)
        self.base, self.source = torch.empty(n, 2), torch.empty(n, 2)
        self.errors = torch.zeros(n, 2, dtype=torch.float64)

    def measure(self, groups: Sequence[PairGroup], description: str) -> None:
        """Run every walk."""
        by_pairs = {tuple(group.pairs): group for group in groups}

        def work(pairs: list[int]) -> None:
            group = by_pairs[tuple(pairs)]
            streams = self.streams(group)
            for tokens, rows in progress(group.walks, description, len(group.walks)):
                self.walk(streams, rows, tokens)

        rows = {"base": self.base, "source": self.source, "errors": self.errors}
        rows |= {"values": self.values.transpose(0, 1), "filled": self.filled.transpose(0, 1)}
        divided = Divided(self.adapter, ("sweep", self.pairs, self.sites), rows)
        in_units(work, [list(pairs) for pairs in by_pairs], description, divided)

    def fill(self, row: SweepRow, value: Tensor) -> None:
        self.values[row.site, row.pair] = value
        self.filled[row.site, row.pair] += 1

    def confirm(self, spent: int, declared: int) -> None:
        """The work was that of the plan, and every site of every pair has exactly one value."""
        if spent != declared:
            raise GuardTripped(f"the sweep ran {spent} token-layers and had declared {declared}")
        for site, counts in zip(self.sites, self.filled.tolist(), strict=True):
            for count in counts:
                if count != 1:
                    raise GuardTripped(f"the edit at {site} was applied {count} times instead of once")

    def streams(self, group: PairGroup) -> _Streams:
        """Both runs of every pair, and the runs that transplant."""
        adapter, chunk, layers = self.adapter, [self.pairs[j] for j in group.pairs], range(self.adapter.layers)
        wanted = {(row.component, row.level) for row in group.rows if row.site >= 0}
        mlps = [place for place in wanted if place[0] is Component.MLP]
        # A row of keys or values joins before its block.
        cached = [(component, level + 1) for component, level in wanted if component in CACHED]
        stream: list[Place] = [(Component.BLOCK_INPUT, 0), *((Component.RESIDUAL, layer) for layer in layers)]
        inner = [(part, level) for transplant in group.transplants for level, (part, _) in transplant.items()]
        batch, source = (adapter.batch([getattr(pair, name) for pair in chunk]) for name in ("base", "source"))
        memory, own = self._recorded(batch, [*stream, *mlps, *cached], group, self.base)
        _, donors = self._recorded(source, [*stream, *mlps, *cached, *inner], group, self.source)
        for place in cached:
            kept = (memory.keys if place[0] is Component.K else memory.values)[place[1]].transpose(1, 2)
            if not torch.equal(kept, own[place]):
                raise GuardTripped(f"the {words(place)} are not those that the model's cache keeps")
        base = dict(zip(range(-1, len(layers)), (own[place] for place in stream), strict=True))
        after: dict[tuple[Component, tuple[int, ...], int], Tensor] = {}
        for level, place in zip(base, stream, strict=True):
            for component in (Component.EMBEDDINGS, Component.BLOCK_INPUT, Component.RESIDUAL):
                after[component, (), level] = donors[place]
        for component, level in mlps:
            after[component, (), level] = base[level] + (donors[component, level] - own[component, level])
        for transplant in group.transplants:
            after |= self._transplanted(batch, base, donors, transplant)
        rows = {pair: k for k, pair in enumerate(group.pairs)}
        return _Streams(memory, rows, base, after, {place: donors[place] for place in cached})

    def _recorded(
        self, batch: Batch, places: Iterable[Place], group: PairGroup, answers: Tensor
    ) -> tuple[Memory, dict[Place, Tensor]]:
        """One run of every pair, what it passed at `places`, and its answers."""
        kept: dict[Place, Tensor] = {}
        places = set(places)
        logits, memory = self.adapter.record(batch, {place: keep(kept, place) for place in places})
        reached(kept, places)
        answers[list(group.pairs)] = answer_rows(logits, [self.pairs[j].answers for j in group.pairs])
        return memory, kept

    def _transplanted(
        self,
        batch: Batch,
        base: dict[int, Tensor],
        donors: dict[Place, Tensor],
        transplant: Transplant,
    ) -> dict[tuple[Component, tuple[int, ...], int], Tensor]:
        """The stream after each block that has the base's input and the source's value, everywhere at once."""
        made: dict[Place, Tensor] = {}

        def give(layer: int) -> Touch:
            return lambda _: base[layer - 1].clone()

        def exchange(donor: Tensor, component: Component, heads: tuple[int, ...]) -> Touch:
            def touch(value: Tensor) -> Tensor:
                if component.shape is Shape.STREAM:
                    return donor.clone()
                new, axis = value.clone(), 1 if component.shape is Shape.PATTERN else 2
                index = torch.tensor(heads, device=value.device)
                return new.index_copy_(axis, index, donor.index_select(axis, index))

            return touch

        touches: dict[Place, Touch] = {}
        for layer in range(self.adapter.layers):
            touches[Component.BLOCK_INPUT, layer] = give(layer)
            if layer in transplant:
                component, heads = transplant[layer]
                touches[component, layer] = exchange(donors[component, layer], component, heads)
                touches[Component.RESIDUAL, layer] = keep(made, (Component.RESIDUAL, layer))
        self.adapter.run(batch, touches)
        return {(*part, level): made[Component.RESIDUAL, level] for level, part in transplant.items()}

    def walk(self, streams: _Streams, rows: Sequence[SweepRow], tokens: int) -> None:
        """One walk; on a device whose memory is too small for it, two of half the rows."""
        rows = sorted(rows, key=lambda row: row.level)
        try:
            logits = self._restart(streams, rows, tokens)
        except torch.OutOfMemoryError:
            if len(rows) == 1:
                raise
            logits = None
        if logits is None:  # outside the handler, which would keep the failed walk's tensors alive
            for half in (rows[: len(rows) // 2], rows[len(rows) // 2 :]):
                self.walk(streams, half, tokens)
            return
        if len(logits) != len(rows) or not torch.isfinite(logits).all():
            raise GuardTripped(
                f"a walk of {len(rows)} edits gave {int(torch.isfinite(logits).all(1).sum())} finite answers "
                "(try --dtype float32)"
            )
        for row, value in zip(rows, logits, strict=True):
            if row.site not in _GUARDS:
                self.fill(row, value)
                continue
            guard, what, known = _GUARDS[row.site]
            error = within_noise(self.adapter, what, value, getattr(self, known)[row.pair])
            self.errors[row.pair, guard] = max(float(self.errors[row.pair, guard]), error)

    def _restart(self, streams: _Streams, rows: Sequence[SweepRow], tokens: int) -> Tensor:
        note_edits()
        joining: dict[int, Joining] = {}
        width, device = streams.memory.batch.width, streams.memory.batch.ids.device
        cut = width - tokens
        for level, together in groupby(rows, key=lambda row: row.level):
            same = list(together)
            prompts = torch.tensor([streams.place[row.pair] for row in same], device=device)
            stream = streams.base[level][:, cut:][prompts.to(streams.base[level].device)]
            swaps = []
            for k, row in enumerate(same):
                pad = width - len(self.pairs[row.pair].base)
                start, stop = pad + row.start, pad + row.stop
                if row.component in CACHED:
                    value = streams.cached[row.component, level + 1][streams.place[row.pair], start:stop]
                    swaps.append(Swap(k, row.component, row.heads, start, value[:, list(row.heads)]))
                elif row.site != IDENTITY:
                    start = max(start, cut)
                    donor = streams.after[row.component, row.heads, level][streams.place[row.pair], start:stop]
                    stream[k, start - cut : stop - cut] = donor.to(stream.device)
            joining[level] = Joining(prompts, stream, swaps)
        answers = torch.tensor([self.pairs[row.pair].answers for row in rows], device=device)
        return right_and_wrong(self.adapter.restart(streams.memory, tokens, joining, answers).cpu())
