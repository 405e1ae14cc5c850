"""What a PEFT adapter costs: opening it beyond its base, and the gate against the base in one command.

    python benchmarks/fine_tunes.py                      training and opening (about two minutes)
    python benchmarks/fine_tunes.py --gate "SUITE ..."   and a gate of these suites and options (minutes)

The adapter is trained here, by peft on the CPU: LoRA of rank 16 on every linear layer of the default model, ten steps.
Clock and processor differ where other work runs beside it. Prints a table and, with --write, stores it in
benchmarks/results/fine_tunes.md with machine and versions.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shlex
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from common import MODEL, ROOT, report, table, timed

STEPS = 10
TEXTS = (
    "The nurse told the doctor that she had read the notes, and he thanked her.",
    "The carpenter who built the shelf asked the clerk whether they liked it.",
    "A young tenant paid the rent in time, and the old neighbour watered the plants.",
    "The teacher answered every question of the pupils, whatever their names were.",
)
OPEN = """
import json, sys, time
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM
from auditkit import open_model

def spent(work):
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - processor

base, tuned = sys.argv[1:]
open_model(base)  # what is imported and cached at the first opening
imported = spent(lambda: __import__("peft"))
open_model(tuned)
print(json.dumps([imported, [[spent(lambda: open_model(spec)) for spec in (base, tuned)] for _ in range(5)]]))
"""


Row = tuple[str, str, str, str]


def row(what: str, seconds: Sequence[float], wanted: str = "") -> Row:
    """A row of the table: `seconds` on the clock and of the processor."""
    digits = 2 if max(seconds) < 30 else 0
    return what, f"{seconds[0]:.{digits}f} s", f"{seconds[1]:.{digits}f} s", wanted


def train(folder: Path) -> None:
    """Train an adapter of the default model and save it as `save_pretrained` does."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from auditkit.adapters.loading.locating import locate

    base, _ = locate(MODEL)
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.pad_token = tokenizer.eos_token
    config = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    torch.manual_seed(0)
    module = get_peft_model(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), config)
    batch = tokenizer(list(TEXTS), return_tensors="pt", padding=True)
    optimizer = torch.optim.AdamW([value for value in module.parameters() if value.requires_grad], lr=2e-4)
    for _ in range(STEPS):
        optimizer.zero_grad()
        module(**batch, labels=batch.input_ids).loss.backward()
        optimizer.step()
    module.peft_config["default"].base_model_name_or_path = MODEL
    module.save_pretrained(folder)


def opening(folder: Path) -> list[Row]:
    """Seconds to open base and adapter by turns in one process, and to import peft there."""
    text = subprocess.check_output([sys.executable, "-c", OPEN, MODEL, str(folder)], text=True, cwd=ROOT)
    imported, pairs = json.loads(text.splitlines()[-1])
    middle = {
        what: [statistics.median(pair[who][kind] for pair in pairs) for kind in (0, 1)]
        for who, what in enumerate(("base", "adapter"))
    }
    beyond = [statistics.median(tuned[kind] - base[kind] for base, tuned in pairs) for kind in (0, 1)]
    return [
        row("opening the base", middle["base"]),
        row("opening the adapter", middle["adapter"]),
        row("opening the adapter beyond its base", beyond, "under 2 s"),
        row("importing peft, once in a process", imported),
    ]


def gate(folder: Path, arguments: str, reports: Path) -> Row:
    """The gate of an adapter against its own base, which is measured first, in one command."""
    command = ["gate", *shlex.split(arguments), "--model", str(folder), "--baseline", "base"]
    before = processor()
    seconds, done = timed(
        lambda: subprocess.run(
            [sys.executable, "-m", "auditkit.cli", *command, "--audit-dir", str(reports)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
    )
    print(*done.stdout.splitlines()[-12:], done.stderr, sep="\n", file=sys.stderr)
    shown = shlex.join(["auditkit", *command]).replace(str(folder), "./my-lora")
    return row(f"`{shown}` (exit code {done.returncode})", (seconds, processor() - before), "under 240 s")


def processor() -> float:
    """Seconds of the processor that all processes started here have used so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gate", action="append", default=[], metavar="ARGUMENTS", help="suites and options")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "my-lora")
        train(folder)
        rows = opening(folder)
        print(*rows, sep="\n", file=sys.stderr, flush=True)
        for place, asked in enumerate(arguments.gate):
            rows.append(gate(folder, asked, Path(scratch, f"reports-{place}")))
    text = table(("what", "on the clock", "of the processor", "wanted"), rows)
    report("fine_tunes", "Fine-tunes", text, ("torch", "transformers", "peft"), arguments.write)


if __name__ == "__main__":
    main()
