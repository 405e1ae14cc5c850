"""Commands as processes of this machine: no more of them at once than its processors and GPUs allow."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace

from auditkit.fleet.command import Command, end, start
from auditkit.fleet.schedulers import SchedulerError


def visible_gpus() -> tuple[str, ...]:
    """The GPUs that this process may use, by the names that CUDA_VISIBLE_DEVICES gives them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return tuple(part.strip() for part in named.split(",") if part.strip())
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    asked = [program, "--query-gpu=index", "--format=csv,noheader"]
    said = subprocess.run(asked, capture_output=True, text=True, timeout=60, check=False)
    return tuple(said.stdout.split()) if said.returncode == 0 else ()


@dataclass
class _Process:
    """A command under way, and what it was given."""

    child: subprocess.Popen[bytes]
    cpus: int
    gpus: dict[str, float]

    def status(self) -> int | None:
        return self.child.poll()


class LocalPool:
    """Processes of this machine.

    Args:
        cpus: processors that commands may use together.
        gpus: names of the GPUs; None for those of this machine.
    """

    pause = 0.05

    def __init__(self, cpus: int, gpus: Sequence[str] | None = None) -> None:
        self.cpus = cpus
        self.gpus = tuple(visible_gpus() if gpus is None else gpus)
        self._processes: list[_Process] = []

    def has_room(self, command: Command) -> bool:
        self._processes = [process for process in self._processes if process.status() is None]
        taken = sum(process.cpus for process in self._processes)
        gpus = self._free_gpus(command.gpus)
        if not self._processes and gpus is None:
            raise SchedulerError(
                f"a job is to have {command.gpus:g} GPUs, and this machine shows {len(self.gpus)}: "
                "give fewer with --gpus"
            )
        return gpus is not None and (taken + command.cpus <= self.cpus or not self._processes)

    def submit(self, command: Command) -> _Process:
        gpus = self._free_gpus(command.gpus)
        if gpus is None:
            raise SchedulerError(f"no GPU is free for a job that is to have {command.gpus:g}")
        seen = {"CUDA_VISIBLE_DEVICES": ",".join(gpus)} if gpus else {}
        child = start(replace(command, environment={**command.environment, **seen}))
        process = _Process(child, command.cpus, gpus)
        self._processes.append(process)
        return process

    def close(self) -> None:
        end([process.child for process in self._processes])

    def _free_gpus(self, asked: float) -> dict[str, float] | None:
        """GPU -> share of it for a command that asks for so many; None where they are not free."""
        taken = dict.fromkeys(self.gpus, 0.0)
        for process in self._processes:
            for name, share in process.gpus.items():
                taken[name] += share
        if 0 < asked < 1:
            found = next((name for name, share in taken.items() if share + asked <= 1 + 1e-9), None)
            return None if found is None else {found: asked}
        free = [name for name, share in taken.items() if not share][: int(asked)]
        return dict.fromkeys(free, 1.0) if len(free) == asked else None
