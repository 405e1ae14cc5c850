"""What starts commands: a pool on this machine, Ray, or Slurm. All offer the same four things.

| scheduler | what runs where |
|---|---|
| `local` | processes of this machine, as many as its processors and GPUs allow |
| `ray` | tasks of a Ray that is started and stopped here, or of a cluster whose address is given |
| `slurm` | jobs of Slurm, through submitit |
"""

from __future__ import annotations

from typing import Literal, Protocol

from auditkit.fleet.command import Command

SchedulerName = Literal["local", "ray", "slurm"]

LOST = 256
"""Exit status of a command of which nobody knows how it ended: its machine is gone, or its scheduler gave it up. No
process ends with this number."""


class SchedulerError(Exception):
    """A scheduler that is not there or cannot do what is declared, in one line."""


class Running(Protocol):
    """A command that was submitted."""

    def status(self) -> int | None:
        """Its exit status; None as long as it waits or runs. A signal that ended it is a negative number."""


class Scheduler(Protocol):
    """Starts commands.

    Attributes:
        pause: seconds between two questions how a command is doing.
    """

    pause: float

    def has_room(self, command: Command) -> bool:
        """Whether a command can be submitted now; a scheduler with a queue of its own always has room.

        Raises:
            SchedulerError: the machine could never run it.
        """

    def submit(self, command: Command) -> Running:
        """Start a command, or queue it.

        Raises:
            SchedulerError, OSError: it cannot be started.
        """

    def close(self) -> None:
        """End every command that still runs, and whatever the scheduler itself has started."""
