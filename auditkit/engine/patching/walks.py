"""What patching from the first edited block on runs: base and source of every pair, and walks of edited rows.

A *row* is one edited run. It joins a walk through the blocks after the last one that its edits cannot reach, and the
edits are made on the way. The base run of a pair is made whole; its source run goes on from it at the first token in
which the two differ, since nothing before that differs either.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
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
    Batch,
    Capability,
    Component,
    Continuable,
    Joining,
    Memory,
    Place,
    Restartable,
    Touch,
)
from auditkit.engine.continuation.shared_prefix import begin, best_cut, moved, worth
from auditkit.engine.directions import Along, AsLong, FromValue
from auditkit.engine.edits import Donor, remaining
from auditkit.engine.forward import Donated, donate, words
from auditkit.engine.guards import GuardTripped, note_edits
from auditkit.engine.pairs import PatchPair, answer_rows, right_and_wrong
from auditkit.engine.patching.rows import first_difference

WITHIN = frozenset({Component.MLP, Component.ATTENTION, Component.Z})
"""Components that can be edited within a walk; the stream is edited where a row joins."""

STREAM = Component.BLOCK_INPUT
"""Where the stream is read with which a row joins."""


def joined_after(place: Place) -> int:
    """The last block that an edit at a place cannot reach; -1 is before the first."""
    return place[1] - (place[0] in WITHIN or place[0] is STREAM)


class MissesWholeRuns(Exception):
    """Walks with edits do not give what whole runs give on this model; the message says which guard found it."""


@contextmanager
def against_walks() -> Iterator[None]:
    """What goes wrong in the block is found against walks on this model, and ends them; whole runs are guarded too.

    Raises:
        MissesWholeRuns: something has.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise  # says nothing about the family
    except (GuardTripped, ModelError, *FAMILY_ERRORS) as error:
        raise MissesWholeRuns(str(error) or type(error).__name__) from error


class WalkSpot(NamedTuple):
    """At one place, positions [start, stop) become `keep * value + factor * give`."""

    place: Place
    start: int
    stop: int
    give: Prompt | Tensor | FromValue | None
    keep: float = 0.0
    factor: float = 1.0
    heads: tuple[int, ...] | None = None
    """Which heads, of a component that has some; all where None."""
    named: Place | None = None
    """The place by the name that a whole run has for it, where that is another one."""

    def changes_from(self, prompt: Prompt) -> int:
        """The first position at which the edited value may differ from the base run's."""
        if isinstance(self.give, Prompt) and self.keep + self.factor == 1:
            return max(self.start, first_difference(prompt, self.give))
        return self.start

    def given(self, donated: Donated, start: int, value: Tensor) -> Tensor | None:
        """What is given to `value`, which begins at position `start`."""
        if isinstance(self.give, Along | AsLong):
            return self.give.of(value)
        if not isinstance(self.give, Prompt):
            return self.give
        give = donated.activations[self.give, self.place][start : self.stop]
        return give if self.heads is None else give[:, list(self.heads)]

    def written(self, value: Tensor, pad: int, donated: Donated) -> None:
        """Edit `value`, (position, width) or (position, head, size), in place; its positions are `pad` further than
        the prompt's."""
        start = max(self.start, -pad)  # before that the walk sees nothing, and nothing changes
        if start >= self.stop:
            return
        here = value[start + pad : self.stop + pad]
        heads = slice(None) if self.heads is None else list(self.heads)
        some = here[:, heads]
        give, new = self.given(donated, start, some), remaining(some, self.keep)
        here[:, heads] = new if give is None else new + self.factor * give.to(device=here.device, dtype=here.dtype)


