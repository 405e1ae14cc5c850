"""What an audit of all suites costs and decides on the default model, at some seeds and efforts.

    python benchmarks/default_audit.py                          standard effort, seeds 1 and 2 (minutes each)
    python benchmarks/default_audit.py --effort quick standard thorough --seeds 3
    python benchmarks/default_audit.py --keep FOLDER            audits that FOLDER holds are shown and not made again

Each audit runs in a process of its own and starts with an open model cache. Seconds are to be read beside the rate of a
plain 2048 x 2048 product in the same run, since machines differ; where others use the machine too, the processor's
seconds tell more than the clock's. Prints tables and, with --write, stores them in benchmarks/results/default_audit.md
with machine and versions.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from common import MODEL, ROOT, matmul_rate, report, table, timed

from auditkit import open_model
from auditkit.claims.verdicts import decided, sits_at_threshold
from auditkit.engine.batching import speed
from auditkit.record.plan import EFFORTS, STEPWISE
from auditkit.record.schema import Claim, Run, Verdict
from auditkit.record.store import read_run

APPLY = (Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE)
CHILD = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:]).returncode
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(code, used.ru_maxrss, used.ru_utime + used.ru_stime)
"""
MEASURED = "measured.json"
"""What was measured around an audit, beside its run folder."""


class Around(NamedTuple):
    """What was measured around an audit: seconds of the clock and of the processor, peak memory in GiB, the machine's
    rates before it, and the model's blocks."""

    seconds: float
    processor: float
    memory: float
    product: float
    plain: float
    layers: int


class Audited(NamedTuple):
    """One audit: its record, and what was measured around it."""

    run: Run
    around: Around


def audited(
    model: str, effort: str, seed: int, reports: Path, dtype: str = "auto", asked: Sequence[str] = ("suites/",)
) -> Audited:
    """Audit a model in a process of its own; an audit that `reports` holds is read. `asked` are suites and options.

    Raises:
        SystemExit: the run wrote no record.
    """
    stored = reports / MEASURED
    if not stored.is_file():
        adapter = open_model(model, dtype=dtype)
        product, plain, layers = matmul_rate(), speed(adapter), adapter.layers
        del adapter
        options = ["--model", model, "--dtype", dtype, "--effort", effort, "--seed", str(seed)]
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *asked, *options]
        command += ["--audit-dir", str(reports)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        seconds, done = timed(
            lambda: subprocess.run(
                [sys.executable, "-c", CHILD, *command], cwd=ROOT, capture_output=True, text=True, env=environment
            )
        )
        code, memory, processor = done.stdout.split()[-3:]
        if int(code) not in (0, 1, 10, 11):
            sys.exit(f"{' '.join(command)} ended with {code}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        around = Around(seconds, float(processor), int(memory) / 2**20, product, plain, layers)
        stored.write_text(json.dumps(around._asdict()))
    return Audited(read_run(reports / "latest"), Around(**json.loads(stored.read_text())))


def work(run: Run) -> Counter[str]:
    """Suite -> token-layers."""
    by_suite = Counter[str]()
    for claim in run.claims:
        by_suite[claim.suite] += claim.cost.token_layers
    return by_suite


def row(effort: str, one: Audited) -> tuple[str, ...]:
    counts = Counter(claim.verdict for claim in one.run.claims)
    apply = sum(counts[verdict] for verdict in APPLY)
    decided = counts[Verdict.PASS] + counts[Verdict.FAIL]
    around, cost = one.around, work(one.run).total()
    return (
        effort,
        str(one.run.seed),
        f"{around.product:.0f}",
        f"{around.plain:,.0f}",
        f"{around.seconds:.0f}",
        f"{around.processor:.0f}",
        f"{around.seconds * around.product / 300:.0f}",
        f"{cost / 1e6:.2f}",
        f"{around.seconds * around.plain / cost:.2f}",
        f"{around.memory:.1f}",
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
    "processor seconds",
    "seconds at 300 GFLOP/s",
    "million token-layers",
    "seconds per second of plain batches",
    "memory, GiB",
    "decided of what applies",
    "undecided, at their threshold",
    "PASS / FAIL / INCONCLUSIVE",
)


def by_suite(audits: Sequence[tuple[str, Audited]]) -> str:
    """A table of tokens and seconds, by suite; the tokens are those that `pytest_audit_tokens` states."""
    suites = dict.fromkeys(claim.suite for _, one in audits for claim in one.run.claims)
    head = ["suite", *(f"{effort}, seed {one.run.seed}: tokens, seconds" for effort, one in audits)]
    rows = []
    for suite in suites:
        cells = []
        for _, one in audits:
            seconds = sum(claim.cost.seconds for claim in one.run.claims if claim.suite == suite)
            cells.append(f"{work(one.run)[suite] // one.around.layers:,}, {seconds:.0f}")
        rows.append([suite, *cells])
    return table(head, rows)


TIMES = (2, 4, 10)
"""Multiples of the items for which the last table counts what would be decided."""


def times_the_items(claim: Claim) -> float:
    """How many times its items would decide an undecided claim, at today's estimates; infinite where no number of items
    is known to, as where a sensitivity reference or a control keeps it undecided."""
    undecided = [effect for effect in claim.compared if decided(effect) is Verdict.INCONCLUSIVE]
    return max(
        (effect.items_needed / effect.n if effect.items_needed and effect.n else math.inf for effect in undecided),
        default=math.inf,
    )


def more_items(audits: Sequence[tuple[str, Audited]]) -> str:
    """How many claims more items would decide, beside those that are decided."""
    head = ["effort", "seed", "decided", *(f"with {times} times the items" for times in TIMES)]
    rows = []
    for effort, one in audits:
        asked = [claim for claim in one.run.claims if claim.verdict in APPLY]
        open_ones = [claim for claim in asked if claim.verdict is Verdict.INCONCLUSIVE]
        needs = [times_the_items(claim) for claim in open_ones if not sits_at_threshold(claim)]
        have = len(asked) - len(open_ones)
        counts = [have + sum(need <= times for need in needs) for times in TIMES]
        shares = [f"{count} of {len(asked)} ({count / len(asked):.0%})" for count in (have, *counts)]
        rows.append([effort, str(one.run.seed), *shares])
    return table(head, rows)


def between(audits: Sequence[Audited]) -> str:
    """Which claims are PASS in one audit and FAIL in another."""
    verdicts: dict[str, set[Verdict]] = {}
    for one in audits:
        for claim in one.run.claims:
            verdicts.setdefault(claim.id, set()).add(claim.verdict)
    both = sorted(claim for claim, seen in verdicts.items() if {Verdict.PASS, Verdict.FAIL} <= seen)
    return f"PASS in one of these audits and FAIL in another: {', '.join(both) or 'no claim'}."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--effort", nargs="+", default=["standard"], choices=(*EFFORTS, STEPWISE))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2], metavar="SEED")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the runs there, by effort and seed")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        reports = arguments.keep or Path(scratch)
        audits = [
            (effort, audited(MODEL, effort, seed, reports / effort / str(seed)))
            for effort in arguments.effort
            for seed in arguments.seeds
        ]
        rows = [row(*one) for one in audits]
        parts = table(HEAD, rows), by_suite(audits), more_items(audits), between([one for _, one in audits])
        text = "\n\n".join(parts)
    report("default_audit", "The default audit", text, ("torch", "transformers"), arguments.write)


if __name__ == "__main__":
    main()
