"""Which jobs a launcher calls slow, by a clock that the test moves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from auditkit.fleet.jobs import Job
from auditkit.fleet.slow import LEAST, SILENT, Watch

pytestmark = pytest.mark.unit


class Clock:
    """Seconds that only the test moves."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def watch(clock: Clock) -> Watch:
    return Watch(clock)


@pytest.fixture
def job(tmp_path: Path) -> Callable[[str], Job]:
    def make(name: str) -> Job:
        (tmp_path / name).mkdir()
        return Job(name, f"./{name}", (1, 1), tmp_path / name, (), False)

    return make


def prints(job: Job) -> None:
    with job.log.open("a") as log:
        log.write("a line\n")


def measures(job: Job, claims: int) -> None:
    """Claims in the journal of its run, behind the header."""
    folder = job.folder / "20260101T000000Z-model"
    folder.mkdir(exist_ok=True)
    (folder / "journal.jsonl").write_text("{}\n" * (claims + 1))


def started(watch: Watch, *jobs: Job) -> None:
    for job in jobs:
        watch.submitted(job)
        prints(job)
    assert not list(watch.slow(jobs))


def test_a_job_that_takes_twice_as_long_as_the_others_is_named_with_its_progress(
    watch: Watch, clock: Clock, job: Callable[[str], Job]
) -> None:
    quick, late = job("quick"), job("late")
    started(watch, quick, late)
    clock.now = 90.0
    measures(late, 3)
    assert not list(watch.slow([quick, late]))
    clock.now = 100.0
    assert watch.ended(quick, measured=True) == 100.0
    clock.now = 189.0
    assert not list(watch.slow([late]))
    clock.now = 205.0
    assert list(watch.slow([late])) == [
        "late: slow: it has run for 205 s, and jobs that have ended took 100 s at the median. It has measured 3 "
        f"claims, and none for 115 s ({late.log} ends with: a line); if its process is ended, it is started again and "
        "goes on"
    ]
    clock.now = 400.0
    assert not list(watch.slow([late])), "it is not named again until that time has doubled"
    clock.now = 416.0
    assert len(list(watch.slow([late]))) == 1


def test_a_job_that_comes_to_no_claim_is_named_where_there_is_nothing_to_compare_it_with(
    watch: Watch, clock: Clock, job: Callable[[str], Job]
) -> None:
    only, failed = job("only"), job("failed")
    started(watch, only, failed)
    watch.ended(failed, measured=False)
    clock.now = SILENT - 10
    measures(only, 1)
    assert not list(watch.slow([only]))
    clock.now = 2 * SILENT - 20
    assert not list(watch.slow([only])), "a claim counts from when it came"
    clock.now = 2 * SILENT
    (line,) = watch.slow([only])
    assert "only: slow: it has run for 1200 s. It has measured 1 claims, and none for 610 s" in line


def test_a_job_that_waits_for_its_scheduler_is_not_slow(
    watch: Watch, clock: Clock, job: Callable[[str], Job]
) -> None:
    quick, queued = job("quick"), job("queued")
    prints(queued)  # in an earlier attempt
    watch.submitted(queued)
    started(watch, quick)
    clock.now = 10.0
    watch.ended(quick, measured=True)
    clock.now = SILENT
    assert list(watch.slow([queued])) == [
        "queued: it was submitted 600 s ago and has not started; its scheduler has no room for it"
    ]
    prints(queued)
    clock.now += 16.0
    assert not list(watch.slow([queued])), "its time counts from its start"
    clock.now += LEAST - 1
    assert not list(watch.slow([queued])), "below a minute nobody waits for it"
    assert watch.ended(queued, measured=True) == LEAST - 1


def test_a_job_that_an_earlier_process_measures_is_named_at_once_and_again(
    watch: Watch, clock: Clock, job: Callable[[str], Job]
) -> None:
    held = job("held")
    (line,) = watch.busy(held)
    assert "held: a process that was started before still measures it; waiting for its end." in line
    clock.now = SILENT - 1
    assert not list(watch.busy(held))
    clock.now = SILENT
    measures(held, 2)
    (line,) = watch.busy(held)
    assert "(600 s so far, with 2 claims)" in line
    clock.now = 2 * SILENT - 1
    assert not list(watch.busy(held))
    watch.submitted(held)
    assert len(list(watch.busy(held))) == 1, "another time it is waited for"
