"""The examples run as they stand, and find what they were given to find."""

from __future__ import annotations

import importlib
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments

import auditkit
from auditkit.data.items import completion_items
from auditkit.engine.pairs import answered
from auditkit.findings.asking.formats import completions
from tests.planted.roles import open_random

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


class FakeTrainer:
    """Saves checkpoints and tells its callbacks, as a Trainer does; trains nothing."""

    def __init__(self, folder: Path, callback: Any) -> None:
        self.args = TrainingArguments(output_dir=str(folder), report_to=[], use_cpu=True)
        self.state, self.callback = TrainerState(), callback

    def save(self, adapter: Any, step: int) -> None:
        checkpoint = Path(self.args.output_dir) / f"checkpoint-{step}"
        adapter.module.save_pretrained(checkpoint)
        adapter.tokenizer.save_pretrained(checkpoint)
        self.tell(step)

    def tell(self, step: int) -> None:
        self.state.global_step = step
        self.callback.on_save(self.args, self.state, TrainerControl())


@pytest.fixture
def callback(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    return importlib.import_module("role_callback")


def test_the_callback_logs_a_checkpoint(
    callback: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = FakeTrainer(tmp_path, callback.RoleCallback(items=8))
    trainer.save(open_random(), 15)
    (logged,) = trainer.state.log_history
    points = [name for name in logged if name != "step" and not name.endswith((".lower", ".upper"))]
    assert logged["step"] == 15
    bands = [name for name in points if name.startswith(("role/RFC", "role/RSI"))]
    assert len(bands) == 2 * 4
    assert bands[0] == "role/RFC, depth 0 to 0.25"
    assert bands[-1] == "role/RSI, depth 0.75 to 1"
    assert all(logged[f"{name}.lower"] < logged[name] < logged[f"{name}.upper"] for name in points)
    said = capsys.readouterr().out
    assert "step 15:" in said
    assert f"role/RFC, depth 0 to 0.25 {logged[points[0]]:+.3f}" in said
    assert (tmp_path / "checkpoint-15" / "audit" / "latest" / "audit.html").is_file()


@pytest.mark.parametrize(("code", "why"), [(4, "no such folder"), (10, "attention cannot be read")])
def test_training_goes_on_where_a_checkpoint_cannot_be_measured(
    callback: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    code: int, why: str,
) -> None:  # fmt: skip
    """An audit that stopped, and one whose claim was not applicable: neither is a number, and neither is an error."""
    done = subprocess.CompletedProcess([], code, stdout=f"...\n{why}\n")
    claim = SimpleNamespace(controls=(), reason=why)
    monkeypatch.setattr(callback.subprocess, "run", lambda *_, **__: done)
    monkeypatch.setattr(callback, "read_run", lambda _: SimpleNamespace(claims=[claim]))
    trainer = FakeTrainer(tmp_path, callback.RoleCallback())
    trainer.tell(45)
    assert trainer.state.log_history == []
    assert capsys.readouterr().out == f"step 45: {tmp_path}/checkpoint-45 could not be measured: {why}\n"


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
