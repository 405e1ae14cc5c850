"""Patching that runs only what an edit can reach: from its first edited block and its first changed token on.

What `patch` measures, for conditions that edit what MLPs and attention add to the stream, in several layers too, or the
stream itself after one block and nothing before it. Nothing before the first edited block differs from the base run,
nor anything before the first token that an edit changes; so each edited run joins a walk through the blocks there
(`auditkit.adapters.hf.blockwise`), and the edits are made on the way. A band in the middle of a network costs less than
half a run. Other conditions are measured by `patch`, and so are all where the model's blocks cannot be restarted or
restarts do not give what whole runs give.

Guards are those of `patch`, and one more: the edits of a first condition of each kind (the components that it edits)
give the same answers in whole runs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

import torch
from torch import Tensor

from auditkit.adapters.errors import ModelError
from auditkit.adapters.hf.probing import FAMILY_ERRORS
from auditkit.adapters.protocol import Adapter, Capability, Component, Place, Restartable
from auditkit.engine.batching import in_batches
from auditkit.engine.edits import Edited, spots, touched
from auditkit.engine.forward import execute
from auditkit.engine.guards import GuardTripped, within_noise
from auditkit.engine.pairs import Condition, PatchPair, answer_rows
from auditkit.engine.patching import plain as patching
from auditkit.engine.patching.plain import GUARDED_PAIRS, Patched
from auditkit.engine.patching.walks import ADDED, PairRuns, WalkRow, WalkSpot, differ
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
    work = _Work(cast(Restartable, adapter), pairs, rows) if rows else None
    if known is not None:
        known(*(work.ends(description) if work else ends(adapter, pairs, description)))
    errors = _guards(cast(Restartable, adapter), pairs, plans, rows) if rows else None
    if errors is None or work is None:
        return patching.patch(adapter, pairs, conditions, description)
    work.walks(description)
    offer(pairs, ((conditions[name], logits) for name, logits in work.results.items()))
    walked = Patched(work.base, work.source, work.results, *errors)
    rest = {name: condition for name, condition in conditions.items() if name not in rows}
    if not rest:
        return walked
    return _joined(conditions, walked, patching.patch(adapter, pairs, rest, description, work.base))


class _Work:
    """Walks of some conditions, in batches of pairs."""

    def __init__(
        self, adapter: Restartable, pairs: Sequence[PatchPair], rows: Mapping[str, Sequence[WalkRow]]
    ) -> None:
        self.adapter, self.pairs, self.rows = adapter, pairs, rows
        self.lengths = [len(pair.base) for pair in pairs]
        self.base, self.source = torch.empty(len(pairs), 2), torch.empty(len(pairs), 2)
        self.results = {name: torch.empty(len(pairs), 2) for name in rows}
        self._held: dict[tuple[int, ...], PairRuns] = {}
        self._room: int | None = None

    def ends(self, description: str) -> tuple[Tensor, Tensor]:
        """Answers of base and source runs; as many as there is room for are held for the walks."""
        room = HELD

        def work(some: list[int]) -> None:
            nonlocal room
            with self._declared(some) as mine:
                runs = PairRuns.made(self.adapter, mine.chunk, mine.every)
                mine.cost = self.adapter.layers * runs.tokens
            self.base[some], self.source[some] = runs.base, runs.source
            held = runs.trimmed(mine.rows.values())
            if (room := room - held.size) >= 0:
                self._held[tuple(some)] = held

        self._room = in_batches(work, self.lengths, description)
        return self.base, self.source

    def walks(self, description: str) -> None:
        """Every condition's answers, and those of base and source runs that are not held."""

        def work(some: list[int]) -> None:
            with self._declared(some) as mine:
                runs = self._held.pop(tuple(some), None)
                if runs is None:
                    runs = PairRuns.made(self.adapter, mine.chunk, mine.every)
                    mine.cost = self.adapter.layers * runs.tokens
                self.base[some], self.source[some] = runs.base, runs.source
                for name, whole in mine.rows.items():
                    self.results[name][some], cost = runs.walk(whole, mine.chunk)
                    mine.cost += cost

        in_batches(work, self.lengths, description, self._room)

    @contextmanager
    def _declared(self, some: Sequence[int]) -> Iterator[_Part]:
        """Some pairs and their rows; what is run in the block costs what it says.

        Raises:
            GuardTripped: it costs something else.
        """
        part = _Part(
            [self.pairs[i] for i in some], {name: [whole[i] for i in some] for name, whole in self.rows.items()}
        )
        before = self.adapter.meter.token_layers
        yield part
        spent = self.adapter.meter.token_layers - before
        if spent != part.cost:
            raise GuardTripped(f"patching ran {spent} token-layers and had declared {part.cost}")


