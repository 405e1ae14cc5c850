"""The examples run as they stand, and find what they were given to find."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import auditkit
from auditkit.data.items import completion_items
from auditkit.engine.pairs import answered
from auditkit.findings.asking.formats import completions

pytestmark = pytest.mark.unit

ROOT = Path(auditkit.__file__).parents[1]


Run = Callable[..., str]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """A script and its arguments -> what it prints; run as `python SCRIPT ARGUMENTS` does, but in this process."""

    def call(script: str, *arguments: str) -> str:
        path = str(ROOT / "examples" / script)
        with monkeypatch.context() as patched:
            patched.setattr(sys, "argv", [path, *arguments])
            runpy.run_path(path, run_name="__main__")
        return capsys.readouterr().out

    return call


def test_subset_scan_finds_the_planted_units_and_their_overlap(run: Run) -> None:
    said = run("subset_scan.py")
    assert said.count("massive units [199]; left out") == 2
    assert said.count("p = 0.005") == 2
    assert "the claim does not survive rotation, so it is about these units" in said


def test_subset_scan_takes_files(run: Run, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("one.npz", "two.npz"):
        positive = np.arange(120) % 2 == 0
        texts = [f"{'yes' if flag else 'no'} {rng.integers(10**9)} words" for flag in positive]
        values = rng.normal(size=(120, 30)) + 2 * positive[:, None] * (np.arange(30) < 6)
        np.savez(tmp_path / name, activations=values, positive=positive, texts=np.array(texts))
    assert "massive units none" in run("subset_scan.py", str(tmp_path / "one.npz"), str(tmp_path / "two.npz"))
    with pytest.raises(SystemExit, match=r"give two \.npz files, or none"):
        run("subset_scan.py", "one.npz")


def test_random_model_has_the_layout_and_size_asked_for_and_answers_its_own_questions(
    run: Run, tiny_llama: Path, tmp_path: Path
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
    run(
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
    adapter = auditkit.open_model(str(folder), dtype="bfloat16")
    assert (adapter.layers, adapter.heads, adapter.groups, adapter.width) == (3, 4, 2, 32)
    assert adapter.module.config.model_type == "qwen2"
    assert adapter.info.dtype == "bfloat16"
    (item,) = completion_items(items)
    (question,) = completions(adapter, [item]).questions
    logits = answered(adapter, [adapter.chat(question.chat(""))], [question.answers]).logits
    assert logits[0, 0] > logits[0, 1]
