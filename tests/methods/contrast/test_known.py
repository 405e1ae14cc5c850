"""What a run says of a direction that a later run is to be compared along."""

from __future__ import annotations

import pandas as pd
import pytest

from auditkit.claims.evidence import gathering
from auditkit.claims.outcomes import Inconclusive, NotApplicable, NotAsked
from auditkit.methods.contrast.known import of_baseline

pytestmark = pytest.mark.unit


def keeps(problem: Exception | None = None) -> None:
    if problem is not None:
        raise problem


def test_a_run_without_a_baseline_is_not_asked_whether_or_not_it_can_be_one() -> None:
    with pytest.raises(NotAsked, match="so this run can be one"):
        of_baseline("warmth", None, 8, "", keeps)
    with gathering() as evidence, pytest.raises(NotAsked) as told:
        of_baseline("warmth", None, 8, "", lambda: keeps(Inconclusive("no_dose: nothing moved")))
    assert "can be one" not in str(told.value)
    assert any("can be no baseline of this claim: no_dose" in note for note in evidence.notes)


def test_a_model_without_the_behaviour_says_so() -> None:
    with pytest.raises(NotApplicable, match="the model is never warm"):
        of_baseline("warmth", None, 8, "", lambda: keeps(NotApplicable("the model is never warm")))


def test_a_baseline_without_a_direction_is_found_before_anything_is_measured() -> None:
    empty = pd.DataFrame({"measurement": [], "effect": [], "item": [], "value": []})
    with pytest.raises(NotApplicable, match="recorded no direction of warmth: it was not there"):
        of_baseline("warmth", empty, 8, "it was not there", lambda: pytest.fail("measured"))
