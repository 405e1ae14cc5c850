"""Entropy of all heads of the default model: its time beside plain forward passes, its error, and its memory.

    python benchmarks/attention.py [--rounds 7] [--write]

- time: the entropies of every head at each prompt's last token, and plain SDPA forward passes of the same batches,
  in turn; medians of all rounds;
- error: against the probabilities that eager attention gives out (`output_attentions`), prompt by prompt;
- memory: for one prompt, the largest resident size above that before the run, each in a fresh process.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from common import MODEL, report, table, timed

from auditkit import open_model
from auditkit.adapters.chat import Prompt
from auditkit.data.prompts import Chat
from auditkit.engine.attention import entropies, entropy, probabilities
from auditkit.engine.batching import batches as split

LENGTHS = (128, 512, 1024)
PERSONAS = ("teacher", "doctor", "sailor", "judge", "farmer", "painter", "nurse", "pilot")
QUESTIONS = (
    "Which of these is the capital of France? A: Paris B: London. Answer with one letter.",
    "Is water heavier than oil? Answer yes or no.",
    "A train leaves at noon and arrives three hours later, after a stop of ten minutes. When does it arrive?",
    "Name a colour.",
    "Which is the larger number, 17 or 71? A: 17 B: 71. Answer with one letter.",
    "Who wrote the play in which two young people of hostile families fall in love?",
)


def times(adapter, prompts: list[Prompt], rounds: int) -> list[tuple[str, str, str]]:
    """Plain forward passes and entropies of the same batches, in turn."""
    batches = [adapter.batch([prompts[i] for i in rows]) for rows in split([len(p) for p in prompts])]

    def plain() -> None:
        for batch in batches:
            adapter.run(batch)

    works: dict[str, Callable[[], object]] = {
        "plain": plain,
        "last": lambda: entropies(adapter, prompts),
        "all": lambda: entropies(adapter, prompts, "all"),
    }
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds + 1):  # the first round warms up
        for name, work in works.items():
            seconds[name].append(timed(work)[0])
    median = {name: statistics.median(values[1:]) for name, values in seconds.items()}
    tokens = sum(len(prompt) for prompt in prompts)
    return [
        (f"plain forward of {len(prompts)} prompts ({tokens} tokens)", f"{median['plain']:.2f} s", ""),
        (
            "entropy of all heads at the last token, to that",
            f"{median['last'] / median['plain']:.2f}",
            "at most 1.3",
        ),
        ("entropy of all heads at all tokens, to that", f"{median['all'] / median['plain']:.2f}", ""),
    ]


def errors(adapter, prompts: list[Prompt]) -> list[tuple[str, str, str]]:
    """Largest differences from eager attention, over all prompts, layers, heads and queries."""
    ours = probabilities(adapter, prompts, "all")
    nats = entropies(adapter, prompts, "all")
    own = adapter.module.config._attn_implementation
    adapter.module.set_attn_implementation("eager")
    worst = [0.0, 0.0]
    try:
        for prompt, of_keys, of_entropy in zip(prompts, ours, nats, strict=True):
            with torch.no_grad():
                run = adapter.module(torch.tensor([prompt.ids]), output_attentions=True)
            eager = torch.cat(run.attentions)
            worst[0] = max(worst[0], float((of_keys - eager).abs().max()))
            worst[1] = max(worst[1], float((of_entropy - entropy(eager)).abs().max()))
    finally:
        adapter.module.set_attn_implementation(own)
    return [
        ("probabilities of all queries, largest difference from eager", f"{worst[0]:.1e}", ""),
        ("entropies of all queries, largest difference from eager", f"{worst[1]:.1e} nats", ""),
    ]


def peak(method: str, length: int) -> float:
    """MiB that one prompt of `length` tokens needs above what was resident before; for a process of its own."""
    adapter = open_model(MODEL, device="cpu", dtype="float32")
    prompt = Prompt("", tuple(100 + i % 1000 for i in range(length)))
    if method == "eager":
        adapter.module.set_attn_implementation("eager")
    works: dict[str, Callable[[Prompt], object]] = {
        "plain": lambda prompt: adapter.run(adapter.batch([prompt])),
        "last": lambda prompt: entropies(adapter, [prompt]),
        "all": lambda prompt: entropies(adapter, [prompt], "all"),
        "eager": lambda prompt: adapter.module(torch.tensor([prompt.ids]), output_attentions=True),
    }

    def resident(name: str) -> float:
        status = Path("/proc/self/status").read_text()
        return int(status.split(f"{name}:")[1].split()[0]) / 1024

    with torch.no_grad():
        works[method](Prompt("", prompt.ids[:8]))
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        before = resident("VmRSS")
        works[method](prompt)
    return resident("VmHWM") - before


def memory() -> list[tuple[str, str, str]]:
    """What reading attention adds to the peak of a plain forward pass."""
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}  # freed tensors leave the resident size

    def child(method: str, length: int) -> float:
        command = [sys.executable, __file__, "--peak", method, str(length)]
        return float(subprocess.check_output(command, env=environment, text=True, stderr=subprocess.DEVNULL))

    rows = []
    for length in LENGTHS:
        plain = child("plain", length)
        rows.append((f"peak of a plain forward, {length} tokens", f"{plain:.0f} MiB", ""))
        for method, words in (
            ("last", "entropies at the last token"),
            ("all", "entropies at all tokens"),
            ("eager", "eager with output_attentions"),
        ):
            rows.append((f"{words} adds, {length} tokens", f"{child(method, length) - plain:.0f} MiB", ""))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--peak", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peak:
        print(peak(arguments.peak[0], int(arguments.peak[1])))
        return
    adapter = open_model(MODEL, device="cpu", dtype="float32")
    prompts = [
        adapter.chat(Chat(system=f"You are a {persona}.", user=question, assistant="Answer:"))
        for persona in PERSONAS
        for question in QUESTIONS
    ]
    rows = times(adapter, prompts, arguments.rounds) + errors(adapter, prompts) + memory()
    text = table(("what", "measured", "wanted"), rows)
    report("attention", "Reading attention", text, ("torch", "transformers"), arguments.write)


if __name__ == "__main__":
    main()
