"""What `auditkit fleet` takes over the plain command: seconds of the clock and of the processor, by scheduler.

    python benchmarks/fleet_overhead.py [--repeats N] [--on SCHEDULER ...] [--write]

A suite of a tiny random model is measured by plain commands, one after the other, and by a fleet whose jobs have all
processors, so that they run one after the other too. Both are started in turn in the same run, and the median of some
repeats is shown. A fleet of one job has the whole overhead of a fleet; what a further job adds to a fleet, less a plain
command, is the overhead of a job. Two shards are compared with two plain shards and `auditkit merge`. Schedulers whose
package is not installed are left out. With --write the table goes to benchmarks/results/fleet_overhead.md.
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
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from common import MODEL, report, table, timed

SUITE = "induction"
MANY = 4
"""Jobs of the larger fleet."""
CODES = (0, 1, 10, 11)
WAYS = {"local": (), "ray": ("--on", "ray"), "submitit": ("--on", "slurm", "--slurm", "cluster=local")}
"""Scheduler -> options of the fleet."""


class Took(NamedTuple):
    """Seconds of the clock, and of the processors in all processes that end as children of the command."""

    clock: float
    processor: float

    def __sub__(self, other: Took) -> Took:
        return Took(self.clock - other.clock, self.processor - other.processor)

    def __str__(self) -> str:
        return f"{self.clock:.1f} ({self.processor:.1f})"


def tiny(folder: Path) -> Path:
    """A random Llama of two blocks with the default model's tokenizer."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from auditkit import open_model

    default = open_model(MODEL)
    config = LlamaConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=int(default.module.config.vocab_size),
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    default.tokenizer.save_pretrained(folder)
    return folder


def took(place: Path, *commands: Sequence[str]) -> Took:
    """What commands take, one after the other, in a folder of their own.

    Raises:
        SystemExit: one of them cannot be carried out.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "OMP_NUM_THREADS": str(os.cpu_count())}

    def run() -> None:
        for command in commands:
            called = [sys.executable, *command]
            done = subprocess.run(called, cwd=place, env=environment, capture_output=True, text=True)
            if done.returncode not in CODES:
                sys.exit(
                    f"{' '.join(called)} ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
                )

    clock, _ = timed(run)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Took(clock, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def plain(model: str, into: str, *options: str) -> list[str]:
    return ["-m", "auditkit.cli", "audit", SUITE, "--model", model, "--items", "6", "--audit-dir", into, *options]


def fleet(models: Sequence[str], on: Sequence[str], *options: str) -> list[str]:
    command = ["-m", "auditkit.cli", "fleet", *models, "--into", "fleet", "--suites", SUITE, "--items", "6"]
    return [*command, "--cpus", str(os.cpu_count()), *on, *options]


def measured(place: Path, models: Sequence[str], on: Sequence[str]) -> dict[str, Took]:
    """What each way takes once; the plain commands and the fleets in turn."""

    def fresh(*commands: Sequence[str]) -> Took:
        for made in ("fleet", "plain", "one", "two", "reports"):
            shutil.rmtree(place / made, ignore_errors=True)
        return took(place, *commands)

    first = models[0]
    shards = [plain(first, into, "--shard", f"{n}/2") for n, into in ((1, "one"), (2, "two"))]
    merge = ["-m", "auditkit.cli", "merge", "one/latest", "two/latest"]
    return {
        "plain": fresh(plain(first, "plain")),
        "one": fresh(fleet([first], on)),
        "many": fresh(fleet(models, on)),
        "plain shards": fresh(*shards, merge),
        "shards": fresh(fleet([first], on, "--shards", "2")),
    }


def row(name: str, runs: Sequence[dict[str, Took]]) -> list[str]:
    middle = {
        what: Took(*(statistics.median(run[what][part] for run in runs) for part in (0, 1))) for what in runs[0]
    }
    further = Took(*(seconds / (MANY - 1) for seconds in middle["many"] - middle["one"]))
    cells = (
        middle["plain"],
        middle["one"] - middle["plain"],
        further - middle["plain"],
        middle["plain shards"],
        middle["shards"] - middle["plain shards"],
    )
    counted = name == "local"  # jobs of other schedulers are no children of the command
    return [
        name,
        *(str(cell) if counted or place in (0, 3) else f"{cell.clock:.1f}" for place, cell in enumerate(cells)),
    ]


HEAD = (
    "scheduler",
    "plain command, s",
    "over it: a fleet of one job, s",
    "over it: each further job, s",
    "two plain shards and a merge, s",
    "over them: a fleet of two shards, s",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3, metavar="N")
    parser.add_argument("--on", nargs="+", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    before = os.getloadavg()[1]
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        made = tiny(place / "m0")
        models = ["./m0", *(f"./{shutil.copytree(made, place / f'm{n}').name}" for n in range(1, MANY))]
        rows = []
        for name in arguments.on:
            if name == "local" or find_spec(name):
                rows.append(row(name, [measured(place, models, WAYS[name]) for _ in range(arguments.repeats)]))
                print(*rows[-1], file=sys.stderr, flush=True)
    text = (
        f"The suite `{SUITE}` on a random model of two blocks. Seconds of the clock; in brackets those of the "
        f"processor, where all processes are the command's own. The median of {arguments.repeats}. A further job is "
        f"one of {MANY} models. Load of the machine in the five minutes before and at the end: {before:.1f} and "
        f"{os.getloadavg()[1]:.1f}.\n\n{table(HEAD, rows)}"
    )
    report("fleet_overhead", "The overhead of a fleet", text, ("torch", "ray", "submitit"), arguments.write)


if __name__ == "__main__":
    main()
