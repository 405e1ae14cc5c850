"""The example of a short fine-tune measures its checkpoints; on a tiny model, but with all the programs involved."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.planted.roles import open_random

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def test_a_fine_tune_logs_the_compact_numbers_of_its_checkpoints(tmp_path: Path) -> None:
    base, tuned = tmp_path / "base", tmp_path / "tuned"
    adapter = open_random(layers=2)
    adapter.module.save_pretrained(base)
    adapter.tokenizer.save_pretrained(base)
    command = [sys.executable, "examples/role_finetune.py", str(tuned), "--model", str(base)]
    command += ["--steps", "2", "--every", "2", "--items", "6"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "'role_conditioning/bands_stay_within_limits/RFC depth 0 to 0.5 plain text': '" in done.stdout
    assert (tuned / "model.safetensors").exists()
