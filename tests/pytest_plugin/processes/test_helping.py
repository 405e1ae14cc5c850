"""What is more than the share of one process is divided: numbers are those of one process, whoever ran the batches."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from recorded import content

from auditkit.cli import main
from auditkit.engine.exchange.folder import Exchange
from auditkit.pytest_plugin.processes import helping
from auditkit.pytest_plugin.processes.helping import Helped, asked
from auditkit.record.schema import Run, Verdict
from auditkit.record.store import read_items, read_run

CONFTEST = '''
import os, time
from pathlib import Path
import numpy as np
import pandas as pd
import pytest
import torch
from auditkit.adapters.chat import Prompt
from auditkit.engine.exchange.folder import BatchFile
from auditkit.engine.losses import losses
from auditkit.stats.effects.mean import Estimate
from auditkit.stats.measurement import Measurement

def pytest_audit_tokens(suite):
    return {"large": 100, "small": 10}.get(suite)

def log(text):
    with open("log.txt", "a") as stream:
        stream.write(f"{os.getpid()} {text}\\n")

if not hasattr(BatchFile, "written"):
    BatchFile.written = BatchFile.write
    def write(file, rows):
        log(f"batch {file.path.name}")
        time.sleep(float(Path("slow.txt").read_text()) if Path("slow.txt").exists() else 0)
        file.written(rows)
    BatchFile.write = write

@pytest.fixture(scope="package")
def estimate(model, audit):
    """Losses of 90 texts of 40 tokens: four batches."""
    draw = torch.Generator().manual_seed(audit.seed)
    texts = [Prompt("", tuple(torch.randint(10, 300, (40,), generator=draw).tolist())) for _ in range(90)]
    values = losses(model, texts, [(1, 40)] * len(texts), {}, compare=False)[""].losses.numpy()
    values = 0.1 * (values - values.mean()) / values.std()
    index = pd.Index([f"item{n}" for n in range(len(texts))], name="item")
    labels = pd.DataFrame({"topic": [f"t{n % 15}" for n in range(len(texts))]}, index=index)
    return Estimate("e", "logit", Measurement("m", "logit", pd.DataFrame({"p": values}, index=index), labels), values)

@pytest.fixture(autouse=True)
def begun(request):
    log(f"claim {request.node.name}")
'''
LARGE = '''"""A finding."""
import os, time
from pathlib import Path

def asked():
    """Do what a file asks for."""
    if Path("interrupt.txt").exists():
        raise KeyboardInterrupt
    if Path("die.txt").exists():
        Path("die.txt").unlink()
        os._exit(9)
    if Path("sleep.txt").exists():
        time.sleep(60)

def test_above(estimate):
    """Is above minus one."""
    if Path("slow.txt").exists():
        time.sleep(6)
    assert estimate > -1.0

def test_below(estimate):
    """Is above one."""
    asked()
    assert estimate > 1.0

def test_ends(estimate):
    """Is above minus two."""
    asked()
    assert estimate > -2.0

def test_fails(estimate):
    """Is broken."""
    asked()
    raise RuntimeError("broken")
'''
SMALL = '''"""Another finding."""
def test_small(estimate):
    """Is above minus one."""
    assert estimate > -1.0
'''


@pytest.fixture
def suites(pytester: pytest.Pytester, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs two suites, of which one is more than half of all: `suites(*args)`."""
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    monkeypatch.chdir(pytester.path)
    for name, text in (("large", LARGE), ("small", SMALL)):
        folder = pytester.mkdir(name)
        (folder / "conftest.py").write_text(CONFTEST)
        (folder / f"test_{name}.py").write_text(text)

    def run(*args: str, apart: bool = False) -> pytest.RunResult:
        Path("log.txt").write_text("")
        start = pytester.runpytest_subprocess if apart else pytester.runpytest_inprocess
        return start("large", "small", "--model", str(tiny_llama), *args)

    return run


def shard(which: int, *args: str) -> tuple[str, ...]:
    return "--shard", f"{which}/2", "--exchange", "exchange", "--audit-dir", f"shards/{which}", *args


def logged(what: str) -> list[str]:
    """Batches that were run, or claims that were begun, in the order of time."""
    lines = [line.split(maxsplit=2) for line in Path("log.txt").read_text().splitlines()]
    return [name for _, kind, name in lines if kind == what]


def claims(run: Run) -> set[str]:
    return {claim.id for claim in run.claims}


@pytest.fixture
def running(suites: Any, tiny_llama: Path) -> Exchange:
    """The first shard, as a process that runs and has decided nothing; what one process measures is in `whole`."""
    suites("--audit-dir", "whole")
    whole = read_run(Path("whole/latest"))
    shard = Exchange(Path("exchange"), asked([whole.plan_sha256]), lambda _: None)
    shard.join((str(tiny_llama), claim.id) for claim in whole.claims if claim.suite == "large")
    return shard


