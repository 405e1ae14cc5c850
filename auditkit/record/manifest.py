"""The manifest of a run folder: the SHA-256 of every file that the run wrote.

It tells a file that was changed, exchanged or lost after the run. Whoever can change the files can write a new manifest
too; so the digest of the record, which holds the digest of the items, is printed at the end of the run and stands in
`comment.md` and `junit.xml`, and a baseline is pinned by it (docs/security.md).
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec

from auditkit.record.escaping import plain
from auditkit.record.store import AUDIT_JSON, RecordError, atomic_write

MANIFEST = "manifest.json"


def record_digest(folder: Path) -> str:
    """SHA-256 of the record in a run folder, in hex.

    Raises:
        RecordError: there is none that can be read.
    """
    try:
        return _digest(folder / AUDIT_JSON)
    except OSError as error:
        raise RecordError(f"cannot read {folder / AUDIT_JSON}: {error.strerror or error}") from None


def write_manifest(folder: Path) -> None:
    """List every file of the run folder with its digest."""
    listed = {path.name: _digest(path) for path in _files(folder)}
    document = msgspec.json.format(msgspec.json.encode(listed, order="sorted"), indent=1)
    atomic_write(folder / MANIFEST, document + b"\n")


def manifest_problems(folder: Path) -> list[str]:
    """One sentence for each file that is not as the manifest lists it; files that are not listed are not the run's.

    Raises:
        RecordError: there is no manifest, or it cannot be read.
    """
    try:
        listed = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=dict[str, str])
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RecordError(f"cannot read {folder / MANIFEST}: {plain(str(error))}") from None
    found = {path.name: path for path in _files(folder)}
    problems = [f"{name} is in the manifest and not in the folder" for name in listed if name not in found]
    return problems + [
        f"{name} has changed since the run wrote it (SHA-256 {digest[:12]}, the manifest has {listed[name][:12]})"
        for name, path in found.items()
        if name in listed and (digest := _digest(path)) != listed[name]
    ]


def _files(folder: Path) -> list[Path]:
    """The run's own files, by name: no hidden ones, which are those of a write under way."""
    return sorted(
        path for path in folder.iterdir() if path.is_file() and path.name != MANIFEST and path.name[0] != "."
    )


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
