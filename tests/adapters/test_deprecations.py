"""A short audit of the real model in which a deprecation is an error: nothing is slower, and nothing is missing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from auditkit.record.schema import Verdict
from auditkit.record.store import read_run

ROOT = Path(__file__).parents[2]


@pytest.mark.model
def test_no_capability_is_lost_where_deprecations_are_errors(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error::FutureWarning", "-m", "pytest", "-W", "error::FutureWarning"]
    claims = ["suites/persona_patching", "-k", "lower_the_answer or early_mlps_carry", "--items", "6"]
    model = ["--model", "smollm2-135m-instruct", "--audit-dir", str(tmp_path), "-p", "no:cacheprovider"]
    done = subprocess.run([*command, *claims, *model], cwd=ROOT, capture_output=True, text=True)
    said = done.stdout + done.stderr
    assert done.returncode in (0, 1, 10), said
    assert "FutureWarning" not in said
    assert "could not be tested" not in said
    run = read_run(tmp_path / "latest")
    assert len(run.claims) == 2
    assert not [claim.id for claim in run.claims if claim.verdict is Verdict.ERROR]
    lost = {"blockwise", "swaps", "generation", "gradients"}
    assert not [one for one in run.untested if one.what in lost]
    named = next(line for line in done.stdout.splitlines() if line.startswith("report: "))
    page = Path(named.removeprefix("report: "))
    assert page.read_bytes() == (tmp_path / "latest" / "audit.html").read_bytes()
    assert page.stat().st_size < 2_000_000
