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

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import NamedTuple, cast

import torch
from torch import Tensor

from auditkit.adapters.chat import Prompt
from auditkit.adapters.errors import ModelError
from auditkit.adapters.hf.probing import FAMILY_ERRORS
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
    Touch,
)
from auditkit.engine.batching import in_batches
from auditkit.engine.edits import Donor, Edited, remaining, spots, touched
from auditkit.engine.forward import Donated, donate, execute, words
from auditkit.engine.guards import GuardTripped, note_edits, within_noise
from auditkit.engine.pairs import Condition, PatchPair, answer_rows, right_and_wrong
from auditkit.engine.patching import plain as patching
from auditkit.engine.patching.plain import GUARDED_PAIRS, Patched
from auditkit.engine.patching.rows import first_difference
from auditkit.engine.sampling import offer
from auditkit.engine.sites import Site

ADDED = frozenset({Component.MLP, Component.ATTENTION})
"""Components that can be edited within a walk; the stream (`Component.RESIDUAL`) is edited where a row joins."""

_STREAM = Component.BLOCK_INPUT
"""Where the stream is read with which a row joins."""


class _Spot(NamedTuple):
    """At one place, positions [start, stop) become `keep * value + factor * give`."""

    place: Place
    start: int
    stop: int
    give: Prompt | Tensor | None
    keep: float = 0.0
    factor: float = 1.0

    def changes_from(self, prompt: Prompt) -> int:
        """The first position at which the edited value may differ from the base run's."""
        if isinstance(self.give, Prompt) and self.keep + self.factor == 1:
            return max(self.start, first_difference(prompt, self.give))
        return self.start

    def given(self, donated: Donated, start: int) -> Tensor | None:
        """What is given from position `start` on."""
        if not isinstance(self.give, Prompt):
            return self.give
        return donated.activations[self.give, self.place][start : self.stop]

    def written(self, value: Tensor, pad: int, donated: Donated) -> None:
        """Edit (position, width) `value` in place, whose positions are `pad` further than the prompt's."""
        start = max(self.start, -pad)  # before that the walk sees nothing, and nothing changes
        if start >= self.stop:
            return
        here, give = value[start + pad : self.stop + pad], self.given(donated, start)
        new = remaining(here, self.keep)
        here[:] = new if give is None else new + self.factor * give.to(device=here.device, dtype=here.dtype)


@dataclass(frozen=True)
class _Row:
    """One edited run: what it is run on, where it joins (`level`: after this block), and from what position on."""

    prompt: Prompt
    spots: tuple[_Spot, ...]
    level: int
    first: int
    joins: Prompt
    """Whose stream it joins with: the prompt's own but for a guard."""

    def cost(self, layers: int, tokens: int) -> int:
        """Token-layers where `tokens` are restarted."""
        return (layers - 1 - self.level) * min(tokens, len(self.prompt))


def restarted(
    adapter: Adapter,
    pairs: Sequence[PatchPair],
    conditions: Mapping[str, Condition],
    description: str = "patching",
) -> Patched:
    """`patch` at the least cost: see there for what it means and raises.

    Cost: one run of every base prompt and every donor, and of each edited run the blocks from the first edited one on,
    on the tokens from the first changed one on; some runs of the first few pairs for the guards.
    """
    patching.checked(adapter, pairs, conditions)
    if not pairs:
        return patching.patch(adapter, pairs, conditions, description)
    plans = {name: patching.edited_runs(pairs, condition) for name, condition in conditions.items()}
    touched(adapter, (run for plan in plans.values() for run in plan))
    able = adapter.support().get(Capability.BLOCKWISE)
    made = {name: [_row(adapter, run) for run in plan] for name, plan in plans.items()} if able else {}
    rows = {name: cast(list[_Row], mine) for name, mine in made.items() if all(mine)}
    errors = _guards(cast(Restartable, adapter), pairs, plans, rows) if rows else None
    if errors is None:
        return patching.patch(adapter, pairs, conditions, description)
    n, model = len(pairs), cast(Restartable, adapter)
    base, source = torch.empty(n, 2), torch.empty(n, 2)
    results = {name: torch.empty(n, 2) for name in rows}
    lengths = [len(pair.base) for pair in pairs]

    def work(some: list[int]) -> None:
        before = adapter.meter.token_layers
        chunk = [pairs[i] for i in some]
        mine = {name: [whole[i] for i in some] for name, whole in rows.items()}
        runs = _Runs.made(model, chunk, [row for whole in mine.values() for row in whole])
        base[some], source[some] = runs.base, runs.source
        spent = adapter.layers * (sum(lengths[i] for i in some) + runs.donated.tokens)
        for name, whole in mine.items():
            results[name][some], cost = runs.walk(whole, chunk)
            spent += cost
        if adapter.meter.token_layers - before != spent:
            raise GuardTripped(
                f"patching ran {adapter.meter.token_layers - before} token-layers and had declared {spent}"
            )

    in_batches(work, lengths, description)
    offer(pairs, ((conditions[name], logits) for name, logits in results.items()))
    walked = Patched(base, source, results, *errors)
    rest = {name: condition for name, condition in conditions.items() if name not in rows}
    if not rest:
        return walked
    return _joined(conditions, walked, patching.patch(adapter, pairs, rest, description, base))


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
        runs = _Runs.made(cast(Restartable, adapter), [pairs[i] for i in some], [])
        base[some], source[some] = runs.base, runs.source

    in_batches(work, [len(pair.base) for pair in pairs], description)
    return base, source


