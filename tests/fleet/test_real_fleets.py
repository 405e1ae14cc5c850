"""Fleets of real processes: the same record as plain runs, whatever is killed on the way, on every scheduler."""

from __future__ import annotations

import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

import pytest
from recorded import content, said

from auditkit.record.schema import Run
from auditkit.record.store import is_written, read_run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="which processes are left is read from /proc"),
]

CONFTEST = """
import os
import time
from pathlib import Path
import numpy as np
import pandas as pd
import pytest
from auditkit.stats.effects.mean import Estimate
from auditkit.stats.measurement import Measurement

@pytest.fixture(autouse=True)
def held(request):
    "The last claim waits as long as the test says so."
    while request.node.name == "test_high" and Path("hold").exists():
        time.sleep(0.05)

@pytest.fixture(scope="session")
def estimate(model):
    def make(center):
        time.sleep(float(os.environ.get("PER_CLAIM", "0")))
        values = np.random.default_rng(len(model.info.name)).normal(0, 0.4, 60)
        values += center - values.mean()
        index = pd.Index([f"item{i}" for i in range(60)], name="item")
        labels = pd.DataFrame({"topic": [f"t{i % 12}" for i in range(60)]}, index=index)
        table = Measurement("m", "logit", pd.DataFrame({"p": values}, index=index), labels)
        return Estimate("e", "logit", table, values)
    return make
"""
CLAIM = '''
def test_{name}(estimate):
    """Is above {least}."""
    assert estimate(1.0) > {least}
'''
LEAST = {"low": 0.0, "middle": 0.5, "near": 0.95, "high": 2.0}
SUITES = ("first", "other")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home directory in which nothing may be left."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory, tiny_llama: Path) -> Path:
    """Two suites of four claims, and two models of other names."""
    top = tmp_path_factory.mktemp("origin")
    for suite in SUITES:
        folder = top / suite
        folder.mkdir()
        (folder / "conftest.py").write_text(CONFTEST)
        claims = "".join(CLAIM.format(name=name, least=least) for name, least in LEAST.items())
        (folder / f"test_{suite}.py").write_text(f'"""A finding."""\n{claims}')
    for name in ("one", "another"):
        shutil.copytree(tiny_llama, top / name)
    return top


@pytest.fixture
def place(tmp_path: Path, origin: Path) -> Path:
    """A folder with these suites and models alone."""
    for name in (*SUITES, "one", "another"):
        shutil.copytree(origin / name, tmp_path / name)
    return tmp_path


@pytest.fixture(scope="module")
def plain(origin: Path, home: Path) -> Callable[[str], Path]:
    """`plain(model)`: the run of the ordinary command, measured once."""

    @cache
    def measure(model: str) -> Path:
        args = [*(f"./{suite}" for suite in SUITES), "--model", f"./{model}", "--audit-dir", f"plain-{model}"]
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *args]
        subprocess.run(command, cwd=origin, env=variables(home), check=False)
        return origin / f"plain-{model}" / "latest"

    return measure


def command(*arguments: str) -> list[str]:
    suites = [f"./{suite}" for suite in SUITES]
    return [sys.executable, "-m", "auditkit.cli", "fleet", *arguments, "--into", "fleet", "--suites", *suites]


def variables(home: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "RAY_"))}
    # What a model's digest is remembered in is auditkit's own, and lies there once the files are some seconds old.
    return kept | {"HOME": str(home), "AUDITKIT_CACHE": str(home.with_name("cache"))} | more


def fleet(place: Path, home: Path, *arguments: str, code: int = 1, **more: str) -> str:
    done = subprocess.run(
        command(*arguments), cwd=place, env=variables(home, **more), capture_output=True, text=True, timeout=1500
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def merged(place: Path, model: str) -> Path:
    return place / "fleet" / "runs" / model / "latest"


def assert_same(fleets: Path, plains: Path) -> None:
    (record, items), (expected, rows) = (content(one.resolve(), processes=False) for one in (fleets, plains))
    for one in (record, expected):
        for claim in one["claims"]:
            claim.pop("rerun")
    assert record["claims"] == expected["claims"]
    assert record["summary"] == expected["summary"]
    assert record["plan"] == expected["plan"]
    assert items == rows


def children(parent: int) -> list[int]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, IndexError):
            state, its_parent = (process / "stat").read_text().rpartition(") ")[2].split()[:2]
            if int(its_parent) == parent and state != "Z":
                found.append(int(process.name))
    return found


