"""The examples run as they stand, and find what they were given to find."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import auditkit
from auditkit.analyses.persona_formats import completions
from auditkit.data.items import completion_items
from auditkit.engine.patching import answered

pytestmark = pytest.mark.unit

ROOT = Path(auditkit.__file__).parents[1]


def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "examples" / script), *arguments], capture_output=True, text=True, cwd=ROOT
    )


def test_subset_scan_finds_the_planted_units_and_their_overlap() -> None:
    done = run("subset_scan.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("massive units [199]; left out") == 2
    assert done.stdout.count("p = 0.005") == 2
    assert "the claim does not survive rotation, so it is about these units" in done.stdout


def test_subset_scan_takes_files(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("one.npz", "two.npz"):
        positive = np.arange(120) % 2 == 0
        texts = [f"{'yes' if flag else 'no'} {rng.integers(10**9)} words" for flag in positive]
        values = rng.normal(size=(120, 30)) + 2 * positive[:, None] * (np.arange(30) < 6)
        np.savez(tmp_path / name, activations=values, positive=positive, texts=np.array(texts))
    done = run("subset_scan.py", str(tmp_path / "one.npz"), str(tmp_path / "two.npz"))
    assert done.returncode == 0, done.stderr
    assert "massive units none" in done.stdout
    assert run("subset_scan.py", "one.npz").stderr.strip() == "give two .npz files, or none"


def test_random_model_has_the_layout_and_size_asked_for_and_answers_its_own_questions(
    tiny_llama: Path, tmp_path: Path
) -> None:
    sizes = [
        "--width",
        "32",
        "--inner",
        "48",
        "--layers",
        "3",
        "--heads",
        "4",
        "--groups",
        "2",
        "--vocabulary",
        "10",
    ]
    folder, items = tmp_path / "random", tmp_path / "items.csv"
    done = run(
        "random_model.py",
        str(folder),
        "--tokenizer",
        str(tiny_llama),
        *sizes,
        "--items",
        str(items),
        "--count",
        "1",
    )
    assert done.returncode == 0, done.stderr
    adapter = auditkit.open_model(str(folder), dtype="bfloat16")
    assert (adapter.layers, adapter.heads, adapter.groups, adapter.width) == (3, 4, 2, 32)
    assert adapter.module.config.model_type == "qwen2"
    assert adapter.info.dtype == "bfloat16"
    (item,) = completion_items(items)
    (question,) = completions(adapter, [item]).questions
    logits = answered(adapter, [adapter.chat(question.chat(""))], [question.answers]).logits
    assert logits[0, 0] > logits[0, 1]
