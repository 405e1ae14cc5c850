"""Products of the default model's linear layers in float32: torch's choice of library, and the engine's.

    python benchmarks/products.py [--write]

The error is the root mean square over the product's elements, of standard normal inputs, against float64.
"""

from __future__ import annotations

import argparse
import statistics

import torch
from common import report, table, timed

from auditkit.adapters.hf.products import multiplying

SIDES = ((576, 576), (576, 1536), (1536, 576))
ROWS = (16, 64, 256, 2048)
REPEATS = 30


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--write", action="store_true", help="store the table in benchmarks/results")
    arguments = parser.parse_args()
    draw, lines = torch.Generator().manual_seed(0), []
    for inner, outer in SIDES:
        weight = torch.randn(outer, inner, generator=draw)
        for rows in ROWS:
            given = torch.randn(rows, inner, generator=draw)
            exact, flops = given.double() @ weight.double().T, 2 * rows * inner * outer
            cells = []
            for engine in (False, True):

                def product(given=given, weight=weight, engine=engine) -> torch.Tensor:
                    if not engine:
                        return torch.nn.functional.linear(given, weight)
                    with multiplying():
                        return torch.nn.functional.linear(given, weight)

                made = product()
                seconds = statistics.median(timed(product)[0] for _ in range(REPEATS))
                error = float((made.double() - exact).square().mean().sqrt())
                cells += [f"{flops / seconds / 1e9:.0f}", f"{error:.1e}"]
            lines.append([f"{rows} x {inner} by {inner} x {outer}", *cells])
    head = ("product", "torch, GFLOP/s", "its error", "the engine, GFLOP/s", "its error")
    report("products", "Matrix products", table(head, lines), ("torch",), arguments.write)


if __name__ == "__main__":
    main()
