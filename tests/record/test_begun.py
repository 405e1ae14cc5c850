"""Marks of runs that have begun and written nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from auditkit.record.begun import begin, finish, unfinished

pytestmark = pytest.mark.unit


@pytest.fixture
def reports(tmp_path: Path) -> Path:
    (tmp_path / "2026-a").mkdir()
    (tmp_path / "latest").symlink_to("2026-a")
    return tmp_path


def test_nothing_is_written_where_no_run_was_recorded(tmp_path: Path) -> None:
    begin(tmp_path / "reports")
    begin(tmp_path)
    assert list(tmp_path.iterdir()) == []
    finish(tmp_path)


def test_latest_is_old_from_the_beginning_of_a_run_to_its_end(reports: Path) -> None:
    assert unfinished(reports / "latest") == ""
    begin(reports)
    assert "is still the run before it, 2026-a" in unfinished(reports / "latest")
    assert "is still the run before it, 2026-a" in unfinished(reports / "latest" / "audit.json")
    assert unfinished(reports / "2026-a") == "", "a run that is named is that run"
    finish(reports)
    assert unfinished(reports / "latest") == ""


def test_a_run_takes_away_the_marks_before_its_own_and_leaves_those_behind_it(reports: Path) -> None:
    begin(reports)
    for name, seconds in ((".begun-1", 100), (".begun-2", 10**11)):
        (reports / name).write_text("2026-01-01T00:00:00Z")
        os.utime(reports / name, (seconds, seconds))
    finish(reports)
    assert [path.name for path in reports.glob(".begun*")] == [".begun-2"]
    assert unfinished(reports / "latest")
