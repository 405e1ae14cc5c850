"""`-n 2`: suites side by side, the same record as serially, and what becomes of claims whose worker dies."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
from recorded import content

from auditkit.record.journal import read_journal
from auditkit.record.schema import Run, Verdict
from auditkit.record.store import read_run

pytestmark = pytest.mark.unit
pytest.importorskip("xdist", reason="-n belongs to pytest-xdist")

CONFTEST = '''
import os, signal
from pathlib import Path
import numpy as np
import pandas as pd
import pytest
from auditkit.stats.effects.mean import Estimate
from auditkit.stats.measurement import Measurement

@pytest.fixture(scope="session")
def estimate(model, audit):
    return making(audit.seed, Path(__file__).parent.name)

@pytest.fixture(scope="session")
def another(model, audit):
    return making(audit.seed, "apart")

def making(seed, what):
    with open("log.txt", "a") as stream:
        stream.write(f"{os.getpid()} {what}\\n")
    def make(center):
        values = np.random.default_rng(seed).normal(0, 0.4, 60)
        values += center - values.mean()
        index = pd.Index([f"item{i}" for i in range(60)], name="item")
        labels = pd.DataFrame({"topic": [f"t{i % 12}" for i in range(60)]}, index=index)
        return Estimate("e", "logit", Measurement("m", "logit", pd.DataFrame({"p": values}, index=index), labels),
                        values)
    return make

@pytest.fixture
def die():
    """Kill this process once, where a file asks for it."""
    def now(how):
        asked = Path(f"{how}.txt")
        if asked.exists():
            asked.unlink()
            os._exit(3) if how == "exit" else os.kill(os.getpid(), signal.SIGKILL)
    return now
'''
FIRST = '''"""A finding (Somebody 2020)."""
from pathlib import Path
import torch

def test_one(estimate, model):
    """The first holds."""
    Path("threads.txt").write_text(str(torch.get_num_threads()))
    assert estimate(float(model.info.layers) - 5) > 0.0

def test_two(estimate, die):
    """The second does not."""
    die("exit")
    assert estimate(1.0) > 2.0

def test_ordinary():
    pass
'''
MORE = '''"""More of the finding."""
def test_three(estimate):
    """The third is undecided."""
    assert estimate(1.0) > 1.0
'''
APART = '''"""What shares no measurement with the rest of the finding."""
def test_four(another):
    """The fourth holds."""
    assert another(1.0) > 0.5
'''
OTHER = '''"""Another finding."""
import pytest

@pytest.mark.skip(reason="not today")
def test_skipped(estimate):
    """Is skipped."""

def test_broken(estimate, die):
    """Cannot be read."""
    die("kill")
    1 / 0

def test_last(estimate):
    """Holds."""
    assert estimate(1.0) > 0.0
'''


@pytest.fixture
def audit(pytester: pytest.Pytester, tiny_llama: Path):
    """Run the two suites on the tiny model: result of pytest and record."""
    files = {"first/test_first": FIRST, "first/test_more": MORE, "other/test_other": OTHER}
    for name, text in files.items():
        path = pytester.path / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        (path.parent / "conftest.py").write_text(CONFTEST)

    def run(*args: str, model: Path | str = tiny_llama) -> tuple[pytest.RunResult, Run | None]:
        (pytester.path / "log.txt").write_text("")
        named = ["--model", str(model)] if model else []
        result = pytester.runpytest_inprocess("first", "other", *named, *args)
        latest = pytester.path / "reports" / "latest"
        return result, read_run(latest) if latest.exists() else None

    return run


@pytest.mark.slow
def test_two_workers_come_to_the_record_of_one_process(audit, pytester: pytest.Pytester) -> None:
    """The first suite is more than a worker's share, so it is divided where its claims share nothing."""
    (pytester.path / "first" / "test_apart.py").write_text(APART)
    latest = pytester.path / "reports" / "latest"
    serial, run = audit()
    alone = latest.resolve()
    assert run.environment.workers == 1
    result, run = audit("-n", "2")
    assert result.ret == serial.ret == 1
    assert latest.resolve() != alone
    assert content(latest, processes=False) == content(alone, processes=False)
    log = [line.split() for line in (pytester.path / "log.txt").read_text().splitlines()]
    assert {part for _, part in log} == {"apart", "first", "other"}
    assert max(Counter(map(tuple, log)).values()) == 1, "what claims share is measured once by a worker"
    assert len({process for process, _ in log}) == 2
    assert run.environment.workers == 2
    assert run.environment.threads == int((pytester.path / "threads.txt").read_text())
    assert len(read_journal(latest / "journal.jsonl")[1]) == 7
    assert all((latest / name).stat().st_size for name in ("audit.html", "junit.xml", "summary.md"))
    result.stdout.fnmatch_lines(["*audit of tiny-llama*", "verdict: FAIL*", "report: *"])
    assert "Worker processes" in (latest / "audit.html").read_text()


