"""Write the folder of evidence of a recorded run, which `auditkit verify` reads like a run folder."""

from __future__ import annotations

import hashlib
from pathlib import Path

from auditkit.record.canonical import canonical
from auditkit.record.manifest import MANIFEST, record_digest, write_manifest
from auditkit.record.schema import Run
from auditkit.record.store import AUDIT_JSON, ITEMS_PARQUET, RecordError, atomic_write
from auditkit.report.evidence import texts
from auditkit.report.evidence.frameworks import render_correspondence, render_correspondence_csv

COPIED = (AUDIT_JSON, ITEMS_PARQUET, "audit.html", "claims.csv")
"""Files of the run folder that the evidence holds as they are."""
_INDEX = "README.md"
_PAGES = {
    "claims.md": texts.render_claims,
    "methods.md": texts.render_methods,
    "limits.md": texts.render_limits,
    "correspondence.md": render_correspondence,
    "correspondence.csv": render_correspondence_csv,
}


class NotEvidence(ValueError):
    """A folder that holds something else, in one line."""


def write_evidence(source: Path, run: Run, folder: Path) -> None:
    """Write the evidence of the run in `source` into `folder`, which is made.

    Raises:
        NotEvidence: the folder is there and holds another run, or other files.
        RecordError: the run folder lacks a file.
        OSError: the folder cannot be written.
    """
    digest = record_digest(source)
    _require_own(folder, digest)
    lacking = [name for name in COPIED if not (source / name).is_file()]
    if lacking:
        raise RecordError(f"{source} has no {lacking[0]}; write its outputs again with: auditkit report {source}")
    folder.mkdir(parents=True, exist_ok=True)
    for name in COPIED:
        atomic_write(folder / name, (source / name).read_bytes())
    run = canonical(run)
    for name, render in _PAGES.items():
        atomic_write(folder / name, render(run).encode())
    digests = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in (*COPIED, *_PAGES)}
    atomic_write(folder / _INDEX, texts.render_index(run, digest, digests).encode())
    write_manifest(folder)


def _require_own(folder: Path, digest: str) -> None:
    """Refuse a folder that is not empty and not the evidence of the same run.

    Raises:
        NotEvidence: in one line.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise NotEvidence(f"{folder} is no folder; name another one")
    held = {path.name for path in folder.iterdir()}
    if not held:
        return
    foreign = sorted(held - {*COPIED, *_PAGES, _INDEX, MANIFEST})
    if foreign or AUDIT_JSON not in held:
        what = foreign[0] if foreign else sorted(held)[0]
        raise NotEvidence(f"{folder} is no evidence of this run: it holds {what}; name a new folder")
    if record_digest(folder) != digest:
        raise NotEvidence(
            f"{folder} holds the evidence of another run (record {record_digest(folder)[:12]}, this one is "
            f"{digest[:12]}); name a new folder"
        )
