"""Time of a subset scan, on one core.

    python benchmarks/subset_scan.py [--rounds 5] [--write]

- one scan of 100 rows x 4096 units against 250 background rows: 50 levels, 10 restarts, p-values included, of noise and
  with a planted subset (5 % of units, 40 % of rows, one standard deviation);
- a permutation test of the size of the default model: 60 rows against 60 others at 576 units, 200 permutations.
"""

from __future__ import annotations

import argparse
import os
import statistics

import numpy as np
from common import report, table, timed

from auditkit.methods.scanning.detection import Scanner
from auditkit.methods.scanning.pvalues import empirical_pvalues
from auditkit.methods.scanning.scan import Search, scan
from auditkit.methods.scanning.scores import SCORES


def data(rows: int, background: int, units: int, shift: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    test = rng.normal(size=(rows, units))
    test[: rows * 2 // 5, : units // 20] += shift
    return test, rng.normal(size=(background, units))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):  # Linux; elsewhere nothing here uses more than one thread either
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

    def median(work) -> float:
        work()
        return statistics.median(timed(work)[0] for _ in range(arguments.rounds))

    rows = []
    for shift, words in ((0.0, "noise"), (1.0, "planted")):
        test, background = data(100, 250, 4096, shift)
        for score in SCORES:
            search = Search(score, restarts=10)
            seconds = median(lambda: scan(empirical_pvalues(test, background, "two-sided"), search))  # noqa: B023
            rows.append((f"100 x 4096, 50 levels, 10 restarts, {words}, {score}", f"{seconds:.2f} s", "under 2 s"))
    test, background = data(60, 60, 576, 0.0)
    flags = np.arange(120) >= 60
    both = np.concatenate([test, background])
    seconds, _ = timed(lambda: Scanner("two-sided").significance(both, flags, permutations=200))
    rows.append(("60 x 576 against 60 others, 200 permutations", f"{seconds:.1f} s", ""))
    text = table(("what, on one core", "measured", "wanted"), rows)
    report("subset_scan", "Subset scanning", text, ("numpy", "scipy"), arguments.write)


if __name__ == "__main__":
    main()
