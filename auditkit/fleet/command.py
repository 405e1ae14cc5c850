"""A command that a scheduler starts somewhere, as plain texts and numbers, and the process that it becomes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PATIENCE = 20.0
"""Seconds that a command has to end in good order, its journal closed and its record written, before it is killed."""

UNSEEN = 257
"""Exit status of a command whose machine does not see its folders. No process ends with this number."""


@dataclass(frozen=True)
class Command:
    """What is started.

    Attributes:
        args: arguments of Python, as in ("-m", "pytest", "suites"). Which Python it is, the machine decides.
        cwd: the folder that it starts in.
        log: the file that its output is added to.
        environment: variables beside those of the machine.
        cpus: processors that it is given, which is also the number of its threads.
        gpus: GPUs that it is given; a share such as 0.5 where several commands use one.
    """

    args: tuple[str, ...]
    cwd: str
    log: str
    environment: Mapping[str, str]
    cpus: int
    gpus: float


def start(command: Command) -> subprocess.Popen[bytes]:
    """Start a command in a process group of its own, which ends when this process does.

    Raises:
        OSError: the folder or the log cannot be used.
    """
    threads = {"OMP_NUM_THREADS": str(command.cpus), "OMP_WAIT_POLICY": "passive"}
    hidden = {} if command.gpus else {"CUDA_VISIBLE_DEVICES": ""}
    bound = [sys.executable, "-P", "-m", "auditkit.fleet.bound", str(os.getpid())]
    with Path(command.log).open("ab") as log:
        return subprocess.Popen(
            [*bound, *command.args],
            cwd=command.cwd,
            env={**os.environ, **threads, **hidden, **command.environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def run(command: Command) -> int:
    """Start a command and wait for it: what a scheduler calls in a process of its own. Its exit status.

    When this process is told to stop, the command is ended first.
    """
    if not (Path(command.cwd).is_dir() and Path(command.log).parent.is_dir()):
        return UNSEEN
    child = start(command)
    try:
        while (status := child.poll()) is None:  # Ray interrupts Python, and not a call that waits for a process
            time.sleep(0.1)
        return status
    finally:
        end([child])


def end(children: Sequence[subprocess.Popen[bytes]]) -> None:
    """End commands that still run: each is asked to, as Ctrl-C would ask it, and killed where it does not in time."""
    for child in children:
        if child.poll() is None:
            child.terminate()
    try:
        for child in children:
            child.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        pass
    finally:  # also where the user presses Ctrl-C again
        for child in children:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
