"""Patching that runs only what an edit can reach: from its first edited block and its first changed token on.

What `patch` measures, for conditions that edit what MLPs and attention add to the stream or what heads have attended
to, in several layers too, or the stream itself (embeddings of another run among it) at one block and nothing before it.
Nothing before the first edited block differs from the base run, nor anything before the first token that an edit
changes; so each edited run joins a walk through the blocks there
(`auditkit.adapters.hf.blockwise`), and the edits are made on the way. A band in the middle of a network costs less than
half a run. Other conditions are measured by `patch`, and so are all where the model's blocks cannot be restarted or
restarts do not give what whole runs give; then the result says so.

Guards are those of `patch`, on the first few pairs of the first batch, and one more: the edits of a first condition of
each kind (the components that it edits) give the same answers in whole runs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

import torch
from torch import Tensor

from auditkit.adapters.chat import Prompt
from auditkit.adapters.protocol import Adapter, Capability, Component, Place, Restartable
from auditkit.engine.batching import in_batches
from auditkit.engine.edits import Edit, Edited, spots, touched
from auditkit.engine.exchange.turns import Divided
from auditkit.engine.forward import execute
from auditkit.engine.guards import spending_of, within_noise
from auditkit.engine.pairs import Condition, PatchPair, answer_rows
from auditkit.engine.patching import plain as patching
from auditkit.engine.patching.plain import GUARDED_PAIRS, Patched
from auditkit.engine.patching.walks import (
    STREAM,
    WITHIN,
    MissesWholeRuns,
    PairRuns,
    WalkRow,
    WalkSpot,
    against_walks,
    differ,
    joined_after,
)
from auditkit.engine.sampling import offer
from auditkit.engine.sites import Site

HELD = 2**29
"""Bytes of base and source runs that are held while it is asked whether to go on."""


def restarted(
    adapter: Adapter,
    pairs: Sequence[PatchPair],
    conditions: Mapping[str, Condition],
    description: str = "patching",
    known: Callable[[Tensor, Tensor], None] | None = None,
) -> Patched:
    """`patch` at the least cost: see there for what it means and raises.

    Cost: one run of every base prompt and every donor, and of each edited run the blocks from the first edited one on,
    on the tokens from the first changed one on; some runs of the first few pairs for the guards. Source runs cost the
    tokens from the first one on that differs.

    Args:
        known: is given the answers (pairs, 2) of all base and source runs before anything is edited; what it raises
            ends the measurement.
    """
    patching.checked(adapter, pairs, conditions)
    if not pairs:
        return patching.patch(adapter, pairs, conditions, description)
    plans = {name: patching.edited_runs(pairs, condition) for name, condition in conditions.items()}
    touched(adapter, (run for plan in plans.values() for run in plan))
    able = adapter.support().get(Capability.BLOCKWISE)
    if able and not conditions:  # as beside conditions, to the last bit
        return Patched(*ends(adapter, pairs, description), {}, 0.0, 0.0)
    made = {name: [_row(adapter, run) for run in plan] for name, plan in plans.items()} if able else {}
    rows = {name: cast(list[WalkRow], mine) for name, mine in made.items() if all(mine)}
    work = _Work(cast(Restartable, adapter), pairs, plans, rows, conditions) if rows else None
    if known is not None:
        known(*(work.ends(description) if work else ends(adapter, pairs, description)))
    if work is None:
        return patching.patch(adapter, pairs, conditions, description)
    try:
        errors = work.walks(description)
    except MissesWholeRuns as missed:  # a part of a block was too little; whole runs are guarded too
        return replace(patching.patch(adapter, pairs, conditions, description), whole=str(missed))
    offer(pairs, ((conditions[name], logits) for name, logits in work.results.items()))
    walked = Patched(work.base, work.source, work.results, *errors)
    rest = {name: condition for name, condition in conditions.items() if name not in rows}
    if not rest:
        return walked
    return _joined(conditions, walked, patching.patch(adapter, pairs, rest, description, work.base))


class _Work:
    """Walks of some conditions, in batches of pairs."""

    def __init__(
        self,
        adapter: Restartable,
        pairs: Sequence[PatchPair],
        plans: Mapping[str, Sequence[Edited]],
        rows: Mapping[str, Sequence[WalkRow]],
        conditions: Mapping[str, Condition],
    ) -> None:
        self.adapter, self.pairs, self.plans, self.rows = adapter, pairs, plans, rows
        self._of = (pairs, conditions)
        self.lengths = [len(pair.base) for pair in pairs]
        self.base, self.source = torch.empty(len(pairs), 2), torch.empty(len(pairs), 2)
        self.results = {name: torch.empty(len(pairs), 2) for name in rows}
        self._held: dict[tuple[int, ...], PairRuns] = {}
        self._room: int | None = None
        self._errors = torch.zeros(len(pairs), 2, dtype=torch.float64)
        """What the guards measured, at one of the pairs that they looked at."""

    def ends(self, description: str) -> tuple[Tensor, Tensor]:
        """Answers of base and source runs; as many as there is room for are held for the walks."""
        room = HELD

        def work(some: list[int]) -> None:
            nonlocal room
            part = self._part(some)
            held = self._made(some, part).trimmed(part.conditions)
            if (room := room - held.size) >= 0:
                self._held[tuple(some)] = held

        divided = Divided(self.adapter, ("restarted ends", *self._of), self._ends)
        self._room = in_batches(work, self.lengths, description, divided=divided)
        return self.base, self.source

    @property
    def _ends(self) -> dict[str, Tensor]:
        return {"base": self.base, "source": self.source}

    def walks(self, description: str) -> tuple[float, float]:
        """Every condition's answers, and those of base and source runs that are not held; the errors that the guards
        measured on the first batch.

        Raises:
            MissesWholeRuns: the guards found walks not to be trusted on this model.
        """

        def work(some: list[int]) -> None:
            part = self._part(some)
            with against_walks() if part.guards else nullcontext():
                runs = self._held.pop(tuple(some), None) or self._made(some, part)
                if part.guards:
                    self._errors[some[0]] = torch.tensor(self._guarded(runs, part, some))
            for name, whole in part.rows.items():
                with spending_of(self.adapter) as spent:
                    self.results[name][some], spent.declared = runs.walk(whole, part.chunk)

        rows = {**self._ends, "guards": self._errors, **{f"condition {k}": v for k, v in self.results.items()}}
        divided = Divided(self.adapter, ("restarted walks", *self._of), rows, self._held)
        in_batches(work, self.lengths, description, self._room, divided)
        identity, full = self._errors.amax(0).tolist()
        return identity, full

    def _made(self, some: Sequence[int], part: _Part) -> PairRuns:
        with spending_of(self.adapter) as spent:
            runs = PairRuns.made(self.adapter, part.chunk, part.conditions)
            spent.declared = runs.cost
        self.base[some], self.source[some] = runs.base, runs.source
        return runs

    def _part(self, some: Sequence[int]) -> _Part:
        """Some pairs and their rows; those of the guards too where the shortest pair, which is in the first batch, is
        among them."""
        rows = {name: [whole[i] for i in some] for name, whole in self.rows.items()}
        chunk = [self.pairs[i] for i in some]
        first = min(range(len(self.pairs)), key=lambda i: (self.lengths[i], i))
        return _Part(chunk, rows, _guards(chunk, rows) if first in some else [])

    def _guarded(self, runs: PairRuns, part: _Part, some: Sequence[int]) -> tuple[float, float]:
        """Largest error of the identity edit at all places, and of the full patch, in logits.

        Raises:
            GuardTripped: one of them, or the edits of a condition of each kind, miss what whole runs give.
        """
        few = part.chunk[:GUARDED_PAIRS]
        answers = [pair.answers for pair in few]
        within = partial(within_noise, self.adapter, pieces=runs.pieces)
        full, *same = part.guards
        for name in _kinds(part.rows):
            plan = [self.plans[name][i] for i in some[: len(few)]]
            whole, _ = execute(self.adapter, plan, runs.donated)
            walked, _ = runs.walk(part.rows[name][: len(few)], few)
            within("restarted edits miss the whole run's", walked, answer_rows(whole, answers))
        full_error = within("full patch misses the source run's", runs.walk(full, few)[0], runs.source[: len(few)])
        errors = [within("identity edit changes", runs.walk(rows, few)[0], runs.base[: len(few)]) for rows in same]
        return max(errors, default=0.0), full_error


@dataclass(frozen=True)
class _Part:
    """Some pairs, their rows by condition, and the rows of the guards on the first few of them."""

    chunk: Sequence[PatchPair]
    rows: Mapping[str, Sequence[WalkRow]]
    guards: Sequence[Sequence[WalkRow]]

    @property
    def conditions(self) -> list[Sequence[WalkRow]]:
        return [*self.rows.values(), *self.guards]


def _joined(names: Iterable[str], walked: Patched, whole: Patched) -> Patched:
    """Conditions of two measurements of the same pairs, in the order of `names`."""
    both = {**walked.conditions, **whole.conditions}
    return replace(
        walked,
        conditions={name: both[name] for name in names},
        identity_error=max(walked.identity_error, whole.identity_error),
        full_patch_error=max(walked.full_patch_error, whole.full_patch_error),
    )


def walkable(site: Site) -> bool:
    """Whether another run's activation at this site can be put in place within a walk; elsewhere whole runs do it."""
    whole = site.component in (Component.MLP, Component.ATTENTION, Component.EMBEDDINGS) and site.heads is None
    return whole or site.component is Component.Z