@dataclass
class _Part:
    """Some pairs, their rows by condition, and what running them costs in token-layers."""

    chunk: Sequence[PatchPair]
    rows: Mapping[str, Sequence[WalkRow]]
    cost: int = 0

    @property
    def every(self) -> list[WalkRow]:
        return [row for mine in self.rows.values() for row in mine]


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
    return site.component in ADDED and site.heads is None


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

    in_batches(work, [len(pair.base) for pair in pairs], description)
    return base, source


def _row(adapter: Adapter, run: Edited) -> WalkRow | None:
    """The run as a row, or None where its edits cannot be made within a walk."""
    found: list[WalkSpot] = []
    for place, start, stop, heads, edit in spots(adapter, run):
        if place[0] not in (*ADDED, Component.RESIDUAL) or heads is not None or isinstance(edit.give, Edited):
            return None
        found.append(WalkSpot(place, start, stop, edit.give, edit.keep, edit.factor))
    if not found:
        return None
    level = min(spot.place[1] - (spot.place[0] in ADDED) for spot in found)
    stream = {layer for component, layer in (spot.place for spot in found) if component is Component.RESIDUAL}
    if stream - {level} or level >= adapter.layers - 1:
        return None  # the stream is edited on the way, or after the last block
    first = min(spot.changes_from(run.prompt) for spot in found)
    return WalkRow(run.prompt, tuple(found), level, min(first, len(run.prompt) - 1), run.prompt)


def _guards(
    adapter: Restartable,
    pairs: Sequence[PatchPair],
    plans: Mapping[str, Sequence[Edited]],
    rows: Mapping[str, Sequence[WalkRow]],
) -> tuple[float, float] | None:
    """Largest error of the identity edit at all places, and of the full patch, in logits; None where walks with edits
    do not give what whole runs give on this model."""
    few, errors = pairs[:GUARDED_PAIRS], [(0.0, 0.0)]
    places = {spot.place for mine in rows.values() for row in mine for spot in row.spots}
    first_of_its_kind: dict[frozenset[Component], str] = {}
    for name, mine in rows.items():
        first_of_its_kind.setdefault(frozenset(spot.place[0] for spot in mine[0].spots), name)

    def work(some: list[int]) -> None:
        chunk = [few[i] for i in some]
        same = list(zip(*(_identities(places, [mine[i] for mine in rows.values()]) for i in some), strict=True))
        full = [WalkRow(pair.base, (), -1, differ(pair), pair.source) for pair in chunk]
        tried = {name: [rows[name][i] for i in some] for name in first_of_its_kind.values()}
        every = [row for mine in (*same, full, *tried.values()) for row in mine]
        runs = PairRuns.made(adapter, chunk, every)
        within = partial(within_noise, adapter, pieces=runs.pieces)
        for name, some_rows in tried.items():
            whole, _ = execute(adapter, [plans[name][i] for i in some], runs.donated)
            expected = answer_rows(whole, [pair.answers for pair in chunk])
            within("restarted edits miss the whole run's", runs.walk(some_rows, chunk)[0], expected)
        patched, _ = runs.walk(full, chunk)
        full_error = within("full patch misses the source run's", patched, runs.source)
        for mine in same:
            identity, _ = runs.walk(mine, chunk)
            errors.append((within("identity edit changes", identity, runs.base), full_error))

    try:
        in_batches(work, [len(pair.base) for pair in few], "guards", GUARDED_PAIRS * max(len(p.base) for p in few))
    except torch.OutOfMemoryError:
        raise  # says nothing about the family
    except (GuardTripped, ModelError, *FAMILY_ERRORS):
        return None  # a part of a block was too little; whole runs are guarded too
    return max(error for error, _ in errors), max(error for _, error in errors)


def _identities(places: Collection[Place], rows: Sequence[WalkRow]) -> list[WalkRow]:
    """Rows that write a prompt's own activations back, from the first token on that its `rows` change: at all places of
    MLPs and attention together, and into the stream at each layer."""
    prompt, first = rows[0].prompt, min(row.first for row in rows)
    added = sorted(place for place in places if place[0] in ADDED)
    together = [added] if added else []
    out = []
    for some in [*together, *([place] for place in sorted(set(places).difference(added)))]:
        level = min(layer - (component in ADDED) for component, layer in some)
        own = tuple(WalkSpot(place, 0, len(prompt), prompt) for place in some)
        out.append(WalkRow(prompt, own, level, first, prompt))
    return out
