"""Time of the worst-case search over identity swaps on the default model.

    python benchmarks/worst_case.py [--budget 300] [--write]

Each search has its own seed and starts from nothing: no answer, and no beginning of a prompt, is known from another.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from common import MODEL, report, table, timed

from auditkit import open_model
from auditkit.findings.identity_bias.measurements.worst import SwapDistance
from auditkit.findings.identity_bias.strategies import identity_swaps
from auditkit.methods.worst_case import search

SEEDS = (0, 1, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--budget", type=int, default=300, help="evaluations (default: %(default)s)")
    parser.add_argument("--write", action="store_true", help="store the table in benchmarks/results")
    arguments = parser.parse_args()
    model, lines = open_model(MODEL, device="cpu", dtype="float32"), []
    for seed in SEEDS:
        distance = SwapDistance(model)

        def once(distance=distance, seed=seed):
            with tempfile.TemporaryDirectory() as folder:
                return search(
                    identity_swaps(), distance, distance.prompts, seed=seed, name="identity swap",
                    budget=arguments.budget, epsilon=0.25, database=Path(folder),
                )  # fmt: skip

        seconds, found = timed(once)
        lines.append([str(seed), str(found.evaluations), f"{seconds:.0f}", f"{found.worst[0].score:.3f}"])
    head = ("seed", "evaluations", "seconds (wanted: 60 for 300)", "largest distance found")
    report("worst_case", "Worst-case search", table(head, lines), ("torch", "hypothesis"), arguments.write)


if __name__ == "__main__":
    main()
