"""The journal: one JSON line per finished claim, so that a killed run loses at most the claim under way.

The first line describes the run, each further line holds a claim with its items and ends with a SHA-256 over the line
before and itself. Lines are flushed to disk as they are written; one that does not fit on a full disk is taken back. A
last line cut short by a kill is dropped on reading; a line that is broken, or is not the one that was written behind
the line before, makes the whole file unusable. The chain shows an edit that did not make the digests anew; what the
numbers come to is decided again when claims are taken over (`auditkit.gate.verified.require_decided`).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from contextlib import suppress
from operator import attrgetter
from pathlib import Path

import msgspec

from auditkit.record.canonical import canonical
from auditkit.record.escaping import plain
from auditkit.record.locks import lock
from auditkit.record.schema import SCHEMA_VERSION, Claim, ItemRow, Struct
from auditkit.record.store import NotVerified, RecordError

LAYOUT = 2
"""Of the lines; the first had a row of items as an object each."""

ANEW = "leave out --resume to start anew"


class Entry(Struct, frozen=True, kw_only=True):
    """A finished claim with the values behind it; also how claims travel between processes."""

    claim: Claim
    items: tuple[ItemRow, ...]


_TEXTS = tuple(name for name in ItemRow.__struct_fields__ if name != "value")


class _Columns(Struct, frozen=True, kw_only=True):
    """Rows column by column, each text of a column once: many thousand rows share their claim, effects and clusters."""

    texts: dict[str, tuple[str, ...]]
    """Field -> its different texts."""
    which: dict[str, tuple[int, ...]]
    """Field -> for each row the number of its text."""
    values: tuple[float | None, ...]

    @classmethod
    def of(cls, rows: Sequence[ItemRow]) -> _Columns:
        texts, which = dict[str, tuple[str, ...]](), dict[str, tuple[int, ...]]()
        for name in _TEXTS:
            column = list(map(attrgetter(name), rows))
            texts[name] = tuple(dict.fromkeys(column))
            numbers = {text: number for number, text in enumerate(texts[name])}
            which[name] = tuple(map(numbers.__getitem__, column))
        return cls(texts=texts, which=which, values=tuple(row.value for row in rows))

    def rows(self) -> tuple[ItemRow, ...]:
        """The rows again.

        Raises:
            ValueError: a column that is missing, too short or too long, or a number that no text has.
        """
        if {*self.texts} != {*_TEXTS} or {*self.which} != {*_TEXTS}:
            raise ValueError(f"rows have the columns {', '.join(_TEXTS)}")
        if any(not 0 <= n < len(self.texts[name]) for name in _TEXTS for n in self.which[name]):
            raise ValueError("a row names a text that is not there")
        columns = [[self.texts[name][n] for n in self.which[name]] for name in _TEXTS]
        return tuple(
            ItemRow(value=value, **dict(zip(_TEXTS, texts, strict=True)))
            for value, *texts in zip(self.values, *columns, strict=True)
        )


class _Written(Struct, frozen=True, kw_only=True):
    """An entry as a line holds it."""

    claim: Claim
    items: _Columns


class _Line(_Written, frozen=True, kw_only=True):
    sha256: str
    """Of the line before and this one, without this field."""


class Header(Struct, frozen=True, kw_only=True):
    """What must agree before a journal's claims may be taken over by another run."""

    plan_sha256: str
    model_sha256: str
    """Of the whole identity of the model (`auditkit.record.identity.model_digest`)."""
    seed: int
    created: str
    command: tuple[str, ...] = ()
    """As the run was first called: its record shows this one, not the call that continued it."""
    settings: dict[str, str] = msgspec.field(default_factory=dict)
    """Option -> value, so that a refusal can say which one differs; `plan_sha256` only says that one does."""
    versions: dict[str, str] = msgspec.field(default_factory=dict)
    """Package -> version, for the same purpose."""
    model: dict[str, str] = msgspec.field(default_factory=dict)
    """The parts of that identity, for the same purpose."""
    schema_version: int = SCHEMA_VERSION
    layout: int = LAYOUT


class _Versioned(msgspec.Struct):
    plan_sha256: str
    schema_version: int = 0
    """Journals of the first versions do not say it."""
    layout: int = 1


