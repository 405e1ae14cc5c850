"""Audit a model while Hugging Face's Trainer trains it: `AuditCallback`.

    callback = AuditCallback("induction", every=200, items=6)
    trainer = Trainer(..., processing_class=tokenizer, callbacks=[callback])

Each audit runs in a process of its own, as `auditkit audit` does, on weights that were saved. So training goes on as if
there had been none: its random numbers, gradients, modes and the memory of its device are never touched, and an audit
that cannot be carried out is said in one line and changes nothing. Training waits while an audit runs.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from auditkit.claims.suites import packaged, unknown
from auditkit.claims.verdicts import EXIT_INCONCLUSIVE, EXIT_INTEGRITY
from auditkit.record.escaping import plain
from auditkit.record.schema import Run
from auditkit.record.store import RecordError, read_run
from auditkit.report.answers.headline import answer
from auditkit.report.trackers.entry import numbers

FOLDER = "audits"
"""Folder in the trainer's output folder that holds the run folders."""
_MEASURED = (0, 1, EXIT_INCONCLUSIVE, EXIT_INTEGRITY)
"""Exit codes of an audit that left a record."""
_OF_TRAINING = (
    "RANK",
    "LOCAL_RANK",
    "LOCAL_WORLD_SIZE",
    "WORLD_SIZE",
    "GROUP_",
    "ROLE_",
    "MASTER_",
    "TORCHELASTIC_",
    "ACCELERATE_",
    "PYTEST_",
)
"""Beginnings of environment variables that would make an audit a part of the training's group of processes."""


class AuditFailed(Exception):
    """An audit that left no record, in one line."""


class AuditCallback(TrainerCallback):
    """Measures suites on the model every N steps, or on each checkpoint that the Trainer saves.

    Args:
        suites: names of auditkit's suites, files of them, or paths of your own.
        every: steps between two audits, for which the weights are saved for as long as the audit runs. None: at each
            save, on the checkpoint.
        items: items per measurement, in place of `effort`.
        effort: "quick", "standard" or "thorough"; see `--effort`.
        baseline: a model or recorded run to compare with; a model is measured once, at the first audit.
        profile: what an undecided claim means, "pr" or "release"; see `--profile`.
        stop: end training when an audit blocks: where a claim failed, and under "release" where one is undecided.
        beside: log the effects too that are shown beside claims.
        options: further options of `auditkit audit`, such as ("--device", "cpu").
        trainer: whose `log` gets the numbers, so that every tracker of the Trainer does. Without it they stand in the
            Trainer's `state.log_history` only. `callback.trainer` can be set later, as a Trainer is made after its
            callbacks.

    Raises:
        ValueError: there is no such suite, or `every` is below 1.
    """

    def __init__(
        self,
        *suites: str,
        every: int | None = None,
        items: int | None = None,
        effort: str = "quick",
        baseline: str | None = None,
        profile: str = "pr",
        stop: bool = False,
        beside: bool = False,
        options: Sequence[str] = (),
        trainer: Trainer | None = None,
    ) -> None:
        if not suites:
            raise ValueError("name at least one suite; auditkit suites lists them")
        if every is not None and every < 1:
            raise ValueError(f"every={every}: at least 1 step lies between two audits")
        known = packaged()
        for suite in suites:
            if suite.split("/")[0] not in known and not Path(suite.split("::")[0]).exists():
                raise ValueError(unknown(suite, known))
        size = ["--effort", effort] if items is None else ["--items", str(items)]
        self._asked = [*suites, "--profile", profile, *size, *options]
        self.every, self.baseline, self.stop, self.beside, self.trainer = every, baseline, stop, beside, trainer
        self._blocking = (1, EXIT_INCONCLUSIVE) if profile == "release" else (1,)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Refuse, before the first step, what cannot be done in several processes.

        Raises:
            ValueError: in one line.
        """
        if self.every is not None and (args.deepspeed or args.fsdp):
            raise ValueError(
                "every=N saves the model from one process, and DeepSpeed and FSDP divide it among several: leave out "
                "every, and the checkpoints that the Trainer saves are audited"
            )
        if self.stop and args.world_size > 1:
            raise ValueError(
                "stop=True ends training in the process that audits, and the others would wait for it: train in one "
                "process, or leave out stop"
            )

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Audit the weights of this step."""
        if self.every is None or state.global_step % self.every or not state.is_world_process_zero:
            return
        saved = _reports(args) / f"step-{state.global_step}"
        try:
            if self._saved(saved, state, kwargs["model"], kwargs.get("processing_class")):
                self._audit(saved, args, state, control)
        finally:
            shutil.rmtree(saved, ignore_errors=True)

    def _saved(self, folder: Path, state: TrainerState, model: Any, tokenizer: Any) -> bool:
        """Whether the weights could be saved; training goes on whatever saving runs into."""
        try:
            model.save_pretrained(folder)
            if tokenizer is not None:
                tokenizer.save_pretrained(folder)
        except Exception as error:
            _say(state, f"not audited: cannot save the weights to {folder}: {type(error).__name__}: {error}")
            return False
        return True

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Audit the checkpoint that was saved."""
        if self.every is None and state.is_world_process_zero:
            checkpoint = _output(args) / f"checkpoint-{state.global_step}"
            self._audit(checkpoint, args, state, control)

    def _audit(self, model: Path, args: TrainingArguments, state: TrainerState, control: TrainerControl) -> None:
        """Measure saved weights, log what came of it, and ask the Trainer to stop where that is asked for."""
        baseline = [] if self.baseline is None else ["--baseline", self.baseline]
        try:
            run, page = audited(model, _reports(args), [*self._asked, *baseline])
        except AuditFailed as error:
            _say(state, f"not audited: {error}")
            return
        if run.baseline is not None and (measured := _reports(args) / run.baseline.run).is_dir():
            self.baseline = (
                f"{measured}#{run.baseline.audit_sha256}"  # measured once: the next audits compare with it
            )
        found = numbers(run, beside=self.beside)
        if self.trainer is not None:
            self.trainer.log(found)
        else:
            state.log_history.append({"step": state.global_step, **found})
        _say(state, f"{answer(run).sentence} ({page})")
        if self.stop and found["audit/exit_code"] in self._blocking:
            _say(state, "the audit blocks, so training ends here")
            control.should_training_stop = True


def audited(model: Path, reports: Path, options: Sequence[str]) -> tuple[Run, Path]:
    """Measure saved weights with `auditkit audit` in a process of its own; its record, and the page.

    Raises:
        AuditFailed: it left no record that can be read, with what it said last.
    """
    command = [sys.executable, "-m", "auditkit.cli", "audit", *options, "--model", str(model)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(_OF_TRAINING)}
    before = {path.name for path in reports.glob("2*")}
    done = subprocess.run(
        [*command, "--audit-dir", str(reports)],
        capture_output=True,
        text=True,
        env=environment,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode not in _MEASURED:
        said = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        raise AuditFailed(plain((said or ["it said nothing"])[-1]) + f" (exit code {done.returncode})")
    folder = (reports / "latest").resolve()
    if folder.name in before:
        raise AuditFailed(f"it left no record (exit code {done.returncode})")
    try:
        return read_run(folder), folder / "audit.html"
    except RecordError as error:
        raise AuditFailed(str(error)) from None


def _reports(args: TrainingArguments) -> Path:
    return _output(args) / FOLDER


def _output(args: TrainingArguments) -> Path:
    return Path(str(args.output_dir)).resolve()


def _say(state: TrainerState, text: str) -> None:
    print(f"step {state.global_step}: {plain(text)}", flush=True)
