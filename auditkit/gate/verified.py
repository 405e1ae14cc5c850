"""Recorded runs that hold: read, and refused where a file was changed or a verdict does not follow from the items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from auditkit.gate.verify import Verified, verify, verify_claim
from auditkit.record.baseline import Recorded, read_recorded
from auditkit.record.journal import ANEW
from auditkit.record.manifest import manifest_problems, record_digest
from auditkit.record.resume import Interrupted
from auditkit.record.schema import Run
from auditkit.record.store import JOURNAL, NotVerified, item_table, read_items, read_run


@dataclass(frozen=True)
class Checked:
    """A run folder that held when it was verified.

    Verifying derives every effect again, which takes seconds. Whoever holds this needs no second time: the record is
    known by its digest, and names the digest of its items.
    """

    folder: Path
    run: Run
    audit_sha256: str

    def recorded(self) -> Recorded:
        """The run with its items.

        Raises:
            RecordError: record or items cannot be read, or do not belong together.
            NotVerified: the record is another one than the one that was verified.
        """
        recorded = read_recorded(self.folder, self.folder.name)
        if recorded.audit_sha256 != self.audit_sha256:
            raise NotVerified(f"{self.folder.name} does not hold: its record has changed since it was verified")
        return recorded


def checked(folder: Path) -> Checked:
    """Verify a run folder, once.

    Raises:
        RecordError, NotVerified: as `require_verified`.
    """
    digest = record_digest(folder)
    return Checked(folder, require_verified(folder), digest)


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


def require_decided(earlier: Interrupted, *, paired: bool) -> None:
    """Decide the claims of an interrupted run again from their values and thresholds, before they are taken over.

    Args:
        paired: the run has a baseline.

    Raises:
        NotVerified: naming the first thing that does not follow.
    """
    for entry in earlier.entries:
        problems = verify_claim(entry.claim, item_table(entry.items), paired=paired).problems
        if problems:
            raise NotVerified(f"{earlier.folder / JOURNAL} does not hold: {problems[0]}; {ANEW}")


def _refuse(folder: Path, problems: Sequence[str]) -> None:
    if problems:
        more = f" (and {len(problems) - 1} more: auditkit verify {folder})" if len(problems) > 1 else ""
        raise NotVerified(f"{folder.name} does not hold: {problems[0]}{more}")
