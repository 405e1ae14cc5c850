"""Write a run into MLflow, Weights & Biases or trackio: the same entry by three libraries, which are optional.

Each reads its own environment variables: where it writes (MLFLOW_TRACKING_URI, WANDB_MODE, TRACKIO_DIR) and how the
project is named (MLFLOW_EXPERIMENT_NAME, WANDB_PROJECT, TRACKIO_PROJECT). Nothing is decided here: a run that cannot be
logged stays as it was recorded.
"""

from __future__ import annotations

import importlib.util
import io
import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from auditkit.record.escaping import plain, shell_join
from auditkit.record.schema import Run
from auditkit.record.store import RecordError
from auditkit.report.trackers.entry import TrackedRun, tracked

PROJECT = "auditkit"
"""Name of the project, or experiment, where the environment names none."""
_AT_ONCE = 100
"""Numbers, tags and parameters that MLflow takes in one call."""


class TrackerError(Exception):
    """A run that could not be logged, in one line."""


def missing(trackers: Iterable[str]) -> str | None:
    """Why one of the trackers cannot be used in this environment, in one line; None where all can.

    A folder that a tracker makes in the current directory (`wandb/`) looks like a package of its name, and is none.
    """
    for name in trackers:
        found = importlib.util.find_spec(name)
        if found is None or found.origin is None:
            return f"{name} is not installed, so nothing can be logged to it: pip install {name}"
    return None


def log(tracker: str, folder: Path, run: Run) -> str:
    """Write the run in a folder into a tracker; where it is there, in words.

    Raises:
        TrackerError: it could not be written, whatever the library says.
    """
    try:
        return _TRACKERS[tracker](tracked(folder, run))
    except KeyboardInterrupt:
        raise TrackerError(f"cannot log to {tracker}: it was interrupted") from None
    except (Exception, SystemExit) as error:  # a library that talks to servers raises whatever it likes
        why = plain(str(error))[:_LONGEST_REASON] or "no reason is given"
        raise TrackerError(f"cannot log to {tracker}: {type(error).__name__}: {why}") from None


def logged(trackers: Sequence[str], folder: Path, run: Run) -> list[str]:
    """Write the run in a folder into each tracker: a line for each, which says where it is, or why it is not and how to
    log it afterwards."""
    lines = []
    for tracker in dict.fromkeys(trackers):
        try:
            lines.append(f"{tracker}: {log(tracker, folder, run)}")
        except (TrackerError, RecordError) as error:
            again = shell_join(["auditkit", "log", str(folder), "--to", tracker])
            lines.append(
                f"warning: {error}; the run is recorded and its verdict stands; log it later with: {again}"
            )
    return lines


_LONGEST_REASON = 300


def _mlflow(entry: TrackedRun) -> str:
    """By the client alone: `mlflow.start_run` would change what a user's own code logs to."""
    os.environ.setdefault(
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2"
    )  # its own 7 wait for four minutes without a network
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param, RunTag

    client = MlflowClient()
    project = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
    experiment = client.get_experiment_by_name(project)
    place = experiment.experiment_id if experiment is not None else client.create_experiment(project)
    made = client.create_run(place, run_name=entry.name)
    number, when = made.info.run_id, made.info.start_time
    try:
        tags = [RunTag(name, text) for name, text in entry.tags.items()]
        tags += [RunTag(f"verdict.{name}", text) for name, text in entry.verdicts.items()]
        asked = ("model.spec", "seed", "items", "effort", "profile", "dtype", "device", "adapter", "baseline")
        given = [Param(name, entry.tags[name]) for name in asked if name in entry.tags]
        numbers = [Metric(name, value, when, 0) for name, value in entry.numbers.items()]
        client.log_batch(number, params=given)
        for part in _parts(numbers):
            client.log_batch(number, metrics=part)
        for part in _parts(tags):
            client.log_batch(number, tags=part)
        for file in entry.files:
            client.log_artifact(number, str(file))
    except BaseException:
        client.set_terminated(number, "FAILED")
        raise
    client.set_terminated(number)
    return f"experiment {project}, run {number}"


def _wandb(entry: TrackedRun) -> str:
    import wandb

    project = os.environ.get("WANDB_PROJECT", PROJECT)
    quiet = wandb.Settings(quiet=True, console="off", x_disable_stats=True)
    with wandb.init(
        project=project, name=entry.name, config=entry.tags, job_type="audit", reinit="create_new", settings=quiet
    ) as made:
        made.log(entry.numbers)
        made.summary.update({f"verdict/{name}": text for name, text in entry.verdicts.items()})
        kept = wandb.Artifact(entry.name, type="audit", metadata={"record_sha256": entry.tags["record_sha256"]})
        for file in entry.files:
            kept.add_file(str(file))
        made.log_artifact(kept)
        return f"project {project}, {made.url or made.dir}"


def _trackio(entry: TrackedRun) -> str:
    """trackio warns where it could not keep something; here that is a failure."""
    import trackio

    project = os.environ.get("TRACKIO_PROJECT", PROJECT)
    config = entry.tags | {f"verdict.{name}": text for name, text in entry.verdicts.items()}
    with redirect_stdout(io.StringIO()), warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", UserWarning)
        made = trackio.init(
            project=project, name=entry.name, config=config, embed=False, auto_log_gpu=False, auto_log_cpu=False
        )
        try:
            made.log(entry.numbers)
            kept = trackio.Artifact(entry.name, type="audit")
            for file in entry.files:
                kept.add_file(file)
            made.log_artifact(kept)
        finally:
            trackio.finish()
    if failed := [one for one in said if issubclass(one.category, UserWarning)]:
        raise RuntimeError(str(failed[0].message))
    return f"project {project}, run {made.name}"


def _parts(things: Sequence[Any]) -> list[Sequence[Any]]:
    return [things[start : start + _AT_ONCE] for start in range(0, len(things), _AT_ONCE)]


_TRACKERS: dict[str, Callable[[TrackedRun], str]] = {"mlflow": _mlflow, "wandb": _wandb, "trackio": _trackio}