def _row(adapter: Adapter, run: Edited) -> _Row | None:
    """The run as a row, or None where its edits cannot be made within a walk."""
    found: list[_Spot] = []
    for place, start, stop, heads, edit in spots(adapter, run):
        if place[0] not in (*ADDED, Component.RESIDUAL) or heads is not None or isinstance(edit.give, Edited):
            return None
        found.append(_Spot(place, start, stop, edit.give, edit.keep, edit.factor))
    if not found:
        return None
    level = min(spot.place[1] - (spot.place[0] in ADDED) for spot in found)
    stream = {layer for component, layer in (spot.place for spot in found) if component is Component.RESIDUAL}
    if stream - {level} or level >= adapter.layers - 1:
        return None  # the stream is edited on the way, or after the last block
    first = min(spot.changes_from(run.prompt) for spot in found)
    return _Row(run.prompt, tuple(found), level, min(first, len(run.prompt) - 1), run.prompt)


@dataclass(frozen=True)
class _Runs:
    """Some pairs' base runs, as walks need them, and what donors gave.

    Attributes:
        streams: level -> the base's stream after that block (pair, position, width); -1 is before the first.
    """

    adapter: Restartable
    batch: Batch
    memory: Memory
    streams: Mapping[int, Tensor]
    donated: Donated
    base: Tensor
    source: Tensor

    @classmethod
    def made(cls, adapter: Restartable, chunk: Sequence[PatchPair], rows: Sequence[_Row]) -> _Runs:
        answers, own = [pair.answers for pair in chunk], [pair.base for pair in chunk]
        at = {prompt: i for i, prompt in enumerate(own)}
        wanted: dict[Donor, set[Place]] = {pair.source: set() for pair in chunk if pair.source not in at}
        here: set[Place] = set()
        for row in rows:
            here.add(stream := (_STREAM, row.level + 1))
            gives = [(spot.give, spot.place) for spot in row.spots if isinstance(spot.give, Prompt)]
            for donor, place in [*gives, (row.joins, stream)]:
                (here if donor in at else wanted.setdefault(donor, set())).add(place)
        batch, kept = adapter.batch(own), dict[Place, Tensor]()
        logits, memory = adapter.record(batch, {place: keep(kept, place) for place in here})
        donated = donate(adapter, [], batch.width * len(chunk), wanted)
        for place in here:
            for prompt, value in zip(own, kept[place], strict=True):
                donated.activations[prompt, place] = value[-len(prompt) :]
        sources = [pair.source for pair in chunk]
        theirs = torch.stack([logits[at[one]] if one in at else donated.logits[one] for one in sources])
        base, source = answer_rows(logits, answers), answer_rows(theirs, answers)
        streams = {layer - 1: value for (component, layer), value in kept.items() if component is _STREAM}
        return cls(adapter, batch, memory, streams, donated, base, source)

    def walk(self, rows: Sequence[_Row], chunk: Sequence[PatchPair]) -> tuple[Tensor, int]:
        """Answers (row, 2) of one row for each pair, and what they cost.

        Raises:
            GuardTripped: an edit that did not fire exactly once, or answers that are not finite.
        """
        tokens = max(len(row.prompt) - row.first for row in rows)
        cut, order = self.batch.width - tokens, sorted(range(len(rows)), key=lambda i: rows[i].level)
        edits: dict[Place, list[tuple[int, int, _Spot]]] = {}
        for place_in_walk, i in enumerate(order):
            for spot in rows[i].spots:
                if spot.place[0] in ADDED:
                    edits.setdefault(spot.place, []).append((place_in_walk, self.batch.pads[i] - cut, spot))
        fired = dict.fromkeys(edits, 0)

        def edit(place: Place) -> Touch:
            def touch(value: Tensor) -> Tensor:
                fired[place] += 1
                new = value.clone()
                for row, pad, spot in edits[place]:
                    spot.written(new[row], pad, self.donated)
                return new

            return touch

        joining = {}
        for level, same in groupby(order, key=lambda i: rows[i].level):
            mine = list(same)
            stream = torch.stack([self._stream(rows[i], i)[cut:] for i in mine])
            joining[level] = Joining(torch.tensor(mine, device=self.batch.ids.device), stream)
        answers = torch.tensor([chunk[i].answers for i in order], device=self.batch.ids.device)
        note_edits()
        touches = {place: edit(place) for place in edits}
        walked = self.adapter.restart(self.memory, tokens, joining, answers, touches)
        out = torch.empty(len(rows), 2)
        out[order] = right_and_wrong(walked.cpu())
        for place, times in fired.items():
            if times != 1:
                raise GuardTripped(f"the edit at {words(place)} fired {times} times in one walk instead of once")
        if not torch.isfinite(out).all():
            raise GuardTripped("edited runs have answers that are NaN or infinite (try --dtype float32)")
        return out, sum(row.cost(self.adapter.layers, tokens) for row in rows)

    def _stream(self, row: _Row, i: int) -> Tensor:
        """(position, width) of the padded batch, with the row's edits of it."""
        if row.joins == row.prompt:
            stream = self.streams[row.level][i]
        else:
            whole = self.donated.activations[row.joins, (_STREAM, row.level + 1)]
            stream = torch.cat([whole.new_zeros(self.batch.pads[i], whole.shape[1]), whole])
        if edits := [spot for spot in row.spots if spot.place[0] not in ADDED]:
            stream = stream.clone()
            for spot in edits:
                spot.written(stream, self.batch.pads[i], self.donated)
        return stream


