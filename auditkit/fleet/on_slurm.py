"""Commands as jobs of Slurm, through submitit. A job starts the command as a process and returns its exit status.

submitit writes what it hands to a job (the texts and numbers of the command) into the fleet's folder, in a format of
Python that runs code when it is read. So that folder must not be writable by others.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from auditkit.fleet.command import PATIENCE, Command, run
from auditkit.fleet.schedulers import LOST, SchedulerError

_DAY = 24 * 60
_CLUSTERS = ("slurm", "local")
_SUBMITITS = {"timeout_min", "mem_gb", "name", "nodes", "tasks_per_node"}
"""Options that mean the same on every cluster."""


class _Job:
    """A job that was submitted."""

    def __init__(self, job: Any) -> None:
        self.job = job

    def status(self) -> int | None:
        if not self.job.done():
            return None
        try:
            return int(self.job.result())
        except Exception:  # cancelled, out of time, its node gone: submitit has a class for each
            return LOST


class SlurmScheduler:
    """Jobs of Slurm.

    Args:
        folder: of the fleet, which every node must see under the same path.
        options: those of submitit (`timeout_min`, `mem_gb`, ...) and of sbatch (`partition`, `account`, ...), and
            `cluster`: "slurm", or "local" for submitit's own processes, which tries the same path without Slurm.

    Raises:
        SchedulerError: submitit is not installed, there is no Slurm, or an option means nothing.
    """

    pause = 0.5

    def __init__(self, folder: Path, options: Mapping[str, str]) -> None:
        try:
            import submitit
        except ImportError:
            raise SchedulerError(
                "--on slurm needs the package submitit: pip install 'interp-auditkit[fleet]'"
            ) from None
        cluster = options.get("cluster", "slurm")
        if cluster not in _CLUSTERS:
            raise SchedulerError(f"--slurm cluster={cluster}: write one of {', '.join(_CLUSTERS)}")
        if cluster == "slurm" and shutil.which("sbatch") is None:
            raise SchedulerError(
                "no Slurm here: sbatch is not on the PATH; run this on a node from which jobs are submitted, or use "
                "--on local"
            )
        self._jobs: list[_Job] = []
        self._executor: Any = submitit.AutoExecutor(folder=folder / "slurm", cluster=cluster)
        given = {name: value for name, value in options.items() if name != "cluster"}
        self._options = {"timeout_min": _DAY, **{_name(name): _number(text) for name, text in given.items()}}

    def has_room(self, command: Command) -> bool:
        return True

    def submit(self, command: Command) -> _Job:
        if command.gpus != int(command.gpus):
            raise SchedulerError(f"Slurm gives whole GPUs, and a job is to have {command.gpus:g}: change --gpus")
        try:
            self._executor.update_parameters(
                cpus_per_task=command.cpus, gpus_per_node=int(command.gpus), **self._options
            )
            job = self._executor.submit(run, command)
        except Exception as error:  # sbatch's refusals and submitit's: it has a class for each
            raise SchedulerError(f"Slurm does not take the job: {' '.join(str(error).split())[:300]}") from None
        self._jobs.append(_Job(job))
        return self._jobs[-1]

    def close(self) -> None:
        left = [job for job in self._jobs if job.status() is None]
        for job in left:
            with contextlib.suppress(Exception):  # it has ended meanwhile
                job.job.cancel()
        limit = time.monotonic() + PATIENCE + 5
        with contextlib.suppress(KeyboardInterrupt):
            while time.monotonic() < limit and any(job.status() is None for job in left):
                time.sleep(self.pause)


def _number(text: str) -> int | str:
    return int(text) if text.isascii() and text.isdigit() else text


def _name(option: str) -> str:
    """What submitit calls an option: its own by their names, those of sbatch with a prefix."""
    return option if option in _SUBMITITS or option.startswith("slurm_") else f"slurm_{option}"
