"""The scorecard: each suite with its question, its answer in one sentence, and the claim that stands for it."""

from __future__ import annotations

import msgspec
import pytest

from auditkit.record.schema import Run, Verdict
from auditkit.report.answers.scorecard import scorecard
from tests.report.conftest import build_run, claim, effect, layer_figure

pytestmark = pytest.mark.unit

SHARE = effect(0.58, 0.51, 0.65)


def test_a_row_answers_from_its_claims(sample_run: Run) -> None:
    personas, composition = scorecard(sample_run)
    assert personas.question == "Where persona words act (Poonia & Jain 2025, arXiv:2507.20936)."
    assert personas.answer == (
        "Of 4 findings 1 does not hold (neutral personas change nothing), 2 hold (early mlps carry the persona; "
        "negative personas lower the answer) and 1 is undecided."
    )
    assert (personas.verdict, personas.word) == (Verdict.FAIL, "holds in part")
    assert personas.key is not None
    assert personas.key.id == "persona_patching/early_mlps_carry_the_persona"
    assert personas.figure == sample_run.claims[0].figures[0]
    assert personas.number == sample_run.claims[0].effect
    assert (composition.word, composition.key is not None) == ("not readable", True)
    assert "1 could not be measured (task vectors survive a persona swap)" in composition.answer


def test_a_suite_says_what_it_asks(sample_run: Run) -> None:
    asked = msgspec.structs.replace(sample_run.claims[0], question="Where do persona words act?")
    row = scorecard(msgspec.structs.replace(sample_run, claims=(asked, *sample_run.claims[1:])))[0]
    assert row.question == "Where do persona words act?"


def test_a_check_that_blocks_stands_for_its_suite() -> None:
    source = "Whether the candidate is worse."
    passed = claim(Verdict.PASS, "fine", "S.", "R.", SHARE, source=source, figures=(layer_figure(),))
    failed = claim(Verdict.FAIL, "worse", "S.", "R.", SHARE, source=source)
    [row] = scorecard(build_run(claims=(passed, failed)))
    assert row.word == "blocks"
    assert row.key == failed
    assert row.figure == passed.figures[0], "its picture is that of another claim, where it has none"


def test_a_suite_that_only_needs_a_base_answers_nothing_yet() -> None:
    reason = "there is no baseline to compare with (--baseline)"
    needing = claim(Verdict.NOT_APPLICABLE, "n", "S.", reason, None, lack="not asked")
    [row] = scorecard(build_run(claims=(needing,)))
    assert (row.verdict, row.word, row.key, row.number) == (Verdict.NOT_APPLICABLE, "needs a base", None, None)
    assert row.answer.startswith("Nothing yet")


def test_claims_of_one_test_are_named_once() -> None:
    claims = tuple(claim(Verdict.FAIL, f"decisions[{name}]", "S.", "R.", SHARE) for name in "abcd")
    [row] = scorecard(build_run(claims=claims))
    assert "4 do not hold (decisions (a); 3 more)" in row.answer
