"""What an audit of all suites takes on a model of 1.5 billion weights in bfloat16.

    python benchmarks/larger_audit.py                           quick effort, seed 0

The model has Qwen2.5-1.5B's shape, random weights and the default model's tokenizer, since no such model can be had
everywhere. Random weights know no answers and show no persona effect, so whatever is conditional on these ends early.
What it would take is computed: the token-layers that the default model's audit runs beyond this one's, in as many
blocks as this model has, at the speed of this audit. Prints a table and, with --write, stores it in
benchmarks/results/larger_audit.md with machine and versions.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from common import MODEL, report, table
from default_audit import Audited, audited, work

from auditkit import open_model
from auditkit.record.plan import EFFORTS

SHAPE = {
    "hidden_size": 1536,
    "intermediate_size": 8960,
    "num_hidden_layers": 28,
    "num_attention_heads": 12,
    "num_key_value_heads": 2,
    "tie_word_embeddings": True,
}
"""Of Qwen2.5-1.5B, whose vocabulary is three times as large."""


def made(folder: Path) -> str:
    """A random model in bfloat16, in this folder; one that is there is taken."""
    import torch
    from transformers import AutoModelForCausalLM, Qwen2Config

    if not (folder / "config.json").is_file():
        default = open_model(MODEL)
        torch.manual_seed(0)
        config = Qwen2Config(vocab_size=int(default.module.config.vocab_size), **SHAPE)
        AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)
        default.tokenizer.save_pretrained(folder)
    return str(folder)


def compared(larger: Audited, default: Audited) -> str:
    """A row for each suite: what ran on the larger model, and what would if it behaved as the default one."""
    ran, elsewhere = work(larger.run), work(default.run)
    blocks = larger.around.layers / default.around.layers
    spent = {suite: sum(c.cost.seconds for c in larger.run.claims if c.suite == suite) for suite in elsewhere}
    rate = ran.total() / sum(spent.values())
    rows, rest = [], 0.0
    for suite, count in elsewhere.items():
        missing = max(0.0, count * blocks - ran[suite])
        rest += missing
        cells = (f"{ran[suite] / 1e6:.3f}", f"{spent[suite]:.0f}", f"{missing / 1e6:.3f}", f"{missing / rate:.0f}")
        rows.append((suite, *cells))
    head = ("suite", "million token-layers", "seconds", "million token-layers not run", "seconds, computed")
    around = larger.around
    whole = around.seconds + rest / rate
    said = (
        f"The audit ran {ran.total() / 1e6:.2f} million token-layers in {around.seconds:.0f} s "
        f"({around.processor:.0f} s of the processor), with a peak of {around.memory:.1f} GiB. A 2048 x 2048 "
        f"product in float32 reached {around.product:.0f} GFLOP/s, and plain batches of this model reached "
        f"{around.plain:,.0f} token-layers a second. The weights are random, so it shows no persona effect, knows no "
        f"answers, and ends early what hangs on these. At {rate:,.0f} token-layers a second the rest would take "
        f"{rest / rate:.0f} s, and the whole audit {whole:.0f} s."
    )
    return f"{table(head, rows)}\n\n{said}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--effort", default="quick", choices=EFFORTS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true")
    parser.add_argument(
        "--keep", type=Path, metavar="FOLDER", help="keep model and runs there, and take what is there"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        kept = arguments.keep or Path(scratch)
        effort, seed = arguments.effort, arguments.seed
        model = made(kept / "qwen2.5-1.5b-shaped")
        larger = audited(model, effort, seed, kept / "larger", "bfloat16")
        text = compared(larger, audited(MODEL, effort, seed, kept / effort / str(seed)))
    report("larger_audit", "A larger model", text, ("torch", "transformers"), arguments.write)


if __name__ == "__main__":
    main()
