"""What short outputs say behind the sentence that answers: rows of suites, and what needs a human."""

from __future__ import annotations

import shlex
from typing import Any

import pytest
from msgspec.structs import replace

from auditkit.record.plan import UNREACHED
from auditkit.record.schema import Run, Verdict
from auditkit.report import brief
from tests.report.conftest import effect

pytestmark = pytest.mark.unit

FAR, NEAR = (9000, None), (120, 300)
"""Items that would decide, of 96."""


def of_one(run: Run, verdict: Verdict = Verdict.INCONCLUSIVE, **changes: Any) -> Run:
    """A run under the profile `release` with one claim of this verdict."""
    settings = changes.pop("settings", {"items": "None", "effort": "standard"})
    baseline = changes.pop("baseline", None)
    rerun = "pytest suites/a::test_b --model m --effort quick --seed 3"
    claim = replace(run.claims[0], verdict=verdict, **{"rerun": rerun, "id": "a/b [c d]"} | changes)
    plan = replace(run.plan, settings=settings)
    return replace(run, profile="release", claims=(claim,), plan=plan, baseline=baseline)


def test_rows_count_every_claim_once(sample_run: Run) -> None:
    head, *rows = brief.table(sample_run)
    assert head == ("suite", "answer", "pass", "fail", "error", "undecided", "not applicable")
    assert [row[0] for row in rows] == ["persona_patching", "composition", "all suites"]
    assert [sum(map(int, row[2:])) for row in rows] == [4, 2, 6]
    assert brief.table(replace(sample_run, claims=())) == []


def test_of_many_suites_the_first_have_a_row_and_the_sum_is_of_all(sample_run: Run) -> None:
    claims = tuple(replace(sample_run.claims[0], id=f"s{i}/c", suite=f"s{i}") for i in range(brief.MOST_ROWS + 5))
    rows = brief.table(replace(sample_run, claims=claims))[1:]
    assert [row[0] for row in rows[-3:]] == [f"s{brief.MOST_ROWS - 1}", "5 more suites", "all suites"]
    assert rows[-1] == ("all suites", "", str(brief.MOST_ROWS + 5))
    assert {len(row) for row in rows} == {3}


@pytest.mark.parametrize(
    ("changes", "again"),
    [
        ({"effect": effect(0.3, 0.1, 0.5, n=96, items_range=NEAR)}, True),
        ({"effect": effect(0.3, 0.1, 0.5, n=96, items_range=FAR)}, False),
        ({"effect": effect(0.3, 0.1, 0.5, n=96, items_range=NEAR), "settings": {"items": "6"}}, False),
        ({"effect": effect(0.3, 0.1, 0.5, n=96, items_range=NEAR), "settings": {"effort": "stepwise"}}, False),
        ({"effect": effect(0.3, 0.1, 0.5, n=20, items_range=NEAR), "settings": {"effort": "quick"}}, True),
        ({"effect": None}, False),
        ({"effect": effect(0.3, 0.1, 0.5, n=96, items_range=NEAR), "verdict": Verdict.FAIL}, False),
    ],
)
def test_more_items_are_the_way_on_where_they_may_decide(
    sample_run: Run, changes: dict[str, Any], again: bool
) -> None:
    (one,) = brief.actions(of_one(sample_run, **changes), "reports/run")
    words = ["auditkit", "show", "reports/run", "--claim", "a/b [c d]"]
    if again:
        words = ["pytest", "suites/a::test_b", "--model", "m", "--seed", "3", "--effort", "stepwise"]
    assert shlex.split(one.command) == words


def test_a_gate_is_not_asked_for_other_items_than_its_baseline(gated_run: Run) -> None:
    near = effect(0.3, 0.1, 0.5, n=96, items_range=NEAR)
    (one,) = brief.actions(of_one(gated_run, effect=near, baseline=gated_run.baseline), "reports/run")
    assert one.command.startswith("auditkit show ")


def test_what_broke_is_measured_again_and_what_was_not_reached_is_left_to_the_session(sample_run: Run) -> None:
    (broke,) = brief.actions(of_one(sample_run, Verdict.ERROR, reason="no disk"), "reports/run")
    assert broke.command.startswith("pytest suites/a::test_b ")
    (unreached,) = brief.actions(of_one(sample_run, Verdict.ERROR, reason=UNREACHED), "reports/run")
    assert unreached.command == ""


def test_a_file_of_a_run_names_no_folder(sample_run: Run) -> None:
    commands = [one.command for one in brief.actions(sample_run)]
    assert not [command for command in commands if command.startswith("auditkit")]
    assert [hint.command for hint in brief.hints(sample_run)] == []
