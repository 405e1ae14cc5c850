"""The callback for Trainers: it measures saved weights elsewhere, and training is as if it were not there."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from msgspec.structs import replace
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from auditkit import training
from auditkit.record.schema import Baseline, Run, Verdict
from auditkit.training import AuditCallback, AuditFailed, audited

pytestmark = pytest.mark.unit

Asked = list[list[str]]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, a_run: Run) -> Asked:
    """What the callback asked to be measured; each audit came to the recorded run, and used up random numbers."""
    calls: Asked = []

    def measure(model: Path, reports: Path, options: list[str]) -> tuple[Run, Path]:
        assert (model / "config.json").is_file()
        assert (model / "tokenizer.json").is_file()
        calls.append([model.name, *options])
        return a_run, reports / "page"

    monkeypatch.setattr(training, "audited", measure)
    return calls


class Watched(TrainerCallback):
    """Notes what a callback must leave alone, before and after it: added before and behind it."""

    def __init__(self) -> None:
        self.states: list[dict[str, Any]] = []

    def note(self, model: torch.nn.Module) -> None:
        self.states.append(
            {
                "torch": torch.get_rng_state().tolist(),
                "numpy": np.random.get_state()[1].tolist(),
                "python": random.getstate(),
                "modes": [module.training for module in model.modules()],
                "requires": [parameter.requires_grad for parameter in model.parameters()],
                "gradients": [None if p.grad is None else p.grad.sum().item() for p in model.parameters()],
                "weights": [parameter.sum().item() for parameter in model.parameters()],
                "grad mode": torch.is_grad_enabled(),
            }
        )

    def on_step_end(self, *_: Any, **kwargs: Any) -> None:
        self.note(kwargs["model"])


Train = Callable[..., Trainer]


@pytest.fixture
def train(tiny_llama: Path, tmp_path: Path) -> Train:
    """Two steps of a tiny model with dropout, so that a random number that is used up shows in the weights."""

    def run(*callbacks: TrainerCallback, **options: Any) -> Trainer:
        model = AutoModelForCausalLM.from_pretrained(tiny_llama, attention_dropout=0.3).train()
        model.get_input_embeddings().weight.requires_grad_(False)
        tokenizer = AutoTokenizer.from_pretrained(tiny_llama)
        ids = tokenizer("What is the capital of France?")["input_ids"]
        settings = {"max_steps": 2, "per_device_train_batch_size": 1, "report_to": [], "use_cpu": True, "seed": 0,
                    "save_strategy": "no", "disable_tqdm": True, "logging_strategy": "no"}  # fmt: skip
        trainer = Trainer(
            model=model,
            args=TrainingArguments(output_dir=str(tmp_path / "out"), **(settings | options)),
            train_dataset=[{"input_ids": ids, "labels": ids}] * 4,
            processing_class=tokenizer,
            callbacks=list(callbacks),
        )
        for callback in callbacks:
            if isinstance(callback, AuditCallback):
                callback.trainer = trainer
        trainer.train()
        return trainer

    return run


def test_training_is_the_same_with_and_without_audits(train: Train, asked: Asked, tmp_path: Path) -> None:
    before, after = Watched(), Watched()
    plain = train().model.state_dict()
    audited = train(before, AuditCallback("induction", every=1), after)
    assert [call[0] for call in asked] == ["step-1", "step-2"]
    assert before.states == after.states
    assert all(torch.equal(value, plain[name]) for name, value in audited.model.state_dict().items())
    assert not list((tmp_path / "out" / "audits").glob("step-*")), (
        "weights that were saved for an audit are removed"
    )


def test_numbers_reach_the_trainers_log(train: Train, asked: Asked, capsys: pytest.CaptureFixture[str]) -> None:
    trainer = train(AuditCallback("induction", every=2, items=6, options=("--device", "cpu")))
    (logged,) = [entry for entry in trainer.state.log_history if "audit/pass" in entry]
    assert logged["step"] == 2
    assert (logged["suite/claim0"], logged["suite/claim0.lower"], logged["suite/claim0.upper"]) == (0.5, 0.4, 0.6)
    assert asked == [["step-2", "induction", "--profile", "pr", "--items", "6", "--device", "cpu"]]
    assert capsys.readouterr().out.splitlines()[-2:][0].startswith("step 2: ")


def test_without_every_the_checkpoints_are_audited(train: Train, asked: Asked) -> None:
    train(AuditCallback("induction"), save_strategy="steps", save_steps=1)
    assert [call[0] for call in asked] == ["checkpoint-1", "checkpoint-2"]


@pytest.mark.parametrize(
    ("verdict", "profile", "stop", "steps"),
    [
        (Verdict.FAIL, "pr", True, 1),
        (Verdict.FAIL, "pr", False, 2),
        (Verdict.PASS, "release", True, 2),
        (Verdict.ERROR, "release", True, 2),
    ],
)
def test_training_ends_where_an_audit_blocks_and_that_is_asked_for(
    train: Train, asked: Asked, a_run: Run, monkeypatch: pytest.MonkeyPatch,
    verdict: Verdict, profile: str, stop: bool, steps: int,
) -> None:  # fmt: skip
    """An ERROR says that nothing is known of the model, so it stops nothing."""
    count = {"passed": 0, "failed": 0, "error": 0} | {
        {"PASS": "passed", "FAIL": "failed", "ERROR": "error"}[verdict]: 1
    }
    run = replace(a_run, profile=profile, summary=replace(a_run.summary, verdict=verdict, **count))
    monkeypatch.setattr(training, "audited", lambda *_: (run, Path("page")))
    trainer = train(AuditCallback("induction", every=1, profile=profile, stop=stop))
    assert trainer.state.global_step == steps


def test_an_audit_that_cannot_be_carried_out_is_one_line(
    train: Train, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any) -> Any:
        raise AuditFailed("no such\tmodel (exit code 4)")

    monkeypatch.setattr(training, "audited", fail)
    trainer = train(AuditCallback("induction", every=2, stop=True))
    assert trainer.state.global_step == 2
    assert "step 2: not audited: no such model (exit code 4)\n" in capsys.readouterr().out


def test_weights_that_cannot_be_saved_are_one_line(
    train: Train, asked: Asked, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("tensors share memory")

    monkeypatch.setattr("transformers.PreTrainedModel.save_pretrained", fail)
    assert train(AuditCallback("induction", every=2)).state.global_step == 2
    assert asked == []
    assert "step-2: RuntimeError: tensors share memory\n" in capsys.readouterr().out


def test_what_cannot_work_is_refused_before_the_first_step(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no suite 'inductoin'\. Did you mean induction\?"):
        AuditCallback("inductoin")
    with pytest.raises(ValueError, match="name at least one suite"):
        AuditCallback()
    with pytest.raises(ValueError, match="every=0"):
        AuditCallback("induction", every=0)


@pytest.mark.parametrize(
    ("settings", "options", "why"),
    [
        ({"every": 5}, {"fsdp": True}, "FSDP divide it among several"),
        ({"stop": True}, {"world_size": 2}, "the others would wait"),
    ],
)
def test_what_cannot_work_in_several_processes_is_refused(
    settings: dict[str, Any], options: dict[str, Any], why: str
) -> None:
    from types import SimpleNamespace

    args = SimpleNamespace(**({"deepspeed": None, "fsdp": False, "world_size": 1} | options))
    with pytest.raises(ValueError, match=why):
        AuditCallback("induction", **settings).on_train_begin(args, None, None)  # type: ignore[arg-type]  # it looks at the arguments only


def test_an_audit_is_no_part_of_the_trainings_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torchrun names a group of processes in the environment, which a child would join and wait for."""
    seen: dict[str, Any] = {}

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        seen.update(options, command=command)
        return subprocess.CompletedProcess(command, 4, "first\n", "auditkit: there is\x1b[2J no model\n")

    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "TORCHELASTIC_RUN_ID", "PYTEST_ADDOPTS"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setattr(training.subprocess, "run", run)
    with pytest.raises(AuditFailed, match=r"there is.+no model \(exit code 4\)") as error:
        audited(tmp_path / "m", tmp_path, ["induction", "--items", "6"])
    assert "\x1b" not in str(error.value)
    assert not {"RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "PYTEST_ADDOPTS"} & seen["env"].keys()
    assert seen["command"][1:5] == ["-m", "auditkit.cli", "audit", "induction"]


def test_the_run_of_an_earlier_step_is_not_taken_for_this_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An audit that ends with 11 may have left no record, and `latest` then points at the one before."""
    (tmp_path / "20250101T000000Z-step-1").mkdir()
    (tmp_path / "latest").symlink_to("20250101T000000Z-step-1")
    done = subprocess.CompletedProcess([], 11, "", "")
    monkeypatch.setattr(training.subprocess, "run", lambda *_, **__: done)
    with pytest.raises(AuditFailed, match=r"it left no record \(exit code 11\)"):
        audited(tmp_path / "m", tmp_path, ["induction"])


def test_a_model_to_compare_with_is_measured_once(
    tmp_path: Path, a_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first audit records its run beside its own; the next ones name that run, with the digest of its record."""
    compared = Baseline(
        name="base", run="20250101T000000Z-base", created="", audit_sha256="ab" * 32, plan_sha256="", model=a_run.model,
        plan_differences=(), summary=a_run.summary, absent={},
    )  # fmt: skip
    (tmp_path / "audits" / compared.run).mkdir(parents=True)
    asked: list[list[str]] = []

    def measure(model: Path, reports: Path, options: list[str]) -> tuple[Run, Path]:
        asked.append(options[options.index("--baseline") :])
        return replace(a_run, baseline=compared), Path("page")

    monkeypatch.setattr(training, "audited", measure)
    args, state = TrainingArguments(output_dir=str(tmp_path), report_to=[], use_cpu=True), TrainerState()
    callback = AuditCallback("induction", baseline="base")
    for state.global_step in (1, 2):
        callback.on_save(args, state, TrainerControl())
    recorded = tmp_path.resolve() / "audits" / compared.run
    assert asked == [["--baseline", "base"], ["--baseline", f"{recorded}#{'ab' * 32}"]]
    assert [entry["step"] for entry in state.log_history] == [1, 2], (
        "without a trainer the history has the numbers"
    )
    assert state.log_history[0]["suite/claim0"] == 0.5
