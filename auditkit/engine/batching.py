"""Rows in batches: similar lengths together under a token budget, which halves where a device's memory ends."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence

import torch

from auditkit.adapters.chat import Prompt
from auditkit.adapters.protocol import Adapter
from auditkit.engine.exchange.turns import Divided, Turns
from auditkit.engine.progress import progress

TOKEN_BUDGET = 1024
"""Padded tokens per batch: large enough that weights are read rarely, small enough to stay in the caches."""


_LENGTH, _TIMED = 64, 0.5
"""Tokens of a prompt by which speed is measured, and seconds that a batch of them must take."""


def batches(lengths: Sequence[int], budget: int | None = None) -> list[list[int]]:
    """Row indices per batch: similar lengths together, at most `budget` padded tokens each, and at least one row."""
    most = TOKEN_BUDGET if budget is None else budget
    made: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: (lengths[i], i)):
        if made and (len(made[-1]) + 1) * lengths[i] <= most:
            made[-1].append(i)
        else:
            made.append([i])
    return made


def in_batches(
    work: Callable[[list[int]], None],
    lengths: Sequence[int],
    description: str,
    budget: int | None = None,
    divided: Divided | None = None,
) -> int:
    """Do `work` on all rows, batch by batch; where memory runs out, on half as many tokens from there on.

    Args:
        work: does some rows, given by index; a batch that ran out of memory is done again from its start.
        lengths: tokens of each row.
        budget: padded tokens per batch to start with; `TOKEN_BUDGET` where None.
        divided: what the rows are of, where processes that exchange rows may divide the batches among them.

    Returns:
        The budget that it ended with.

    Raises:
        torch.OutOfMemoryError: a single row does not fit.
        Unwanted: another process has decided the claim that this one helps with.
    """
    most = TOKEN_BUDGET if budget is None else budget
    pending, turns = batches(lengths, most), Turns(divided)
    for _ in progress(_until_empty(pending), description, len(pending)):
        with turns.next(pending) as turn:
            rows = turn.rows
            if turn.there or _fits(work, rows):
                turn.done()
                pending.remove(rows)
                continue
        most = len(rows) * max(lengths[i] for i in rows) // 2
        left = [i for batch in pending for i in batch]
        pending[:] = [[left[k] for k in batch] for batch in batches([lengths[i] for i in left], most)]
    return most


def in_units(
    work: Callable[[list[int]], None], units: Sequence[list[int]], description: str, divided: Divided | None
) -> None:
    """Do `work` on rows that are grouped already, group by group.

    Raises:
        Unwanted: as `in_batches`.
    """
    pending, turns = list(units), Turns(divided)
    for _ in progress(_until_empty(pending), description, len(pending)):
        with turns.next(pending) as turn:
            if not turn.there:
                work(turn.rows)
            turn.done()
            pending.remove(turn.rows)


def _until_empty(pending: list[list[int]]) -> Iterator[None]:
    while pending:
        yield


def _fits(work: Callable[[list[int]], None], rows: list[int]) -> bool:
    """Whether the work could be done; on False its tensors are free again, with the error that held them."""
    try:
        work(rows)
    except torch.OutOfMemoryError:
        if len(rows) == 1:
            raise
        return False
    return True


def speed(adapter: Adapter) -> float:
    """Token-layers per second in plain batches of this model, here and now.

    Batches grow up to `TOKEN_BUDGET` until one takes long enough to be timed, so that a slow model is not run for long:
    twice as many rows each time, or at once as many as should take long enough.
    """
    ids = adapter.chat.encode("The quick brown fox jumps over the lazy dog. " * _LENGTH)[:_LENGTH]
    prompt, rows, most = Prompt("", tuple(ids)), 1, TOKEN_BUDGET // len(ids)
    while True:
        batch, before, began = adapter.batch([prompt] * rows), adapter.meter.token_layers, time.perf_counter()
        adapter.run(batch)
        seconds = time.perf_counter() - began
        if seconds >= _TIMED or rows >= most:
            return (adapter.meter.token_layers - before) / seconds
        rows = min(most, max(2 * rows, math.ceil(rows * _TIMED / seconds)))
