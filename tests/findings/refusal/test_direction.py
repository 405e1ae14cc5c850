"""The direction of refusal on a model whose circuit is set by hand, and on models without one."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from auditkit.claims.evidence import gathering
from auditkit.claims.outcomes import Inconclusive, NotApplicable, NotAsked, Unsupported
from auditkit.findings.refusal.measurements.direction import ADDED, REMOVED, RefusalDirection
from auditkit.findings.refusal.measurements.drift import LACKING, REFUSAL, RefusalDrift
from auditkit.findings.refusal.measurements.mediation import FOUR, RefusalMediation
from auditkit.findings.refusal.measurements.scores import RefusalScores
from auditkit.findings.refusal.prompts.requests import HARMFUL
from auditkit.gate.changes import Counterpart
from auditkit.methods.contrast.directions import Direction
from auditkit.methods.contrast.known import KnownDirection
from tests.planted.refusing import WRITTEN, open_refusing, pairs

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def mediation() -> RefusalMediation:
    scores = RefusalScores(open_refusing(), seed=0, data=pairs())
    scores.require()
    return RefusalMediation(RefusalDirection(scores))


def test_the_direction_that_was_set_is_found_on_one_half(mediation: RefusalMediation) -> None:
    found = mediation.found
    assert abs(found.chosen.unit[WRITTEN]) > 0.7
    assert found.chosen.unit[WRITTEN] > 0, "it points to harmful requests"
    assert not set(found.discovery) & set(found.confirmation)
    assert len(found.discovery) == len(found.confirmation) == 20
    assert found.chosen.layer < 0.8 * found.adapter.layers
    assert "judged on 20 others" in found.notes()[0]


def test_removing_and_adding_it_moves_refusal_and_nulls_do_not(mediation: RefusalMediation) -> None:
    """States lie evenly around zero here, so removal takes away half of the gap."""
    removed, added = mediation.share(REMOVED).describe(), mediation.share(ADDED).describe()
    assert removed.estimate == pytest.approx(0.5, abs=0.05)
    assert added.estimate == pytest.approx(1.0, abs=0.1)
    assert len(mediation.null) == 6
    for condition in (REMOVED, ADDED):
        for difference in mediation.beyond(condition):
            assert difference > 1.0
    assert mediation.one_of_four() >= 0.9
    assert mediation.share(FOUR).describe().estimate == pytest.approx(0.5, abs=0.05)


def test_a_claim_on_the_direction_notes_the_guards_of_its_runs_whichever_claim_asked_first(
    mediation: RefusalMediation,
) -> None:
    for _ in range(2):
        with gathering() as evidence:
            mediation.share(REMOVED)
            mediation.damage()
        guards = [text for text in evidence.notes if text.startswith("guards (")]
        for part in ("sweep over places", "directions removed", "directions added", "benign text"):
            assert [text for text in guards if part in text], part


def test_kinds_exchanged_in_half_of_the_pairs_leave_nothing_of_the_direction(mediation: RefusalMediation) -> None:
    for name, null in mediation.null.items():
        assert np.linalg.norm(null.vectors) == pytest.approx(mediation.found.chosen.length), name
        assert abs(null.unit @ mediation.found.chosen.unit) < 0.5, name


def test_a_model_that_answers_from_nothing_has_no_direction_to_choose() -> None:
    scores = RefusalScores(open_refusing(strength=0.0), seed=0, data=pairs())
    with pytest.raises(NotApplicable, match="so it has no refusal to look for"):
        scores.require()


def test_too_few_pairs_for_two_halves_are_said() -> None:
    some = pairs()
    few = replace(some, pairs=some.pairs[:9])
    found = RefusalDirection(RefusalScores(open_refusing(), seed=0, data=few))
    with pytest.raises(Inconclusive, match=r"too_few_pairs: 9 pairs of requests; .* 10 are needed"):
        found.split  # noqa: B018


def recorded(known: KnownDirection) -> pd.DataFrame:
    rows = [row for table in known.recorded() for row in table.rows("claim")]
    return pd.DataFrame([(row.measurement, row.item, row.value, row.effect) for row in rows]).set_axis(
        ["measurement", "item", "value", "effect"], axis=1
    )


def test_a_recorded_direction_is_read_again_and_decides_in_another_model(mediation: RefusalMediation) -> None:
    drift = RefusalDrift(mediation.found)
    own = drift.own
    assert own.unit > 0
    known = KnownDirection.read(REFUSAL, recorded(own), 32, LACKING)
    np.testing.assert_allclose(known.direction.vectors, own.direction.vectors)
    assert (known.direction.layer, known.direction.position) == (own.direction.layer, own.direction.position)
    assert known.direction.digest == own.direction.digest
    mine, random = drift.mediates(known)
    assert mine.describe().estimate == pytest.approx(0.5, abs=0.05)
    assert mine > random
    assert drift.apart(known) >= 1.0
    nowhere = Direction("elsewhere", np.eye(32)[[20]], own.direction.layer, own.direction.position)
    assert drift.mediates(KnownDirection(REFUSAL, nowhere, 1.0))[0] < 0.25


def test_what_is_shared_with_a_baseline_of_another_width_is_behaviour_only(mediation: RefusalMediation) -> None:
    items = recorded(KnownDirection(REFUSAL, Direction("wide", np.ones((1, 48)), 1, -1), 1.0))
    with pytest.raises(NotAsked, match=r"width 48 and this model has width 32.*compared by behaviour only"):
        KnownDirection.read(REFUSAL, items, 32, LACKING)
    with pytest.raises(Unsupported, match="recorded no direction of refusal"):
        KnownDirection.read(REFUSAL, items[items["measurement"] == "other"], 32, LACKING)


def test_without_a_baseline_the_direction_is_kept_so_that_the_run_can_be_one(mediation: RefusalMediation) -> None:
    drift = RefusalDrift(mediation.found)
    with pytest.raises(NotAsked, match="so this run can be one"):
        drift.record(Counterpart("refusal/a", "refusal", None))
    past = SimpleNamespace(recorded=SimpleNamespace(items=recorded(drift.own)))
    known = drift.record(Counterpart("suite/claim", "suite", past))
    name = drift.projection(HARMFUL, known).name
    assert name == drift.projection(HARMFUL, drift.own).name
    assert known.direction.digest in name
