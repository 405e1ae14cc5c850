"""A claim of "no difference" counts only where the same reading moves for a difference that should matter."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from auditkit import control, sensitivity
from auditkit.claims.evidence import Evidence, gathering
from auditkit.claims.outcomes import Inconclusive, NotApplicable
from auditkit.pytest_plugin.claims import _verdict
from auditkit.record.schema import Verdict
from auditkit.stats.effects.mean import Estimate
from auditkit.stats.measurement import Measurement

pytestmark = pytest.mark.unit

N = 12
NOISE = np.linspace(-0.05, 0.05, N)


def estimate(mean: float, noise: np.ndarray = NOISE, name: str = "strong minus weak") -> Estimate:
    index = pd.Index([f"item {i}" for i in range(N)], name="item")
    values = mean + noise
    table = Measurement(
        name, "logit", pd.DataFrame({"value": values}, index), pd.DataFrame({"case": index}, index)
    )
    return Estimate(name, "logit", table, values)


EQUAL = estimate(0.0, name="effect")


def measured(effect: Estimate, reference: Estimate, baseline=None, controlled: Estimate | None = None):
    """The verdict, the reason and the evidence of "the effect is 0 within 0.25", as the plugin concludes it."""
    error: BaseException | None = None
    with gathering() as evidence:
        try:
            if controlled is not None:
                with control("something that must be above 0"):
                    assert controlled > 0
            with sensitivity("strong from weak", reference, by=0.25, baseline=baseline):
                assert effect.equals(0.0, within=0.25)
        except (AssertionError, Inconclusive, NotApplicable) as ended:
            error = ended
    return *_verdict(evidence, error, None), evidence


def entry(evidence: Evidence, number: int = -1):
    return evidence.controls[number]


def test_equality_passes_where_the_reading_moves_and_shows_by_how_much() -> None:
    verdict, _, evidence = measured(EQUAL, estimate(1.0))
    assert verdict is Verdict.PASS
    assert (entry(evidence).name, entry(evidence).verdict) == ("sensitivity: tells strong from weak", Verdict.PASS)
    assert entry(evidence).effect.estimate == pytest.approx(1.0)
    assert entry(evidence).effect.threshold == 0.25


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        (estimate(0.02), "the model does not tell strong from weak: strong minus weak is 0.0"),
        (estimate(0.26, 4 * NOISE), "the model is not shown to tell strong from weak: "),
        (estimate(-1.0), "the model does not tell strong from weak: strong minus weak is -1"),
    ],
)
def test_equality_is_not_applicable_where_the_reading_does_not_move_and_says_the_number(reference, words) -> None:
    verdict, reason, evidence = measured(EQUAL, reference)
    assert verdict is Verdict.NOT_APPLICABLE
    assert reason.startswith(words)
    assert "logit, at least 0.25 needed; where a difference that should matter is not seen" in reason
    assert f"[{entry(evidence).effect.lower:.3g}, {entry(evidence).effect.upper:.3g}]" in reason
    assert entry(evidence).verdict is Verdict.NOT_APPLICABLE
    measured_values = [row.measurement for row in evidence.items.values() if not row.effect]
    assert measured_values.count("strong minus weak") == N


def test_an_undecided_equality_of_a_reading_that_does_not_move_is_not_applicable_either() -> None:
    assert measured(estimate(0.24), estimate(0.02))[0] is Verdict.NOT_APPLICABLE
    assert measured(estimate(0.24), estimate(1.0))[0] is Verdict.INCONCLUSIVE


def test_a_difference_that_was_found_stands_though_nothing_that_should_matter_does() -> None:
    verdict, reason, evidence = measured(estimate(-1.0), estimate(0.0))
    assert verdict is Verdict.FAIL
    assert "lies outside ±0.25" in reason
    assert entry(evidence).verdict is None
    assert entry(evidence).reason.endswith("the claim failed, so a difference was seen, and the failure stands")


def test_a_difference_that_may_be_chance_does_not_stand() -> None:
    """As among several comparisons of one claim, where Holm's procedure takes a FAIL back."""

    def claimed(reason: str) -> None:
        with gathering(), sensitivity("strong from weak", estimate(0.0), by=0.25):
            estimate(-1.0).equals(0.0, within=0.25)
            raise Inconclusive(reason)

    with pytest.raises(NotApplicable, match="does not tell strong from weak"):
        claimed("holm: this can be chance")
    with pytest.raises(Inconclusive, match="no_items"):
        claimed("no_items: of another comparison")


