"""The finding of CONTRIBUTING.md works when it is laid over the repository, and touches no file that is there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import auditkit
from auditkit.record.schema import Verdict
from auditkit.record.store import read_run

pytestmark = pytest.mark.unit

ROOT = Path(auditkit.__file__).parents[1]
OWN = ROOT / "examples" / "own_finding"


@pytest.fixture(scope="module")
def laid_over(tmp_path_factory: pytest.TempPathFactory, tiny_llama: Path) -> tuple[Path, str]:
    """The package with the finding in it, and what a process said that ran the finding's tests and suite there."""
    folder = tmp_path_factory.mktemp("own")
    shutil.copytree(ROOT / "auditkit", folder / "auditkit")  # with its compiled modules
    shutil.copytree(OWN, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    asked = ("tests/findings/politeness", "suites/politeness", "--model", str(tiny_llama))
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", *asked]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 10, done.stdout + done.stderr
    return folder, done.stdout


def test_it_has_the_rooms_of_a_finding_and_replaces_nothing() -> None:
    files = {
        path.relative_to(OWN) for path in OWN.rglob("*") if path.is_file() and "__pycache__" not in path.parts
    }
    assert not [path for path in files if (ROOT / path).exists()]
    rooms = ("auditkit/findings", "suites", "tests/findings", "docs/findings", "docs/protocols")
    for room in rooms:
        assert any(str(path).startswith(f"{room}/politeness") for path in files), room
    assert all(str(path).startswith(tuple(f"{room}/politeness" for room in rooms)) for path in files)


@pytest.mark.slow
def test_its_own_tests_pass(laid_over: tuple[Path, str]) -> None:
    assert "3 passed" in laid_over[1]


@pytest.mark.slow
def test_its_suite_makes_a_record_that_names_its_claim_and_its_data(laid_over: tuple[Path, str]) -> None:
    """The tiny model has no single token for the answers, which is a result."""
    record = read_run(laid_over[0] / "reports" / "latest")
    (claim,) = record.claims
    assert claim.id == "politeness/politeness_raises_the_odds_of_help"
    assert claim.statement.startswith("A polite request has log odds of help")
    assert claim.verdict is Verdict.NOT_APPLICABLE
    assert "tokens, not 1" in claim.reason
    assert "auditkit/findings/politeness/data/requests.toml" in record.plan.data
    assert "auditkit/findings/politeness/measurements.py" in record.plan.methods["politeness"]
