"""Which scheduler a fleet has, and what each of its jobs is given."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from auditkit.fleet.local import LocalPool, visible_gpus
from auditkit.fleet.schedulers import Scheduler, SchedulerName

_AT_ONCE = 8
"""Jobs that share the processors of one machine where nobody says how many: each holds a model in memory."""
_ELSEWHERE = 4
"""Processors of a job on another machine, where nobody says how many."""


def open_scheduler(
    name: SchedulerName,
    folder: Path,
    cpus: int,
    address: str | None = None,
    slurm: Mapping[str, str] | None = None,
) -> Scheduler:
    """Open a scheduler.

    Args:
        folder: of the fleet; what the scheduler writes, it writes there.
        cpus: processors that a job is given; those of this machine are shared out.
        address: of a Ray cluster; None starts Ray on this machine.
        slurm: options of Slurm jobs.

    Raises:
        SchedulerError: its package is not installed, or the machine does not have it.
    """
    most = max(_cores(), cpus)
    if name == "ray":
        from auditkit.fleet.on_ray import RayScheduler

        return RayScheduler(folder, most, address)
    if name == "slurm":
        from auditkit.fleet.on_slurm import SlurmScheduler

        return SlurmScheduler(folder, slurm or {})
    return LocalPool(most)


def of_a_job(jobs: int, here: bool, cpus: int | None, gpus: float | None) -> tuple[int, float]:
    """The processors and GPUs that a job is given, where a user does not name them.

    Args:
        here: the jobs run on this machine.
        cpus, gpus: what the user names.
    """
    shared = max(1, _cores() // max(1, min(jobs, _AT_ONCE)))
    has_gpus = here and bool(visible_gpus())
    return cpus or (shared if here else _ELSEWHERE), gpus if gpus is not None else float(has_gpus)


def _cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
