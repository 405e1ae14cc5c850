"""Commands as tasks of Ray. A task starts the command as a process and returns its exit status, and nothing else.

Ray that is started here is stopped here: without a dashboard, without usage statistics, with a small object
store (no object is ever put there), on the loopback address, with its files in a folder that is removed at the end.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from auditkit.fleet.command import PATIENCE, Command, run
from auditkit.fleet.local import visible_gpus
from auditkit.fleet.schedulers import LOST, SchedulerError

OBJECT_STORE = 100_000_000
"""Bytes of Ray's object store. By itself Ray takes a third of the memory, more than /dev/shm has in many containers."""
_TOKEN_PATH = "RAY_AUTH_TOKEN_PATH"
_TOKEN = secrets.token_hex(32)
"""One for every Ray of this process, since Ray reads it once."""
_LONGEST = 24
"""Characters of a folder's path that leave room for the names of Ray's sockets, which may have 107: 14 for a folder in
it, 64 for the session and the socket."""


class _Task:
    """A task that was submitted."""

    def __init__(self, ray: Any, reference: Any) -> None:
        self.ray, self.reference = ray, reference

    def status(self) -> int | None:
        ready, _ = self.ray.wait([self.reference], timeout=0)
        if not ready:
            return None
        try:
            return int(self.ray.get(self.reference))
        except Exception:  # the worker or its node is gone, or the task was cancelled: Ray has a class for each
            return LOST


class RayScheduler:
    """Tasks of Ray.

    Args:
        folder: of the fleet; the nodes of a cluster must see it under the same path.
        cpus: processors of this machine that tasks may use.
        address: of a cluster that runs already; None starts Ray here.

    Raises:
        SchedulerError: Ray is not installed, or does not start.
    """

    pause = 0.2

    def __init__(self, folder: Path, cpus: int, address: str | None = None) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            import ray
        except ImportError:
            raise SchedulerError("--on ray needs the package ray: pip install 'interp-auditkit[fleet]'") from None
        self._ray: Any = ray
        self._tasks: list[_Task] = []
        self._own = None if address is not None else _files(folder)
        try:
            if address is not None:
                ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
            else:
                self._start(cpus)
        except Exception as error:
            self.close()
            said = " ".join(str(error).split())[:300] or type(error).__name__
            raise SchedulerError(f"Ray does not start: {said}") from None
        self._run = ray.remote(max_retries=0)(run)

    def _start(self, cpus: int) -> None:
        """Start Ray on this machine."""
        if self._own is not None and _TOKEN_PATH not in os.environ:  # else Ray leaves one in the home directory
            token = self._own / "token"
            token.write_text(_TOKEN)
            os.environ[_TOKEN_PATH] = str(token)
        self._ray.init(
            num_cpus=cpus,
            num_gpus=len(visible_gpus()),
            include_dashboard=False,
            object_store_memory=OBJECT_STORE,
            log_to_driver=False,
            logging_level=logging.ERROR,
            _temp_dir=str(self._own),
            _node_ip_address="127.0.0.1",
        )

    def has_room(self, command: Command) -> bool:
        return True

    def submit(self, command: Command) -> _Task:
        task = self._run.options(num_cpus=command.cpus, num_gpus=command.gpus).remote(command)
        self._tasks.append(_Task(self._ray, task))
        return self._tasks[-1]

    def close(self) -> None:
        if self._ray.is_initialized():
            left = [task for task in self._tasks if task.status() is None]
            for task in left:
                self._ray.cancel(task.reference)  # raises KeyboardInterrupt in the task, which ends its command
            limit = time.monotonic() + PATIENCE + 5
            with contextlib.suppress(KeyboardInterrupt):  # pressed again: what is left ends with its worker
                while time.monotonic() < limit and any(task.status() is None for task in left):
                    time.sleep(self.pause)
            self._ray.shutdown()
        if self._own is not None:
            if os.environ.get(_TOKEN_PATH) == str(self._own / "token"):
                del os.environ[_TOKEN_PATH]
            shutil.rmtree(self._own, ignore_errors=True)


def _files(folder: Path) -> Path:
    """Where a Ray of our own keeps its files: in the fleet's folder, unless its sockets' names would be too long."""
    within = folder.resolve() if len(str(folder.resolve())) <= _LONGEST else None
    return Path(tempfile.mkdtemp(prefix=".ray-", dir=within))