def test_a_reference_without_an_interval_leaves_the_claim_undecided() -> None:
    verdict, reason, evidence = measured(EQUAL, estimate(1.0, np.zeros(N)))
    assert verdict is Verdict.INCONCLUSIVE
    assert "whether the model tells strong from weak: constant: every item has the same value" in reason
    assert entry(evidence).verdict is Verdict.INCONCLUSIVE


def test_a_failed_control_is_an_error_whatever_the_reference_says() -> None:
    assert measured(EQUAL, estimate(0.0), controlled=estimate(-1.0))[0] is Verdict.ERROR


def test_the_baseline_must_have_told_the_same_apart() -> None:
    moves, dead = estimate(1.0), estimate(0.0)
    assert measured(EQUAL, moves, baseline=lambda _: moves)[0] is Verdict.PASS
    verdict, reason, evidence = measured(EQUAL, moves, baseline=lambda _: dead)
    assert verdict is Verdict.NOT_APPLICABLE
    assert reason.startswith("the model does not tell strong from weak on the baseline: ")
    assert [one.name for one in evidence.controls][1] == "sensitivity: tells strong from weak on the baseline"


def test_what_the_baseline_tells_and_the_candidate_does_not_is_lost_or_undecided() -> None:
    moves = estimate(1.0)
    assert measured(EQUAL, estimate(0.0), baseline=lambda _: moves)[0] is Verdict.NOT_APPLICABLE, "lost"
    verdict, reason, _ = measured(EQUAL, estimate(0.26, 4 * NOISE), baseline=lambda _: moves)
    assert verdict is Verdict.INCONCLUSIVE
    assert reason.endswith("the baseline does, so whether the candidate has lost it is undecided")
    dead = estimate(0.0)
    assert measured(EQUAL, estimate(0.26, 4 * NOISE), baseline=lambda _: dead)[0] is Verdict.NOT_APPLICABLE


def test_without_a_baseline_the_claim_says_what_it_lacks_first_of_all_the_reaction() -> None:
    def none(_: Estimate) -> Estimate:
        raise NotApplicable("there is no baseline")

    alive, dead = (sensitivity("strong from weak", estimate(x), by=0.25, baseline=none) for x in (1.0, 0.0))
    with gathering() as evidence, pytest.raises(NotApplicable, match=r"^there is no baseline"), alive:
        none(EQUAL)
    assert [one.verdict for one in evidence.controls] == [Verdict.PASS]
    with gathering() as evidence, pytest.raises(NotApplicable, match=r"^the model does not .*; there is no"), dead:
        none(EQUAL)
    assert [one.verdict for one in evidence.controls] == [Verdict.NOT_APPLICABLE]


def test_where_a_claim_is_about_several_places_the_reading_must_move_at_each() -> None:
    verdict, _, evidence = measured(EQUAL, [estimate(1.0), estimate(0.5)])
    assert verdict is Verdict.PASS
    assert len(evidence.controls) == 2
    assert measured(EQUAL, [estimate(1.0), estimate(0.0)])[0] is Verdict.NOT_APPLICABLE


def test_in_a_notebook_the_exceptions_pass_through() -> None:
    with sensitivity("strong from weak", estimate(1.0), by=0.25):
        assert estimate(0.0).equals(0.0, within=0.25)
    dead = sensitivity("strong from weak", estimate(0.0), by=0.25)
    with pytest.raises(NotApplicable, match="does not tell strong from weak"), dead:
        assert estimate(0.0).equals(0.0, within=0.25)
    dead = sensitivity("strong from weak", estimate(0.0), by=0.25)
    with pytest.raises(AssertionError), dead:
        assert estimate(-1.0).equals(0.0, within=0.25)


@pytest.mark.parametrize("by", [float("nan"), float("inf")])
def test_the_amount_must_be_a_number(by: float) -> None:
    with pytest.raises(ValueError, match="must be finite"), sensitivity("x from y", estimate(1.0), by=by):
        pass
