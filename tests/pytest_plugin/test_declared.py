"""Marks and controls that a claim declares: refused before anything is measured where they say too little."""

from __future__ import annotations

from pathlib import Path

import pytest

from auditkit.record.schema import Run, Verdict
from auditkit.record.store import read_run

pytestmark = pytest.mark.unit

CONFTEST = """
import numpy as np
import pandas as pd
import pytest
from auditkit.stats.effects.mean import Estimate
from auditkit.stats.measurement import Measurement
from auditkit import control

@pytest.fixture
def patched(model):
    values = np.random.default_rng(0).normal(0, 0.4, 60)
    values -= values.mean()
    index = pd.Index([f"item{i}" for i in range(60)], name="item")
    labels = pd.DataFrame({"topic": [f"t{i % 12}" for i in range(60)]}, index=index)
    measurement = Measurement("m", "logit", pd.DataFrame({"p": values}, index=index), labels)
    def estimate(*sites, center=1.0):
        return Estimate("e", "logit", measurement, center + values * (1 + center))
    return estimate

@pytest.fixture
def controlled(patched):
    with control("nothing moves elsewhere"):
        assert patched(center=0.0) < 0.5
    return patched
"""
HEAD = '''"""A finding."""
import pytest
from auditkit import control, mlp, residual, shown

EARLY = mlp.at_depth(0.1, 0.5)
'''


@pytest.fixture
def audit(pytester: pytest.Pytester, tiny_llama: Path):
    """Run one claim with these marks, arguments and body on the tiny model."""

    def run(
        body: str, marks: str = "", fixture: str = "patched", *args: str
    ) -> tuple[pytest.RunResult, Run | None]:
        suite = pytester.path / "suite"
        suite.mkdir(exist_ok=True)
        (suite / "conftest.py").write_text(CONFTEST)
        head, _, rest = body.rpartition("\n---\n")
        lines = "".join(f"    {line}\n" for line in rest.splitlines())
        text = f'{HEAD}{head}\n{marks}\ndef test_where({fixture}):\n    """It acts there."""\n{lines}'
        (suite / "test_finding.py").write_text(text)
        result = pytester.runpytest_inprocess("suite", "--model", str(tiny_llama), *args)
        latest = pytester.path / "reports" / "latest"
        return result, read_run(latest) if latest.exists() else None

    return run


@pytest.mark.parametrize(
    ("body", "marks", "fixture"),
    [
        ("assert patched(mlp.layer(1)) >= 0.5", "", "patched"),
        ("assert patched(EARLY) >= 0.5", "", "patched"),
        ("assert patched(EARLY) >= 0.5", "@pytest.mark.causal(edits=True)", "patched"),
        ("assert patched(site) > 0", "@pytest.mark.parametrize('site', [mlp.layer(0)])", "patched, site"),
        ("assert patched(*[mlp.layer(i) for i in range(2)]) > 0", "", "patched"),
        ("import auditkit\n---\nassert patched(auditkit.mlp.layer(1)) > 0", "", "patched"),
        ("def early():\n    return mlp.layer(1)\n---\nassert patched(early()) > 0", "", "patched"),
        ("assert patched() >= 0.5", "@pytest.mark.causal", "patched"),
        ("pytestmark = pytest.mark.causal\n---\nassert patched() >= 0.5", "", "patched"),
        ("shown('elsewhere', patched())\nassert patched(EARLY) >= -0.5", "", "patched"),
        ("assert patched(residual.layer(1)) >= threshold(0.5)", "", "patched, threshold"),
    ],
)
def test_a_causal_claim_without_a_control_is_refused(audit, body: str, marks: str, fixture: str) -> None:
    result, run = audit(body, marks, fixture)
    assert result.ret == 4
    result.stderr.fnmatch_lines(
        [
            "ERROR: *suite/test_finding.py::test_where* is a causal claim without a control: add a `with control(...)`*"
        ]
    )
    assert run is None


@pytest.mark.parametrize(
    ("body", "marks", "fixture"),
    [
        ("with control('c'):\n    assert patched(center=0.0) <= 0.5\nassert patched(EARLY) >= 0.5", "", "patched"),
        ("at, elsewhere = patched(EARLY), patched(center=0.2)\nassert at > elsewhere", "", "patched"),
        ("assert patched(EARLY) > 0", "@pytest.mark.causal(edits=False)", "patched"),
        ("assert controlled(EARLY) > 0", "@pytest.mark.causal(control='nothing elsewhere')", "controlled"),
        ("pytestmark = pytest.mark.causal(edits=False)\n---\nassert patched(EARLY) >= 0.5", "", "patched"),
        ("assert patched() > 0", "", "patched"),
    ],
)
def test_a_claim_with_a_control_or_without_edits_is_measured(audit, body: str, marks: str, fixture: str) -> None:
    result, run = audit(body, marks, fixture)
    assert result.ret == 0, result.stderr.str()
    assert run.claims[0].verdict is Verdict.PASS


def test_a_control_that_is_promised_and_not_measured_makes_the_claim_unreadable(audit) -> None:
    result, run = audit("assert patched(EARLY) > 0", "@pytest.mark.causal(control='the fixture has it')")
    assert result.ret == 11
    assert run.claims[0].verdict is Verdict.ERROR
    assert run.claims[0].reason == "the control that its mark promises was not measured: the fixture has it"


@pytest.mark.parametrize(
    ("mark", "line"),
    [
        ("claim(idd='x')", "@pytest.mark.claim has no argument 'idd'; did you mean 'id'[?]*"),
        ("causal(controls='x')", "@pytest.mark.causal has no argument 'controls'; did you mean 'control'[?]*"),
        ("causal(edit=False)", "@pytest.mark.causal has no argument 'edit'; did you mean 'edits'[?]*"),
        ("claim('x')", "@pytest.mark.claim takes id=..., family=... by name, not 'x'*"),
    ],
)
def test_unknown_arguments_of_marks_suggest_the_nearest(audit, mark: str, line: str) -> None:
    result, run = audit("assert patched() > 0", f"@pytest.mark.{mark}")
    assert result.ret == 4
    result.stderr.fnmatch_lines([f"ERROR: *suite/test_finding.py::test_where: {line}"])
    assert run is None


def test_no_claim_at_all_is_one_line_and_exit_code_4(audit, pytester: pytest.Pytester, tiny_llama: Path) -> None:
    result, run = audit("assert patched() > 0", "", "patched", "-k", "nowhere")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["ERROR: no claim to measure: all 1 are deselected"])
    pytester.makepyfile(test_plain="def test_ordinary(): pass")
    result = pytester.runpytest_inprocess("test_plain.py", "--model", str(tiny_llama))
    assert result.ret == 4
    result.stderr.fnmatch_lines(["ERROR: no claim to measure: no test uses the fixture `model`"])
    assert run is None
