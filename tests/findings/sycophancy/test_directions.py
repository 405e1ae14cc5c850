"""Directions on a model whose circuit is set by hand: what is planted is found, and nothing else passes for it."""

from __future__ import annotations

import contextlib
from collections import Counter

import numpy as np
import pytest

from auditkit.claims.evidence import gathering
from auditkit.claims.outcomes import Inconclusive, NotApplicable
from auditkit.findings.asking.formats import Question
from auditkit.findings.sycophancy.measurements.deference import Deference, wrong_answers_in_turn
from auditkit.findings.sycophancy.measurements.directions import (
    AGREEMENT,
    DEFERENCE,
    PRAISING,
    SycophancyDirections,
)
from auditkit.findings.sycophancy.measurements.steering import DeferenceSteering
from auditkit.findings.sycophancy.prompts import NOBODY, ORDERS, PRAISE, WRONG, asked_by
from tests.planted.deferring import GIVES_IN, Deferring, facts, open_deferring

pytestmark = pytest.mark.unit


def steering(planted: Deferring | None = None) -> DeferenceSteering:
    return DeferenceSteering(SycophancyDirections(Deference(open_deferring(planted), items=facts())))


@pytest.fixture(scope="module")
def planted() -> DeferenceSteering:
    with gathering():
        return steering()


def test_the_planted_direction_is_found_and_raises_deference_on_other_topics(planted: DeferenceSteering) -> None:
    assert planted.place.layer == 1
    direction = planted.found.direction(DEFERENCE, 1)
    assert np.abs(direction.unit).argmax() == GIVES_IN
    judged = {question.topic for question in planted._judged}
    assert not judged & {question.topic for question in planted.found.questions()}
    assert planted.raised() > 1
    # Nulls with the covariance of the states lie along what is planted, since nothing else varies as much here.
    random = [difference for difference in planted.beyond_random() if "covariance" not in difference.name]
    assert len(random) == 2
    assert all(difference > 0.25 for difference in (*random, *planted.beyond_others()))


def test_directions_that_are_planted_apart_lie_apart(planted: DeferenceSteering) -> None:
    assert all(planted.found.nearer(name, 1) > 0.3 for name in (AGREEMENT, PRAISING))


def test_where_agreement_lies_on_the_direction_of_deference_it_does_as_much() -> None:
    shared = steering(Deferring(apart=False))
    apart = shared.found.nearer(AGREEMENT, 1).describe().estimate
    agreement, praise = (difference.describe().estimate for difference in shared.beyond_others())
    assert apart < 0.3
    assert abs(agreement) < praise / 2


def test_where_nothing_reads_the_direction_it_raises_nothing() -> None:
    deaf = steering(Deferring(pulls=0.0))
    assert deaf.found.deference.by(WRONG) > 0, "the model gives in, but not by this direction"
    with contextlib.suppress(Inconclusive, NotApplicable):
        assert not deaf.raised() > 0.25


def test_a_model_that_gives_in_to_nobody_has_no_direction() -> None:
    deaf = Deference(open_deferring(), items=facts())
    leads = {name: np.linspace(1, 2, len(deaf.asked)) for name in (NOBODY, WRONG)}
    deaf._asked_by = lambda speaker: leads[speaker]
    with pytest.raises(NotApplicable, match="no deference to find a direction of"):
        SycophancyDirections(deaf).questions()


def test_both_orders_of_the_answers_are_asked_with_and_without_an_opinion(planted: DeferenceSteering) -> None:
    question = planted.found.deference.known[0]
    right, wrong = question.said
    first, second = (asked_by(question, order).user for order in ORDERS)
    assert first.endswith(f"Is it {right} or {wrong}?")
    assert second.endswith(f"Is it {wrong} or {right}?")
    for order in ORDERS:
        assert asked_by(question, f"{order}, {WRONG}").user.endswith(f"? I think the answer is {wrong}.")
        assert planted.found.deference.in_order(order) > 0


def test_every_wrong_letter_is_named_as_often_as_the_others() -> None:
    letters = "ABCD"
    questions = [
        Question(
            f"q{n}", "t", "Which?", "", tuple(range(4)), (letters[n % 4], *letters.replace(letters[n % 4], ""))
        )
        for n in range(48)
    ]
    turned = wrong_answers_in_turn(questions)
    assert Counter(one.said[:2] for one in turned) == {(a, b): 4 for a in letters for b in letters if a != b}
    for before, after in zip(questions, turned, strict=True):
        assert sorted(zip(before.said, before.answers, strict=True)) == sorted(
            zip(after.said, after.answers, strict=True)
        )
        assert after.said[0] == before.said[0]
    two = [Question("q", "t", "?", "", (5, 6), ("a", "b"))] * 3
    assert wrong_answers_in_turn(two) == tuple(two)


def test_praise_and_its_plain_twin_are_as_long() -> None:
    assert len({text for pair in PRAISE for text in pair}) == 2 * len(PRAISE)
    assert all(abs(len(praise.split()) - len(plain.split())) <= 2 for praise, plain in PRAISE)
