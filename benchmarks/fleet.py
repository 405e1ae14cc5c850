"""What a launcher costs beside the commands that it starts: `auditkit fleet` with one job at a time against the same
commands one after the other.

    python benchmarks/fleet.py --model FOLDER [--pairs 3] [--write]

Both measure one suite of the package on two copies of a small model, in two shards each. Processor
seconds are those of the whole tree of processes, so that other users of the machine do not count. Prints a table and,
with --write, stores it in benchmarks/results/fleet.md.
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
import time
from pathlib import Path

from common import report, table

SUITE, ITEMS, SHARDS = "induction", "6", 2
MODELS = ("one", "two")
MOST_A_FLEET, MOST_A_JOB = 15.0, 2.0


def spent(command: list[str], folder: Path) -> tuple[float, float]:
    """Processor seconds and wall-clock seconds of a command and its children."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "CUDA_VISIBLE_DEVICES": ""}
    subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return used, time.perf_counter() - started


def plain(folder: Path) -> tuple[float, float]:
    """Every shard of every model by the ordinary command."""
    total = [0.0, 0.0]
    for model in MODELS:
        for shard in range(1, SHARDS + 1):
            audit = [
                sys.executable,
                "-m",
                "auditkit.cli",
                "audit",
                SUITE,
                "--model",
                f"./{model}",
                "--items",
                ITEMS,
            ]
            command = [*audit, "--shard", f"{shard}/{SHARDS}", "--audit-dir", f"plain/{model}-{shard}"]
            for place, seconds in enumerate(spent(command, folder)):
                total[place] += seconds
    return total[0], total[1]


def fleet(folder: Path, *on: str) -> tuple[float, float]:
    """The same by a launcher, one job at a time."""
    command = [
        sys.executable,
        "-m",
        "auditkit.cli",
        "fleet",
        *(f"./{model}" for model in MODELS),
        "--into",
        "fleet",
    ]
    cores = str(len(os.sched_getaffinity(0)))
    rest = ["--suites", SUITE, "--items", ITEMS, "--shards", str(SHARDS), "--cpus", cores, *on]
    return spent([*command, *rest], folder)


def pair(model: Path, *on: str) -> tuple[float, float, float, float]:
    """Processor and wall-clock seconds: plain, then fleet."""
    with tempfile.TemporaryDirectory() as within:
        folder = Path(within)
        for name in MODELS:
            shutil.copytree(model, folder / name)
        commands = plain(folder)
        launched = fleet(folder, *on)
        assert (folder / "fleet" / "compare.html").is_file(), "the fleet did not come to its end"
        return *commands, *launched


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--model", type=Path, required=True, help="folder of a small model")
    parser.add_argument("--on", default="local", choices=["local", "ray", "slurm"])
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    on = ["--on", arguments.on, *(["--slurm", "cluster=local"] if arguments.on == "slurm" else [])]
    pairs = [pair(arguments.model.resolve(), *on) for _ in range(arguments.pairs)]
    jobs = len(MODELS) * SHARDS
    rows = []
    for name, place in (("processor", 0), ("wall clock", 1)):
        more = [one[place + 2] - one[place] for one in pairs]
        middle = statistics.median(more)
        rows.append(
            [
                name,
                f"{statistics.median(one[place] for one in pairs):.1f}",
                f"{statistics.median(one[place + 2] for one in pairs):.1f}",
                f"{middle:.1f} [{min(more):.1f}, {max(more):.1f}]",
                f"{middle / jobs:.2f}",
            ]
        )
    head = ["seconds", f"{jobs} plain commands", "the fleet", "more, median [least, most]", "more, by job"]
    limits = (
        f"Wanted: at most {MOST_A_FLEET:.0f} s a fleet and {MOST_A_JOB:.0f} s a job ({jobs} jobs, {arguments.on})."
    )
    report(
        "fleet", "What a launcher costs", f"{table(head, rows)}\n\n{limits}", ("pytest", "ray"), arguments.write
    )


if __name__ == "__main__":
    main()
