"""Whose turn a batch is: this process's, or another one's that exchanges rows with it."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import torch
from torch import Tensor

from auditkit.adapters.protocol import Adapter
from auditkit.engine.exchange.folder import BatchFile, BatchRows, Exchange, current_exchange
from auditkit.engine.guards import edits_so_far, note_edits

_PAUSE = 0.05
"""Seconds between two looks at batches that other processes run."""
MOST = 2**28
"""Bytes of rows of one measurement above which every process measures all of it. On a file system that carries 1 GB/s,
reading as many takes as long as a batch of a 70B model."""
PATIENCE, LONGER = 60.0, 3.0
"""Seconds that a batch of another process is waited for, and times as long as this process took for its longest one,
whichever is more; then it is run here too. A machine that was lost may hold its locks for ever."""


Rows = Tensor | Sequence[Tensor]
"""What a measurement fills, by row: a tensor (row, ...), or one tensor for each row."""


@dataclass(frozen=True, eq=False)
class Divided:
    """A measurement whose batches several processes may divide.

    Attributes:
        adapter: the model.
        of: all else that its rows depend on: the name of the measurement, its prompts, edits, options.
        rows: name -> what the work fills in place.
        begun: batches that this process has begun to measure, which it takes first.
    """

    adapter: Adapter
    of: tuple[object, ...]
    rows: Mapping[str, Rows]
    begun: Collection[tuple[int, ...]] = field(default=())

    @property
    def size(self) -> int:
        """Bytes of all rows."""
        return sum(part.numel() * part.element_size() for some in self.rows.values() for part in some)

    def values(self, rows: Sequence[int]) -> dict[str, bytes]:
        """The numbers of some rows."""
        return {name: _joined([some[row] for row in rows]) for name, some in self.rows.items()}

    def fill(self, rows: Sequence[int], values: Mapping[str, bytes]) -> bool:
        """Fill some rows; False, with nothing filled, where the numbers are not those of such rows."""
        found = {name: [some[row] for row in rows] for name, some in self.rows.items()}
        sizes = {name: sum(part.numel() * part.element_size() for part in parts) for name, parts in found.items()}
        if {name: len(numbers) for name, numbers in values.items()} != sizes:
            return False
        for name, parts in found.items():
            _split(values[name], parts)
        return True


def _joined(parts: Sequence[Tensor]) -> bytes:
    flat = torch.cat([part.detach().reshape(-1).cpu() for part in parts])
    return flat.view(torch.uint8).numpy().tobytes()


def _split(numbers: bytes, parts: Sequence[Tensor]) -> None:
    if not numbers:
        return
    flat = torch.frombuffer(bytearray(numbers), dtype=parts[0].dtype)
    for part, own in zip(parts, torch.split(flat, [part.numel() for part in parts]), strict=True):
        part.copy_(own.reshape(part.shape))


class Turn:
    """One batch: its rows were measured by another process and are filled in, or are to be measured now.

    Attributes:
        rows: numbers of the rows.
        there: they are filled in.
    """

    def __init__(
        self,
        rows: list[int],
        dividing: _Dividing | None = None,
        file: BatchFile | None = None,
        *,
        there: bool = False,
    ) -> None:
        self.rows, self.there = rows, there
        self._dividing, self._file = dividing, file
        self._before, self._began = self._spent(), time.perf_counter()

    def done(self) -> None:
        """The rows are measured: hand them on."""
        if self._dividing is None:
            return
        took = time.perf_counter() - self._began
        self._dividing.longest = max(self._dividing.longest, took)
        if self._file is not None:
            spent = (now - before for now, before in zip(self._spent(), self._before, strict=True))
            cost = dict(zip(("token_layers", "runs", "edited"), spent, strict=True))
            self._dividing.exchange.handed += 1
            self._file.write(BatchRows(values=self._dividing.divided.values(self.rows), **cost))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def _spent(self) -> tuple[int, int, int]:
        if self._dividing is None:
            return 0, 0, 0
        meter = self._dividing.divided.adapter.meter
        return meter.token_layers, meter.runs, edits_so_far()


class Turns:
    """The batches of a measurement, in the order in which this process comes to them.

    Without an exchange that is their own order. With one, batches come first whose rows are there, then those that no
    process has begun; the others are waited for.

    Args:
        divided: what the batches measure; None where it cannot be divided.

    Raises:
        Unwanted: this process helps with a claim that another one has decided, or of which all that is left is under
            way elsewhere.
    """

    def __init__(self, divided: Divided | None) -> None:
        exchange = current_exchange()
        self._dividing: _Dividing | None = None
        if exchange is None:
            return
        exchange.require_wanted()
        if divided is None or divided.size > MOST:
            return
        name = exchange.measurement(divided.adapter, divided.of)
        if name is not None:
            self._dividing = _Dividing(exchange, divided, name)

    def next(self, pending: Sequence[list[int]]) -> Turn:
        """The next of some batches.

        Raises:
            Unwanted: as for the class.
        """
        return Turn(pending[0]) if self._dividing is None else self._dividing.next(pending)


@dataclass
class _Dividing:
    """A measurement that this process divides with others.

    Attributes:
        name: a digest of what it is.
        longest: seconds that the longest batch took here.
    """

    exchange: Exchange
    divided: Divided
    name: str
    longest: float = 0.0

    def next(self, pending: Sequence[list[int]]) -> Turn:
        began = time.perf_counter()
        while True:
            self.exchange.require_wanted()
            turn = self._there(pending) or self._taken(pending)
            if turn is not None:
                return turn
            self.exchange.require_free()
            if time.perf_counter() - began > max(PATIENCE, LONGER * self.longest):
                return Turn(pending[0], self)
            time.sleep(_PAUSE)

    def _there(self, pending: Sequence[list[int]]) -> Turn | None:
        """A batch whose rows are there, filled in and with its cost counted."""
        rows = next((rows for rows in pending if self._filled(rows, self._file(rows))), None)
        return None if rows is None else Turn(rows, there=True)

    def _taken(self, pending: Sequence[list[int]]) -> Turn | None:
        """A batch that no process has begun, for this one to measure."""
        begun = self.divided.begun
        for rows in sorted(pending, key=lambda rows: tuple(rows) not in begun):
            file = self._file(rows)
            if file.take():
                if not self._filled(rows, file):
                    return Turn(rows, self, file)
                file.close()  # they came between the look and the lock
                return Turn(rows, there=True)
        return None

    def _filled(self, rows: list[int], file: BatchFile) -> bool:
        found = file.read()
        if found is None or not self.divided.fill(rows, found.values):
            return False
        for meter in (self.divided.adapter.meter, self.exchange.received):
            meter.token_layers += found.token_layers
            meter.runs += found.runs
        note_edits(found.edited)
        return True

    def _file(self, rows: list[int]) -> BatchFile:
        return self.exchange.batch(self.name, rows)
