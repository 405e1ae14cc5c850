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
_LOOK = 5.0
"""Seconds between two looks at whether Ray's node of this process is there: a task does not end with it by itself."""


class _Task:
    """A task that was submitted."""

    def __init__(self, scheduler: RayScheduler, reference: Any) -> None:
        self.scheduler, self.reference = scheduler, reference
        self._ended: int | None = None

    def status(self) -> int | None:
        if self._ended is None:
            self._ended = LOST if self.scheduler.is_gone() else self._asked()
        return self._ended

    def lose(self) -> None:
        """It will not come to an end of its own."""
        self._ended = LOST if self._ended is None else self._ended

    def _asked(self) -> int | None:
        ray = self.scheduler.ray
        ready, _ = ray.wait([self.reference], timeout=0)
        if not ready:
            return None
        try:
            return int(ray.get(self.reference))
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
        self.ray: Any = ray
        self._tasks: list[_Task] = []
        self._cpus, self._looked, self._gone = cpus, time.monotonic(), False
        self._address = address
        self._own = None if address is not None else _files(folder)
        self._begin()
        self._run = ray.remote(max_retries=0)(run)

    def _begin(self) -> None:
        """Connect to the cluster, or start Ray on this machine.

        Raises:
            SchedulerError: it does not start.
        """
        try:
            if self._own is None:
                self.ray.init(address=self._address, log_to_driver=False, logging_level=logging.ERROR)
            else:
                self._start(self._own)
        except Exception as error:
            self.close()
            said = " ".join(str(error).split())[:300] or type(error).__name__
            raise SchedulerError(f"Ray does not start: {said}") from None

    def _start(self, files: Path) -> None:
        if _TOKEN_PATH not in os.environ:  # else Ray leaves one in the home directory
            token = files / "token"
            token.write_text(_TOKEN)
            os.environ[_TOKEN_PATH] = str(token)
        self.ray.init(
            num_cpus=self._cpus,
            num_gpus=len(visible_gpus()),
            include_dashboard=False,
            object_store_memory=OBJECT_STORE,
            log_to_driver=False,
            logging_level=logging.ERROR,
            _temp_dir=str(files),
            _node_ip_address="127.0.0.1",
        )

    def has_room(self, command: Command) -> bool:
        return True

    def submit(self, command: Command) -> _Task:
        if self._own is not None and self.is_gone():
            self._begin()
            self._gone = False
        options = {"num_cpus": command.cpus, "num_gpus": command.gpus}
        task = _Task(self, None if self._gone else self._run.options(**options).remote(command))
        self._tasks.append(task)
        return task

    def is_gone(self) -> bool:
        """Whether Ray's node of this process has ended, and every task with it."""
        if not self._gone and time.monotonic() - self._looked > _LOOK:
            self._looked = time.monotonic()
            own = self.ray.get_runtime_context().get_node_id()
            self._gone = not any(node["Alive"] for node in self.ray.nodes() if node["NodeID"] == own)
            if self._gone:
                for task in self._tasks:
                    task.lose()
                self.ray.shutdown()  # now: Ray's workers go on until somebody has waited for the end of their node
        return self._gone

    def close(self) -> None:
        if self.ray.is_initialized():
            left = [task for task in self._tasks if task.status() is None]
            for task in left:
                self.ray.cancel(task.reference)  # raises KeyboardInterrupt in the task, which ends its command
            limit = time.monotonic() + PATIENCE + 5
            with contextlib.suppress(KeyboardInterrupt):  # pressed again: what is left ends with its worker
                while time.monotonic() < limit and any(task.status() is None for task in left):
                    time.sleep(self.pause)
            self.ray.shutdown()
        if self._own is not None:
            if os.environ.get(_TOKEN_PATH) == str(self._own / "token"):
                del os.environ[_TOKEN_PATH]
            shutil.rmtree(self._own, ignore_errors=True)


def _files(folder: Path) -> Path:
    """Where a Ray of our own keeps its files: in the fleet's folder, unless its sockets' names would be too long."""
    within = folder.resolve() if len(str(folder.resolve())) <= _LONGEST else None
    return Path(tempfile.mkdtemp(prefix=".ray-", dir=within))