def _guards(
    adapter: Restartable,
    pairs: Sequence[PatchPair],
    plans: Mapping[str, Sequence[Edited]],
    rows: Mapping[str, Sequence[_Row]],
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
        full = [_Row(pair.base, (), -1, _differ(pair), pair.source) for pair in chunk]
        tried = {name: [rows[name][i] for i in some] for name in first_of_its_kind.values()}
        every = [row for mine in (*same, full, *tried.values()) for row in mine]
        runs = _Runs.made(adapter, chunk, every)
        for name, some_rows in tried.items():
            whole, _ = execute(adapter, [plans[name][i] for i in some], runs.donated)
            expected = answer_rows(whole, [pair.answers for pair in chunk])
            within_noise(adapter, "restarted edits miss the whole run's", runs.walk(some_rows, chunk)[0], expected)
        patched, _ = runs.walk(full, chunk)
        full_error = within_noise(adapter, "full patch misses the source run's", patched, runs.source)
        for mine in same:
            identity, _ = runs.walk(mine, chunk)
            errors.append((within_noise(adapter, "identity edit changes", identity, runs.base), full_error))

    try:
        in_batches(work, [len(pair.base) for pair in few], "guards", GUARDED_PAIRS * max(len(p.base) for p in few))
    except torch.OutOfMemoryError:
        raise  # says nothing about the family
    except (GuardTripped, ModelError, *FAMILY_ERRORS):
        return None  # a part of a block was too little; whole runs are guarded too
    return max(error for error, _ in errors), max(error for _, error in errors)


def _identities(places: Collection[Place], rows: Sequence[_Row]) -> list[_Row]:
    """Rows that write a prompt's own activations back, from the first token on that its `rows` change: at all places of
    MLPs and attention together, and into the stream at each layer."""
    prompt, first = rows[0].prompt, min(row.first for row in rows)
    added = sorted(place for place in places if place[0] in ADDED)
    together = [added] if added else []
    out = []
    for some in [*together, *([place] for place in sorted(set(places).difference(added)))]:
        level = min(layer - (component in ADDED) for component, layer in some)
        own = tuple(_Spot(place, 0, len(prompt), prompt) for place in some)
        out.append(_Row(prompt, own, level, first, prompt))
    return out


def _differ(pair: PatchPair) -> int:
    """The first position at which base and source differ, or the last one."""
    return min(first_difference(pair.base, pair.source), len(pair.base) - 1)