@dataclass(frozen=True)
class WalkRow:
    """One edited run: what it is run on, where it joins (`level`: after this block), and from what position on."""

    prompt: Prompt
    spots: tuple[WalkSpot, ...]
    level: int
    first: int
    joins: Prompt
    """Whose stream it joins with: the prompt's own but for a guard."""

    @property
    def needs(self) -> set[tuple[Prompt, Place]]:
        """Whose activations at which places the row is made of."""
        gives = {
            (spot.give, place)
            for spot in self.spots
            for place in {spot.place, spot.named or spot.place}
            if isinstance(spot.give, Prompt)
        }
        stream = (STREAM, self.level + 1)
        return gives | {(self.prompt, stream), (self.joins, stream)}

    def cost(self, layers: int, tokens: int) -> int:
        """Token-layers where `tokens` are restarted."""
        return (layers - 1 - self.level) * min(tokens, len(self.prompt))


@dataclass(frozen=True)
class PairRuns:
    """Some pairs' base and source runs, as walks need them, and what donors gave.

    Attributes:
        cost: token-layers that were run for them.
        pieces: whether some of them go on from a beginning that they share.
    """

    adapter: Restartable
    batch: Batch
    memory: Memory
    donated: Donated
    base: Tensor
    source: Tensor
    cost: int
    pieces: bool

    @classmethod
    def made(
        cls, adapter: Restartable, chunk: Sequence[PatchPair], conditions: Iterable[Sequence[WalkRow]]
    ) -> PairRuns:
        """Every base and source run, and those of other donors of the rows' edits.

        Base and source runs are the same whatever the conditions, and so are the donors of one of them.
        """
        own, sources = [pair.base for pair in chunk], [pair.source for pair in chunk]
        at = {prompt: i for i, prompt in enumerate(own)}
        wanted: dict[Donor, set[Place]] = {source: set() for source in sources if source not in at}
        here: set[Place] = set()
        apart: list[dict[Donor, set[Place]]] = []
        for rows in conditions:
            others: dict[Donor, set[Place]] = {}
            for donor, place in (key for row in rows for key in row.needs):
                into = wanted if donor in wanted else others
                (here if donor in at else into.setdefault(donor, set())).add(place)
            apart.append(others)
        # What goes on from a base run takes the activations of their common beginning from it.
        follow = {pair.source: i for i, pair in enumerate(chunk) if pair.source in wanted}
        follow = follow if _saved(adapter, chunk, follow) else {}
        here |= {place for source in follow for place in wanted[source]}
        batch = adapter.batch(own)
        logits, memory, kept, cost = _base(adapter, batch, own, here, min(map(differ, chunk)))
        pieces = bool(follow) or cost < adapter.layers * sum(map(len, own))
        donated = Donated()
        for place, value in kept.items():
            for prompt, mine in zip(own, value, strict=True):
                donated.activations[prompt, place] = mine[-len(prompt) :]
        if follow:
            _follow(adapter, memory, own, follow, wanted, donated)
        room = batch.width * len(chunk)
        rest = {donor: places for donor, places in wanted.items() if donor not in follow}
        for given in (
            donate(adapter, [], room, rest, answered=True),
            *(donate(adapter, [], room, o) for o in apart),
        ):
            donated.activations |= given.activations
            donated.logits |= given.logits
            cost += given.cost
        theirs = torch.stack([logits[at[one]] if one in at else donated.logits[one] for one in sources])
        answers = [pair.answers for pair in chunk]
        base, source = answer_rows(logits, answers), answer_rows(theirs, answers)
        return cls(adapter, batch, memory, donated, base, source, cost + donated.cost, pieces)

    def trimmed(self, conditions: Iterable[Sequence[WalkRow]]) -> PairRuns:
        """The same with no more than walks of these rows need, so that the runs of many pairs can be held."""
        some = [list(rows) for rows in conditions]
        keys: set[tuple[Donor, Place]] = {key for rows in some for row in rows for key in row.needs}
        activations = {key: self.donated.activations[key].clone() for key in keys}
        before = self.batch.width - min(map(restarted_tokens, some))
        memory = Memory(
            self.memory.batch,
            [keys[:, :, :before].clone() for keys in self.memory.keys],
            [values[:, :, :before].clone() for values in self.memory.values],
        )
        return replace(self, memory=memory, donated=Donated(activations))

    @property
    def size(self) -> int:
        """Bytes of what is held."""
        held = [*self.memory.keys, *self.memory.values, *self.donated.activations.values()]
        return sum(value.numel() * value.element_size() for value in held)

    def walk(self, rows: Sequence[WalkRow], chunk: Sequence[PatchPair]) -> tuple[Tensor, int]:
        """Answers (row, 2) of one row for each of the first pairs, and what they cost.

        Raises:
            GuardTripped: an edit that did not fire exactly once, or answers that are not finite.
        """
        tokens = restarted_tokens(rows)
        cut, order = self.batch.width - tokens, sorted(range(len(rows)), key=lambda i: rows[i].level)
        edits: dict[Place, list[tuple[int, int, WalkSpot]]] = {}
        for place_in_walk, i in enumerate(order):
            for spot in rows[i].spots:
                if spot.place[0] in WITHIN:
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

    def _stream(self, row: WalkRow, i: int) -> Tensor:
        """(position, width) of the padded batch, with the row's edits of it."""
        whole = self.donated.activations[row.joins, (STREAM, row.level + 1)]
        stream = torch.cat([whole.new_zeros(self.batch.pads[i], whole.shape[1]), whole])
        for spot in row.spots:
            if spot.place[0] not in WITHIN:
                spot.written(stream, self.batch.pads[i], self.donated)
        return stream


