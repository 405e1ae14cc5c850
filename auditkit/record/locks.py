"""Locks on files, and marks: which process writes a journal, and which launcher holds a fleet's folder.

The system releases a lock when its process ends, however it ends; so a lock tells a process that still goes on from one
that was killed.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

QUEUED = "queued"
"""Name of a file in an exchange (`auditkit.engine.exchange`): jobs wait for a place, so a shard that is done is to make
room and not to help others."""


def lock(stream: BinaryIO) -> None:
    """Lock for this process alone, where the system has such locks.

    Raises:
        BlockingIOError: another process holds it.
    """
    try:
        import fcntl
    except ImportError:
        return
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:  # a file system without locks: no reason to refuse the run
        pass


def is_locked(path: Path) -> bool:
    """Whether another process holds the lock of a file; False where the file cannot be written."""
    try:
        with path.open("r+b") as stream:
            lock(stream)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
