"""Gathering what a claim measures, from wherever it is measured."""

from __future__ import annotations

import pytest

from auditkit.claims.evidence import Decision, current, figure, gathering, note
from auditkit.record.schema import Effect, Figure, Verdict

pytestmark = pytest.mark.unit

DRAWING = Figure(title="t", kind="curves", data={})
EFFECT = Effect(
    name="e", estimate=None, lower=None, upper=None, unit="", relation=None, threshold=None, alpha=0.05, n=0,
    clusters=0, standardized=None, mde=None, items_needed=None, method="",
)  # fmt: skip


def test_notes_are_kept_once_and_in_order():
    with gathering() as evidence:
        for text in ("b", "a", "b"):
            note(text)
        figure(DRAWING)
    assert (evidence.notes, evidence.figures) == (["b", "a"], [DRAWING])


def test_outside_a_gathering_the_same_calls_do_nothing():
    assert current() is None
    note("a")
    figure(DRAWING)


def test_gatherings_nest_and_end_even_when_a_claim_raises():
    def inner() -> None:
        with gathering():
            note("inner")
            raise ValueError("x")

    with gathering() as outer:
        with pytest.raises(ValueError, match="x"):
            inner()
        assert current() is outer
    assert current() is None
    assert outer.notes == []


@pytest.mark.parametrize("verdict", Verdict)
def test_a_decision_is_true_only_when_it_passed(verdict):
    decision = Decision(verdict, "why", EFFECT, "paper")
    assert bool(decision) == (verdict is Verdict.PASS)
    assert str(decision) == repr(decision) == f"{verdict.value}: why"