def restarted_tokens(rows: Sequence[WalkRow]) -> int:
    """Tokens on which a walk of these rows is made."""
    return max(len(row.prompt) - row.first for row in rows)


def differ(pair: PatchPair) -> int:
    """The first position at which base and source differ, or the last one."""
    return min(first_difference(pair.base, pair.source), len(pair.base) - 1)


def _saved(adapter: Restartable, chunk: Sequence[PatchPair], follow: Mapping[Prompt, int]) -> bool:
    """Whether source runs that go on from their base runs are offered, and save enough."""
    if not follow or not adapter.support().get(Capability.GENERATION):
        return False
    return worth(sum(differ(chunk[i]) for i in follow.values()))


def _base(
    adapter: Restartable, batch: Batch, own: Sequence[Prompt], places: Collection[Place], first: int
) -> tuple[Tensor, Memory, Mapping[Place, Tensor], int]:
    """A run of all base prompts: logits, memory, activations (prompt, position, ...) by place, token-layers.

    Args:
        first: what several begin with before this position is run once.
    """
    if adapter.support().get(Capability.GENERATION) and best_cut([one.ids for one in own], first):
        begun = begin(cast(Continuable, adapter), own, places, first)
        return begun.logits[:, 0], begun.memory, begun.kept, adapter.layers * begun.tokens
    kept: dict[Place, Tensor] = {}
    logits, memory = adapter.record(batch, {place: keep(kept, place) for place in places})
    return logits, memory, kept, adapter.layers * int(batch.mask.sum())


def _follow(
    adapter: Restartable,
    memory: Memory,
    own: Sequence[Prompt],
    follow: Mapping[Prompt, int],
    wanted: Mapping[Donor, set[Place]],
    donated: Donated,
) -> None:
    """Source runs that go on from base runs: prompt -> which of `own` it goes on from; what they give is added."""
    prompts, rows = list(follow), list(follow.values())
    batch = adapter.batch(prompts)
    new = max(len(one) - first_difference(own[i], one) for one, i in follow.items())
    cut, kept = batch.width - new, dict[Place, Tensor]()
    places = set().union(*(wanted[one] for one in prompts))
    past, rest = moved(memory, rows, batch.columns(0, cut)), batch.columns(cut, batch.width)
    touches = {place: keep(kept, place) for place in places}
    logits, _ = cast(Continuable, adapter).extend(past, rest, touches)
    donated.cost += adapter.layers * int(rest.mask.sum())
    for k, (one, i) in enumerate(follow.items()):
        donated.logits[one] = logits[k, 0]
        for place in wanted[one]:
            end = kept[place][k][-len(one) :]
            begin = donated.activations[own[i], place][: len(one) - len(end)]
            donated.activations[one, place] = torch.cat([begin, end])
