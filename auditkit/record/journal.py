"""The journal: one JSON line per finished claim, so that a killed run loses at most the claim under way.

The first line describes the run, each further line holds a claim with its items. Lines are flushed to disk as
they are written. A last line cut short by a kill is dropped on reading; a broken line before it is not, since
then the file was damaged by something else.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from auditkit.record.canonical import canonical
from auditkit.record.schema import Claim, ItemRow, Struct
from auditkit.record.store import RecordError


class Entry(Struct, frozen=True, kw_only=True):
    """A finished claim with the values behind it; also how claims travel between processes."""

    claim: Claim
    items: tuple[ItemRow, ...]


class Header(Struct, frozen=True, kw_only=True):
    """What must agree before a journal's claims may be taken over by another run."""

    plan_sha256: str
    model_sha256: str
    seed: int
    created: str


class Journal:
    """Appends entries to `path`; the header is written when the file has none.

    What a kill left of a last line is cut off first, so that the next line does not grow out of it.
    """

    def __init__(self, path: Path, header: Header) -> None:
        self.path = path
        whole = path.read_bytes().rfind(b"\n") + 1 if path.exists() else 0
        if whole:
            os.truncate(path, whole)
        else:
            path.unlink(missing_ok=True)
            self._append(msgspec.json.encode(canonical(header)))

    def append(self, entry: Entry) -> None:
        self._append(msgspec.json.encode(canonical(entry)))

    def _append(self, line: bytes) -> None:
        with self.path.open("ab") as stream:
            stream.write(line + b"\n")
            stream.flush()
            os.fsync(stream.fileno())


def read_journal(path: Path) -> tuple[Header, tuple[Entry, ...]]:
    """Header and entries of a journal.

    Raises:
        RecordError: not there, no header, or a broken line that is not the last.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise RecordError(f"cannot read {path}: {error.strerror or error}") from None
    lines.pop()  # empty after a whole line; otherwise what a kill left of the last one
    if not lines:
        raise RecordError(f"{path} has no header line; nothing can be resumed from it")
    try:
        header = msgspec.json.decode(lines[0], type=Header)
        entries = tuple(msgspec.json.decode(line, type=Entry) for line in lines[1:])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RecordError(f"{path} is damaged before its last line: {error}") from None
    return header, entries
