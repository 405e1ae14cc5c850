"""Which of the jobs that run are slow, and what a launcher says of them.

A slow job is named, with its last progress, and nothing else is done: only its user knows whether its machine is at
fault or its model larger. A second copy of the job would hold another GPU and measure the same; a process that is
killed is started again by the launcher and goes on with its claims, so that ending a job by hand loses no claim.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field

from auditkit.fleet.jobs import Job

LONGER = 2.0
"""Times the median of the jobs that have ended. Shards are shared out by declared tokens, which leaves differences
below a factor of two."""
LEAST = 60.0
"""Seconds that a job has run before it is called slow; nobody waits for the others."""
SILENT = 600.0
"""Seconds without a new claim, or without a start, after which a job is named even where none has ended."""
EVERY = 15.0
"""Seconds between two looks at the journals, which are read whole and may lie on a network file system."""


@dataclass
class _Seen:
    """A job under way.

    Attributes:
        submitted, started: seconds of the clock; `started` is None until it prints.
        moved: when the number of its claims last changed.
        printed: bytes of its log at the submission.
        named: seconds at which it is named next, at the earliest; doubled each time.
    """

    submitted: float
    printed: int
    claims: int
    moved: float
    started: float | None = None
    named: float = 0.0


@dataclass
class Watch:
    """Watches the jobs of a launcher.

    Args:
        clock: seconds that only grow.
    """

    clock: Callable[[], float] = time.monotonic
    _seen: dict[str, _Seen] = field(default_factory=dict)
    _busy: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Job -> since when an earlier process is waited for, and when that is said next."""
    _took: list[float] = field(default_factory=list)
    _last: float = float("-inf")

    def busy(self, job: Job) -> Iterator[str]:
        """A line for a job that a process of an earlier start still measures: at once, and when time has passed."""
        now = self.clock()
        began, due = self._busy.setdefault(job.name, (now, now))
        if now < due:
            return
        self._busy[job.name] = began, now + max(SILENT, now - began)
        so_far = f" ({now - began:.0f} s so far, with {job.claims_measured()} claims)" if now > began else ""
        yield (
            f"{job.name}: a process that was started before still measures it; waiting for its end{so_far}. If its "
            "machine is gone, end the process that holds its journal"
        )

    def submitted(self, job: Job) -> None:
        """A job goes to its scheduler."""
        now = self.clock()
        self._busy.pop(job.name, None)
        self._seen[job.name] = _Seen(now, job.printed(), job.claims_measured(), now)

    def has_started(self, job: Job) -> bool:
        """Whether a submitted job has printed something."""
        seen = self._seen[job.name]
        return seen.started is not None or job.printed() != seen.printed

    def ended(self, job: Job, *, measured: bool) -> float:
        """Seconds that a job took from its first line on, or from its submission where it printed none.

        Args:
            measured: it left a record, so others may be compared with it.
        """
        seen = self._seen.pop(job.name)
        took = self.clock() - (seen.submitted if seen.started is None else seen.started)
        if measured:
            self._took.append(took)
        return took

    def slow(self, running: Collection[Job]) -> Iterator[str]:
        """A line for each job that is slow and was not named lately; nothing until it is time for another look."""
        now = self.clock()
        if now - self._last < EVERY:
            return
        self._last = now
        for job in running:
            seen = self._seen[job.name]
            line, ran = self._line(job, seen, now)
            if line and ran >= seen.named:
                seen.named = 2 * ran
                yield f"{job.name}: {line}"

    def _line(self, job: Job, seen: _Seen, now: float) -> tuple[str, float]:
        """What is said of a job, empty where it is not slow, and the seconds it took."""
        if not self.has_started(job):
            waited = now - seen.submitted
            said = f"it was submitted {waited:.0f} s ago and has not started; its scheduler has no room for it"
            return (said if waited >= SILENT else ""), waited
        if seen.started is None:
            seen.started = seen.moved = now
        if (claims := job.claims_measured()) != seen.claims:
            seen.claims, seen.moved = claims, now
        ran, silent = now - seen.started, now - seen.moved
        usual = statistics.median(self._took) if self._took else None
        late = usual is not None and ran >= max(LEAST, LONGER * usual)
        if not late and silent < SILENT:
            return "", ran
        others = "" if usual is None else f", and jobs that have ended took {usual:.0f} s at the median"
        return (
            f"slow: it has run for {ran:.0f} s{others}. It has measured {claims} claims, and none for {silent:.0f} s "
            f"({job.log} ends with: {job.last_line()}); if its process is ended, it is started again and goes on"
        ), ran