def within(place: Path, word: str = "") -> list[str]:
    """Processes that work in a folder, with a word in their commands."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (process / "cwd").resolve() == place:
                found.append((process / "cmdline").read_text().replace("\0", " "))
    return [line for line in found if word in line]


def until(what: Callable[[], object], limit: float = 500.0) -> None:
    end = time.monotonic() + limit
    while not what():
        assert time.monotonic() < end, "it does not come to that"
        time.sleep(0.02)


def under_way(place: Path) -> bool:
    """Whether two journals hold a claim."""
    journals = list((place / "fleet").glob("jobs/*/2*/journal.jsonl"))
    return sum(len(path.read_bytes().splitlines()) > 1 for path in journals) == 2


@pytest.fixture
def launched(place: Path, home: Path) -> Iterator[subprocess.Popen[str]]:
    """A fleet of two shards that takes its time, and does not end while there is a file `hold`."""
    (place / "hold").touch()
    child = subprocess.Popen(
        command("./one", "--shards", "2"),
        cwd=place,
        env=variables(home, PER_CLAIM="1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    yield child
    child.kill()
    child.wait()


def test_two_models_in_two_shards_are_the_plain_runs(
    place: Path, home: Path, plain: Callable[[str], Path]
) -> None:
    out = fleet(place, home, "./one", "./another", "--shards", "2")
    for model in ("one", "another"):
        assert_same(merged(place, model), plain(model))
    assert "4 jobs: 2 models, each in 2 shards" in out
    assert (place / "fleet" / "compare.html").is_file()
    assert not list(home.iterdir())
    again = fleet(place, home, "./one", "./another", "--shards", "2")
    assert again.count("was measured before") == 4


@pytest.mark.parametrize(("on", "package"), [("ray", "ray"), ("slurm", "submitit")])
def test_other_schedulers_leave_the_same_runs_and_nothing_else(
    place: Path, home: Path, on: str, package: str, plain: Callable[[str], Path]
) -> None:
    pytest.importorskip(package, reason=f"--on {on} needs the extra [fleet] (requirements/fleet.txt)")
    local = ["--slurm", "cluster=local"] if on == "slurm" else []
    fleet(place, home, "./one", "--shards", "2", "--on", on, *local)
    assert_same(merged(place, "one"), plain("one"))
    assert not list(home.iterdir()), "nothing is left in the home directory"
    assert not within(place), "no process is left"
    assert not list((place / "fleet").glob(".ray-*"))


def test_jobs_of_a_node_that_disappears_go_on_elsewhere(
    place: Path, home: Path, plain: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two nodes of a Ray cluster measure a shard each, and one is killed with all that it runs."""
    utils = pytest.importorskip(
        "ray.cluster_utils", reason="Ray comes with the extra [fleet] (requirements/fleet.txt)"
    )
    whole = plain("one")
    for name, value in {"HOME": str(home), "RAY_USAGE_STATS_ENABLED": "0"}.items():
        monkeypatch.setenv(name, value)
    size = {"object_store_memory": 100_000_000, "include_dashboard": False}
    cluster = utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **size})
    nodes = [cluster.add_node(num_cpus=1, **size) for _ in range(2)]
    (place / "hold").touch()
    on_ray = ("--on", "ray", "--address", cluster.address, "--cpus", "1")
    child = subprocess.Popen(
        command("./one", "--shards", "2", *on_ray),
        cwd=place, env=variables(home), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        until(lambda: under_way(place))
        cluster.remove_node(nodes[1], allow_graceful=False)
        until(lambda: len(within(place, "--audit-dir")) == 1, 60)
        (place / "hold").unlink()
        out, _ = child.communicate(timeout=300)
    finally:
        child.kill()
        child.wait()
        cluster.shutdown()
    assert child.returncode == 1, out
    assert out.count("its machine or its place in the scheduler was lost; going on with what it measured") == 1, (
        out
    )
    assert_same(merged(place, "one"), whole)


def test_without_slurm_the_command_says_so(place: Path, home: Path) -> None:
    pytest.importorskip("submitit", reason="submitit comes with the extra [fleet] (requirements/fleet.txt)")
    out = fleet(place, home, "./one", "--on", "slurm", code=4, PATH="/nowhere")
    assert "no Slurm here: sbatch is not on the PATH" in out


def test_more_shards_than_parts_are_said_in_one_line(place: Path, home: Path) -> None:
    """All claims of each suite share a measurement, so there are two parts."""
    assert "2 shards, not 5" in fleet(place, home, "./one", "--shards", "5")


def test_twenty_kills_at_random_moments_lose_nothing(
    place: Path, home: Path, plain: Callable[[str], Path]
) -> None:
    whole = plain("one")
    (place / "hold").touch()  # no job ends before the last kill
    child = subprocess.Popen(
        command("./one", "--shards", "2", "--retries", "40"),
        cwd=place,
        env=variables(home, PER_CLAIM="1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    draw, kills, seen = random.Random(0), 0, dict[int, int]()
    limit = time.monotonic() + 2000
    wait = draw.uniform(0.1, 6.0)
    while kills < 20 and child.poll() is None:
        assert time.monotonic() < limit
        jobs = {pid: _claims(place, pid) for pid in children(child.pid) if "--audit-dir=fleet" in _arguments(pid)}
        at_work = [pid for pid, claims in jobs.items() if claims > seen.setdefault(pid, claims)]
        wait -= 0.05
        some_left = sum(_claims(place, pid) for pid in jobs) < len(SUITES) * (len(LEAST) - 1)
        victims = at_work if kills % 5 == 0 and some_left else list(jobs) if wait < 0 else []
        if victims:  # every fifth has just measured a claim, as long as there are any; the others are anywhere
            with suppress(ProcessLookupError):
                os.kill(draw.choice(victims), signal.SIGKILL)
                kills, wait = kills + 1, draw.uniform(0.1, 6.0)
        time.sleep(0.05)
    (place / "hold").unlink()
    out, _ = child.communicate(timeout=1000)
    assert child.returncode == 1, out
    assert out.count("SIGKILL") == kills, out
    assert kills == 20
    assert "going on with what it measured" in out
    assert_same(merged(place, "one"), whole)


def _claims(place: Path, pid: int) -> int:
    """Claims in the journals of the job that a process measures."""
    folder = re.search(r"--audit-dir=(\S+)", _arguments(pid))
    journals = (place / folder[1]).glob("2*/journal.jsonl") if folder is not None else ()
    return sum(max(0, path.read_bytes().count(b"\n") - 1) for path in journals)


def _arguments(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    return ""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_launcher_that_is_stopped_or_killed_takes_its_jobs_along(
    place: Path, home: Path, launched: subprocess.Popen[str], how: signal.Signals, plain: Callable[[str], Path]
) -> None:
    until(lambda: under_way(place))
    launched.send_signal(how)
    out, _ = launched.communicate(timeout=200)
    until(lambda: not within(place), 100)
    (place / "hold").unlink()
    assert launched.returncode == (-how if how is signal.SIGKILL else 2), out
    assert not any(is_written(folder) for folder in (place / "fleet").glob("jobs/*/2*"))
    out = fleet(place, home, "./one", "--shards", "2")
    logs = [path.read_text() for path in (place / "fleet").glob("jobs/*/log.txt")]
    assert all("claims are taken over" in log for log in logs)
    assert_same(merged(place, "one"), plain("one"))


def test_a_launcher_beside_another_is_refused(place: Path, home: Path, launched: subprocess.Popen[str]) -> None:
    until(lambda: (place / "fleet" / "fleet.json").exists())
    assert "is the folder of a fleet that is running" in fleet(place, home, "./one", "--shards", "2", code=4)


def test_a_full_disk_ends_the_fleet_and_room_lets_it_go_on(
    place: Path, home: Path, plain: Callable[[str], Path]
) -> None:
    """No file may grow beyond 60 kB: journals fit, and pages do not."""

    def full() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))

    done = subprocess.run(
        command("./one", "--shards", "2", "--retries", "1"),
        cwd=place, env=variables(home), capture_output=True, text=True, preexec_fn=full,
    )  # fmt: skip
    assert done.returncode == 11, done.stdout + done.stderr
    assert "make room" in done.stdout
    assert "./one: ERROR, it has no run" in done.stdout
    fleet(place, home, "./one", "--shards", "2")
    assert_same(merged(place, "one"), plain("one"))


def test_a_suite_that_is_divided_says_what_it_says_in_one_process(
    tmp_path: Path, tiny_llama: Path, home: Path
) -> None:
    """Claims of the package's suites, in as many shards as they have parts, and in more workers than suites."""
    model, items = str(tiny_llama), ("--items", "6")
    suites = ["persona_patching", "induction"]
    run = [sys.executable, "-m", "auditkit.cli"]
    env = variables(home)
    subprocess.run(
        [*run, "audit", *suites, "--model", model, *items, "--audit-dir", "plain"], cwd=tmp_path, env=env
    )
    args = [*run, "fleet", model, "--into", "fleet", "--suites", *suites, *items, "--shards", "6"]
    done = subprocess.run(args, cwd=tmp_path, env=env, capture_output=True, text=True)
    workers = ["--audit-dir", "workers", "-n", "4"]
    subprocess.run([*run, "audit", *suites, "--model", model, *items, *workers], cwd=tmp_path, env=env)
    (folder,) = (tmp_path / "fleet" / "runs").glob("*/latest")
    folders = (folder, tmp_path / "workers" / "latest", tmp_path / "plain" / "latest")
    fleets, divided, plains = (read_run(one.resolve()) for one in folders)
    assert _said(fleets) == _said(plains), done.stdout
    assert _said(divided) == _said(plains)
    assert divided.environment.workers == 4
    assert {claim.suite for claim in fleets.claims} == set(suites)
    assert len(list((tmp_path / "fleet" / "jobs").iterdir())) == 6


def _said(run: Run) -> dict[str, object]:
    return {claim.id: said(claim) for claim in run.claims}
