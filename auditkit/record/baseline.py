"""Recorded runs to compare with: reading one whole, and giving one a name.

A baseline is evidence, so it is taken whole or not at all: record and items must be there, readable, and belong
together. Names live in one small file beside the runs, by folder and digest: a run that changed after it was named is
refused, and the file can be moved together with the runs.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from auditkit.record.escaping import plain
from auditkit.record.identity import has_digest
from auditkit.record.manifest import record_digest
from auditkit.record.schema import Run, Struct
from auditkit.record.store import AUDIT_JSON, ITEMS_PARQUET, RecordError, atomic_write, read_items, read_run

if TYPE_CHECKING:
    import pandas as pd

NAMES = "baselines.json"
BASELINE_LABEL = "the baseline"
"""The other run in the name of a difference: "recovery minus the baseline"."""
NO_BASELINE = "there is no baseline to compare with"
"""Stands in the reason of every claim that compares with a baseline, in a run that has none."""

_SHA256 = re.compile(r"[0-9A-Fa-f]{64}", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", re.ASCII)


class Named(Struct, frozen=True, kw_only=True):
    """One entry of the file of names."""

    run: str
    """Name of the run folder, in the same folder as the file."""
    audit_sha256: str


@dataclass(frozen=True)
class Recorded:
    """A recorded run and its items."""

    name: str
    folder: Path
    run: Run
    audit_sha256: str
    items: pd.DataFrame


def find_baseline(text: str, reports: Path) -> Path | None:
    """The folder of the recorded run that `text` names; None where it can only be a model.

    A folder or an audit.json goes before a model, and so does a name. A word that is both a name and the folder of a
    run is refused. Behind `#`, each may carry the SHA-256 that its record must have.

    Raises:
        RecordError: a run folder that is not there or unfinished, a damaged file of names, a named run that is
            gone or has changed, a name that is also a folder, or a record that has another digest.
    """
    text, pin = split_pin(text)
    folder = _find(text, reports)
    if pin is not None:
        _require_digest(folder, text, pin)
    return folder


def split_pin(text: str) -> tuple[str, str | None]:
    """How a recorded run is named, and the SHA-256 behind `#` that its record must have; None where there is no `#`."""
    name, hash_sign, pin = text.rpartition("#")
    if not (hash_sign and name) or Path(text).exists():
        return text, None
    return name, pin


def _require_digest(folder: Path | None, text: str, pin: str) -> None:
    """Refuse a record that has another digest than the one that was given with its name.

    Raises:
        RecordError: no recorded run, no SHA-256, or another one.
    """
    if not _SHA256.fullmatch(pin):
        raise RecordError(
            f"{text}#{pin}: behind # stands the SHA-256 of a recorded run, 64 hexadecimal digits (auditkit verify RUN "
            "prints it)"
        )
    if folder is None:
        raise RecordError(f"no baseline {text}: only a recorded run has a SHA-256 behind #")
    digest = record_digest(folder)
    if digest != pin.lower():
        raise RecordError(
            f"{folder / AUDIT_JSON} is not the record that was asked for (SHA-256 {digest[:12]}, asked for "
            f"{pin[:12]}); somebody has changed or replaced it, or the digest is of another run"
        )


def _find(text: str, reports: Path) -> Path | None:
    """The folder of the recorded run that `text` names, without its digest; None where it can only be a model."""
    path = Path(text)
    names = read_names(reports) if _NAME.fullmatch(text) else {}
    if text in names:
        if (path / AUDIT_JSON).exists():
            raise RecordError(
                f"'{text}' is the baseline of this name in {reports / NAMES} (run {names[text].run}) and also the "
                f"folder .{os.sep}{text}; write .{os.sep}{text} for the folder, or give the baseline another name"
            )
        return _named(text, names[text], reports)
    if path.name == AUDIT_JSON and path.exists():
        return path.resolve().parent
    if (path / AUDIT_JSON).exists():
        return path.resolve()
    if path.is_dir() and not any((path / name).exists() for name in ("config.json", "adapter_config.json")):
        raise RecordError(f"no baseline in {text}: the folder holds no {AUDIT_JSON}, so no run was finished there")
    inside = path.parent != Path() and path.parent.is_dir()
    if not path.exists() and (path.is_absolute() or inside or len(path.parts) > 2):
        raise RecordError(
            f"no baseline {text}: there is no such run folder{_near(path.name, reports, read_names(reports))}"
        )
    return None


def read_recorded(folder: Path, name: str) -> Recorded:
    """A recorded run with its items.

    Raises:
        RecordError: record or items missing, damaged, of another schema version, or not of one run.
    """
    run = read_run(folder)
    try:
        digests = [
            hashlib.sha256((folder / file).read_bytes()).hexdigest() for file in (AUDIT_JSON, ITEMS_PARQUET)
        ]
    except OSError as error:
        raise RecordError(
            f"cannot read the items in {folder / ITEMS_PARQUET}: {error.strerror or error}; a baseline is compared "
            "item by item"
        ) from None
    if digests[1] != run.items_sha256:
        raise RecordError(
            f"{folder / ITEMS_PARQUET} is not the file that {AUDIT_JSON} was written with (SHA-256 {digests[1][:12]}, "
            f"recorded {run.items_sha256[:12] or 'none'}); record the baseline again"
        )
    return Recorded(name, folder, run, digests[0], read_items(folder))


def measured_before(reports: Path, spec: str, plan_sha256: str) -> Path | None:
    """The newest finished run of this model under this plan, if there is one."""
    for file in sorted(reports.glob(f"2*/{AUDIT_JSON}"), reverse=True):
        try:
            run = read_run(file)
        except RecordError:
            continue
        if run.model.spec == spec and run.plan_sha256 == plan_sha256 and has_digest(run.model):
            return file.parent.resolve()
    return None


def read_names(reports: Path) -> dict[str, Named]:
    """Name -> recorded run; empty where nothing was named.

    Raises:
        RecordError: the file cannot be read, or an entry is no run folder beside it.
    """
    file = reports / NAMES
    try:
        names = msgspec.json.decode(file.read_bytes(), type=dict[str, Named])
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RecordError(f"cannot read {file}: {plain(str(error))}") from None
    for name, entry in names.items():
        inside = Path(entry.run).name == entry.run and entry.run not in ("", "..")
        if not inside or (reports / entry.run).resolve().parent != reports.resolve():
            raise RecordError(
                f"{file}: '{name}' names {entry.run}, which is no run folder in {reports}; take the entry out, and "
                f"name the run again with auditkit baseline set {name} RUN"
            )
    return names


def set_name(reports: Path, name: str, folder: Path) -> Recorded:
    """Give the recorded run in `folder` a name; a name that is taken then means this run.

    Raises:
        RecordError: no plain name, a run that lies elsewhere, or one that cannot serve as a baseline.
    """
    if not _NAME.fullmatch(name):
        raise RecordError(f"{name!r} is no name for a baseline; use letters, digits, '.', '_' and '-'")
    folder = (folder if folder.is_dir() else folder.parent).resolve()
    if folder.parent != reports.resolve():
        raise RecordError(
            f"{folder} lies outside {reports}; only runs there can be named (others can be given by their path)"
        )
    recorded = read_recorded(folder, name)
    names = read_names(reports) | {name: Named(run=folder.name, audit_sha256=recorded.audit_sha256)}
    document = msgspec.json.format(msgspec.json.encode(names, order="sorted"), indent=1)
    atomic_write(reports / NAMES, document + b"\n")
    return recorded


def named_baseline(reports: Path, name: str) -> Recorded:
    """The recorded run with this name.

    Raises:
        RecordError: no such name, or the run is gone or has changed.
    """
    names = read_names(reports)
    if name not in names:
        raise RecordError(f"no baseline is called {name!r}{_near(name, reports, names)}")
    return read_recorded(_named(name, names[name], reports), name)


def _named(name: str, entry: Named, reports: Path) -> Path:
    folder = reports / entry.run
    try:
        digest = hashlib.sha256((folder / AUDIT_JSON).read_bytes()).hexdigest()
    except OSError as error:
        raise RecordError(
            f"baseline '{name}': cannot read {folder / AUDIT_JSON}: {error.strerror or error}"
        ) from None
    if digest != entry.audit_sha256:
        raise RecordError(
            f"baseline '{name}': {folder / AUDIT_JSON} has changed since it was named (SHA-256 {digest[:12]}, was "
            f"{entry.audit_sha256[:12]}); if that is meant: auditkit baseline set {name} {folder}"
        )
    return folder.resolve()


def _near(name: str, reports: Path, names: dict[str, Named]) -> str:
    there = [path.parent.name for path in reports.glob(f"*/{AUDIT_JSON}")]
    near = difflib.get_close_matches(name, sorted({*names, *there}), n=1, cutoff=0.3)
    return f"; did you mean {near[0]}?" if near else ""
