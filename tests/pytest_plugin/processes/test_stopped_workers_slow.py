"""Ctrl-C and SIGTERM with `-n 2`: the code of an interrupt, a journal to go on with, and no process left behind."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from recorded import content

from auditkit.record.journal import read_journal
from auditkit.record.store import is_written

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="which processes are left is read from /proc"),
]
pytest.importorskip("xdist", reason="-n belongs to pytest-xdist")

CONFTEST = '''
import time
from pathlib import Path
import numpy as np
import pandas as pd
import pytest
from auditkit.stats.effects.mean import Estimate
from auditkit.stats.measurement import Measurement

@pytest.fixture(scope="session")
def estimate(model):
    def make(center):
        values = np.random.default_rng(0).normal(0, 0.4, 60)
        values += center - values.mean()
        index = pd.Index([f"item{i}" for i in range(60)], name="item")
        labels = pd.DataFrame({"topic": [f"t{i % 12}" for i in range(60)]}, index=index)
        table = Measurement("m", "logit", pd.DataFrame({"p": values}, index=index), labels)
        return Estimate("e", "logit", table, values)
    return make

@pytest.fixture
def wait():
    """Be under way when the signal comes, where the test asks for it."""
    if Path("wait").exists():
        Path(f"waiting-{Path(__file__).parent.name}").touch()
        time.sleep(120)
'''
SUITE = '''"""A finding."""
def test_before(estimate):
    """Is above zero."""
    assert estimate(1.0) > 0.0

def test_during(wait, estimate):
    """Is above two."""
    assert estimate(1.0) > 2.0

def test_after(estimate):
    """Is above one."""
    assert estimate(1.0) > 1.0
'''
SUITES = ("first", "other")


@pytest.fixture
def reports(pytester: pytest.Pytester, tiny_llama: Path, shelf: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The reports of a whole run by two workers."""
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    for name in SUITES:
        folder = pytester.mkdir(name)
        (folder / "conftest.py").write_text(CONFTEST)
        (folder / f"test_{name}.py").write_text(SUITE)
    command = (*SUITES, "--model", str(tiny_llama), "-n", "2")
    shelf.take("stopped workers", pytester.path / "reports", lambda: pytester.runpytest_inprocess(*command))
    return pytester.path / "reports"


def left_of(session: int) -> list[str]:
    """The processes of a session that are still there; those that have ended and wait for their parent are not."""
    left = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended meanwhile
            state, _, _, its_session = (process / "stat").read_text().rpartition(") ")[2].split()[:4]
            if int(its_session) == session and state != "Z":
                left.append((process / "cmdline").read_text().replace("\0", " "))
    return left


def interruptible() -> None:
    """A shell's background jobs ignore Ctrl-C, and their children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def stopped(path: Path, command: list[str], how: str, under_way: int) -> tuple[int, str]:
    """A run that gets a signal when so many have said that they wait: its exit code and output.

    No process may outlive it.
    """
    (path / "wait").touch()
    child = subprocess.Popen(
        [sys.executable, "-m", "pytest", *command],
        cwd=path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=interruptible,
        start_new_session=True,  # as a terminal has it: a key press goes to all of the session's processes
    )
    try:
        limit = time.monotonic() + 240
        while len(list(path.glob("waiting-*"))) < under_way:
            assert child.poll() is None, child.communicate()[0]
            assert time.monotonic() < limit, "nobody waits for the signal"
            time.sleep(0.05)
        if how == "ctrl-c":
            os.killpg(child.pid, signal.SIGINT)
        else:
            child.terminate()
        said, _ = child.communicate(timeout=100)
        assert left_of(child.pid) == []
    finally:
        if left_of(child.pid):
            os.killpg(child.pid, signal.SIGKILL)
    (path / "wait").unlink()
    return child.returncode, said


@pytest.mark.parametrize("how", ["ctrl-c", "sigterm"])
def test_a_run_by_workers_that_is_stopped_is_continued_to_the_same_record(
    pytester: pytest.Pytester, tiny_llama: Path, reports: Path, how: str
) -> None:
    whole = (reports / "latest").resolve()
    code, said = stopped(pytester.path, [*SUITES, "--model", str(tiny_llama), "-n", "2"], how, len(SUITES))
    assert code == 2, said
    assert (reports / "latest").resolve() == whole
    (cut,) = [folder for folder in reports.glob("2*") if folder != whole]
    assert not is_written(cut)
    assert {entry.claim.id for entry in read_journal(cut / "journal.jsonl")[1]} == {"first/before", "other/before"}
    assert "INTERNALERROR" not in said
    (line,) = [line for line in said.splitlines() if line.startswith("to go on: ")]
    args = shlex.split(line.removeprefix("to go on: ").partition(" (--resume alone")[0])[1:]
    assert args[-2:] == ["--resume", f"reports/{cut.name}"]
    result = pytester.runpytest_inprocess(*args)
    result.stdout.fnmatch_lines([f"resuming *{cut.name}: 2 of 6 claims are taken over"])
    assert result.ret == 1
    assert (reports / "latest").resolve() == cut
    assert content(cut, processes=False) == content(whole, processes=False)


STARTING = """
import time
from pathlib import Path
from auditkit.pytest_plugin import session

real = session.open_model

def wait():
    if Path("wait").exists():
        Path("waiting-controller").touch()
        time.sleep(120)

"""
OPENING = STARTING + "session.open_model = lambda *how: wait() or real(*how)\n"
WORKERS = STARTING + "def pytest_xdist_newgateway(gateway):\n    wait()\n"


@pytest.mark.parametrize("how", ["ctrl-c", "sigterm"])
@pytest.mark.parametrize("conftest", [OPENING, WORKERS], ids=["the model opens", "workers start"])
def test_a_run_that_is_stopped_before_its_workers_begin_says_how_to_go_on(
    pytester: pytest.Pytester, tiny_llama: Path, reports: Path, how: str, conftest: str
) -> None:
    whole = (reports / "latest").resolve()
    (pytester.path / "conftest.py").write_text(conftest)
    code, said = stopped(pytester.path, [*SUITES, "--model", str(tiny_llama), "-n", "2"], how, 1)
    assert code == 2, said
    assert "Traceback" not in said
    assert (reports / "latest").resolve() == whole
    cut = [folder for folder in reports.glob("2*") if folder != whole]
    if conftest is OPENING:
        assert cut == []
        assert "nothing was measured, so there is nothing to resume: run the same command again" in said
        return
    assert not is_written(cut[0])
    (line,) = [line for line in said.splitlines() if line.startswith("to go on: ")]
    args = shlex.split(line.removeprefix("to go on: ").partition(" (--resume alone")[0])[1:]
    result = pytester.runpytest_inprocess(*args)
    result.stdout.fnmatch_lines([f"resuming *{cut[0].name}: 0 of 6 claims are taken over"])
    assert result.ret == 1
    assert (reports / "latest").resolve() == cut[0]
