"""What became of a claim since a baseline: one rule, in which missing evidence is never an improvement."""

from __future__ import annotations

from itertools import product

import msgspec
import pytest

from auditkit.claims.changed import BECAME, CODES, WORSE, became, is_identical, one_interval
from auditkit.record.schema import Change, Claim, Effect, Lack, Recipe, Run, Verdict

pytestmark = pytest.mark.unit

replace = msgspec.structs.replace
GOOD = ("no longer fails", "holds now", "still holds")


def changed(
    claim: Claim, was: Verdict | None, now: Verdict, lack: Lack | None = None, comparable: bool = True
) -> Claim:
    change = Change(verdict=was, comparable=comparable, effects=(), reason="")
    return replace(claim, verdict=now, lack=lack, change=change)


def judging(claim: Claim, verdict: Verdict, was: Verdict) -> Claim:
    """The claim as one about the difference from a baseline, which its run shows with the interval that decides."""
    assert claim.effect is not None
    judged = replace(claim.effect, name="recovery minus the baseline", recipe=Recipe(kind="change", rows="x"))
    change = Change(verdict=was, comparable=True, effects=(judged,), reason="")
    return replace(claim, effect=judged, verdict=verdict, change=change)


@pytest.mark.parametrize(
    ("was", "now", "lack"),
    [
        case
        for case in product(
            (*Verdict, None), Verdict, (None, "behaviour", "capability", "not asked", "skipped", "not measured")
        )
        if case[1] is not Verdict.PASS
    ],
)
def test_only_a_claim_that_passes_is_ever_good_news(
    a_run: Run, was: Verdict | None, now: Verdict, lack: Lack | None
) -> None:
    for comparable in (True, False):
        word = became(changed(a_run.claims[0], was, now, lack, comparable))
        assert word in BECAME
        assert word not in GOOD


def test_a_failing_claim_that_is_not_asked_any_more_has_not_recovered(a_run: Run) -> None:
    claim = a_run.claims[0]
    assert became(changed(claim, Verdict.FAIL, Verdict.NOT_APPLICABLE, "not asked")) == "is not asked"
    assert became(changed(claim, Verdict.PASS, Verdict.NOT_APPLICABLE, "not asked")) == "is not asked"
    assert became(changed(claim, Verdict.FAIL, Verdict.NOT_APPLICABLE, "capability")) == "is no longer decided"
    assert became(changed(claim, Verdict.PASS, Verdict.INCONCLUSIVE, "not measured")) == "is gone"
    assert became(claim) is None, "the run has no baseline"


def test_everything_that_got_worse_has_an_exit_code() -> None:
    assert set(WORSE) < CODES.keys() <= set(BECAME)
    assert set(CODES) - set(WORSE) == {"is not comparable"}


@pytest.mark.parametrize("was", Verdict)
def test_a_claim_about_a_change_is_read_by_its_own_verdict(a_run: Run, was: Verdict) -> None:
    words = {verdict: became(judging(a_run.claims[0], verdict, was)) for verdict in Verdict}
    assert words[Verdict.PASS] == "holds now"
    assert words[Verdict.FAIL] == "fails now"
    assert words[Verdict.INCONCLUSIVE] == "is still open"


def test_a_difference_keeps_the_interval_that_decides(a_run: Run) -> None:
    claim = judging(a_run.claims[0], Verdict.PASS, Verdict.NOT_APPLICABLE)
    assert claim.effect is not None
    margin = replace(claim, effect=replace(claim.effect, name=f"{claim.effect.name} minus 0"))
    wider = replace(claim.effect, lower=0.45, threshold=None, recipe=None)
    other = replace(wider, name="another minus the baseline")
    for one in (claim, margin):
        shown, beside = one_interval([wider, other], one)
        assert one.effect is not None
        assert (shown.name, shown.lower, shown.threshold) == (wider.name, one.effect.lower, one.effect.threshold)
        assert beside is other


def test_an_identical_difference_stays_identical_where_its_claim_has_no_interval(a_run: Run) -> None:
    claim = judging(a_run.claims[0], Verdict.INCONCLUSIVE, Verdict.NOT_APPLICABLE)
    assert claim.effect is not None
    undecided = replace(claim, effect=replace(claim.effect, lower=None, upper=None))
    refused = Recipe(kind="change", rows="x", refused="identical: the same value on every item")
    same: Effect = replace(claim.effect, estimate=0.0, lower=None, upper=None, threshold=None, recipe=refused)
    (shown,) = one_interval([same], undecided)
    assert is_identical(shown)
    assert shown.threshold == claim.effect.threshold, "the margin stands beside it"
