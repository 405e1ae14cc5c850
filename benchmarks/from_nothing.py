"""What a newcomer waits for: from an empty environment to the first report of the induction suite, and `--help`.

    python benchmarks/from_nothing.py                  with pip's own cache, as this machine has it
    python benchmarks/from_nothing.py --cold           with an empty cache: every package is downloaded
    python benchmarks/from_nothing.py --torch-index URL  torch from another index, such as that of builds for CPUs
    python benchmarks/from_nothing.py --constraint constraints.txt  the torch of a clone, where pip finds such a build

The wheel is built first and does not count, since a newcomer gets it from the package index. Then a fresh environment
with an empty HOME is made, the wheel is installed with what it needs, and `auditkit audit induction` is run once in an
empty folder. On Linux the package index serves a torch for NVIDIA GPUs, which brings gigabytes; docs/installing.md says
how to get the build for CPUs. Beside wall-clock seconds stand processor seconds (user and system), which other work on
the machine moves less; `--help` is measured in these alone. --write stores the table in
benchmarks/results/from_nothing.md.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from common import MODEL, ROOT, report, table, timed

BUILT_FROM = ("auditkit", "interp_auditkit", "suites", "setup.py", "pyproject.toml", "README.md", "LICENSE")
WANTED, WANTED_HELP = "at most 180 s", "under 0.3 s"

T = TypeVar("T")


def built(folder: Path) -> Path:
    """The wheel, built from a copy of the repository."""
    source = folder / "source"
    source.mkdir()
    for name in BUILT_FROM:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", str(folder), str(source)], check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def environment(home: Path, cold: bool) -> dict[str, str]:
    """Variables of a newcomer: an empty home, and of this machine what the network and pip need."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name.startswith(("PIP_", "SSL_", "HTTP", "https", "http"))
    }
    kept |= {"HOME": str(home), "PATH": os.environ["PATH"], "LANG": os.environ.get("LANG", "C.UTF-8")}
    cache = home / "pip" if cold else _pip_cache()
    return kept | {"PIP_CACHE_DIR": str(cache), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def _pip_cache() -> Path:
    command = [sys.executable, "-m", "pip", "cache", "dir"]
    return Path(subprocess.check_output(command, text=True).strip())


def installed(
    folder: Path, wheel: Path, variables: dict[str, str], torch_index: str | None, constraint: Path | None
) -> Path:
    """The command `auditkit` of a fresh environment."""
    home = folder / "venv"
    venv.EnvBuilder(with_pip=True).create(home)
    pip = [str(home / "bin" / "python"), "-m", "pip", "install", "-q"]
    pip += [] if constraint is None else ["-c", str(constraint.resolve())]
    if torch_index is not None:
        subprocess.run([*pip, "torch", "--index-url", torch_index], check=True, env=variables)
    subprocess.run([*pip, str(wheel)], check=True, env=variables)
    return home / "bin" / "auditkit"


def audited(command: Path, folder: Path, variables: dict[str, str]) -> tuple[int, bool]:
    """Exit code of the first audit, and whether its page is there."""
    done = subprocess.run([command, "audit", "induction", "--model", MODEL], cwd=folder, env=variables)
    return done.returncode, (folder / "reports" / "latest" / "audit.html").is_file()


def help_seconds(command: Path, variables: dict[str, str]) -> float:
    """Processor seconds of `auditkit --help`, user and system, the median of nine."""

    def once() -> float:
        shown = [str(command), "--help"]
        return spent(lambda: subprocess.run(shown, check=True, env=variables, stdout=subprocess.DEVNULL))[1]

    once()
    return statistics.median(once() for _ in range(9))


def spent(work: Callable[[], T]) -> tuple[float, float, T]:
    """Wall-clock seconds, processor seconds of the processes that were started, and the result."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    wall, value = timed(work)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, value


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cold", action="store_true", help="with an empty cache of pip")
    parser.add_argument("--torch-index", metavar="URL", help="package index of torch's build")
    parser.add_argument("--constraint", type=Path, metavar="FILE", help="pip's file of versions")
    parser.add_argument("--write", action="store_true", help="store the table")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        for name in ("home", "empty"):
            (folder / name).mkdir()
        wheel, variables = built(folder), environment(folder / "home", arguments.cold)
        install, install_cpu, command = spent(
            lambda: installed(folder, wheel, variables, arguments.torch_index, arguments.constraint)
        )
        audit, audit_cpu, (code, page) = spent(lambda: audited(command, folder / "empty", variables))
        seconds = help_seconds(command, variables)
        size = wheel.stat().st_size / 1e6
    cache = "an empty cache" if arguments.cold else "pip's cache as it was"
    rows = [
        (f"environment and installation, with {cache}", f"{install:.0f} s", f"{install_cpu:.0f} s", ""),
        (
            f"first audit of induction (exit code {code}, page there: {page})",
            f"{audit:.0f} s",
            f"{audit_cpu:.0f} s",
            "",
        ),
        (
            "from nothing to the first report",
            f"{install + audit:.0f} s",
            f"{install_cpu + audit_cpu:.0f} s",
            WANTED,
        ),
        ("auditkit --help", "", f"{seconds:.2f} s", WANTED_HELP),
        ("the wheel", f"{size:.2f} MB", "", "under 5 MB"),
    ]
    text = table(("what", "measured", "processor seconds", "wanted"), rows)
    report("from_nothing", "From nothing to the first report", text, ("interp-auditkit", "torch"), arguments.write)


if __name__ == "__main__":
    main()
