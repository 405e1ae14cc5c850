"""Runs with edits of the residual stream, from their first edited block and token on.

An edit of the stream after block L at token p changes nothing before either. So the prompts are run once without edits,
and every edited run joins a walk through the blocks after L on the tokens from p on (`auditkit.adapters.hf.blockwise`):
the first edits are made where it joins, later ones on the way. The runs of a sweep over layers share the walk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import cast

import torch
from torch import Tensor

from auditkit.adapters.chat import Prompt
from auditkit.adapters.protocol import (
    Adapter,
    Component,
    Continuable,
    Joining,
    Memory,
    Place,
    Restartable,
    Touch,
)
from auditkit.engine.continuation.divergence import LOGIT_BUDGET
from auditkit.engine.edits import Edited, Spot, spots
from auditkit.engine.forward import Interventions, reached
from auditkit.engine.guards import costing, spending
from auditkit.engine.patching.rows import ROW_BUDGET

ADDED = frozenset({Component.MLP, Component.ATTENTION})
"""Components that add to the stream, and can be edited on the way of a walk."""
STREAM = frozenset({Component.RESIDUAL, Component.BLOCK_INPUT})
"""Components that are the stream between two blocks."""


_Walked = Callable[[int, Mapping[int, Joining], Mapping[Place, Touch]], Tensor]
"""Tokens, rows that join and touches -> logits, by row in the order of joining."""


@dataclass(frozen=True)
class StreamRow:
    """One edited run.

    Attributes:
        prompt: which of the prompts it runs.
        length: tokens of that prompt.
        spots: its edits, each at one layer and with positions as numbers.
        level: the block after which it joins, -1 for before the first.
        first: the first token that an edit changes, or the last one.
    """

    prompt: int
    length: int
    spots: tuple[Spot, ...]
    level: int
    first: int

    def cost(self, layers: int, tokens: int) -> int:
        """Token-layers where `tokens` are run."""
        return (layers - 1 - self.level) * min(tokens, self.length)

    @property
    def tokens(self) -> int:
        """Tokens that must be run."""
        return self.length - self.first


def stream_row(adapter: Adapter, prompt: int, run: Edited) -> StreamRow | None:
    """The run as a row; None where one of its edits cannot be made within a walk, or takes from another run.

    Raises:
        SiteError, NotApplicable: see `auditkit.engine.edits.spots`.
    """
    found = tuple(spots(adapter, run))
    level, first, walked = adapter.layers - 1, len(run.prompt) - 1, STREAM | ADDED
    for (component, layer), start, _, heads, edit in found:
        if component not in walked or heads is not None or isinstance(edit.give, Prompt | Edited):
            return None
        level = min(level, layer - (component is not Component.RESIDUAL))
        first = min(first, start)
    return StreamRow(prompt, len(run.prompt), found, level, first)


@dataclass(frozen=True)
class StreamRuns:
    """Prompts that were run without edits, as walks of some rows need them.

    Attributes:
        logits: (prompt, window, vocabulary) after each of the last tokens.
        streams: level -> (prompt, position, width), the last few positions of the padded batch.
    """

    adapter: Restartable
    memory: Memory
    logits: Tensor
    streams: Mapping[int, Tensor]

    @classmethod
    def made(
        cls, adapter: Restartable, prompts: Sequence[Prompt], rows: Sequence[StreamRow], window: int = 1
    ) -> StreamRuns:
        """One run of all prompts.

        Args:
            rows: that will walk.
            window: tokens whose logits are read, from the end; above 1 the model must go on from a run as well.
        """
        batch = adapter.batch(prompts)
        most = max([window, *(row.tokens for row in rows)])
        places = {row.level: _place(row.level) for row in rows}
        kept: dict[Place, Tensor] = {}

        def keeping(place: Place) -> Touch:
            def touch(value: Tensor) -> None:
                kept[place] = value[:, -most:].detach().clone()

            return touch

        touches = {place: keeping(place) for place in places.values()}
        with costing(adapter, sum(map(len, prompts))):
            if window == 1:
                last, memory = adapter.record(batch, touches)
                logits = last[:, None]
            else:
                logits, memory = cast(Continuable, adapter).extend(None, batch, touches, window)
        reached(kept, places.values())
        return cls(adapter, memory, logits, {level: kept[place] for level, place in places.items()})

    def answers(self, rows: Sequence[StreamRow], tokens: Sequence[int]) -> Iterator[tuple[int, Tensor]]:
        """For each row, its number and its logits (tokens,) of these tokens after the last one."""

        def walked(count: int, joining: Mapping[int, Joining], touches: Mapping[Place, Touch]) -> Tensor:
            some = sum(len(joined.prompts) for joined in joining.values())
            ids = torch.tensor([list(tokens)] * some, device=self.memory.batch.ids.device)
            return self.adapter.restart(self.memory, count, joining, ids, touches)

        return self._walks(rows, walked, 1, ROW_BUDGET)

    def windows(self, rows: Sequence[StreamRow], window: int) -> Iterator[tuple[int, Tensor]]:
        """For each row, its number and its logits (window, vocabulary) after each of the last tokens."""

        def walked(count: int, joining: Mapping[int, Joining], touches: Mapping[Place, Touch]) -> Tensor:
            return self.adapter.restart_window(self.memory, count, joining, window, touches)

        most = LOGIT_BUDGET // (window * len(self.adapter.chat.tokenizer))
        return self._walks(rows, walked, window, most)

    def _walks(
        self, rows: Sequence[StreamRow], walked: _Walked, window: int, most: int
    ) -> Iterator[tuple[int, Tensor]]:
        """Walks of at most `ROW_BUDGET` tokens and `most` rows."""
        order = sorted(range(len(rows)), key=lambda i: (rows[i].tokens, rows[i].level))
        while order:
            count = min(max(rows[order[-1]].tokens, window), self.memory.batch.width)
            part = order[-max(1, min(ROW_BUDGET // count, most)) :]
            del order[-len(part) :]
            part.sort(key=lambda i: rows[i].level)
            yield from zip(part, self._walk([rows[i] for i in part], count, walked), strict=True)

    def _walk(self, rows: Sequence[StreamRow], tokens: int, walked: _Walked) -> Tensor:
        joining: dict[int, Joining] = {}
        for level, together in groupby(rows, key=lambda row: row.level):
            same = list(together)
            prompts = torch.tensor([row.prompt for row in same], device=self.memory.batch.ids.device)
            kept = self.streams[level]
            stream = kept[:, -tokens:][prompts.to(kept.device)]
            joining[level] = Joining(prompts, self._joined(same, level, tokens, stream))
        on_the_way = self._interventions(rows, tokens, later=True)
        with spending(self.adapter, sum(row.cost(self.adapter.layers, tokens) for row in rows)):
            logits = walked(tokens, joining, on_the_way.touches)
        on_the_way.confirm()
        return logits

    def _joined(self, rows: Sequence[StreamRow], level: int, tokens: int, stream: Tensor) -> Tensor:
        """(row, token, width) the stream with which rows join: with the edits that are made there."""
        here = self._interventions(rows, tokens, later=False)
        for place in ((Component.RESIDUAL, level), (Component.BLOCK_INPUT, level + 1)):
            if place in here.touches:
                stream = cast(Tensor, here.touches[place](stream))
        here.confirm()
        return stream

    def _interventions(self, rows: Sequence[StreamRow], tokens: int, later: bool) -> Interventions:
        """The edits of rows where they join, or on the way after that."""
        chosen = [[spot for spot in row.spots if _where_it_joins(spot, row) is not later] for row in rows]
        return Interventions.at(chosen, [tokens - row.length for row in rows])


def _where_it_joins(spot: Spot, row: StreamRow) -> bool:
    """Whether the edit is made where the row joins."""
    component, layer = spot.place
    return component in STREAM and layer == row.level + (component is Component.BLOCK_INPUT)


def _place(level: int) -> Place:
    """The stream after a block; -1 is before the first."""
    return (Component.BLOCK_INPUT, 0) if level < 0 else (Component.RESIDUAL, level)
