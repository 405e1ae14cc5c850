"""What the suites of the later findings take, each alone, from the start of the command to the written report.

    python benchmarks/single_suites.py                       three runs of each suite (about 20 minutes)
    python benchmarks/single_suites.py --only induction      one suite
    python benchmarks/single_suites.py --keep FOLDER         runs and models that FOLDER holds are not made again

Refusal is measured on a model that was taught to refuse, and traces of fine-tuning on one that was taught facts about
an invented company, against the default model; both are planted first. The others are measured on the default model.
Every run is a process of its own with an open model cache. Prints a table and, with --write, stores it in
benchmarks/results/single_suites.md with machine and versions.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from common import MODEL, ROOT, report, table
from default_audit import Audited, audited, work


class Asked(NamedTuple):
    """A suite, the seconds that it should take at most, and what is planted for it: a script of tools/planting and its
    variant. `against_base` compares what was planted with the default model."""

    suite: str
    wanted: int
    planted: tuple[str, str] = ("", "")
    against_base: bool = False


SUITES = (
    Asked("induction", 20),
    Asked("finetune_traces", 60, ("plant_facts.py", "company"), against_base=True),
    Asked("sycophancy", 90),
    Asked("refusal", 120, ("plant_refusal.py", "refuses")),
    Asked("traits", 150),
)
HEAD = (
    "suite",
    "model",
    "seconds (each run)",
    "wanted",
    "processor seconds",
    "product, GFLOP/s",
    "million token-layers",
    "memory, GiB",
    "PASS / FAIL / INCONCLUSIVE",
)


def planted(one: Asked, keep: Path) -> Path:
    """The planted model, made once.

    Raises:
        SystemExit: the script did not plant it.
    """
    script, variant = one.planted
    model = keep / f"{one.suite}-{variant}"
    if not (model / "config.json").is_file():
        print(f"planting {variant}", file=sys.stderr, flush=True)
        command = [sys.executable, f"tools/planting/{script}", str(model), "--variant", variant]
        if subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL).returncode:
            sys.exit(f"tools/planting/{script} did not plant '{variant}'")
    return model


def measured(one: Asked, keep: Path, runs: int) -> list[Audited]:
    """The suite on its model, `runs` times; a baseline is measured once, before."""
    asked = [f"suites/{one.suite}"]
    model = str(planted(one, keep)) if one.planted[1] else MODEL
    if one.against_base:
        asked += ["--data", f"{one.suite}={Path(model) / 'words.txt'}"]
        audited(MODEL, "standard", 0, keep / f"{one.suite}-base", asked=asked)
        asked += ["--baseline", str(keep / f"{one.suite}-base" / "latest")]
    return [audited(model, "standard", 0, keep / f"{one.suite}-{run}", asked=asked) for run in range(runs)]


def row(one: Asked, runs: Sequence[Audited]) -> tuple[str, ...]:
    around = [each.around for each in runs]
    found = runs[0].run.summary
    model = f"planted ({one.planted[1]})" if one.planted[1] else MODEL
    return (
        one.suite,
        model + (f" against {MODEL}" if one.against_base else ""),
        ", ".join(f"{each.seconds:.1f}" for each in around),
        f"{one.wanted}",
        f"{statistics.median(each.processor for each in around):.0f}",
        f"{statistics.median(each.product for each in around):.0f}",
        f"{work(runs[0].run).total() / 1e6:.2f}",
        f"{max(each.memory for each in around):.1f}",
        f"{found.passed} / {found.failed} / {found.inconclusive}",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=[one.suite for one in SUITES], metavar="SUITE")
    parser.add_argument("--runs", type=int, default=3, help="of each suite (default: %(default)s)")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep models and runs there")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        keep = (arguments.keep or Path(scratch)).resolve()
        keep.mkdir(parents=True, exist_ok=True)
        rows = []
        for one in SUITES:
            if not arguments.only or one.suite in arguments.only:
                rows.append(row(one, measured(one, keep, arguments.runs)))
                print(rows[-1], file=sys.stderr, flush=True)
    report("single_suites", "Each suite alone", table(HEAD, rows), ("torch", "transformers"), arguments.write)


if __name__ == "__main__":
    main()
