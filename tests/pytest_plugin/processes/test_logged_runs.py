"""`--log-to`: a run goes to a tracker when it has ended, and nothing about it depends on that."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from auditkit.report.trackers import stores
from auditkit.report.trackers.entry import TrackedRun

if TYPE_CHECKING:
    from tests.pytest_plugin.conftest import Audits

pytestmark = pytest.mark.unit


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[TrackedRun]:
    """What MLflow was given, by a library that is said to be installed; Weights & Biases breaks."""
    entries: list[TrackedRun] = []

    def write(entry: TrackedRun) -> str:
        entries.append(entry)
        return "written"

    def fail(entry: TrackedRun) -> str:
        raise OSError("no space left")

    monkeypatch.setattr(stores, "missing", lambda trackers: None)
    monkeypatch.setitem(stores._TRACKERS, "mlflow", write)
    monkeypatch.setitem(stores._TRACKERS, "wandb", fail)
    return entries


def test_a_run_is_logged_when_it_has_ended_and_a_failure_changes_nothing(
    audits: Audits, taken: list[TrackedRun]
) -> None:
    result = audits("--log-to", "mlflow", "--log-to", "wandb", "-k", "once")
    assert result.ret == 0
    (entry,) = taken
    assert entry.name == audits.folder.name
    assert entry.numbers["suite/once"] == audits.claim("once").effect.estimate
    assert [file.name for file in entry.files] == ["audit.html", "audit.json", "claims.csv"]
    said = result.outlines
    place = next(number for number, line in enumerate(said) if line.startswith("record: SHA-256"))
    assert said[place + 1] == "mlflow: written"
    assert said[place + 2] == (
        "warning: cannot log to wandb: OSError: no space left; the run is recorded and its verdict stands; log it "
        f"later with: auditkit log reports/{audits.folder.name} --to wandb"
    )


def test_a_tracker_that_is_not_installed_is_refused_before_anything_is_measured(
    audits: Audits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "missing", lambda trackers: f"{trackers[0]} is not installed")
    result = audits("--log-to", "trackio")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines("ERROR: --log-to: trackio is not installed")
    assert not audits.folders()


def test_a_part_of_a_run_is_not_logged(audits: Audits, taken: list[TrackedRun]) -> None:
    result = audits("--log-to", "mlflow", "--shard", "1/2")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines("ERROR: --log-to logs a whole run, and --shard measures a part; *")
    assert not taken