@pytest.mark.slow
def test_claims_whose_workers_die_are_errors_and_the_others_are_measured(audit, pytester: pytest.Pytester) -> None:
    """One worker leaves without a word and another is killed, each while it measures."""
    for how in ("exit", "kill"):
        (pytester.path / f"{how}.txt").write_text("")
    result, run = audit("-n", "2")
    assert not list(pytester.path.glob("exit.txt")) + list(pytester.path.glob("kill.txt"))
    claims = {claim.id: claim for claim in run.claims}
    lost = ("first/two", "other/broken")
    for name in lost:
        assert (claims[name].verdict, claims[name].reason) == (
            Verdict.ERROR,
            "the worker process that measured it died",
        )
    expected = {"first/one": "PASS", "first/two": "FAIL", "first/three": "INCONCLUSIVE"}
    expected |= {"other/skipped": "NOT_APPLICABLE", "other/broken": "ERROR", "other/last": "PASS"}
    found = {name: str(claim.verdict) for name, claim in claims.items()}
    assert found == expected | dict.fromkeys(lost, "ERROR")
    assert result.ret == 11
    result.stdout.fnmatch_lines(["*replacing crashed worker*", "*replacing crashed worker*"])
    # The lost claims, and nothing else, are measured by a run that continues this one.
    folder = (pytester.path / "reports" / "latest").resolve()
    again, run = audit("--resume", str(folder), "-n", "2", "--maxfail", "2")
    assert again.ret == 1, "what xdist calls an interrupt is the end that was asked for, as serially"
    again.stdout.fnmatch_lines(
        [f"resuming *{folder.name}: 4 of 6 claims are taken over", "*stopping after 2 failures*"]
    )
    claims = {claim.id: claim for claim in run.claims}
    assert {name: str(claim.verdict) for name, claim in claims.items()} == expected
    assert "ZeroDivisionError" in claims["other/broken"].reason
    assert sorted((pytester.path / "log.txt").read_text().split()[1::2]) == ["first", "other"]


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (
            ["--dist", "loadfile"],
            "ERROR: --dist loadfile: claims that share measurements stay together; leave out --dist",
        ),
        (["--cross-check", "3"], "ERROR: --cross-check samples what one process has measured; leave out -n"),
        (["-k", "nothing"], "ERROR: no claim to measure: all 6 are deselected"),
    ],
)
def test_what_cannot_be_distributed_is_one_line_and_exit_code_4(audit, args: list[str], line: str) -> None:
    result, run = audit("-n", "2", *args)
    assert result.ret == 4
    result.stderr.fnmatch_lines([line])
    assert run is None


def test_a_model_must_be_named(audit) -> None:
    result, run = audit("-n", "1", model="")
    assert result.ret == 4
    result.stdout.fnmatch_lines(["*only for a model that is named: add --model SPEC*"])
    assert run is None


def test_a_suite_that_cannot_be_imported_ends_as_it_does_serially(audit, pytester: pytest.Pytester) -> None:
    (pytester.path / "first" / "test_bad.py").write_text("import nowhere_to_be_found")
    result, run = audit("-n", "2")
    assert result.ret == audit()[0].ret == 2
    result.stdout.fnmatch_lines(["*No module named 'nowhere_to_be_found'*", "*1 error*"])
    assert run is None


class Worker:
    """What the scheduler sees of a worker, which begins a test only when it knows the next or that there is none."""

    def __init__(self) -> None:
        self.gateway = SimpleNamespace(id="gw")
        self.waiting: list[int] = []
        self.shutting_down = False

    def send_runtest_some(self, indices: list[int]) -> None:
        self.waiting += indices

    def shutdown(self) -> None:
        self.shutting_down = True

    @property
    def can_run(self) -> bool:
        return len(self.waiting) > 1 or (self.shutting_down and bool(self.waiting))


def test_the_part_that_takes_longest_is_started_first() -> None:
    from xdist.remote import Producer

    from auditkit.pytest_plugin.processes.distribute import PartScheduling

    tests = [f"f.py::t{number}" for number in range(7)]
    scopes = dict(zip(tests, "aabbbbc", strict=True))
    option = SimpleNamespace(loadscopereorder=True)
    config = SimpleNamespace(getvalue=lambda name: ["2*popen"], option=option)
    scheduler = PartScheduling(config, Producer("test"), scopes, {"a": 2.0, "b": 1.0, "c": 3.0})
    workers = [Worker(), Worker()]
    for worker in workers:
        scheduler.add_node(worker)
        scheduler.add_node_collection(worker, tests)
    scheduler.schedule()
    first = [[scopes[tests[index]] for index in worker.waiting] for worker in workers]
    assert first == [["c", "b", "b", "b", "b"], ["a", "a"]], "a worker needs to know of two tests"


def test_what_a_dead_worker_leaves_is_run_once_whatever_its_shape() -> None:
    """Every split of seven tests into suites, and a first worker that dies at every test: nothing waits for ever."""
    from xdist.remote import Producer

    from auditkit.pytest_plugin.processes.distribute import PartScheduling

    tests = [f"f.py::t{number}" for number in range(7)]
    option = SimpleNamespace(loadscopereorder=True)
    config = SimpleNamespace(getvalue=lambda name: ["2*popen"], option=option)
    for cuts in range(2**6):
        scopes, scope = {}, 0
        for number, test in enumerate(tests):
            scope += number > 0 and bool(cuts >> (number - 1) & 1)
            scopes[test] = str(scope)
        for deadly in tests:
            scheduler = PartScheduling(config, Producer("test"), scopes, {})
            workers = [Worker(), Worker()]
            for worker in workers:
                scheduler.add_node(worker)
                scheduler.add_node_collection(worker, tests)
            scheduler.schedule()
            ran: list[str] = []
            while runnable := [worker for worker in workers if worker.can_run]:
                worker = runnable[0]
                index = worker.waiting.pop(0)
                ran.append(tests[index])
                if tests[index] != deadly:
                    scheduler.mark_test_complete(worker, index)
                    continue
                assert scheduler.remove_node(worker) == deadly
                workers.remove(worker)
                workers.append(Worker())
                scheduler.add_node(workers[-1])
                scheduler.add_node_collection(workers[-1], tests)
                scheduler.schedule()
            assert sorted(ran) == tests, (scopes, deadly)
            assert scheduler.tests_finished
