"""Non-inferiority, exact comparison, and how many items would decide."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditkit.claims.evidence import gathering
from auditkit.claims.outcomes import Inconclusive, NotApplicable, Threshold
from auditkit.record.schema import Verdict
from auditkit.stats.effects.exact import exactly
from auditkit.stats.effects.mean import Estimate, mean_difference, recovery
from auditkit.stats.effects.rate import rate
from auditkit.stats.measurement import Measurement, MeasurementError

pytestmark = pytest.mark.unit

RAMP = np.linspace(-1, 1, 20)


def undecided(comparison) -> str:
    with pytest.raises(Inconclusive) as raised:
        comparison()
    effect = raised.value.decision.effect
    assert (effect.lower, effect.upper, effect.p_fail) == (None, None, None)
    return str(raised.value).split(":")[0]


def moved(estimate: Estimate, order) -> Estimate:
    return estimate._taken(np.asarray(order))


# -- p-values --------------------------------------------------------------------------------------------------


@given(st.floats(-3, 3), st.sampled_from([">=", ">", "<=", "<", "within"]), st.integers(0, 10**6))
def test_fail_and_a_small_p_are_the_same(estimate, threshold, relation, seed):
    values = np.random.default_rng(seed).normal(size=12)
    effect = estimate(values).describe(relation, abs(threshold) + 0.01 if relation == "within" else threshold)
    fails = {
        ">": effect.upper < effect.threshold,
        "<": effect.lower > effect.threshold,
        "w": effect.lower > effect.threshold or effect.upper < -effect.threshold,
    }[relation[0]]
    if relation != "within":
        assert fails == (effect.p_fail < 0.025)
    else:  # either margin may be crossed by chance, so p is a little larger than that of the nearer one
        assert fails or effect.p_fail > 0.025


# -- no worse than a baseline ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shift", "better", "verdict"),
    [
        (0.0, "higher", Verdict.PASS), (-0.02, "higher", Verdict.PASS), (-0.5, "higher", Verdict.FAIL),
        (0.5, "higher", Verdict.PASS), (0.5, "lower", Verdict.FAIL), (-0.5, "lower", Verdict.PASS),
    ],
)  # fmt: skip
def test_no_worse_than_is_about_the_paired_difference(estimate, shift, better, verdict):
    base = 100 * RAMP
    noise = 0.01 * np.tile([1.0, -1.0, 2.0, -2.0], 5)
    with gathering() as evidence:
        outcome = estimate(base + shift + noise).no_worse_than(estimate(base), by=0.1, better=better)
    assert outcome.verdict is verdict
    effect = evidence.decisions[0].effect
    assert effect.estimate == pytest.approx(shift)
    assert effect.threshold == (-0.1 if better == "higher" else 0.1)
    assert f"paired non-inferiority, margin 0.1, {better} is better" in effect.method


def test_items_are_matched_by_id_and_not_by_place(estimate):
    noise = 0.01 * np.tile([1.0, -1.0, 2.0, -2.0], 5)
    base = estimate(100 * RAMP)
    shuffled = moved(base, np.random.default_rng(1).permutation(20))
    candidate = estimate(100 * RAMP - 0.02 + noise)
    assert candidate.no_worse_than(shuffled, by=0.1, better="higher")
    assert candidate.change_from(shuffled).describe() == candidate.change_from(base).describe()


def test_items_without_a_partner_leave_it_undecided(estimate):
    whole, part = estimate(RAMP), moved(estimate(RAMP + 5), range(15))
    assert undecided(lambda: part.no_worse_than(whole, by=1, better="higher")) == "unmatched_items"
    assert undecided(lambda: whole.no_worse_than(part, by=10, better="higher")) == "unmatched_items"


def test_no_common_items_leave_it_undecided(estimate):
    one, other = moved(estimate(RAMP), range(10)), moved(estimate(RAMP), range(10, 20))
    assert undecided(lambda: one.no_worse_than(other, by=1, better="higher")) == "unmatched_items"


def test_other_clusters_leave_it_undecided(estimate):
    other = estimate(RAMP, clusters=[[i // 2 for i in range(20)]])
    assert undecided(lambda: estimate(RAMP).no_worse_than(other, by=1, better="higher")) == "unmatched_clusters"


def test_identical_models_are_undecided_and_not_proven_equal(estimate):
    assert undecided(lambda: estimate(RAMP).no_worse_than(estimate(RAMP), by=1, better="higher")) == "constant"


def shares(table, rng, share: float, total: float):
    effect = total + 0.3 * rng.normal(size=40)
    conditions = {"corrupt": np.zeros(40), "clean": effect, "mlp": share * effect + 0.05 * rng.normal(size=40)}
    return recovery(table(conditions, range(40)), "mlp", clean="clean", corrupt="corrupt", name="recovery")


def test_shares_of_two_models_are_compared_though_their_denominators_differ(table):
    rng = np.random.default_rng(5)
    base, same, worse = shares(table, rng, 0.6, 3), shares(table, rng, 0.6, 5), shares(table, rng, 0.3, 5)
    change = worse.change_from(base).describe()
    assert change.estimate == pytest.approx(worse.describe().estimate - base.describe().estimate)
    assert same.no_worse_than(base, by=0.1, better="higher")
    assert not worse.no_worse_than(base, by=0.1, better="higher")
    nothing = shares(table, rng, 0.6, 0.0)
    with pytest.raises(NotApplicable, match="touches zero"):
        same.no_worse_than(nothing, by=0.1, better="higher")


@pytest.mark.slow
def test_the_interval_of_a_change_of_shares_covers_95_percent(table):
    rng = np.random.default_rng(6)
    covered = 0
    for _ in range(400):
        change = shares(table, rng, 0.5, 4).change_from(shares(table, rng, 0.6, 3)).describe()
        covered += change.lower <= -0.1 <= change.upper
    assert 0.92 <= covered / 400 <= 0.98


def test_rates_of_two_models_are_paired_by_item(table):
    values = np.array([1.0] * 50 + [0.0] * 10)
    changed = values.copy()
    changed[[3, 55]] = 0, 1
    base, candidate, worse = (
        rate(table({"right": v}, range(60)), "right", name="accuracy") for v in (values, changed, 1 - values)
    )
    assert candidate.no_worse_than(base, by=0.1, better="higher")
    assert not worse.no_worse_than(base, by=0.1, better="higher")
    assert undecided(lambda: base.no_worse_than(base, by=0.1, better="higher")) == "constant"


@pytest.mark.parametrize(("by", "better"), [(0, "higher"), (-1, "higher"), (math.nan, "higher"), (1, "up")])
def test_margin_and_direction_must_be_stated(estimate, by, better):
    with pytest.raises(ValueError, match=r"margin|better must be"):
        estimate(RAMP).no_worse_than(estimate(RAMP + 1), by=by, better=better)


def test_the_margin_keeps_its_source(estimate):
    margin = Threshold(1.0, "policy 7")
    decision = estimate(RAMP).no_worse_than(estimate(1.1 * RAMP), by=margin, better="higher")
    assert decision.threshold_source == "policy 7"


def test_other_units_are_refused(estimate, table):
    rates_ = mean_difference(table({"a": RAMP, "b": 2 * RAMP}, range(20)), "a", "b", name="x")
    other = Estimate("y", "nats", rates_.measurement, RAMP)
    with pytest.raises(MeasurementError, match=r"logit.*nats"):
        rates_.no_worse_than(other, by=1, better="higher")


# -- exact -----------------------------------------------------------------------------------------------------

WHOLE = {"population": "the prompts of policy 7", "size": 10}


def test_an_exact_comparison_has_no_interval_and_says_what_it_is_over(table):
    measured = rate(table({"x": [1.0] * 8 + [0.0] * 2}, range(10)), "x", name="refusals")
    with gathering() as evidence:
        assert exactly(measured, **WHOLE) >= 0.8
        assert not exactly(measured, **WHOLE) > 0.8
        assert exactly(measured, **WHOLE).equals(0.8, within=0.01)
    effect = evidence.decisions[0].effect
    assert (effect.estimate, effect.lower, effect.upper, effect.mde, effect.n) == (0.8, None, None, None, 10)
    assert effect.exact
    assert "the prompts of policy 7, 10 items" in effect.method
    assert [d.effect.p_fail for d in evidence.decisions] == [1.0, 0.0, 1.0]
    assert (
        evidence.decisions[0].reason
        == "the value over all 10 items of the prompts of policy 7 is exactly 0.8, which is at or above 0.8"
    )


def test_a_constant_population_and_one_of_a_single_item_can_be_exact(estimate):
    assert exactly(estimate([1.0] * 10), **WHOLE) >= 1.0
    assert exactly(estimate([2.0]), population="the one prompt", size=1) > 1


def test_every_item_of_a_population_has_the_same_weight(estimate):
    clustered = estimate([0.0] * 9 + [1.0], clusters=[[0] * 9 + [1]])
    assert exactly(clustered, **WHOLE).describe().estimate == 0.1
    share = estimate([1.0, 2.0], [2.0, 4.0])
    assert exactly(share, population="both", size=2).describe().estimate == 0.5


@pytest.mark.parametrize(
    ("code", "values", "size"),
    [
        ("incomplete_population", [1.0] * 9, 10),
        ("incomplete_population", [1.0] * 11, 10),
        ("non_finite", [1.0] * 9 + [math.nan], 10),
        ("non_finite", [1.0] * 9 + [math.inf], 10),
        ("no_items", [], 10),
    ],
)
def test_a_sample_cannot_pass_for_the_population(estimate, code, values, size):
    for compare in (lambda e: e >= 0, lambda e: e <= 9):
        assert (
            undecided(lambda compare=compare: compare(exactly(estimate(values), population="p", size=size)))
            == code
        )


def test_a_population_must_be_named(estimate):
    for unnamed in ({"population": " ", "size": 10}, {"population": "p", "size": 0}):
        with pytest.raises(ValueError, match="names its population"):
            exactly(estimate([1.0] * 10), **unnamed)


# -- items needed ----------------------------------------------------------------------------------------------


def grid(rng, one: int, two: int, spread, centre: float) -> Estimate:
    first, second = (g.ravel() for g in np.meshgrid(np.arange(one), np.arange(two), indexing="ij"))
    values = centre + spread[0] * rng.normal(size=one)[first] + spread[1] * rng.normal(size=two)[second]
    values = values + spread[2] * rng.normal(size=one * two)
    table = Measurement("m", "logit", pd.DataFrame({"x": values}), pd.DataFrame({"a": first, "b": second}))
    return Estimate("effect", "logit", table, values)


@pytest.mark.parametrize("spread", [(1.0, 1.0, 0.2), (0.2, 0.2, 3.0)], ids=["clusters", "items"])
def test_a_crossed_design_is_told_to_grow_both_factors(spread):
    """Where clusters dominate, n items decide only if both factors have sqrt(n) clusters; where items do, fewer."""
    rng = np.random.default_rng(8)
    found = [grid(rng, 10, 10, spread, 0.35).describe(">=", 0.0) for _ in range(60)]
    needed = [e.items_needed for e in found if e.items_needed]
    assert len(needed) > 10
    assert {e.items_assume for e in found if e.items_needed} == {"a and b"}
    true_variance = (spread[0] ** 2 + spread[1] ** 2) / 10 + spread[2] ** 2 / 100
    assert min(needed) > 100
    one = next(e for e in found if e.items_needed)
    side = round(math.sqrt(one.items_needed))
    again = (spread[0] ** 2 + spread[1] ** 2) / side + spread[2] ** 2 / side**2
    assert again < true_variance * 1.0


def once(rng, clusters: int, spread, centre: float) -> Estimate:
    """Every cluster of either factor in one item."""
    values = centre + sum(part * rng.normal(size=clusters) for part in spread)
    names = pd.DataFrame({"a": np.arange(clusters), "b": rng.permutation(clusters)})
    table = Measurement("m", "logit", pd.DataFrame({"x": values}), names)
    return Estimate("effect", "logit", table, values)


def test_a_design_that_meets_every_cluster_once_needs_as_many_times_the_clusters_as_runs():
    """Its items are independent, so the number is that of a design with one factor."""
    rng = np.random.default_rng(9)
    for _ in range(20):
        estimate = once(rng, 24, (1.0, 0.5, 0.2), 0.35)
        measured = estimate.measurement
        one = Estimate(
            "effect", "logit", Measurement("m", "logit", measured.values, measured.clusters[["a"]]),
            estimate.numerator,
        )  # fmt: skip
        both, single = estimate.describe(">=", 0.0), one.describe(">=", 0.0)
        assert (both.lower, both.upper) == pytest.approx((single.lower, single.upper))
        assert both.df == single.df == 23
        assert both.items_needed == single.items_needed
        assert both.items_range == single.items_range
        if both.items_needed:
            assert both.items_assume == "a, with as many of b"


@pytest.mark.slow
def test_items_needed_of_a_grid_decide_about_80_percent_of_experiments():
    rng = np.random.default_rng(10)
    spread = (0.8, 0.8, 1.0)
    while True:  # an experiment that happens to show the truth
        effect = (first := grid(rng, 10, 10, spread, 0.5)).describe(">=", 0.0)
        spread_seen = first._nearest(">=", 0.0)[1] / math.sqrt((0.64 + 0.64) / 10 + 1 / 100)
        if effect.items_needed and abs(effect.estimate - 0.5) < 0.05 and abs(spread_seen - 1) < 0.05:
            break
    side = math.ceil(math.sqrt(effect.items_needed))
    passed = sum(grid(rng, side, side, spread, 0.5).describe(">=", 0.0).lower >= 0 for _ in range(300))
    assert 0.7 <= passed / 300 <= 0.95
