"""Marks of runs that have begun, so that `reports/latest` is not taken for a run that wrote nothing.

`latest` stays at the newest whole run whatever happens to a later one: a command that is refused, a model that cannot
be opened, a kill. A reader that follows the link could then take an old PASS for the present run's. So a run leaves a
mark beside `latest` when it begins, and takes it away when its record is whole.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

_MARK = ".begun-"
LATEST = "latest"


def begin(reports: Path) -> None:
    """Leave this process's mark; where no run was recorded, nothing can be mistaken and nothing is written."""
    if not (reports / LATEST).is_symlink():
        return
    try:
        (reports / f"{_MARK}{os.getpid()}").write_text(datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
    except OSError:  # a folder that cannot be written is refused where the run would write
        return


def finish(reports: Path) -> None:
    """Take away this process's mark, and those of runs that began before it: `latest` is newer than they are."""
    own = reports / f"{_MARK}{os.getpid()}"
    try:
        began = own.stat().st_mtime_ns
        for mark in reports.glob(f"{_MARK}*"):
            if mark.stat().st_mtime_ns <= began:
                mark.unlink(missing_ok=True)
    except OSError:  # no mark was left, or another process has taken one away meanwhile
        return


def unfinished(run: Path) -> str:
    """Why `run`, where it is the link `latest`, is not the newest run: one line; empty if it is, or is no link.

    Args:
        run: how a run was named: `reports/latest`, its audit.json, or any other folder.
    """
    link = run.parent if run.name == "audit.json" else run
    if not link.is_symlink():
        return ""
    began = [_text(mark) for mark in link.parent.glob(f"{_MARK}*")]
    if not began:
        return ""
    return (
        f"a run that began at {max(began)} has written no whole record, so {link} is still the run before it, "
        f"{link.resolve().name}"
    )


def _text(mark: Path) -> str:
    try:
        return mark.read_text()[:20]
    except OSError:
        return ""
