"""SHA-256 of files, remembered only as long as a file cannot have changed.

Hashing gigabytes at every opening would cost as much as loading them. A digest is remembered under the file's path,
device, inode, size, and the times of its last change of content and of its entry. A program can set the first of these
times and not the second (`st_ctime`), so a file that was swapped for one of the same size and time is hashed again.
Where the system's clock is too coarse to tell, or there is no such time, every file is hashed.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from auditkit.adapters.errors import IntegrityError

SETTLED = 2_000_000_000
"""Nanoseconds that a file must have lain unchanged: one that is changed again within the same tick of a coarse clock (a
second on some file systems) looks as it did before."""

_DIGEST = re.compile(r"[0-9a-f]{64}")

Stamp = tuple[int, int, int, int, int]


def cache_root() -> Path:
    """`$AUDITKIT_CACHE`, else `auditkit` under the user's cache folder."""
    chosen = os.environ.get("AUDITKIT_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "auditkit"


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, as lower-case hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def combined_sha256(paths: Iterable[Path]) -> str:
    """One digest for several files: SHA-256 over their sorted names and digests; that of a single file is its own."""
    paths = sorted(paths, key=lambda path: path.name)
    if len(paths) == 1:
        return remembered_sha256(paths[0])
    lines = "".join(f"{path.name} {remembered_sha256(path)}\n" for path in paths)
    return hashlib.sha256(lines.encode()).hexdigest()


def stamp(path: Path) -> Stamp:
    """What changes when a file is changed or another takes its place: device, inode, size, and two times."""
    status = path.stat()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def stamps(paths: Iterable[Path]) -> dict[Path, Stamp]:
    """File -> its stamp, for `require_unchanged`."""
    return {path: stamp(path) for path in paths}


def require_unchanged(before: Mapping[Path, Stamp], source: str) -> None:
    """Refuse files that changed while they were read: their digest would be of other bytes than were loaded.

    Raises:
        IntegrityError: naming the first.
    """
    for path, was in before.items():
        try:
            same = stamp(path) == was
        except OSError:
            same = False
        if not same:
            raise IntegrityError(
                f"{path.name} of {source} was changed while it was opened, so its digest would be of other bytes than "
                "were loaded: open it again when nothing writes to it"
            )


def remembered_sha256(path: Path) -> str:
    """SHA-256 of a file; it is not read again where its stamp says that it cannot have changed."""
    before = stamp(path)
    lasting = os.name == "posix" and before[1] != 0  # elsewhere st_ctime is the time of creation
    text = "|".join(map(str, (path.resolve(), *before)))
    memo = cache_root() / "digests" / hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:32]
    if lasting:
        try:
            known = memo.read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            known = ""
        if _DIGEST.fullmatch(known):
            return known
    settled = time.time_ns() - max(before[3], before[4]) > SETTLED
    digest = sha256_of(path)
    if lasting and settled and stamp(path) == before:
        try:
            memo.parent.mkdir(parents=True, exist_ok=True)
            memo.write_text(digest)
        except OSError:
            pass  # a cache that cannot be written only costs time
    return digest
