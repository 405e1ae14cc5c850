"""`--baseline SPEC|RUN`: the recorded run that this one is compared with, measured first where a model is given.

A model is measured by the same command in a process of its own, before the candidate is opened. Both ends are then
recorded runs, made by the same code; the two models never share memory, fixtures or random state, and the baseline's
run can serve again.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

import pytest

from auditkit.adapters.errors import ModelError
from auditkit.adapters.loading.catalogue import classify
from auditkit.claims.verdicts import EXIT_INTEGRITY
from auditkit.gate.verified import verified_recorded
from auditkit.pytest_plugin.options import refusal
from auditkit.record.baseline import Recorded, find_baseline, read_names, read_recorded, split_pin
from auditkit.record.escaping import plain
from auditkit.record.store import AUDIT_JSON, RecordError, require_writable

# What the baseline's run is not told: which model, what to compare with, how this run goes on, who may pass.
_OWN = ("model", "baseline", "resume", "cross-check", "waivers", "dir", "log-to")
_MEASURED = (0, 1, 10, EXIT_INTEGRITY)
"""Exit codes of a run that has a record; what its claims came to is for the comparison to say."""


OWN_BASE = "base"
"""After `--baseline`: the model that the candidates' own files name as their base."""


def asked_baseline(text: str, specs: Sequence[str], reports: Path) -> str:
    """What to compare with: `text`, or for "base" the base of the models, where no recorded run has that name.

    Raises:
        pytest.UsageError: a model names no base, or two models have different ones.
    """
    if text != OWN_BASE:
        return text
    from auditkit.adapters.loading.locating import base_of

    try:
        if text in read_names(reports):
            return text
        bases = {spec: base_of(spec) for spec in specs}
    except RecordError as error:
        _refuse(str(error))
    except ModelError as error:
        raise refusal(f"--baseline {OWN_BASE}: {error}") from None
    if len(set(bases.values())) > 1:
        each = ", ".join(f"{spec}: {base}" for spec, base in bases.items())
        raise refusal(
            f"--baseline {OWN_BASE}: the models have different bases ({each}); give one --model, or name the baseline"
        )
    return next(iter(bases.values()))


def recorded_baseline(text: str, reports: Path) -> Recorded | None:
    """The recorded run that `text` names, read whole; None where it names a model.

    Raises:
        pytest.exit.Exception: exit code 11 when the run is missing, damaged or of another schema version.
        pytest.UsageError: when `text` is no model either.
    """
    try:
        folder = find_baseline(text, reports)
        if folder is not None:
            name, _ = split_pin(text)
            return verified_recorded(folder, name if Path(name).parent == Path() else folder.name)
    except RecordError as error:
        _refuse(str(error))
    try:
        classify(text)
    except ModelError as error:
        raise refusal(f"--baseline: no recorded run, and {error}") from None
    return None


def measured_baseline(
    spec: str, called: pytest.Config.InvocationParams, reports: Path, say: Callable[[str], None]
) -> Recorded:
    """Measure the model `spec` with the command of this run in a process of its own; its recorded run.

    Raises:
        pytest.exit.Exception: exit code 11 when that leaves no record.
    """
    try:
        require_writable(reports)
    except RecordError as error:
        raise refusal(error) from None
    say(f"measuring the baseline {spec} first")
    with tempfile.TemporaryDirectory(dir=reports, prefix=".baseline-") as within:
        command = [sys.executable, "-m", "pytest", *without(list(map(str, called.args)), _OWN)]
        command += ["--audit-model", spec, "--audit-dir", within, "--audit-profile", "pr", "--audit-as-baseline"]
        done = subprocess.Popen(
            command, cwd=called.dir, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert done.stdout is not None
        last = ""
        for line in done.stdout:
            last = line.strip() or last
            say(f"  {line.rstrip()}")
        code = done.wait()
        found = sorted(Path(within).glob(f"2*/{AUDIT_JSON}"))
        if code not in _MEASURED or not found:
            _refuse(f"the baseline {spec} could not be measured (pytest ended with {code}: {last})")
        folder = reports / found[-1].parent.name
        while folder.exists():
            folder = folder.with_name(f"{folder.name}-baseline")
        shutil.move(found[-1].parent, folder)
    say(f"the baseline is recorded in {folder}")
    try:
        return read_recorded(folder, spec)
    except RecordError as error:
        _refuse(str(error))


def without(args: Sequence[str], names: Sequence[str]) -> list[str]:
    """`args` without the options `names`, in their short and long forms, and without their values."""
    forms = {f"{prefix}{name}" for name in names for prefix in ("--", "--audit-")}
    rest: list[str] = []
    skip = False
    for position, arg in enumerate(args):
        if skip:
            skip = False
        elif arg in forms:
            bare = arg.endswith("resume") and (position + 1 == len(args) or args[position + 1].startswith("-"))
            skip = not bare
        elif arg.split("=", 1)[0] not in forms:
            rest.append(arg)
    return rest


def _refuse(message: str) -> NoReturn:
    pytest.exit(plain(message), returncode=EXIT_INTEGRITY)