def ends(adapter: Adapter, pairs: Sequence[PatchPair], description: str = "answers") -> tuple[Tensor, Tensor]:
    """Answer logits (pairs, 2) of base and source runs, to the last bit those that `restarted` gives beside its
    conditions, whatever these are, as long as they take activations from the pairs' own runs only.

    Raises:
        SiteError: no pairs.
        TypeError: an argument of another shape.
    """
    patching.checked(adapter, pairs, {})
    if not pairs or not adapter.support().get(Capability.BLOCKWISE):
        plain = patching.patch(adapter, pairs, {}, description)
        return plain.base, plain.source
    base, source = torch.empty(len(pairs), 2), torch.empty(len(pairs), 2)

    def work(some: list[int]) -> None:
        runs = PairRuns.made(cast(Restartable, adapter), [pairs[i] for i in some], [])
        base[some], source[some] = runs.base, runs.source

    divided = Divided(adapter, ("ends", pairs), {"base": base, "source": source})
    in_batches(work, [len(pair.base) for pair in pairs], description, divided=divided)
    return base, source


def _row(adapter: Adapter, run: Edited) -> WalkRow | None:
    """The run as a row, or None where its edits cannot be made within a walk."""
    found: list[WalkSpot] = []
    for named, start, stop, heads, edit in spots(adapter, run):
        place = _in_a_walk(named, edit)
        if place[0] not in (*WITHIN, Component.RESIDUAL, STREAM) or isinstance(edit.give, Edited):
            return None
        if heads is not None and place[0] is not Component.Z:
            return None
        found.append(WalkSpot(place, start, stop, edit.give, edit.keep, edit.factor, heads, named))
    if not found:
        return None
    level = min(joined_after(spot.place) for spot in found)
    stream = {joined_after(spot.place) for spot in found if spot.place[0] not in WITHIN}
    if stream - {level} or level >= adapter.layers - 1:
        return None  # the stream is edited on the way, or after the last block
    first = min(spot.changes_from(run.prompt) for spot in found)
    return WalkRow(run.prompt, tuple(found), level, min(first, len(run.prompt) - 1), run.prompt)


