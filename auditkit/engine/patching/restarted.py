"""Patching that runs only what an edit can reach: from its first edited block and its first changed token on.

What `patch` measures, for conditions that put the activations of other runs in place of what MLPs and attention add to
the stream, in several layers too. Nothing before the first edited block differs from the base run, nor anything before
the first token at which the donor differs from the base; so each edited run joins a walk through the blocks there
(`auditkit.adapters.hf.blockwise`), and the edits are made on the way. A band in the middle of a network costs less than
half a run. Where the model's blocks cannot be restarted, or restarts do not give what whole runs give, `patch` does it.

Guards are those of `patch`, and one more: the edits of a first condition give the same answers in whole runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
from auditkit.engine.edits import Donor, Edited, spots, touched
from auditkit.engine.forward import Donated, donate, execute, words
from auditkit.engine.guards import GuardTripped, note_edits, within_noise
from auditkit.engine.pairs import Condition, PatchPair, answer_rows, right_and_wrong
from auditkit.engine.patching import plain as patching
from auditkit.engine.patching.plain import GUARDED_PAIRS, Patched
from auditkit.engine.patching.rows import first_difference
from auditkit.engine.sampling import offer
from auditkit.engine.sites import Site

ADDED = frozenset({Component.MLP, Component.ATTENTION})
"""Components that can be edited within a walk."""


class _Spot(NamedTuple):
    """At one place, positions [start, stop) take what a donor has there."""

    place: Place
    start: int
    stop: int
    donor: Prompt


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
    rows = {name: [_row(adapter, run) for run in plan] for name, plan in plans.items()}
    able = adapter.support().get(Capability.BLOCKWISE) and all(row for mine in rows.values() for row in mine)
    errors = _guards(cast(Restartable, adapter), pairs, plans, rows) if able else None
    if errors is None:
        return patching.patch(adapter, pairs, conditions, description)
    n, model = len(pairs), cast(Restartable, adapter)
    base, source = torch.empty(n, 2), torch.empty(n, 2)
    results = {name: torch.empty(n, 2) for name in conditions}
    lengths = [len(pair.base) for pair in pairs]

    def work(some: list[int]) -> None:
        before = adapter.meter.token_layers
        chunk = [pairs[i] for i in some]
        mine = {name: [cast(_Row, whole[i]) for i in some] for name, whole in rows.items()}
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
    return Patched(base, source, results, *errors)


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
        whole = heads is None and edit.keep == 0 and edit.factor == 1
        if place[0] not in ADDED or not whole or not isinstance(edit.give, Prompt):
            return None
        found.append(_Spot(place, start, stop, edit.give))
    if not found:
        return None
    first = min(max(spot.start, first_difference(run.prompt, spot.donor)) for spot in found)
    level = min(spot.place[1] for spot in found) - 1
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
        wanted: dict[Donor, set[Place]] = {pair.source: set() for pair in chunk}
        here: set[Place] = set()
        for row in rows:
            here.add((Component.BLOCK_INPUT, row.level + 1))
            for donor, place in ((spot.donor, spot.place) for spot in row.spots):
                (here if donor in own else wanted.setdefault(donor, set())).add(place)
            if row.joins != row.prompt:
                wanted.setdefault(row.joins, set()).add((Component.BLOCK_INPUT, row.level + 1))
        batch, kept = adapter.batch(own), dict[Place, Tensor]()
        logits, memory = adapter.record(batch, {place: keep(kept, place) for place in here})
        donated = donate(adapter, [], batch.width * len(chunk), wanted)
        for place in here:
            for prompt, value in zip(own, kept[place], strict=True):
                donated.activations[prompt, place] = value[-len(prompt) :]
        theirs = torch.stack([donated.logits[pair.source] for pair in chunk])
        base, source = answer_rows(logits, answers), answer_rows(theirs, answers)
        streams = {layer - 1: value for (component, layer), value in kept.items() if component not in ADDED}
        return cls(adapter, batch, memory, streams, donated, base, source)

    def walk(self, rows: Sequence[_Row], chunk: Sequence[PatchPair]) -> tuple[Tensor, int]:
        """Answers (row, 2) of one row for each pair, and what they cost.

        Raises:
            GuardTripped: an edit that did not fire exactly once, or answers that are not finite.
        """
        tokens = max(len(row.prompt) - row.first for row in rows)
        cut, order = self.batch.width - tokens, sorted(range(len(rows)), key=lambda i: rows[i].level)
        edits: dict[Place, list[tuple[int, int, int, Tensor]]] = {}
        for place_in_walk, i in enumerate(order):
            pad = self.batch.pads[i] - cut
            for place, start, stop, donor in rows[i].spots:
                start = max(start, -pad)
                if start < stop:
                    value = self.donated.activations[donor, place][start:stop]
                    edits.setdefault(place, []).append((place_in_walk, start + pad, stop + pad, value))
        fired = dict.fromkeys(edits, 0)

        def edit(place: Place) -> Touch:
            def touch(value: Tensor) -> Tensor:
                fired[place] += 1
                new = value.clone()
                for row, start, stop, give in edits[place]:
                    new[row, start:stop] = give.to(device=new.device, dtype=new.dtype)
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
        """(position, width) of the padded batch."""
        if row.joins == row.prompt:
            return self.streams[row.level][i]
        whole = self.donated.activations[row.joins, (Component.BLOCK_INPUT, row.level + 1)]
        return torch.cat([whole.new_zeros(self.batch.pads[i], whole.shape[1]), whole])


def _guards(
    adapter: Restartable,
    pairs: Sequence[PatchPair],
    plans: Mapping[str, Sequence[Edited]],
    rows: Mapping[str, Sequence[_Row | None]],
) -> tuple[float, float] | None:
    """Largest error of the identity edit at all places together, and of the full patch, in logits; None where walks
    with edits do not give what whole runs give on this model."""
    places = {spot.place for mine in rows.values() for row in mine if row for spot in row.spots}
    level = min((layer for _, layer in places), default=adapter.layers) - 1
    few, errors = pairs[:GUARDED_PAIRS], [(0.0, 0.0)]
    if not few or not places:
        return None

    def work(some: list[int]) -> None:
        chunk = [few[i] for i in some]
        same, full, tried = [], [], [cast(_Row, next(iter(rows.values()))[i]) for i in some]
        for pair in chunk:
            own = tuple(_Spot(place, 0, len(pair.base), pair.base) for place in sorted(places))
            first = min(first_difference(pair.base, pair.source), len(pair.base) - 1)
            same.append(_Row(pair.base, own, level, first, pair.base))
            full.append(_Row(pair.base, (), -1, first, pair.source))
        runs = _Runs.made(adapter, chunk, [*same, *full, *tried])
        (identity, _), (patched, _), (edited, _) = (runs.walk(each, chunk) for each in (same, full, tried))
        plain = [next(iter(plans.values()))[i] for i in some]
        whole, _ = execute(adapter, plain, runs.donated)
        expected = answer_rows(whole, [pair.answers for pair in chunk])
        within_noise(adapter, "restarted edits miss the whole run's", edited, expected)
        errors.append(
            (
                within_noise(adapter, "identity edit changes", identity, runs.base),
                within_noise(adapter, "full patch misses the source run's", patched, runs.source),
            )
        )

    try:
        in_batches(work, [len(pair.base) for pair in few], "guards", GUARDED_PAIRS * max(len(p.base) for p in few))
    except torch.OutOfMemoryError:
        raise  # says nothing about the family
    except (GuardTripped, ModelError, *FAMILY_ERRORS):
        return None  # a part of a block was too little; whole runs are guarded too
    return max(error for error, _ in errors), max(error for _, error in errors)
