"""Marks and controls that a claim declares: refused before anything is measured where they say too little."""

from __future__ import annotations

from pathlib import Path

import pytest

import auditkit
from auditkit.pytest_plugin.claims import question_of
from auditkit.record.schema import Run, Verdict
from auditkit.record.store import read_run

pytestmark = pytest.mark.unit

SUITES = Path(auditkit.__file__).parent.parent / "suites"

CONFTEST = """
from functools import cache
import numpy as np
import pandas as pd
import pytest
from auditkit.stats.effects.mean import Estimate
from auditkit.stats.measurement import Measurement
from auditkit import control
from auditkit.adapters.chat import Prompt
from auditkit.engine.edits import Edited, zero
from auditkit.engine.forward import Donated, execute

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
def edited(patched, model):
    def estimate(*sites, center=1.0):
        run = Edited(Prompt("", (5, 6, 7)), tuple(zero(site) for site in sites))
        execute(model, [run], Donated())
        return patched(center=center)
    return estimate

@pytest.fixture(scope="module")
def once(model):
    "Measured by the first claim that asks, and shared with the others."
    return cache(lambda site: execute(model, [Edited(Prompt("", (5, 6, 7)), (zero(site),))], Donated()))

@pytest.fixture
def shared(patched, once):
    def estimate(site):
        once(site)
        return patched()
    return estimate

@pytest.fixture
def controlled(patched):
    with control("nothing moves elsewhere"):
        assert patched(center=0.0) < 0.5
    return patched
"""
HEAD = '''"""A finding."""
import pytest
from auditkit import control, mlp, residual, beside

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
        ("assert patched(EARLY) >= 0.5", "@pytest.mark.causal(edits=True)", "patched"),
        ("assert patched() >= 0.5", "@pytest.mark.causal", "patched"),
        ("pytestmark = pytest.mark.causal\n---\nassert patched() >= 0.5", "", "patched"),
        ("beside('elsewhere', patched())\nassert patched(EARLY) >= -0.5", "@pytest.mark.causal", "patched"),
        (
            "assert patched(residual.layer(1)) >= threshold(0.5)",
            "@pytest.mark.causal",
            "patched, threshold",
        ),
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
        (
            "with control('c'):\n    assert edited(EARLY, center=0.0) <= 0.5\nassert edited(EARLY) >= 0.5",
            "@pytest.mark.causal",
            "edited",
        ),
        (
            "at, elsewhere = edited(EARLY), edited(mlp.layer(1), center=0.2)\nassert at > elsewhere",
            "@pytest.mark.causal",
            "edited",
        ),
        ("assert edited(EARLY) > 0", "@pytest.mark.causal(edits=False)", "edited"),
        ("assert controlled(EARLY) > 0", "@pytest.mark.causal(control='nothing elsewhere')", "controlled"),
        ("pytestmark = pytest.mark.causal(edits=False)\n---\nassert patched(EARLY) >= 0.5", "", "patched"),
        ("assert patched(EARLY) > 0", "", "patched"),
        ("assert edited() > 0", "", "edited"),
    ],
)
def test_a_claim_with_a_control_or_without_edits_is_measured(audit, body: str, marks: str, fixture: str) -> None:
    result, run = audit(body, marks, fixture)
    assert result.ret == 0, result.stderr.str()
    assert run.claims[0].verdict is Verdict.PASS


FORGOTTEN = (
    "the model was run with edits while this claim was measured, and the claim does not say whether it rests on them: "
    "add @pytest.mark.causal and a control, or @pytest.mark.causal(edits=False), to the test"
)


@pytest.mark.parametrize(
    ("body", "fixture"),
    [
        ("assert edited(EARLY) > 0", "edited"),
        ("assert edited(EARLY) > 100", "edited"),
        ("assert edited(EARLY) > 1.0", "edited"),  # decided either way only with a mark
        ("with control('c'):\n    assert edited(EARLY, center=0.0) <= 0.5\nassert edited(EARLY) >= 0.5", "edited"),
        ("pytestmark = pytest.mark.causal(edits=False)\n---\nassert edited(EARLY) > 0", "edited"),
        ("assert shared(EARLY) > 0", "shared"),
    ],
)
def test_a_claim_that_runs_edits_and_has_no_mark_is_not_readable(audit, body: str, fixture: str) -> None:
    result, run = audit(body, "", fixture)
    assert result.ret == 11
    assert (run.claims[0].verdict, run.claims[0].reason) == (Verdict.ERROR, FORGOTTEN)


def test_in_a_suite_with_a_causal_mark_every_claim_needs_one(audit) -> None:
    """A claim that only reads what a marked one has measured runs no edit that could give it away."""
    body = (
        "@pytest.mark.causal(edits=False)\n"
        'def test_first(shared):\n    """It is measured."""\n    assert shared(EARLY) > 0\n'
        "\n---\nassert shared(EARLY) > 0"
    )
    result, run = audit(body, "", "shared")
    assert result.ret == 4
    result.stderr.fnmatch_lines(
        [
            "ERROR: *suite/test_finding.py::test_where does not say whether it rests on edits, as "
            "*suite/test_finding.py::test_first does: add @pytest.mark.causal*"
        ]
    )
    assert run is None
    result, run = audit(body, "", "shared", "-k", "where")
    assert result.ret == 4
    result, run = audit(body, "@pytest.mark.causal(edits=False)", "shared")
    assert result.ret == 0
    assert [claim.verdict for claim in run.claims] == [Verdict.PASS, Verdict.PASS]


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


@pytest.mark.parametrize(
    ("docstring", "question"),
    [
        ('"""Does it answer\n   politely? What the claims share."""', "Does it answer politely?"),
        ('"""What the claims share. Is it a question?"""', ""),
        ("", ""),
    ],
)
def test_a_suite_asks_what_its_conftest_begins_with(tmp_path: Path, docstring: str, question: str) -> None:
    (tmp_path / "conftest.py").write_text(f"{docstring}\n")
    assert question_of(tmp_path) == question


def test_a_suite_without_a_conftest_asks_nothing(tmp_path: Path) -> None:
    assert question_of(tmp_path) == ""


@pytest.mark.parametrize("suite", sorted(path.parent.name for path in SUITES.glob("*/conftest.py")))
def test_every_suite_of_the_project_asks_a_question(suite: str) -> None:
    assert question_of(SUITES / suite)


def test_a_run_without_a_baseline_says_up_front_which_claims_need_one(audit) -> None:
    body = "now = patched()\nassert now.no_worse_than(baseline(now), by=0.5, better='higher')"
    result, run = audit(body, "@pytest.mark.causal(edits=False)", "patched, baseline")
    assert run is not None
    told = [line for line in result.outlines if "without --baseline" in line]
    assert told == ["without --baseline these are not asked: all claims of suite"]
    alone, _ = audit("assert patched() > 0", "@pytest.mark.causal(edits=False)")
    assert not [line for line in alone.outlines if "without --baseline" in line]