class Journal:
    """Appends entries to `path`; the header is written when the file has none.

    What a kill left of a last line is cut off first, so that the next line does not grow out of it. The file is
    locked until it is closed or the process ends, however it ends: a run that is still going on has a journal and
    no record, just like one that was killed, and must not be continued by a second process.

    Raises:
        RecordError: another process writes it.
        OSError: the header cannot be written.
    """

    def __init__(self, path: Path, header: Header) -> None:
        self.path = path
        self._stream = path.open("ab", buffering=0)  # a buffer would keep what a full disk did not take
        try:
            lock(self._stream)
        except BlockingIOError:
            self._stream.close()
            raise RecordError(
                f"{path.parent} is being measured by another process; wait for it, or end it"
            ) from None
        content = path.read_bytes()
        whole = content.rfind(b"\n") + 1
        os.truncate(path, whole)
        self._last = content[:whole].rstrip(b"\n").rpartition(b"\n")[2]
        if not whole:
            self._append(msgspec.json.encode(canonical(header)))

    def append(self, entry: Entry) -> None:
        """Write an entry whole, or leave the file as it was.

        Raises:
            OSError: it cannot be written; entries may be appended again once there is room.
        """
        self._append(chained(self._last, msgspec.json.encode(_written(canonical(entry)))))

    def close(self) -> None:
        self._stream.close()

    def _append(self, line: bytes) -> None:
        descriptor, rest = self._stream.fileno(), memoryview(line + b"\n")
        whole = os.fstat(descriptor).st_size
        try:
            while rest:
                rest = rest[self._stream.write(rest) :]
            os.fsync(descriptor)
        except BaseException:  # a full disk, or Ctrl-C between two parts
            with suppress(OSError):
                os.truncate(descriptor, whole)
            raise
        self._last = line


def _written(entry: Entry) -> _Written:
    return _Written(claim=entry.claim, items=_Columns.of(entry.items))


def chained(before: bytes, entry: bytes) -> bytes:
    """The line of an entry behind the line `before`: the entry's object with the digest as its last field."""
    digest = hashlib.sha256(before + b"\n" + entry).hexdigest()
    return entry[:-1] + _tail(digest)


def has_header(path: Path) -> bool:
    """Whether the first line is there and whole."""
    try:
        with path.open("rb") as stream:
            return stream.readline().endswith(b"\n")
    except OSError:
        return False


def read_journal(path: Path) -> tuple[Header, tuple[Entry, ...]]:
    """Header and entries of a journal.

    Raises:
        RecordError: not there, no header, or of another schema version.
        NotVerified: a line that is broken or was changed, other than a last one cut short, or a claim with two entries.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise RecordError(f"cannot read {path}: {error.strerror or error}") from None
    lines.pop()  # empty after a whole line; otherwise what a kill left of the last one
    if not lines:
        raise RecordError(f"{path} has no header line; nothing can be resumed from it")
    try:
        found = msgspec.json.decode(lines[0], type=_Versioned)
        if (found.schema_version, found.layout) != (SCHEMA_VERSION, LAYOUT):
            what, theirs, ours = "record schema", found.schema_version or "unnamed", SCHEMA_VERSION
            if theirs == ours:
                what, theirs, ours = "layout of journals", found.layout, LAYOUT
            raise RecordError(
                f"{path} was written by another version of auditkit ({what} {theirs}, this one reads {ours}); continue "
                f"it with that version, or {ANEW}"
            )
        header = msgspec.json.decode(lines[0], type=Header)
        read = [msgspec.json.decode(line, type=_Line) for line in lines[1:]]
        entries = tuple(Entry(claim=line.claim, items=line.items.rows()) for line in read)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise NotVerified(f"{path} is damaged before its last line: {plain(str(error))}; {ANEW}") from None
    for number, (before, line, entry) in enumerate(zip(lines, lines[1:], read, strict=False), start=2):
        if line != chained(before, line.removesuffix(_tail(entry.sha256)) + b"}"):
            raise NotVerified(f"line {number} of {path} is not the one that the run wrote there; {ANEW}")
    ids = [entry.claim.id for entry in entries]
    twice = next((name for name in ids if ids.count(name) > 1), None)
    if twice is not None:
        raise NotVerified(f"{path} holds two entries of {twice}; {ANEW}")
    return header, entries


def _tail(digest: str) -> bytes:
    """How the line of an entry ends."""
    return b',"sha256":' + msgspec.json.encode(digest) + b"}"
