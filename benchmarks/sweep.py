"""A full residual sweep of one pair on the default model: every layer at every position, three ways.

    python benchmarks/sweep.py [--sample 40] [--write]

- wavefront: the engine's `sweep`, all sites;
- raw hooks: plain forward hooks on the module, one site per forward pass, the head at the last token only. A random
  sample of sites is measured and the time scaled to all of them;
- patch: the engine's plain method, one site per condition, likewise sampled and scaled.

The rate counts the multiplications with the blocks' weights on the tokens truly run; it stands beside that of a
plain 2048 x 2048 float32 matrix product of the same run, before and after the sweep.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import torch

from auditkit import open_model
from auditkit.adapters.chat import Prompt
from auditkit.adapters.protocol import Component
from auditkit.data.prompts import Chat
from auditkit.engine.patching import PatchPair, patch
from auditkit.engine.sites import Site
from auditkit.engine.wavefront import grid, sweep

ROOT = Path(__file__).resolve().parents[1]
MODEL = "smollm2-135m-instruct"


def pair(adapter) -> PatchPair:
    """A persona pair of about 56 tokens: one word differs, after the head of the system turn."""

    def prompt(persona: str) -> Prompt:
        return adapter.chat(
            Chat(
                system=f"You are a {persona} who works in a small town by the sea.",
                user="Which of these is the capital of France? A: Paris B: London. Answer with one letter.",
                assistant="Answer:",
            )
        )

    right, wrong = adapter.chat.encode(" A")[0], adapter.chat.encode(" B")[0]
    return PatchPair(prompt("teacher"), prompt("doctor"), (right, wrong))


def differing_everywhere(pair: PatchPair) -> PatchPair:
    """The same base with a source that differs from the first token on: no site is free of work."""
    other = (pair.base.ids[0] + 1, *pair.base.ids[1:])
    return PatchPair(pair.base, Prompt("", other), pair.answers)


def matmul_rate() -> float:
    """GFLOP/s of a plain matrix product, the median of ten."""
    a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)
    a @ b
    seconds = []
    for _ in range(10):
        started = time.perf_counter()
        a @ b
        seconds.append(time.perf_counter() - started)
    return 2 * 2048**3 / statistics.median(seconds) / 1e9


def by_hooks(adapter, pair: PatchPair, sites: list[Site]) -> tuple[float, torch.Tensor]:
    """One forward pass per site, nothing of the engine: the median seconds of a site, and the answers."""
    blocks, out, seconds, streams = adapter.module.model.layers, [], [], {}
    base, source = (torch.tensor([prompt.ids]) for prompt in (pair.base, pair.source))

    def keep(layer: int) -> Callable[..., None]:
        return lambda module, args, output: streams.__setitem__(layer, output)

    with torch.no_grad():
        handles = [block.register_forward_hook(keep(layer)) for layer, block in enumerate(blocks)]
        adapter.module(source, logits_to_keep=1)
        for handle in handles:
            handle.remove()
        for site in sites:

            def write(module, args, output, site=site):
                output = output.clone()
                output[:, site.position] = streams[site.first][:, site.position]
                return output

            started = time.perf_counter()
            handle = blocks[site.first].register_forward_hook(write)
            out.append(adapter.module(base, logits_to_keep=1).logits[0, -1, list(pair.answers)])
            handle.remove()
            seconds.append(time.perf_counter() - started)
    return statistics.median(seconds), torch.stack(out)


def timed(work: Callable[[], torch.Tensor]) -> tuple[float, torch.Tensor]:
    started = time.perf_counter()
    value = work()
    return time.perf_counter() - started, value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", type=int, default=40)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    adapter = open_model(MODEL, device="cpu", dtype="float32")
    one = pair(adapter)
    length = len(one.base)
    first = next(i for i in range(length) if one.base.ids[i] != one.source.ids[i])
    sites = grid([Component.RESIDUAL], range(adapter.layers), range(length))
    number = min(arguments.sample, len(sites))
    chosen = sorted(random.Random(0).sample(range(len(sites)), number))
    some = [sites[i] for i in chosen]

    by_hooks(adapter, one, some[:2])
    before = matmul_rate()
    started = time.perf_counter()
    result = sweep(adapter, [one], sites)
    wave = time.perf_counter() - started
    started = time.perf_counter()
    hardest = sweep(adapter, [differing_everywhere(one)], sites)
    wave_hardest = time.perf_counter() - started
    after = matmul_rate()
    seconds, reference = by_hooks(adapter, one, some)
    hooks = seconds * number  # the median does not take part in what else the machine does
    conditions = {str(i): [[site]] for i, site in enumerate(some)}
    plain, patched = timed(lambda: torch.cat(list(patch(adapter, [one], conditions).conditions.values())))

    scale = len(sites) / number
    weights = sum(p.numel() for block in adapter.module.model.layers for p in block.parameters() if p.ndim == 2)
    rate = 2 * result.token_layers * weights / adapter.layers / wave / 1e9
    ours = result.values[chosen, 0]
    sampled = f"{number} of {len(sites)} sites measured, scaled"
    peak = statistics.mean([before, after])
    rows = [
        (
            f"wavefront, {len(sites)} sites ({adapter.layers} layers x {length} positions)",
            f"{wave:.1f} s",
            "",
            f"the prompts differ from position {first} on",
        ),
        (
            f"raw hooks, one site per forward ({sampled})",
            f"{hooks * scale:.0f} s",
            f"{float((ours - reference).abs().max()):.1e}",
            f"{hooks * scale / wave:.1f}x the wavefront; wanted at least 8x, difference at most 2e-5",
        ),
        (
            f"`patch`, one site per condition ({sampled})",
            f"{plain * scale:.0f} s",
            f"{float((ours - patched).abs().max()):.1e}",
            f"{plain * scale / wave:.1f}x the wavefront",
        ),
        (
            "rate of the wavefront",
            f"{rate:.0f} GFLOP/s",
            "",
            f"{rate / peak:.0%} of a 2048 x 2048 product ({before:.0f} and {after:.0f} GFLOP/s); wanted at least 65 %",
        ),
        (
            "token-layers run",
            f"{result.token_layers:,}",
            "",
            f"{result.share_of_minimum:.3f} of the minimum {result.minimum:,}; wanted at most 1.05",
        ),
        (
            "wavefront, prompts that differ from the first token on",
            f"{wave_hardest:.1f} s",
            "",
            f"raw hooks take {hooks * scale / wave_hardest:.1f}x this; {hardest.share_of_minimum:.3f} of the minimum",
        ),
        ("largest logit of an answer", f"{float(result.values.abs().max()):.1f}", "", ""),
        ("identity edit, full patch", f"{result.identity_error:.1e}, {result.full_patch_error:.1e}", "", ""),
    ]
    table = ["| what | measured | largest difference in a logit | |", "|---|---|---|---|"]
    text = "\n".join([*table, *(f"| {' | '.join(row)} |" for row in rows)])
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("torch", "transformers"))
    machine = f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, {versions}"
    print(f"{result.method} {result.reason}\n{text}\n\n{machine}")
    if arguments.write:
        target = ROOT / "benchmarks" / "results" / "sweep.md"
        target.parent.mkdir(exist_ok=True)
        command = " ".join(["python", "benchmarks/sweep.py", *sys.argv[1:]])
        target.write_text(
            f"# Full residual sweep\n\n{text}\n\nMeasured on {machine}, with `{command}`. TransformerLens is not "
            "among the ways measured.\n"
        )


if __name__ == "__main__":
    main()
