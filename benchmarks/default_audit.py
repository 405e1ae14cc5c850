"""What an audit of all suites costs and decides on the default model, at some seeds.

    python benchmarks/default_audit.py                          standard effort, seeds 1 and 2 (minutes each)
    python benchmarks/default_audit.py --effort quick --seeds 3

Each audit runs in a process of its own and starts with an open model cache. Seconds are to be read beside the rate of a
plain 2048 x 2048 product in the same run, since machines differ. Prints tables and, with --write, stores them in
benchmarks/results/default_audit.md with machine and versions.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from common import MODEL, ROOT, matmul_rate, report, table, timed

from auditkit import open_model
from auditkit.claims.verdicts import sits_at_threshold
from auditkit.engine.batching import speed
from auditkit.record.plan import EFFORTS, STEPWISE
from auditkit.record.schema import Run, Verdict
from auditkit.record.store import read_run

APPLY = (Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE)
_PEAK = "import resource, sys; print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
CHILD = f"import subprocess, sys; subprocess.run(sys.argv[1:]); {_PEAK}"


class Audited(NamedTuple):
    """One audit: its record, seconds on the clock, peak memory in GiB, and the machine's rates before it."""

    run: Run
    seconds: float
    memory: float
    product: float
    plain: float


def audited(effort: str, seed: int, reports: Path) -> Audited:
    """Audit the default model in a process of its own."""
    adapter = open_model(MODEL)
    product, plain = matmul_rate(), speed(adapter)
    layers = adapter.layers
    del adapter
    options = ["--model", MODEL, "--effort", effort, "--seed", str(seed), "--audit-dir", str(reports)]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "suites/", *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    seconds, done = timed(
        lambda: subprocess.run(
            [sys.executable, "-c", CHILD, *command], cwd=ROOT, capture_output=True, text=True, env=environment
        )
    )
    run = read_run(reports / "latest")
    by_suite = Counter[str]()
    for claim in run.claims:
        by_suite[claim.suite] += claim.cost.token_layers // layers
    print(f"seed {seed}: tokens by suite {dict(by_suite)}", file=sys.stderr, flush=True)
    return Audited(run, seconds, int(done.stdout.split()[-1]) / 2**20, product, plain)


def row(effort: str, one: Audited) -> tuple[str, ...]:
    counts = Counter(claim.verdict for claim in one.run.claims)
    apply = sum(counts[verdict] for verdict in APPLY)
    decided = counts[Verdict.PASS] + counts[Verdict.FAIL]
    work = sum(claim.cost.token_layers for claim in one.run.claims)
    return (
        effort,
        str(one.run.seed),
        f"{one.product:.0f}",
        f"{one.plain:,.0f}",
        f"{one.seconds:.0f}",
        f"{one.seconds * one.product / 300:.0f}",
        f"{work / 1e6:.2f}",
        f"{one.seconds * one.plain / work:.2f}",
        f"{one.memory:.1f}",
        f"{decided} of {apply} ({decided / apply:.0%})",
        str(sum(map(sits_at_threshold, one.run.claims))),
        " / ".join(str(counts[verdict]) for verdict in (Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE)),
    )


HEAD = (
    "effort",
    "seed",
    "product, GFLOP/s",
    "plain batches, token-layers/s",
    "seconds",
    "seconds at 300 GFLOP/s",
    "million token-layers",
    "seconds per second of plain batches",
    "memory, GiB",
    "decided of what applies",
    "undecided, at their threshold",
    "PASS / FAIL / INCONCLUSIVE",
)


def between(audits: list[Audited]) -> str:
    """Which claims are PASS at one seed and FAIL at another."""
    verdicts: dict[str, set[Verdict]] = {}
    for one in audits:
        for claim in one.run.claims:
            verdicts.setdefault(claim.id, set()).add(claim.verdict)
    both = sorted(claim for claim, seen in verdicts.items() if {Verdict.PASS, Verdict.FAIL} <= seen)
    return f"PASS at one seed and FAIL at another: {', '.join(both) or 'no claim'}."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--effort", default="standard", choices=(*EFFORTS, STEPWISE))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2], metavar="SEED")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the runs there, by seed")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        reports = arguments.keep or Path(scratch)
        audits = [audited(arguments.effort, seed, reports / str(seed)) for seed in arguments.seeds]
    text = table(HEAD, [row(arguments.effort, one) for one in audits]) + "\n\n" + between(audits)
    report("default_audit", "The default audit", text, ("torch", "transformers"), arguments.write)


if __name__ == "__main__":
    main()
