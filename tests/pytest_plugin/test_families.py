"""`@pytest.mark.claim(family=...)`: a FAIL is judged among the claims of its family when the run ends."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pytest

from auditkit.record.schema import Run, Verdict
from auditkit.record.store import read_run

pytestmark = pytest.mark.unit

SUITE = '''"""A finding."""
import pytest

pytestmark = {mark}

def test_barely(estimate):
    """Is above a number that the whole interval is just below."""
    assert estimate > 1.09

def test_clearly(estimate):
    """Is above zero."""
    assert estimate > 0

@pytest.mark.claim(id="suite/named")
def test_far(estimate):
    """Is above a number far away."""
    assert estimate > {far}
'''


@pytest.fixture
def audit(pytester: pytest.Pytester, estimating: Callable[[str], None], tiny_llama: Path):
    def run(mark: str, far: float) -> tuple[pytest.RunResult, Run]:
        estimating(SUITE.format(mark=mark, far=far))
        result = pytester.runpytest_inprocess("suite", "--model", str(tiny_llama), "--junitxml", "pytest.xml")
        return result, read_run(pytester.path / "reports" / "latest")

    return run


def test_alone_every_fail_stands(audit) -> None:
    result, run = audit("[]", 0.1)
    assert [claim.verdict for claim in run.claims] == [Verdict.FAIL, Verdict.PASS, Verdict.PASS]
    assert result.ret == 1
    result.assert_outcomes(failed=1, passed=2)
    assert all(claim.family is None for claim in run.claims)
    result.stdout.no_fnmatch_line("*pytest showed it as F*")


def test_in_a_family_a_fail_that_may_be_chance_is_undecided(audit, pytester: pytest.Pytester) -> None:
    result, run = audit('pytest.mark.claim(family="release")', 0.1)
    barely, *_ = run.claims
    assert [claim.verdict for claim in run.claims] == [Verdict.INCONCLUSIVE, Verdict.PASS, Verdict.PASS]
    assert barely.reason.startswith("holm: ")
    assert (barely.family.name, barely.family.size, barely.family.alone) == ("release", 3, Verdict.FAIL)
    assert (run.summary.failed, run.summary.inconclusive) == (0, 1)
    assert result.ret == 0  # the profile "pr" warns of what is undecided
    result.stdout.fnmatch_lines(["*pytest showed it as F*", "*= 2 passed, 1 inconclusive in *"])
    result.stdout.no_fnmatch_line("FAILED *")
    root = ET.parse("reports/latest/junit.xml").getroot()
    assert [root.get(name) for name in ("tests", "failures", "errors")] == ["5", "0", "0"]
    assert run.claims[2].id == "suite/named"
    # Only pytest's own report, written as claims end, still has the FAIL.
    ours, pytests = (
        {case.get("name"): case.find("failure") for case in ET.parse(path).iter("testcase")}
        for path in (pytester.path / "reports" / "latest" / "junit.xml", pytester.path / "pytest.xml")
    )
    assert ours["barely"] is None
    assert pytests["test_barely"] is not None


def test_a_blatant_fail_stands_in_its_family(audit) -> None:
    result, run = audit('pytest.mark.claim(family="release")', 9.0)
    assert [claim.verdict for claim in run.claims] == [Verdict.INCONCLUSIVE, Verdict.PASS, Verdict.FAIL]
    assert result.ret == 1
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["FAIL  suite/named", "*= 1 failed, 1 passed, 1 inconclusive in *"])


SEVERAL = '''"""A finding."""
def test_each(estimate):
    """Is above every one of these numbers."""
    held = True
    for number in {numbers}:
        held = bool(estimate > number) and held
    assert held
'''


@pytest.mark.parametrize(
    ("numbers", "verdict"),
    [
        ((1.09,), Verdict.FAIL),
        ((0, 0.1, 0.2, 1.09), Verdict.INCONCLUSIVE),
        ((0, 0.1, 0.2, 9), Verdict.FAIL),
        ((0, 9, 1.09, 0.1), Verdict.FAIL),
    ],
)
def test_a_fail_among_the_comparisons_of_a_claim_may_be_chance(
    pytester: pytest.Pytester, estimating: Callable[[str], None], tiny_llama: Path, numbers, verdict
) -> None:
    estimating(SEVERAL.format(numbers=numbers))
    pytester.runpytest_inprocess("suite", "--model", str(tiny_llama))
    (claim,) = read_run(pytester.path / "reports" / "latest").claims
    assert claim.verdict is verdict
    assert claim.reason.startswith("holm: ") == (verdict is Verdict.INCONCLUSIVE)
    assert claim.effect is not None
    assert claim.effect.threshold == (9 if 9 in numbers else 1.09)