@pytest.mark.unit
def test_a_shard_helps_the_other_and_records_its_own_claims_alone(
    suites: Any, running: Exchange, capsys: pytest.CaptureFixture[str]
) -> None:
    helper = suites(*shard(2))
    assert helper.ret == 0, "what it helped with fails, and is not its own"
    helper.assert_outcomes(passed=1, deselected=4)
    helper.stdout.fnmatch_lines(
        ["*its own claims are measured; helping*", "*helped with 4 claims that other processes decide*"]
    )
    assert logged("claim") == ["test_small", "test_fails", "test_above", "test_below", "test_ends"]
    assert len(logged("batch")) == 4, "both suites measure the same"
    assert claims(read_run(Path("shards/2/latest"))) == {"small/small"}
    owner = suites(*shard(1))
    assert owner.ret == 1
    assert logged("batch") == [], "the other one has run all of them"
    assert logged("claim") == ["test_above", "test_below", "test_ends", "test_fails"]
    assert "helping" not in owner.stdout.str()
    assert main(["merge", "shards/1/latest", "shards/2/latest"]) == 1
    whole, merged = Path("whole/latest"), Path("reports/latest")
    assert content(merged, processes=False) == content(whole, processes=False)
    assert read_items(merged).equals(read_items(whole))
    spent = [sum(claim.cost.token_layers for claim in read_run(folder).claims) for folder in (whole, merged)]
    assert spent[0] == spent[1], "batches count where they are used, as in one process"


@pytest.mark.unit
def test_a_shard_that_does_not_run_is_not_helped(suites: Any) -> None:
    """One that waits for a machine would be measured twice by and by, and the machine be held all the time."""
    helper = suites(*shard(2))
    assert logged("claim") == ["test_small"]
    assert "helping" not in helper.stdout.str()


@pytest.mark.unit
def test_decided_claims_are_not_helped_with(suites: Any, running: Exchange, tiny_llama: Path) -> None:
    for name in ("above", "ends", "fails"):
        running.decide(str(tiny_llama), f"large/{name}")
    suites(*shard(2))
    assert logged("claim") == ["test_small", "test_below"]


@pytest.mark.unit
def test_a_helper_ends_when_the_last_claim_is_decided_whatever_it_does(
    suites: Any, running: Exchange, tiny_llama: Path
) -> None:
    Path("sleep.txt").touch()
    Path("log.txt").write_text("")

    def decide() -> None:
        while "test_fails" not in logged("claim"):
            time.sleep(0.05)
        for name in ("above", "below", "ends", "fails"):
            running.decide(str(tiny_llama), f"large/{name}")

    deciding = threading.Thread(target=decide)
    deciding.start()
    began = time.monotonic()
    assert suites(*shard(2)).ret == 0
    deciding.join()
    assert time.monotonic() - began < 50, "the claim sleeps for a minute"
    assert logged("claim") == ["test_small", "test_fails"]


@pytest.mark.unit
@pytest.mark.parametrize("how", ["interrupt", "die"])
def test_a_helper_that_is_ended_has_recorded_its_own_claims(suites: Any, running: Exchange, how: str) -> None:
    Path(f"{how}.txt").touch()
    code = suites(*shard(2), apart=True).ret
    assert code == (9 if how == "die" else 0)
    assert logged("claim") == ["test_small", "test_fails"]
    own = read_run(Path("shards/2/latest"))
    assert claims(own) == {"small/small"}
    assert own.summary.verdict is Verdict.PASS


@pytest.mark.unit
def test_an_owner_that_was_killed_finds_what_it_had_measured(suites: Any) -> None:
    """A measurement is no longer lost with the claim that it was begun for."""
    suites(*shard(1))
    assert len(logged("batch")) == 4
    files = sorted(path for path in Path("exchange").iterdir() if not path.suffix and path.name[0] != ".")
    files[0].write_bytes(files[0].read_bytes()[:100])
    suites(*shard(1))
    assert logged("batch") == [files[0].name]


@pytest.mark.unit
def test_another_seed_or_suite_takes_nothing_over(suites: Any) -> None:
    suites(*shard(2))
    assert len(logged("batch")) == 4
    suites(*shard(1))
    assert len(logged("batch")) == 0
    suites(*shard(1, "--seed", "1"))
    assert len(logged("batch")) == 4
    path = Path("large/conftest.py")
    path.write_text(path.read_text().replace("0.1 * ", "0.2 * "))
    suites(*shard(1))
    assert len(logged("batch")) == 4


