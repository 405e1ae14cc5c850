"""The plugin in projects that have fixtures, options and marks of the same names, and models that lie elsewhere."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from auditkit.record.schema import Verdict

pytestmark = pytest.mark.unit

THEIRS = """
import pytest

def pytest_addoption(parser):
    parser.addoption("--model", default="theirs")
    parser.addoption("--baseline", action="store_true")

@pytest.fixture
def model():
    return "theirs"

@pytest.fixture(params=[1, 2])
def audit(request):
    return request.param

@pytest.fixture
def threshold():
    return 7

@pytest.fixture
def baseline():
    return None
"""
KEPT = (Path(__file__).parents[2] / "suites" / "conftest.py").read_text()


def test_a_suite_keeps_its_fixtures_below_a_conftest_that_has_its_own(audits: Any) -> None:
    audits.pytester.makeconftest(THEIRS)
    own = audits.suite / "conftest.py"
    own.write_text(own.read_text() + KEPT)
    audits.pytester.makepyfile(
        test_theirs="def test_theirs(model, audit):\n    assert model == 'theirs' and audit"
    )
    result = audits.pytester.runpytest_inprocess(".", "--model", "mine", "--audit-model", str(audits.model))
    assert result.ret == 0
    assert {claim.id for claim in audits.run.claims} == {"suite/once", "suite/share", "suite/kept"}
    assert audits.claim("once").verdict is Verdict.PASS


def test_a_suite_without_them_is_told_the_long_name(audits: Any) -> None:
    audits.pytester.makeconftest(THEIRS)
    (audits.suite / "conftest.py").write_text("")
    (audits.suite / "test_finding.py").write_text('def test_one(model):\n    """A claim."""\n')
    result = audits.pytester.runpytest_inprocess("suite", "--audit-model", str(audits.model))
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*conftest has a fixture `model` of its own*it is `audit_model` too"])


def test_a_claim_may_use_the_long_names_alone(audits: Any) -> None:
    audits.pytester.makeconftest(THEIRS)
    long = {
        "def estimate(model, audit)": "def estimate(audit_model, audit_settings)",
        "world = planted(model)": "world = planted(audit_model)",
        "audit.seed": "audit_settings.seed",
        "(estimate, threshold)": "(estimate, audit_threshold)",
        "> threshold(": "> audit_threshold(",
        ">= threshold(": ">= audit_threshold(",
        "(estimate, baseline)": "(estimate, audit_baseline)",
        "(baseline(now)": "(audit_baseline(now)",
    }
    for file in (audits.suite / "conftest.py", audits.suite / "test_finding.py"):
        text = file.read_text()
        for short, name in long.items():
            text = text.replace(short, name)
        file.write_text(text)
    result = audits.pytester.runpytest_inprocess("suite", "--audit-model", str(audits.model))
    assert result.ret == 0, result.stdout.str()
    assert audits.claim("share").verdict is Verdict.PASS


@pytest.mark.parametrize("equals", [False, True])
def test_a_model_outside_the_repository_does_not_move_the_rootdir(
    audits: Any, equals: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = audits.path / "project"
    project.mkdir()
    for name in ("suite", "world.json"):
        (audits.path / name).rename(project / name)
    model = audits.copy("models/tuned")
    git = ["git", "-c", "user.name=A", "-c", "user.email=a@example.org", "-C", str(project)]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "A suite"]):
        subprocess.run([*git, *command], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    monkeypatch.chdir(project)
    spec = f"../models/{model.name}"
    args = [f"--model={spec}"] if equals else ["--model", spec]
    result = audits.pytester.runpytest_inprocess("suite", *args, "--audit-dir", "../reports")
    assert result.ret == 0
    result.stdout.fnmatch_lines([f"rootdir: {project}"])
    assert audits.run.tool.git is not None
    assert commit.startswith(audits.run.tool.git[:7])
    assert audits.claim("once").location.startswith("suite/test_finding.py:")


def test_another_ini_file_that_a_model_brings_is_refused_with_the_way_to_write_it(audits: Any) -> None:
    model = audits.copy("elsewhere/tuned")
    (audits.path / "elsewhere" / "pytest.ini").write_text("[pytest]\n")
    (model / "pytest.ini").write_text("[pytest]\n")
    result = audits.pytester.runpytest_inprocess("--audit-model", str(model), "suite")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*since it took the value of an option for a path of tests; write it with '='*"])


def test_xfail_changes_no_verdict_and_the_run_says_what_does(audits: Any) -> None:
    file = audits.suite / "test_finding.py"
    marked = file.read_text().replace("> threshold(0.5)", "> threshold(5)")
    marked = marked.replace("def test_once", "@pytest.mark.xfail\ndef test_once")
    marked = marked.replace("def test_share", "@pytest.mark.xfail(strict=True)\ndef test_share")
    file.write_text(marked.replace('finding."""', 'finding."""\nimport pytest'))
    result = audits()
    assert result.ret == 1
    assert (audits.claim("once").verdict, audits.claim("share").verdict) == (Verdict.FAIL, Verdict.PASS)
    result.stdout.fnmatch_lines(
        [
            "xfail marks 2 of the claims and changes no verdict: a claim that need not block has a waiver (--waivers)"
        ]
    )
    result.assert_outcomes(failed=1, passed=1)


def test_opening_that_takes_long_is_explained(audits: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from auditkit.pytest_plugin import session

    monkeypatch.setattr(session, "SLOW", 0.0)
    result = audits()
    assert result.ret == 0
    result.stdout.fnmatch_lines(["opening takes longer than *OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive"])
