"""What every scheduler does with a command, by one contract: a pool on this machine, a local Ray, and submitit.

The local pool runs in `make test`. Ray and submitit run in the slow tier, where they are installed
(requirements/fleet.txt).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from auditkit.fleet import command as commands
from auditkit.fleet.choice import open_scheduler
from auditkit.fleet.command import UNSEEN, Command, run
from auditkit.fleet.launch import stopped_by_signals
from auditkit.fleet.local import LocalPool
from auditkit.fleet.schedulers import LOST, Running, Scheduler, SchedulerError

pytestmark = pytest.mark.unit

NAMES = ["local", pytest.param("ray", marks=pytest.mark.slow), pytest.param("submitit", marks=pytest.mark.slow)]
NEEDS = {"ray": "ray", "submitit": "submitit"}
OBEDIENT = (
    "import signal, sys, time, pathlib\n"
    "signal.signal(signal.SIGTERM, lambda *_: (print('told to end', flush=True), sys.exit(2)))\n"
    "print('ready', flush=True)\n"
    "time.sleep(100)\n"
)


def opened(name: str, folder: Path) -> Scheduler:
    if name in NEEDS:
        pytest.importorskip(NEEDS[name], reason=f"--on {name} needs the extra [fleet] (requirements/fleet.txt)")
    on = {"local": "local", "ray": "ray", "submitit": "slurm"}[name]
    return open_scheduler(on, folder, 1, slurm={"cluster": "local"})  # type: ignore[arg-type]  # one of the three


@pytest.fixture(scope="module", params=NAMES)
def pool(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scheduler]:
    """One for many tests, since Ray takes seconds to start."""
    with closing(opened(request.param, tmp_path_factory.mktemp("pool"))) as made:
        yield made


@pytest.fixture
def python(tmp_path: Path) -> Callable[..., Command]:
    """Python code -> the command that runs it, with `log.txt` in the test's folder."""

    def make(code: str, **environment: str) -> Command:
        return Command(("-c", code), str(tmp_path), str(tmp_path / "log.txt"), environment, 1, 0.0)

    return make


def ended(running: Running, limit: float = 60.0) -> int:
    until = time.monotonic() + limit
    while (status := running.status()) is None:
        assert time.monotonic() < until, "the command does not end"
        time.sleep(0.02)
    return status


def until(found: Callable[[], bool]) -> None:
    limit = time.monotonic() + 60
    while not found():
        assert time.monotonic() < limit
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_the_exit_status_comes_back(pool: Scheduler, python: Callable[..., Command]) -> None:
    codes = [0, 7]
    running = [pool.submit(python(f"raise SystemExit({code})")) for code in codes]
    assert [ended(one) for one in running] == codes
    killed = pool.submit(python("import os, signal; os.kill(os.getpid(), signal.SIGKILL)"))
    assert ended(killed) == -signal.SIGKILL


def test_a_command_runs_in_its_folder_with_its_variables_and_threads_and_no_gpu(
    pool: Scheduler, python: Callable[..., Command], tmp_path: Path
) -> None:
    names = ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "COLOUR")
    code = f"import os, sys; print(os.getcwd(), *[repr(os.environ[n]) for n in {names}]); print('two', file=sys.stderr)"
    (tmp_path / "log.txt").write_text("before\n")
    assert ended(pool.submit(python(code, COLOUR="red"))) == 0
    assert sorted((tmp_path / "log.txt").read_text().splitlines()) == sorted(
        ["before", f"{tmp_path} '1' '' 'red'", "two"]
    )


def test_a_machine_that_does_not_see_the_folder_says_so(python: Callable[..., Command], tmp_path: Path) -> None:
    assert run(replace(python("raise SystemExit(3)"), cwd=str(tmp_path / "elsewhere"))) == UNSEEN
    assert run(python("raise SystemExit(3)")) == 3


@pytest.mark.parametrize("name", NAMES)
def test_closing_ends_what_runs_and_asks_it_first(
    name: str, python: Callable[..., Command], tmp_path: Path
) -> None:
    with stopped_by_signals():  # as a launcher has it
        pool, log = opened(name, tmp_path), tmp_path / "log.txt"
        running = pool.submit(python(f"import os; print(os.getpid(), flush=True)\n{OBEDIENT}"))
    until(lambda: log.exists() and "ready" in log.read_text())
    assert running.status() is None
    pool.close()
    pid = int(log.read_text().split()[0])
    until(lambda: not is_alive(pid))
    assert "told to end" in log.read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent is gone")
