"""How the cost of a sweep grows: with layers, with the length of the changed suffix, and with items.

    python benchmarks/growth.py [--write]

Random Llama-shaped models of 256 dimensions, so that the number of layers can be varied; one thread, processor seconds,
the best of three. Each curve changes one quantity and keeps the others; its slope on log axes is fitted to the measured
points. Beside it stands the slope that the token-layers of the same sweeps have. With --write the table goes to
benchmarks/results/growth.md and the curves to growth.svg.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from common import MODEL, ROOT, report, table

from auditkit import open_model
from auditkit.adapters.chat import Prompt
from auditkit.adapters.hf.adapter import HFAdapter
from auditkit.adapters.protocol import Component
from auditkit.engine.pairs import PatchPair
from auditkit.engine.patching.plain import patch
from auditkit.engine.patching.sweep import grid, sweep
from auditkit.engine.sites import Site

LAYERS, LENGTH, ITEMS = 12, 32, 2
REPEATS = 3


@dataclass(frozen=True)
class Point:
    """One measured size: processor seconds and token-layers of the wavefront, and seconds of `patch` at its rate."""

    size: int
    seconds: float
    token_layers: int
    plain: float


def model(layers: int, folder: str) -> HFAdapter:
    """A random model with the default model's tokenizer."""
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    default = open_model(MODEL)
    config = LlamaConfig(
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=layers,
        num_attention_heads=8,
        num_key_value_heads=4,
        vocab_size=int(default.module.config.vocab_size),
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    path = Path(folder, str(layers))
    LlamaForCausalLM(config).eval().save_pretrained(path)
    tokenizer: AutoTokenizer = default.tokenizer
    tokenizer.save_pretrained(path)
    return open_model(str(path), device="cpu", dtype="float32")


def pairs(items: int, length: int, first: int = 0) -> list[PatchPair]:
    """Random pairs that differ from position `first` on."""
    generator = torch.Generator().manual_seed(1)
    made = []
    for _ in range(items):
        ids = torch.randint(100, 40_000, (length,), generator=generator).tolist()
        other = [*ids[:first], ids[first] + 1, *ids[first + 1 :]]
        made.append(PatchPair(Prompt("", tuple(ids)), Prompt("", tuple(other)), (11, 12)))
    return made


def point(adapter: HFAdapter, size: int, chosen: Sequence[PatchPair], sites: Sequence[Site]) -> Point:
    """The best of some repetitions; `patch` is measured on a few sites and scaled to all."""

    def best(work) -> tuple[float, object]:
        runs = []
        for _ in range(REPEATS):
            started = time.process_time()
            result = work()
            runs.append(time.process_time() - started)
        return min(runs), result

    seconds, result = best(lambda: sweep(adapter, chosen, sites))
    some = sites[:: max(1, len(sites) // 8)]
    conditions = {str(i): [[site]] * len(chosen) for i, site in enumerate(some)}
    plain, _ = best(lambda: patch(adapter, chosen, conditions))
    return Point(size, seconds, result.token_layers, plain * len(sites) / len(some))


def slope(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Least squares on log axes."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def curves() -> dict[str, list[Point]]:
    """What is varied -> the points."""
    found: dict[str, list[Point]] = {"layers": [], "changed tokens": [], "items": []}
    with tempfile.TemporaryDirectory() as folder:
        for layers in (6, 12, 24, 48):
            adapter = model(layers, folder)
            sites = grid([Component.RESIDUAL], range(layers), range(0, LENGTH, 4))
            found["layers"].append(point(adapter, layers, pairs(ITEMS, LENGTH), sites))
            if layers == LAYERS:
                for changed in (12, 24, 48, 96):
                    length = changed + 8
                    sites = grid([Component.RESIDUAL], range(LAYERS), range(length))
                    found["changed tokens"].append(point(adapter, changed, pairs(1, length, 8), sites))
                for items in (2, 8, 32):
                    sites = grid([Component.MLP, Component.RESIDUAL], range(LAYERS), ["all"])
                    found["items"].append(point(adapter, items, pairs(items, LENGTH, 6), sites))
    return found


def draw(found: dict[str, list[Point]], target: Path) -> None:
    """The curves as SVG, text kept as text."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "growth"})
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(found), figsize=(11, 3.6), sharey=True, layout="constrained")
    for axis, (what, points) in zip(axes, found.items(), strict=True):
        sizes = [point.size for point in points]
        axis.loglog(
            sizes, [point.plain for point in points], "s--", color="#888888", label="one run per site (scaled)"
        )
        axis.loglog(sizes, [point.seconds for point in points], "o-", color="#1f5fa8", label="wavefront")
        axis.set_xticks(sizes, [str(size) for size in sizes])
        axis.minorticks_off()
        axis.set_xlabel(what)
        axis.grid(True, which="major", linewidth=0.4)
    axes[0].set_ylabel("processor seconds")
    axes[0].legend(frameon=False)
    figure.savefig(target, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found = curves()
    rows, slopes = [], {}
    for what, points in found.items():
        sizes = [point.size for point in points]
        own = slope(sizes, [point.seconds for point in points])
        counted = slope(sizes, [point.token_layers for point in points])
        plain = slope(sizes, [point.plain for point in points])
        slopes[what] = own
        seconds = ", ".join(f"{point.seconds:.2f}" for point in points)
        ratio = ", ".join(f"{point.plain / point.seconds:.1f}" for point in points)
        rows.append(
            [what, ", ".join(map(str, sizes)), seconds, f"{own:.2f}", f"{counted:.2f}", f"{plain:.2f}", ratio]
        )
    head = (
        "varied",
        "sizes",
        "processor seconds",
        "slope",
        "slope of token-layers",
        "slope of one run per site",
        "times faster than one run per site",
    )
    text = table(head, rows) + (
        f"\n\nThe cost of a full sweep grows with layers to the power {slopes['layers']:.1f} (sites and blocks after "
        f"each both grow), with changed tokens to the power {slopes['changed tokens']:.1f} (positions, and tokens "
        f"after each), and with items to the power {slopes['items']:.1f}. One run per site starts higher and grows "
        "with all tokens of the prompt.\n\n"
        "![Processor seconds against layers, changed tokens and items, on log axes](growth.svg)"
    )
    if arguments.write:
        target = ROOT / "benchmarks" / "results" / "growth.svg"
        target.parent.mkdir(exist_ok=True)
        draw(found, target)
    report("growth", "Growth", text, ("torch", "transformers", "matplotlib"), arguments.write)


if __name__ == "__main__":
    main()