def _in_a_walk(place: Place, edit: Edit) -> Place:
    """Where the edit is made in a walk: another prompt's embedding is what enters the first block at its position."""
    whole = isinstance(edit.give, Prompt) and (edit.keep, edit.factor) == (0, 1)
    return (STREAM, 0) if whole and place[0] is Component.EMBEDDINGS else place


def _kinds(rows: Mapping[str, Sequence[WalkRow]]) -> list[str]:
    """The first condition of each kind, by the components that it edits."""
    first: dict[frozenset[Component], str] = {}
    for name, mine in rows.items():
        first.setdefault(frozenset(spot.place[0] for spot in mine[0].spots), name)
    return list(first.values())


def _guards(chunk: Sequence[PatchPair], rows: Mapping[str, Sequence[WalkRow]]) -> list[list[WalkRow]]:
    """Rows of the first few pairs: the full patch, and identities at all places that any condition edits."""
    few = chunk[:GUARDED_PAIRS]
    places = {spot.place for mine in rows.values() for row in mine for spot in row.spots}
    full = [WalkRow(pair.base, (), -1, differ(pair), pair.source) for pair in few]
    each = [_identities(places, [mine[i] for mine in rows.values()]) for i in range(len(few))]
    return [full, *map(list, zip(*each, strict=True))]


def _identities(places: Collection[Place], rows: Sequence[WalkRow]) -> list[WalkRow]:
    """Rows that write a prompt's own activations back, from the first token on that its `rows` change: at all places
    within blocks together, and into the stream at each layer."""
    prompt, first = rows[0].prompt, min(row.first for row in rows)
    within = sorted(place for place in places if place[0] in WITHIN)
    together = [within] if within else []
    out = []
    for some in [*together, *([place] for place in sorted(set(places).difference(within)))]:
        level = min(map(joined_after, some))
        own = tuple(WalkSpot(place, 0, len(prompt), prompt) for place in some)
        out.append(WalkRow(prompt, own, level, first, prompt))
    return out