def test_a_command_ends_when_what_started_it_is_killed(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    code = (
        "import sys, time; from auditkit.fleet.command import Command, start\n"
        f"start(Command(('-c', {OBEDIENT!r}), {str(tmp_path)!r}, {str(log)!r}, {{}}, 1, 0.0)); time.sleep(100)"
    )
    launcher = subprocess.Popen([sys.executable, "-c", code])
    until(lambda: log.exists() and "ready" in log.read_text())
    launcher.kill()
    launcher.wait()
    until(lambda: "told to end" in log.read_text())


def test_a_command_that_does_not_end_when_it_is_asked_is_killed_with_what_it_started(
    tmp_path: Path, python: Callable[..., Command], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever holds the memory of a GPU is gone when the launcher is."""
    monkeypatch.setattr(commands, "PATIENCE", 0.3)
    sleeps = [sys.executable, "-c", "import time; time.sleep(100)"]
    child = commands.start(
        python(
            "import os, signal, subprocess, time\n"
            "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
            f"print(os.getpid(), subprocess.Popen({sleeps!r}).pid, 'ready', flush=True)\n"
            "time.sleep(100)"
        )
    )
    log = tmp_path / "log.txt"
    until(lambda: "ready" in log.read_text())
    commands.end([child])
    assert child.poll() == -signal.SIGKILL
    for pid in log.read_text().split()[:2]:
        until(partial(lambda pid: not is_alive(pid), int(pid)))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES[1:])
def test_a_place_that_is_lost_is_said_and_takes_its_command_along(
    name: str, python: Callable[..., Command], tmp_path: Path
) -> None:
    """The process in which a scheduler runs a command is killed, as it is when its machine goes."""
    with closing(opened(name, tmp_path)) as pool:
        log = tmp_path / "log.txt"
        running = pool.submit(python(f"import os; print(os.getpid(), os.getppid())\n{OBEDIENT}"))
        until(lambda: log.exists() and "ready" in log.read_text())
        pid, place = map(int, log.read_text().split()[:2])
        os.kill(place, signal.SIGKILL)
        assert ended(running) == LOST
        until(lambda: not is_alive(pid))
        assert "told to end" in log.read_text()
        assert ended(pool.submit(python("raise SystemExit(7)"))) == 7, "the scheduler goes on"


@pytest.mark.slow
def test_a_ray_of_this_machine_that_dies_loses_what_runs_and_is_started_again(
    python: Callable[..., Command], tmp_path: Path
) -> None:
    with closing(opened("ray", tmp_path)) as pool:
        running, log = pool.submit(python(f"import os; print(os.getpid())\n{OBEDIENT}")), tmp_path / "log.txt"
        until(lambda: log.exists() and "ready" in log.read_text())
        for process in Path("/proc").glob("[0-9]*/comm"):
            with suppress(OSError):
                ours = f") S {os.getpid()} " in (process.parent / "stat").read_text()
                if ours and process.read_text().strip() == "raylet":
                    os.kill(int(process.parent.name), signal.SIGKILL)
        assert ended(running, 120) == LOST
        until(lambda: not is_alive(int(log.read_text().split()[0])))
        assert ended(pool.submit(python("raise SystemExit(7)"))) == 7


def test_this_machine_runs_as_many_as_its_processors_and_gpus_allow(tmp_path: Path) -> None:
    def command(cpus: int, gpus: float) -> Command:
        return Command(("-c", "import time; time.sleep(100)"), str(tmp_path), os.devnull, {}, cpus, gpus)

    with closing(LocalPool(4, gpus=["0", "1"])) as pool:
        half = [pool.submit(command(1, 0.5)) for _ in range(2)]
        assert [one.gpus for one in half] == [{"0": 0.5}, {"0": 0.5}], "two commands share a GPU"
        assert pool.has_room(command(2, 1))
        assert not pool.has_room(command(3, 1)), "one processor is missing"
        assert not pool.has_room(command(1, 2)), "one GPU is missing"
        assert pool.submit(command(2, 1)).gpus == {"1": 1.0}
        assert not pool.has_room(command(1, 0)), "no processor is left"
    with closing(LocalPool(1, gpus=[])) as pool:
        assert pool.has_room(command(2, 0)), "a command that asks for more processors than there are runs alone"
        with pytest.raises(SchedulerError, match="a job is to have 1 GPUs, and this machine shows 0"):
            pool.has_room(command(1, 1))


def test_what_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in NEEDS.values():
        monkeypatch.setitem(sys.modules, module, None)
    for on, package in (("ray", "ray"), ("slurm", "submitit")):
        with pytest.raises(SchedulerError, match=rf"needs the package {package}: .*interp-auditkit\[fleet\]"):
            open_scheduler(on, tmp_path, 1)  # type: ignore[arg-type]  # one of the three
