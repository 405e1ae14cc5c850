"""A whole fleet: the baseline first where it is a model, then every model, each as its jobs; then merged runs."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from auditkit.claims.verdicts import WORST_FIRST
from auditkit.fleet.folder import BASELINE_NAME, FleetPlan
from auditkit.fleet.jobs import Job, jobs_of
from auditkit.fleet.joined import ModelRun, model_run, planned_elsewhere
from auditkit.fleet.launch import JobResult, Launch
from auditkit.record.manifest import record_digest
from auditkit.record.schema import Claim

NOT_CARRIED_OUT = 4


class BaselineError(Exception):
    """The baseline could not be measured, in one line."""


@dataclass(frozen=True)
class Fleet:
    """What is measured, and on what.

    Attributes:
        folder: for everything that is written.
        apart: the suites are the package's.
        launch: starts jobs.
        say: prints a line.
    """

    folder: Path
    plan: FleetPlan
    apart: bool
    launch: Launch
    say: Callable[[str], None]

    def measure(self) -> tuple[list[ModelRun], int]:
        """The run of every model, in the order of the plan, and the exit code: the worst of the models.

        Raises:
            BaselineError: the baseline could not be measured.
            SchedulerError: a job cannot be started at all.
            OSError: the folder cannot be written.
        """
        options = [*self._common(), *self._against()]
        jobs = {model: self._jobs(name, model, options) for model, name in self.plan.names.items()}
        every = [job for some in jobs.values() for job in some]
        self.say(f"{len(every)} jobs: {len(jobs)} models, each in {self.plan.shards} shards")
        results = dict(zip(every, self.launch.measure(every), strict=True))
        known = planned_elsewhere(results.values())
        models = [
            self._joined(self.plan.names[model], model, [results[job] for job in some], known)
            for model, some in jobs.items()
        ]
        if all(result.refused for result in results.values()):
            return models, NOT_CARRIED_OUT
        return models, min((model.code for model in models), key=WORST_FIRST.index)

    def _common(self) -> list[str]:
        return [*self.plan.suites, *self.plan.options]

    def _jobs(self, name: str, model: str, options: Sequence[str]) -> list[Job]:
        return jobs_of(name, model, self.plan.shards, self.folder, options, self.apart)

    def _joined(self, name: str, model: str, results: Sequence[JobResult], known: Mapping[str, Claim]) -> ModelRun:
        """The run of a model; what its shards exchanged is removed once all of them are in it."""
        joined = model_run(model, results, self.folder / "runs" / name, known)
        if joined.run is not None and not joined.reason:
            for folder in {result.job.exchange for result in results}:
                if folder is not None:
                    shutil.rmtree(folder, ignore_errors=True)
        return joined

    def _against(self) -> list[str]:
        """The option that names the baseline's run, which is measured now if it was not yet.

        Raises:
            BaselineError: it could not be measured.
        """
        model = self.plan.baseline
        if model is None:
            return []
        self.say(f"measuring the baseline {model} first")
        jobs = self._jobs(BASELINE_NAME, model, [*self._common(), "--audit-as-baseline"])
        results: list[JobResult] = self.launch.measure(jobs)
        measured = self._joined(BASELINE_NAME, model, results, planned_elsewhere(results))
        if measured.folder is None or measured.reason:
            raise BaselineError(f"the baseline {model} could not be measured: {measured.reason}")
        return [f"--audit-baseline={measured.folder}#{record_digest(measured.folder)}"]
