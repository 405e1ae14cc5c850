"""Shared measurements: made once, and the same notes and figures under every claim that uses them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditkit.claims.evidence import Evidence, beside, figure, gathering, note
from auditkit.claims.shared import SharedMeasurements, shared_measurement
from auditkit.record.figures import Table
from auditkit.record.schema import Figure

pytestmark = pytest.mark.unit


def drawing(title: str) -> Figure:
    return Table("A caption.", ["name"], [["a"]]).titled(title)


class Search:
    """A measurement that rests on another one."""

    def __init__(self) -> None:
        self.made: list[str] = []

    @shared_measurement
    def texts(self) -> str:
        """What is read."""
        self.made.append("texts")
        note("texts are read")
        figure(drawing("Texts"))
        return "text"

    @shared_measurement
    def heads(self) -> str:
        self.made.append("heads")
        note(f"heads of {self.texts}")
        figure(drawing("Heads"))
        return "heads"


def said(evidence: Evidence) -> tuple[list[str], list[str]]:
    return evidence.notes, [one.title for one in evidence.figures]


def test_every_claim_shows_what_was_said_while_the_measurement_was_made() -> None:
    search, shown = Search(), []
    for _ in range(3):
        with gathering() as evidence:
            assert search.heads == "heads"
            assert search.heads == "heads"
        shown.append(said(evidence))
    assert shown == [(["texts are read", "heads of text"], ["Texts", "Heads"])] * 3
    assert search.made == ["heads", "texts"]


@given(st.lists(st.lists(st.sampled_from(["texts", "heads"]), max_size=3), min_size=1, max_size=4))
def test_a_claim_says_the_same_whatever_ran_before(claims: list[list[str]]) -> None:
    together = Search()
    for wanted in claims:
        with gathering() as after_others:
            for name in wanted:
                getattr(together, name)
        with gathering() as alone:
            search = Search()
            for name in wanted:
                getattr(search, name)
        assert sorted(after_others.notes) == sorted(alone.notes)
        assert sorted(said(after_others)[1]) == sorted(said(alone)[1])


def test_what_is_measured_outside_a_claim_is_said_under_the_claims_that_use_it() -> None:
    search = Search()
    assert search.heads == "heads"
    with gathering() as evidence:
        _ = search.heads
    assert said(evidence) == (["texts are read", "heads of text"], ["Texts", "Heads"])


def test_a_measurement_that_fails_is_made_again_and_says_how_far_it_came() -> None:
    shared, tries = SharedMeasurements(), []

    def measure() -> int:
        tries.append(1)
        note("half of it is read")
        if len(tries) < 3:
            raise ValueError("not enough")
        return 3

    for _ in range(2):
        with gathering() as evidence, pytest.raises(ValueError, match="not enough"):
            shared.get("a", measure)
        assert evidence.notes == ["half of it is read"]
    assert shared.get("a", measure) == shared.get("a", measure) == 3
    assert len(tries) == 3


def test_keys_are_apart_and_estimates_beside_are_replayed(estimate) -> None:
    shared = SharedMeasurements()
    for _ in range(2):
        with gathering() as evidence:
            for key in ("a", "b", "a"):
                shared.get(key, lambda key=key: beside(key, estimate([1.0, 2.0, 3.0], name=key)))
        assert [one.name for one in evidence.controls] == ["a", "b"]
        assert evidence.items


@pytest.mark.parametrize("values", [[5.0, 6.0, 7.0, 5.5, 6.5, 6.0], [5.0, 6.0]])
def test_a_measurement_may_not_judge_whether_it_is_decided_or_not(estimate, values: list[float]) -> None:
    with gathering(), pytest.raises(RuntimeError, match="'a' compares an effect with a threshold"):
        SharedMeasurements().get("a", lambda: estimate(values) > 0)


def test_a_value_that_another_instance_has_measured_is_taken() -> None:
    search = Search()
    Search.texts.keep(search, "other text")
    with gathering() as evidence:
        assert search.texts == "other text"
    assert (search.made, evidence.notes, Search.texts.__doc__) == ([], [], "What is read.")
