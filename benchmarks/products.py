"""Products of the default model's linear layers in float32: torch's choice of library, and the engine's.

    python benchmarks/products.py [--write]

The error is the root mean square over the product's elements, of standard normal inputs, against float64. The second
table has the errors of the model's logits, against the same model in float64.
"""

from __future__ import annotations

import argparse
import statistics

import torch
from common import MODEL, report, table, timed

from auditkit import open_model
from auditkit.adapters.hf.products import multiplying

SIDES = ((576, 576), (576, 1536), (1536, 576), (576, 49_152))
ROWS = (16, 64, 256, 1024)
REPEATS = 30
TEXTS, TOKENS = 24, 28


def logits() -> str:
    """A table of the errors of the default model's logits."""
    adapter = open_model(MODEL)
    texts = [
        f"Lesson {i}: a teacher told the class about rivers, kings, numbers and birds, and then"
        for i in range(TEXTS)
    ]
    tokens = torch.tensor([(adapter.chat.encode(text) * 2)[:TOKENS] for text in texts])
    module = adapter.module
    plain = module(tokens).logits
    with multiplying(module.get_output_embeddings()):
        engine = module(tokens).logits
    exact = module.double()(tokens).logits
    lines = []
    for name, made in (("torch", plain), ("the engine", engine)):
        off = (made.double() - exact).abs()
        lines.append([name, f"{off.mean():.1e}", f"{off.max():.1e}"])
    return table((f"logits of {TEXTS} x {TOKENS} tokens", "mean error", "largest error"), lines)


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
    report("products", "Matrix products", f"{table(head, lines)}\n\n{logits()}", ("torch",), arguments.write)


if __name__ == "__main__":
    main()
