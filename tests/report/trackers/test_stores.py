"""The trackers, offline: what was written is read back by their own libraries."""

from __future__ import annotations

import hashlib
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from auditkit.cli.publishing import TRACKERS
from auditkit.options import OPTIONS
from auditkit.record.schema import Run
from auditkit.record.store import write_run
from auditkit.report import write_outputs
from auditkit.report.trackers import stores
from auditkit.report.trackers.entry import TrackedRun, tracked
from auditkit.report.trackers.stores import TrackerError, log, logged, missing

pytestmark = pytest.mark.unit


@pytest.fixture
def folder(tmp_path: Path, sample_run: Run, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run folder, in a current folder of its own."""
    path = tmp_path / "reports" / "20250711T092431Z-model"
    path.mkdir(parents=True)
    write_run(path, sample_run, [])
    write_outputs(path, sample_run)
    monkeypatch.chdir(tmp_path)
    return path


@pytest.fixture
def entry(folder: Path, sample_run: Run) -> TrackedRun:
    return tracked(folder, sample_run)


def test_the_command_and_the_option_offer_the_same_trackers() -> None:
    assert tuple(OPTIONS["log-to"]["choices"]) == TRACKERS == tuple(stores._TRACKERS)


def test_mlflow_reads_back_numbers_verdicts_tags_and_files(
    folder: Path, sample_run: Run, entry: TrackedRun, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed (requirements/track.txt)")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "releases")
    said = log("mlflow", folder, sample_run)
    client = mlflow.MlflowClient()
    (run,) = client.search_runs([client.get_experiment_by_name("releases").experiment_id])
    assert said == f"experiment releases, run {run.info.run_id}"
    assert run.info.status == "FINISHED"
    assert run.data.metrics == pytest.approx(entry.numbers)
    assert {name: run.data.tags[name] for name in entry.tags} == entry.tags
    assert {name: run.data.tags[f"verdict.{name}"] for name in entry.verdicts} == entry.verdicts
    assert run.data.params["seed"] == str(sample_run.seed)
    kept = Path(mlflow.artifacts.download_artifacts(run_id=run.info.run_id, dst_path=str(tmp_path / "kept")))
    assert {file.name: _digest(file) for file in kept.iterdir()} == {f.name: _digest(f) for f in entry.files}
    assert mlflow.active_run() is None, "the user's own run is left alone"


def test_trackio_reads_back_numbers_verdicts_and_tags(
    folder: Path, sample_run: Run, entry: TrackedRun, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))  # read when trackio is imported, which is here
    trackio = pytest.importorskip("trackio", reason="trackio is not installed (requirements/track.txt)")
    from trackio.sqlite_storage import SQLiteStorage as Storage

    monkeypatch.setenv("TRACKIO_PROJECT", "releases")
    assert log("trackio", folder, sample_run) == f"project releases, run {folder.name}"
    assert trackio.TRACKIO_DIR.is_relative_to(tmp_path)
    (run,) = trackio.Api().runs("releases")
    (logged,) = Storage.get_logs("releases", run.name)
    assert {name: logged[name] for name in entry.numbers} == pytest.approx(entry.numbers)
    assert {name: run.config[name] for name in entry.tags} == entry.tags
    assert {name: run.config[f"verdict.{name}"] for name in entry.verdicts} == entry.verdicts
    kept = Storage.get_artifact_manifest("releases", folder.name, "v0")["manifest"]
    assert {one["path"]: one["digest"] for one in kept} == {file.name: _digest(file) for file in entry.files}


def test_wandb_writes_the_run_offline(
    folder: Path, sample_run: Run, entry: TrackedRun, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    wandb = pytest.importorskip("wandb", reason="wandb is not installed (requirements/track.txt)")
    for name, value in (("MODE", "offline"), ("DIR", str(tmp_path)), ("PROJECT", "releases"), ("SILENT", "true")):
        monkeypatch.setenv(f"WANDB_{name}", value)
    assert log("wandb", folder, sample_run).startswith("project releases, ")
    wandb.teardown()  # waits for the process that writes
    (written,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    content = written.read_bytes()
    for name in (*entry.numbers, *entry.verdicts):
        assert name.encode() in content
    assert entry.tags["record_sha256"].encode() in content


def test_a_tracker_that_is_not_installed_is_named_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder `wandb/` in the current directory is no library: it has no file of its own."""
    known = {"mlflow": ModuleSpec("mlflow", None, origin="mlflow/__init__.py"), "wandb": ModuleSpec("wandb", None)}
    monkeypatch.setattr(stores.importlib.util, "find_spec", known.get)
    assert missing(["mlflow"]) is None
    assert (
        missing(["mlflow", "wandb"]) == "wandb is not installed, so nothing can be logged to it: pip install wandb"
    )
    assert missing(["trackio"]) == "trackio is not installed, so nothing can be logged to it: pip install trackio"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ConnectionError("no route\nto host"), "cannot log to mlflow: ConnectionError: no route to host"),
        (ValueError(), "cannot log to mlflow: ValueError: no reason is given"),
        (SystemExit(3), "cannot log to mlflow: SystemExit: 3"),
        (KeyboardInterrupt(), "cannot log to mlflow: it was interrupted"),
    ],
)
def test_a_failure_is_one_line_that_says_how_to_log_later(
    folder: Path, sample_run: Run, monkeypatch: pytest.MonkeyPatch, error: BaseException, said: str
) -> None:
    def fail(entry: TrackedRun) -> str:
        raise error

    monkeypatch.setitem(stores._TRACKERS, "mlflow", fail)
    monkeypatch.setitem(stores._TRACKERS, "wandb", lambda entry: f"run {entry.name}")
    with pytest.raises(TrackerError) as raised:
        log("mlflow", folder, sample_run)
    assert str(raised.value) == said
    assert logged(("mlflow", "wandb", "mlflow"), folder, sample_run) == [
        f"warning: {said}; the run is recorded and its verdict stands; log it later with: auditkit log {folder} --to "
        "mlflow",
        f"wandb: run {folder.name}",
    ]


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
