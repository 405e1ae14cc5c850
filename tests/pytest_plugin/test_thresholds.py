"""`--thresholds FILE`: the number that decides comes from the file, and the record says so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from auditkit.record.schema import Run, Verdict
from auditkit.record.store import read_run

pytestmark = pytest.mark.unit

SUITE = '''"""A finding."""

def test_once(estimate, threshold):
    """Is above a limit."""
    assert estimate > threshold(0.5)

def test_twice(estimate, threshold):
    """Lies between two limits."""
    assert estimate > threshold(0.5)
    assert estimate < threshold(1.5, "paper, Table 2")

def test_never(estimate):
    """Is above zero, whatever a file says."""
    assert estimate > 0
'''


@pytest.fixture
def audit(pytester: pytest.Pytester, estimating: Callable[[str], None], tiny_llama: Path):
    """Run the suite with a file of thresholds and return (result of pytest, record)."""
    estimating(SUITE)

    def run(text: str | None, *args: str) -> tuple[pytest.RunResult, Run | None]:
        if text is not None:
            (pytester.path / "limits.toml").write_text(text)
            args = ("--thresholds", "limits.toml", *args)
        result = pytester.runpytest_inprocess("suite", "--model", str(tiny_llama), *args)
        latest = pytester.path / "reports" / "latest"
        return result, read_run(latest) if latest.exists() else None

    return run


def test_a_threshold_of_the_file_decides_and_is_named_in_the_record(audit) -> None:
    _, plain = audit(None)
    result, run = audit(
        """
        [default]
        "suite/once" = { threshold = 0.2 }
        [family.llama]
        "suite/once" = { threshold = 1.9, source = "policy 7", date = 2026-11-20 }
        """
    )
    assert result.ret == 1
    claims = {claim.id: claim for claim in run.claims}
    once = claims["suite/once"]
    assert (once.verdict, once.effect.threshold) == (Verdict.FAIL, 1.9)
    assert once.threshold_source == "policy 7, 2026-11-20 (limits.toml [family.llama])"
    assert "--thresholds limits.toml" in once.rerun
    assert claims["suite/twice"].threshold_source == "suite default"
    assert run.plan_sha256 != plain.plan_sha256


def test_a_number_replaces_the_first_call_unless_the_key_names_another(audit) -> None:
    _, run = audit('[default]\n"suite/twice" = { threshold = 0.6 }')
    twice = next(claim for claim in run.claims if claim.id == "suite/twice")
    assert [effect.threshold for effect in (twice.effect, *twice.also)] == [0.6, 1.5]
    _, run = audit('[default]\n"suite/twice#2" = { threshold = 0.7, source = "policy" }')
    twice = next(claim for claim in run.claims if claim.id == "suite/twice")
    assert twice.verdict is Verdict.FAIL
    assert (twice.effect.threshold, twice.threshold_source) == (0.7, "policy (limits.toml [default])")
    assert [effect.threshold for effect in twice.also] == [0.5]


def test_a_model_is_named_as_on_the_command_line(audit, tiny_llama: Path) -> None:
    _, run = audit(f'[model."{tiny_llama}"]\n"suite/once" = {{ threshold = 0.3 }}')
    assert run.claims[0].effect.threshold == 0.3


def test_a_threshold_that_no_claim_asks_for_is_told_to_the_reader(audit) -> None:
    _, run = audit('[default]\n"suite/never" = { threshold = 3 }\n"suite/once#2" = { threshold = 4 }')
    notes = {claim.id: claim.notes for claim in run.claims}
    assert notes["suite/never"][0].startswith("a threshold of 3 from limits.toml [default] was not used")
    assert notes["suite/once"][0].startswith("a threshold of 4 from limits.toml [default] was not used")
    assert notes["suite/twice"] == ()


def test_a_deselected_claim_may_stand_in_the_file(audit) -> None:
    result, _ = audit('[default]\n"suite/once" = { threshold = 0.3 }', "-k", "never")
    assert result.ret == 0


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (None, "ERROR: cannot read thresholds from absent.toml: No such file or directory"),
        ("[default", "ERROR: limits.toml is not TOML: *"),
        ('[default]\n"suite/onec" = {threshold = 1}', "ERROR: *no such claim *; did you mean 'suite/once'*"),
        ('[default]\n"suite/once" = {source = "x"}', "ERROR: *no threshold number*"),
        ('[default]\n"suite/once" = {threshold = nan}', "ERROR: *threshold is nan*"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_used_is_one_line_and_exit_code_4(
    audit, pytester: pytest.Pytester, text: str | None, line: str
) -> None:
    result, run = audit(text, *(["--audit-thresholds", "absent.toml"] if text is None else []))
    assert result.ret == 4
    lines = [line for line in (*result.errlines, *result.outlines) if line.startswith("ERROR: ")]
    assert len(lines) == 1
    result.stderr.fnmatch_lines([line.replace("[", "[[]")])
    assert run is None
    assert not (pytester.path / "reports").exists(), "found before anything runs"
