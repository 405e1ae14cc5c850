"""Log how focused attention is on questions about the model, after every checkpoint of a Hugging Face Trainer.

    trainer = Trainer(..., processing_class=tokenizer, callbacks=[RoleCallback()])

Each time the Trainer saves a checkpoint, the compact claim of suites/role_conditioning is measured on it: RFC and RSI
in four bands of depth, and how focused attention is there at all, each with its interval. They are taken from the
run's JSON and enter the Trainer's log, as `role/RFC, depth 0 to 0.27`, with `.lower` and `.upper`; the page of each run
stays in its folder. If a checkpoint cannot be measured, the reason is printed and training goes on.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from auditkit.record.store import read_run

ROOT = Path(__file__).parents[1]
COMPACT = ROOT / "suites" / "role_conditioning" / "test_compact.py"
MEASURED = (0, 1, 10)
"""Exit codes of an audit that came to its end, whatever it found."""


class RoleCallback(TrainerCallback):
    """Measures each saved checkpoint in a process of its own, so that training is left as it is.

    Args:
        items: sets of prompts; the default of the suite where None.
    """

    def __init__(self, items: int | None = None) -> None:
        self.items = items

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        checkpoint = Path(args.output_dir).resolve() / f"checkpoint-{state.global_step}"
        try:
            numbers = measure(checkpoint, checkpoint / "audit", self.items)
        except RuntimeError as error:
            print(f"step {state.global_step}: {error}")
            return
        state.log_history.append({"step": state.global_step, **numbers})
        points = {name: value for name, value in numbers.items() if not name.endswith((".lower", ".upper"))}
        print(
            f"step {state.global_step}:", *(f"{name} {value:+.3f}" for name, value in points.items()), sep="\n  "
        )


def measure(model: Path | str, reports: Path, items: int | None = None) -> dict[str, float]:
    """The compact numbers of a model: name -> estimate, and `.lower` and `.upper`.

    Raises:
        RuntimeError: the model could not be measured, with pytest's last line or the claim's reason.
    """
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        str(COMPACT),
        "--model",
        str(model),
        "--audit-dir",
        str(reports),
    ]
    command += [] if items is None else ["--items", str(items)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode not in MEASURED:
        raise RuntimeError(
            f"{model} could not be measured: {(done.stdout.strip().splitlines() or [done.stderr])[-1]}"
        )
    (claim,) = read_run(reports / "latest").claims
    numbers: dict[str, float] = {}
    for control in claim.controls:
        effect = control.effect
        if effect is not None and effect.estimate is not None:
            name = f"role/{effect.name.removesuffix(', plain text')}"
            numbers[name] = effect.estimate
            if effect.lower is not None and effect.upper is not None:
                numbers |= {f"{name}.lower": effect.lower, f"{name}.upper": effect.upper}
    if not numbers:
        raise RuntimeError(f"{model} could not be measured: {claim.reason}")
    return numbers
