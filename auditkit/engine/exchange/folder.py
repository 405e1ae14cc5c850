"""The folder through which processes exchange the rows of batches.

A batch has a file, named by a digest of what its rows are of. The process that has locked it runs the batch and writes
the rows into it; a file with rows is whole or counts as empty. The system lets go of the lock when its process ends, so
a batch whose process was killed is run by another one.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import BinaryIO

import msgspec

from auditkit.adapters.protocol import Adapter, Meter
from auditkit.engine.exchange.fingerprint import fingerprint
from auditkit.record.locks import QUEUED, is_locked, lock

_DIGEST = hashlib.sha256().digest_size
_PROCESS, _DECIDED = ".process", ".decided"


class Unwanted(Exception):
    """A measurement that nobody waits for any more."""


class BatchRows(msgspec.Struct, frozen=True, kw_only=True):
    """What a batch came to.

    Attributes:
        values: name -> bytes of the numbers of its rows, one row after the other.
        token_layers, runs, edited: what the batch cost, as `Meter` and `counting_edits` count it.
    """

    values: dict[str, bytes]
    token_layers: int
    runs: int
    edited: int


class BatchFile:
    """The file of one batch.

    Args:
        path: it is made when it is first locked.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stream: BinaryIO | None = None

    def read(self) -> BatchRows | None:
        """The rows; None as long as they are not there, or where what is there does not hold."""
        try:
            content = self.path.read_bytes()
        except OSError:
            return None
        if hashlib.sha256(content[_DIGEST:]).digest() != content[:_DIGEST]:
            return None
        try:
            return msgspec.msgpack.decode(content[_DIGEST:], type=BatchRows)
        except msgspec.MsgspecError:
            return None

    def take(self) -> bool:
        """Lock the file for this process; False where another one has it."""
        stream = None
        try:
            stream = self.path.open("a+b")
            lock(stream)
        except BlockingIOError:
            if stream is not None:
                stream.close()
            return False
        except OSError:  # a folder that cannot be written: every process runs all batches
            return True
        self._stream = stream
        return True

    def write(self, rows: BatchRows) -> None:
        """Write the rows, where this process has the lock; without room they stay its own."""
        if self._stream is None:
            return
        content = msgspec.msgpack.encode(rows)
        with suppress(OSError):
            self._stream.truncate(0)
            self._stream.write(hashlib.sha256(content).digest() + content)
            self._stream.flush()

    def close(self) -> None:
        """Let go of the lock."""
        if self._stream is not None:
            with suppress(OSError):
                self._stream.close()
            self._stream = None


class Exchange:
    """What the processes of one run exchange.

    Args:
        folder: all of them see it. It is made where it is missing.
        asked: what decides numbers besides the model and a measurement's own arguments: plan, versions, device.
        model_of: the digest of a model's identity; None for a model that the run is not about, or that has none.

    Raises:
        OSError: the folder cannot be made.
    """

    def __init__(self, folder: Path, asked: object, model_of: Callable[[Adapter], str | None]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self._asked, self._model_of = folder, fingerprint(asked), model_of
        self._helped: tuple[str, str] | None = None
        self._own: BinaryIO | None = None
        self.gave_way = False
        """The claim that was helped with last was left, since all of it was under way elsewhere."""
        self.handed = 0
        """Batches that were run here and handed on."""
        self.received = Meter()
        """What was run elsewhere and counted here."""

    def measurement(self, adapter: Adapter, of: object) -> str | None:
        """A digest of a measurement: of the model, and of everything else that it depends on; None where one of these
        has none, so that every process measures all of it."""
        model = self._model_of(adapter)
        if model is None:
            return None
        try:
            return fingerprint((self._asked, model, of))
        except TypeError:
            return None

    def batch(self, measurement: str, rows: list[int]) -> BatchFile:
        """The file of some rows of a measurement."""
        return BatchFile(self.folder / fingerprint((measurement, rows))[:40])

    # -- claims ------------------------------------------------------------------------------------------------

    def join(self, claims: Iterable[tuple[str, str]]) -> None:
        """Say which claims this process decides, each with its model: others help with them while this process runs."""
        marks = [self._mark(*claim).name for claim in claims]
        own = (self.folder / fingerprint((os.getpid(), marks))[:40]).with_suffix(_PROCESS)
        with suppress(OSError):
            self._own = own.open("a+b")
            lock(self._own)
            self._own.truncate(0)
            self._own.write("\n".join(marks).encode())
            self._own.flush()

    def wanted(self, claims: Iterable[tuple[str, str]]) -> list[bool]:
        """Of claims, each with its model: whether a process that runs is going to decide it, and has not yet. None is
        where a launcher says that jobs wait for a place."""
        marks = [self._mark(*claim) for claim in claims]
        if (self.folder / QUEUED).exists():
            return [False] * len(marks)
        running = [process for process in self.folder.glob(f"*{_PROCESS}") if is_locked(process)]
        under_way = {mark for process in running for mark in _lines(process)}
        return [mark.name in under_way and not mark.exists() for mark in marks]

    def decide(self, model: str, claim: str) -> None:
        """Say that a claim is decided, so that nobody helps with it any more."""
        with suppress(OSError):
            self._mark(model, claim).touch()

    def is_decided(self, model: str, claim: str) -> bool:
        """Whether a process has decided the claim."""
        return self._mark(model, claim).exists()

    def _mark(self, model: str, claim: str) -> Path:
        return (self.folder / fingerprint((self._asked, model, claim))[:40]).with_suffix(_DECIDED)

    @contextmanager
    def helping(self, model: str, claim: str) -> Iterator[None]:
        """Measure in the block only as long as another process has not decided the claim, and wait for nobody."""
        self._helped, self.gave_way = (model, claim), False
        try:
            yield
        finally:
            self._helped = None

    def require_wanted(self) -> None:
        """Refuse to measure for a claim that another process has decided.

        Raises:
            Unwanted: it has.
        """
        if self._helped is not None and self.is_decided(*self._helped):
            raise Unwanted(f"{self._helped[1]} was decided by another process")

    def require_free(self) -> None:
        """Refuse to wait for batches of other processes, for a claim that another one decides.

        Raises:
            Unwanted: this process only helps, and may be of use elsewhere.
        """
        if self._helped is not None:
            self.gave_way = True
            raise Unwanted(f"all that is left to run for {self._helped[1]} is under way in other processes")


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []


_exchange: ContextVar[Exchange | None] = ContextVar("auditkit_exchange", default=None)


@contextmanager
def exchanging(exchange: Exchange | None) -> Iterator[None]:
    """Divide what is measured in the block with other processes; None divides nothing."""
    token = _exchange.set(exchange)
    try:
        yield
    finally:
        _exchange.reset(token)


def current_exchange() -> Exchange | None:
    """The exchange that this process takes part in."""
    return _exchange.get()
