"""Comparisons of a claim: what all share is said once, what is missing has a reason, and nothing is said twice."""

from __future__ import annotations

import msgspec
import pytest

from auditkit.record.schema import Control, Run, Verdict
from auditkit.report.comparisons import comparisons, controls_apart
from tests.report.conftest import FIELLER, effect

pytestmark = pytest.mark.unit


def test_what_all_comparisons_share_is_said_once() -> None:
    table = comparisons([effect(0.5, 0.4, 0.6), effect(0.7, 0.6, 0.8, threshold=0.5)], {FIELLER: 3})
    assert table.columns == ("must be",)
    assert [cells for _, cells in table.rows] == [("≥ 0.3",), ("≥ 0.5",)]
    assert ("items", "192 in 24 clusters") in table.shared
    assert ("method", "3") in table.shared
    assert table.missing == ()


def test_a_missing_number_has_its_reason() -> None:
    table = comparisons([effect(0.5, 0.4, 0.6, mde=None), effect(0.7, 0.6, 0.8)], {FIELLER: 1})
    assert table.missing == (("minimum detectable effect", "it cannot be computed for this design"),)
    assert [cells for _, cells in table.rows] == [("—",), ("0.0623 fraction of the total effect",)]


def test_what_would_decide_is_said_where_it_is_known() -> None:
    known = effect(
        0.3, 0.1, 0.5, n=96, clusters=12, items_needed=236, items_range=(144, 960), items_assume="topic"
    )
    names = [name for name, _ in comparisons([known], {FIELLER: 1}).shared]
    assert "to decide it" in names
    assert "to decide it" not in [name for name, _ in comparisons([effect(0.5, 0.4, 0.6)], {FIELLER: 1}).shared]


def test_a_number_that_is_compared_is_not_shown_once_more(sample_run: Run) -> None:
    claim = sample_run.claims[0]
    again = Control(name=claim.also[0].name, effect=claim.also[0], verdict=None, reason="measured and shown")
    judged = msgspec.structs.replace(again, verdict=Verdict.PASS)
    other = msgspec.structs.replace(again, effect=effect(0.1, 0.0, 0.2, name=again.name))
    holding = msgspec.structs.replace(claim, controls=(again, judged, other))
    assert controls_apart(holding) == [judged, other]