@pytest.mark.unit
@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--exchange", "exchange"), "--exchange is for shards; give --shard I/N too"),
        (shard(1, "-n", "2"), "--exchange divides measurements among shards, and -n among workers*"),
        (("--shard", "1/2", "--exchange", "large/conftest.py"), "*large/conftest.py*"),
    ],
)
def test_a_folder_that_cannot_be_is_one_line_and_exit_code_4(
    suites: Any, args: tuple[str, ...], said: str
) -> None:
    if "-n" in args:
        pytest.importorskip("xdist", reason="-n belongs to pytest-xdist")
    result = suites(*args)
    assert result.ret == 4
    result.stderr.fnmatch_lines([f"ERROR: {said}"])


class Claims:
    """Claims of other processes, and what came of helping with each, in the order of time."""

    def __init__(self, **script: list[Helped]) -> None:
        state = SimpleNamespace(teardown_exact=lambda following: self.log.append("torn down"))
        session = SimpleNamespace(_setupstate=state)
        self.items: Any = [SimpleNamespace(nodeid=name, session=session) for name in script]
        self.script, self.log, self.decided = script, list[str](), set[str]()

    def wanted(self, items: Any) -> Any:
        return [item for item in items if item.nodeid not in self.decided]

    def measure(self, item: Any, following: Any) -> Helped:
        self.log.append(item.nodeid)
        return self.script[item.nodeid].pop(0)


WHOLE, RAN, IN_VAIN = Helped(True, False, 1), Helped(True, True, 1), Helped(True, True, 0)


@pytest.mark.unit
def test_a_claim_that_gave_way_comes_again_behind_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    claims = Claims(one=[Helped(False, True, 1), WHOLE], two=[WHOLE], three=[RAN, RAN, WHOLE])
    monkeypatch.setattr(helping.time, "sleep", lambda seconds: pytest.fail("something was run in every round"))
    assert helping.help_with(claims.items, claims.wanted, claims.measure) == 3
    assert [name for name in claims.log if name != "torn down"] == ["one", "two", "three", "one", "three", "three"]
    assert claims.log[:2] == ["one", "torn down"], "fixtures that were made in part are made anew"
    assert claims.log[2:4] == ["two", "three"], "fixtures are kept for the next claim"


@pytest.mark.unit
def test_help_that_goes_wrong_is_said_and_costs_nothing(
    suites: Any, running: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any) -> int:
        raise RuntimeError("no setup state")

    monkeypatch.setattr("auditkit.pytest_plugin.measuring.help_with", broken)
    helper = suites(*shard(2))
    assert helper.ret == 0
    helper.stdout.fnmatch_lines(["stopped helping: RuntimeError: no setup state"])
    assert claims(read_run(Path("shards/2/latest"))) == {"small/small"}


@pytest.mark.unit
def test_a_helper_pauses_when_all_that_is_left_is_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    claims = Claims(one=[IN_VAIN] * 3, two=[IN_VAIN] * 3)
    pauses: list[int] = []

    def sleep(seconds: float) -> None:
        pauses.append(len([name for name in claims.log if name != "torn down"]))
        if len(pauses) == 2:
            claims.decided.update(claims.script)

    monkeypatch.setattr(helping.time, "sleep", sleep)
    assert helping.help_with(claims.items, claims.wanted, claims.measure) == 2
    assert pauses[1] - pauses[0] == 2, "each claim is tried once in a round"


@pytest.mark.slow
def test_two_workers_divide_one_measurement(suites: Any) -> None:
    """Batches that take a while, so that a worker without a claim of its own comes in time to run some of them."""
    pytest.importorskip("xdist", reason="-n belongs to pytest-xdist")
    suites("--audit-dir", "whole")
    Path("slow.txt").write_text("2")
    result = suites("-n", "2")
    assert result.ret == 1
    lines = [line.split() for line in Path("log.txt").read_text().splitlines()]
    batches = [(process, name) for process, kind, name in lines if kind == "batch"]
    assert len(batches) == len({name for _, name in batches}) == 4, "each is run once"
    assert len({process for process, _ in batches}) == 2, "by both"
    whole, divided = Path("whole/latest"), Path("reports/latest")
    assert content(divided, processes=False) == content(whole, processes=False)
    assert read_items(divided).equals(read_items(whole))


@pytest.mark.slow
def test_a_worker_that_dies_while_it_helps_costs_nothing(suites: Any) -> None:
    """The owner of the claim is at another one for some seconds when its helper comes to it, and dies."""
    pytest.importorskip("xdist", reason="-n belongs to pytest-xdist")
    suites("--audit-dir", "whole")
    Path("slow.txt").write_text("0.5")
    Path("die.txt").touch()
    result = suites("-n", "2")
    assert not Path("die.txt").exists()
    assert result.ret == 1
    assert len({line.split()[0] for line in Path("log.txt").read_text().splitlines()}) == 2, "no third one helps"
    assert content(Path("reports/latest"), processes=False) == content(Path("whole/latest"), processes=False)
