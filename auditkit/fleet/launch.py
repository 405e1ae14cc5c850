"""Start jobs, wait for them, and start again what was cut off: at most as often as declared."""

from __future__ import annotations

import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from auditkit.fleet.command import UNSEEN
from auditkit.fleet.jobs import Job
from auditkit.fleet.schedulers import LOST, Running, Scheduler
from auditkit.fleet.slow import Watch
from auditkit.gate.verified import Checked
from auditkit.record.locks import QUEUED

_USAGE = 4


@dataclass(frozen=True)
class JobResult:
    """What became of a job.

    Attributes:
        done: its record, verified; None where it has none.
        reason: why it has none; empty where it has one.
        refused: its command cannot be carried out, so nothing was measured.
    """

    job: Job
    done: Checked | None = None
    reason: str = ""
    refused: bool = False


class Launch:
    """Jobs on a scheduler.

    Args:
        cpus, gpus: what each job is given.
        retries: times that a job is started again.
        say: prints a line.
    """

    def __init__(
        self, scheduler: Scheduler, cpus: int, gpus: float, retries: int, say: Callable[[str], None]
    ) -> None:
        self.scheduler = scheduler
        self.cpus, self.gpus, self.retries = cpus, gpus, retries
        self.say = say
        self._watch = Watch()
        self._queued: bool | None = None
        """Whether the shards were told that jobs wait for a place."""
        self._left: dict[str, int] = {}
        """Job -> times that it may still be started again."""

    def measure(self, jobs: Sequence[Job]) -> list[JobResult]:
        """Bring every job to its end, whatever that is; what an earlier launcher brought to its end stands.

        Raises:
            SchedulerError: a job cannot be started at all.
        """
        results: dict[str, JobResult] = {}
        waiting: deque[Job] = deque()
        for job in jobs:
            done = job.measured()
            if done is None:
                waiting.append(job)
                self._left[job.name] = self.retries
            else:
                results[job.name] = JobResult(job, done)
                self.say(f"{job.name}: was measured before")
        running: dict[Job, Running] = {}
        while waiting or running:
            self._submit(waiting, running)
            for job, process in list(running.items()):
                status = process.status()
                if status is None:
                    continue
                del running[job]
                result = self._ended(job, status)
                if result is None:
                    waiting.append(job)
                else:
                    results[job.name] = result
            self._tell_shards(jobs, bool(waiting) or not all(map(self._watch.has_started, running)))
            for line in self._watch.slow(running):
                self.say(line)
            time.sleep(self.scheduler.pause)
        return [results[job.name] for job in jobs]

    def _tell_shards(self, jobs: Sequence[Job], queued: bool) -> None:
        """Let shards that are done make room for jobs that wait, or help others where none does."""
        if queued == self._queued:
            return
        self._queued = queued
        for folder in {job.exchange for job in jobs if job.exchange is not None}:
            with suppress(OSError):
                if queued:
                    folder.mkdir(parents=True, exist_ok=True)
                    (folder / QUEUED).touch()
                else:
                    (folder / QUEUED).unlink(missing_ok=True)

    def _submit(self, waiting: deque[Job], running: dict[Job, Running]) -> None:
        """Submit every waiting job that there is room for."""
        for _ in range(len(waiting)):
            job = waiting.popleft()
            if job.is_busy():
                for line in self._watch.busy(job):
                    self.say(line)
                waiting.append(job)
                continue
            command = job.command(self.cpus, self.gpus)
            if not self.scheduler.has_room(command):
                waiting.appendleft(job)
                return
            self._watch.submitted(job)
            running[job] = self.scheduler.submit(command)

    def _ended(self, job: Job, status: int) -> JobResult | None:
        """What became of a job whose process has ended, or was lost; None where it is to be started again."""
        done = job.measured()  # also of a process that was lost or killed behind its last line
        seconds = self._watch.ended(job, measured=done is not None)
        if done is not None:
            self.say(f"{job.name}: {done.run.summary.verdict} ({seconds:.0f} s)")
            return JobResult(job, done)
        reason = _why(job, status)
        resumed = job.unfinished() is not None
        if status == UNSEEN or (status == _USAGE and not resumed):
            self.say(f"{job.name}: not measured: {reason}")
            return JobResult(job, reason=reason, refused=True)
        if not self._left[job.name]:
            self.say(f"{job.name}: not measured: {reason}; no retry is left")
            return JobResult(job, reason=reason)
        self._left[job.name] -= 1
        how = "going on with what it measured" if resumed else "measuring it from the start"
        number = self.retries - self._left[job.name]
        self.say(f"{job.name}: {reason}; {how} (retry {number} of {self.retries})")
        return None


def _why(job: Job, status: int) -> str:
    """Why a job has no record, in one line."""
    if status == LOST:
        return "nobody knows how it ended, since its machine or its place in the scheduler was lost"
    if status == UNSEEN:
        return (
            f"the machine that was to run it does not see {Path.cwd()} and {job.folder}; fleets need a file "
            "system that all machines share"
        )
    if status < 0 or status > 128:
        number = -status if status < 0 else status - 128
        names = {member.value: member.name for member in signal.Signals}
        return f"it was ended by {names.get(number, f'signal {number}')}"
    last = job.last_line()
    return f"it ended with exit code {status} and left no record that holds" + (f" ({last})" if last else "")


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end the block with KeyboardInterrupt.

    A shell lets its background jobs ignore Ctrl-C, and what they start would inherit that: Ray and submitit end their
    jobs by that very signal.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)
