"""Recorded runs that hold: read, and refused where a file was changed or a verdict does not follow from the items."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from auditkit.gate.verify import Verified, verify
from auditkit.record.baseline import Recorded, read_recorded
from auditkit.record.manifest import manifest_problems
from auditkit.record.schema import Run
from auditkit.record.store import RecordError, read_items, read_run


class NotVerified(RecordError):
    """A record that was read and does not hold."""


def verified_folder(folder: Path) -> tuple[Run, Verified, list[str]]:
    """The run in a folder, what came of deriving it again, and one sentence for each thing that does not hold.

    Raises:
        RecordError: record, items or manifest cannot be read.
    """
    run = read_run(folder)
    found = verify(run, read_items(folder))
    return run, found, [*manifest_problems(folder), *found.problems]


def require_verified(folder: Path) -> Run:
    """The run in a folder.

    Raises:
        RecordError: it cannot be read.
        NotVerified: a file was changed after the run, or a statement does not follow from its items.
    """
    run, _, problems = verified_folder(folder)
    _refuse(folder, problems)
    return run


def verified_recorded(folder: Path, name: str) -> Recorded:
    """The run in a folder with its items, to be compared with.

    Raises:
        RecordError, NotVerified: as `read_recorded` and `require_verified`.
    """
    recorded = read_recorded(folder, name)
    _refuse(folder, [*manifest_problems(folder), *verify(recorded.run, recorded.items).problems])
    return recorded


def _refuse(folder: Path, problems: Sequence[str]) -> None:
    if problems:
        more = f" (and {len(problems) - 1} more: auditkit verify {folder})" if len(problems) > 1 else ""
        raise NotVerified(f"{folder.name} does not hold: {problems[0]}{more}")
