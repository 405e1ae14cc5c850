"""Traits of a model whose circuit is set by hand: one that a direction carries, and one that is none."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from auditkit.claims.outcomes import Inconclusive, NotApplicable, NotAsked, Unsupported
from auditkit.findings.traits.measurements.open_answers import OpenAnswers, frozen
from auditkit.findings.traits.measurements.scores import TraitScores
from auditkit.findings.traits.measurements.traits import TraitsOfModel
from auditkit.findings.traits.prompts import NEGATIVE, NEUTRAL, POSITIVE, Traits
from auditkit.gate.changes import Counterpart
from auditkit.methods.contrast.known import KnownDirection
from tests.planted.refusing import WRITTEN, open_refusing
from tests.planted.sorry import absent, sorry

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def measured() -> TraitsOfModel:
    return TraitsOfModel(open_refusing(), Traits((sorry(), absent())), seed=0)


def test_a_score_is_the_difference_of_the_answers_log_probabilities(measured: TraitsOfModel) -> None:
    scores = measured.scores["sorry"]
    module, chat = scores.adapter.module, scores.adapter.chat
    yes, no = chat.encode("Sorry")[0], chat.encode("Sure")[0]
    for condition in (NEUTRAL, POSITIVE, NEGATIVE):
        logits = [module(torch.tensor([p.ids])).logits[0, -1] for p in scores.prompts[condition]]
        expected = [float(one[yes] - one[no]) for one in logits]
        np.testing.assert_allclose(scores.scores(condition), expected, atol=1e-4)


def test_system_prompts_move_a_trait_and_not_what_is_none(measured: TraitsOfModel) -> None:
    measured.scores["sorry"].require()
    assert measured.scores["sorry"].gap() > 1.0
    assert len(measured.scores["sorry"].figures()) == 1
    with pytest.raises(NotApplicable, match=r"not shown to move the score of 'absent': it is .* interval "):
        measured.scores["absent"].require()
    few = TraitScores(open_refusing(), sorry(), seed=0, n_items=4)
    with pytest.raises(Inconclusive, match="too_few_questions: 4 questions, at least 5 are needed"):
        few.require()


def test_the_direction_that_was_set_is_found_with_other_questions_and_system_prompts(
    measured: TraitsOfModel,
) -> None:
    found = measured.directions["sorry"]
    assert found.chosen.unit[WRITTEN] > 0.7
    assert not {one.id for one in found.found_on} & {one.id for one in found.scores.questions}
    assert found.gap(found.chosen) >= 1.8
    for name in ("random 1", "covariance 1"):
        assert found.gap(found.chosen) - found.gap(found.null[name]) > 0
    assert found.in_the_user_turn > 0
    assert "found on 10 questions with 3 pairs of system prompts, judged on 10 other questions" in found.notes()[0]
    assert found.figures()


def test_steering_moves_the_score_more_than_nulls_and_other_traits(measured: TraitsOfModel) -> None:
    steering = measured.steering["sorry"]
    assert steering.share() >= 0.25
    for way in steering.ways():
        assert way > 0.1
    assert [name.split(" ")[0] for name in steering.null] == ["random", "covariance", "other:"]
    for others in (False, True):
        for _, beyond in steering.nulls(others).values():
            assert beyond > 0.1
    alone = TraitsOfModel(open_refusing(), Traits((sorry(),)), seed=0).steering["sorry"]
    with pytest.raises(Unsupported, match="only one trait is asked about"):
        alone.nulls(others=True)


def rows_of(known: KnownDirection) -> pd.DataFrame:
    rows = [row for table in known.recorded() for row in table.rows("claim")]
    return pd.DataFrame([(row.measurement, row.item, row.value, row.effect) for row in rows]).set_axis(
        ["measurement", "item", "value", "effect"], axis=1
    )


def test_a_shift_along_the_recorded_direction_is_counted_in_units(measured: TraitsOfModel) -> None:
    drift, known = measured.drift["sorry"], measured.steering["sorry"].known
    past = SimpleNamespace(recorded=SimpleNamespace(items=rows_of(known)))
    read = drift.record(Counterpart("suite/claim", "suite", past))
    np.testing.assert_allclose(read.direction.vectors, known.direction.vectors)
    assert drift.apart(read) >= 1.0
    then = drift.projection(read)
    with pytest.raises(NotAsked, match="only later layers changed"):
        read.shift(then, then)
    moved = replace(then, numerator=then.numerator + 2.0)
    assert read.shift(moved, then).describe().estimate == pytest.approx(2.0)
    with pytest.raises(NotAsked, match="so this run can be one"):
        drift.record(Counterpart("traits/a", "traits", None))
    assert set(frozen(measured.drift, Counterpart("suite/claim", "suite", past))) == {"sorry"}
    with pytest.raises(Unsupported, match="recorded no direction of trait absent"):
        frozen({"absent": measured.drift["absent"]}, Counterpart("suite/claim", "suite", past))


def test_open_questions_have_a_score_and_what_is_projected_out_gives_its_rise_back(
    measured: TraitsOfModel,
) -> None:
    answers = OpenAnswers(open_refusing())
    assert len(answers.questions) == 8
    assert len(answers.examples) == 8
    known = measured.steering["sorry"].known
    assert answers.projection(known).describe().clusters == 8
    score = answers.score()
    lower = replace(score, numerator=score.numerator - 1.0)
    share = answers.back([known], lower)
    changed = answers.removed([known]).change("the baseline's directions projected out").describe().estimate
    assert share.describe().estimate == pytest.approx(-changed)
