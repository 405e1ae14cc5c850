"""Estimates: what they decide, what they refuse to decide, and what they say about it."""

from __future__ import annotations

import math
import operator
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats

from auditkit.claims.evidence import Decision, gathering
from auditkit.claims.outcomes import Inconclusive, NotApplicable, Threshold
from auditkit.record.schema import Effect, Verdict
from auditkit.stats.effects.mean import Estimate, mean_difference, recovery
from auditkit.stats.intervals import critical
from auditkit.stats.measurement import MeasurementError

pytestmark = [
    pytest.mark.unit,
    pytest.mark.filterwarnings("ignore:overflow encountered"),
    pytest.mark.filterwarnings("ignore:invalid value encountered"),
]

COMPARE = {">=": operator.ge, ">": operator.gt, "<=": operator.le, "<": operator.lt}
RELATIONS = (*COMPARE, "within")

ordinary = st.floats(-100, 100).map(lambda x: round(x, 3))
hostile = st.one_of(
    st.floats(),
    st.sampled_from([0.0, -0.0, 5e-324, 1e-200, 1e154, -1e155, 1.7e308, math.nan, math.inf, -math.inf, 1.0]),
)
labels = st.integers(0, 7)
thresholds = st.one_of(ordinary, st.floats(allow_nan=False, allow_infinity=False))


@st.composite
def columns(draw, values=ordinary, max_items=14):
    """Numerator, denominator or None, and one or two factors of cluster labels."""
    n = draw(st.integers(1, max_items))
    column = st.lists(values, min_size=n, max_size=n)
    factor = st.one_of(st.just(list(range(n))), st.lists(labels, min_size=n, max_size=n))
    return draw(column), draw(st.none() | column), draw(st.lists(factor, min_size=1, max_size=2))


def ask(estimate: Estimate, relation: str, threshold: float) -> Decision:
    if relation == "within":
        return estimate.equals(0, within=abs(threshold) or 1.0)
    return COMPARE[relation](estimate, threshold)


def outcome(estimate: Estimate, relation: str, threshold: float) -> tuple[Verdict, str, Effect | None]:
    try:
        decision = ask(estimate, relation, threshold)
    except Inconclusive as error:
        return Verdict.INCONCLUSIVE, str(error), error.decision.effect
    except NotApplicable as error:
        return Verdict.NOT_APPLICABLE, str(error), None
    assert isinstance(decision, Decision)
    assert bool(decision) == (decision.verdict is Verdict.PASS)
    return decision.verdict, decision.reason, decision.effect


def spread_around(centre: float, n: int = 12, width: float = 1.0) -> np.ndarray:
    values = np.linspace(-width, width, n)
    return centre + values - values.mean()


# -- planted data ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("relation", "threshold", "verdict"),
    [
        (">=", 1.0, Verdict.PASS), (">=", 3.0, Verdict.FAIL), (">=", 2.1, Verdict.INCONCLUSIVE),
        (">", 1.0, Verdict.PASS), (">", 3.0, Verdict.FAIL), (">", 1.9, Verdict.INCONCLUSIVE),
        ("<=", 3.0, Verdict.PASS), ("<=", 1.0, Verdict.FAIL), ("<=", 2.1, Verdict.INCONCLUSIVE),
        ("<", 3.0, Verdict.PASS), ("<", 1.0, Verdict.FAIL), ("<", 1.9, Verdict.INCONCLUSIVE),
        ("within", 3.0, Verdict.PASS), ("within", 1.0, Verdict.FAIL), ("within", 2.1, Verdict.INCONCLUSIVE),
    ],
)  # fmt: skip
def test_a_mean_of_two_is_judged_by_its_whole_interval(estimate, relation, threshold, verdict):
    assert outcome(estimate(spread_around(2.0)), relation, threshold)[0] is verdict


def test_equality_with_a_number_is_about_the_difference(estimate):
    assert estimate(spread_around(2.0)).equals(2.1, within=1.0)
    assert not estimate(spread_around(2.0)).equals(5.0, within=1.0)


@pytest.mark.parametrize("relation", COMPARE)
def test_strict_and_loose_relations_differ_exactly_at_the_bound(estimate, relation):
    effect = estimate(spread_around(2.0)).describe()
    bound = effect.lower if relation[0] == ">" else effect.upper
    expected = Verdict.PASS if relation in (">=", "<=") else Verdict.INCONCLUSIVE
    assert outcome(estimate(spread_around(2.0)), relation, bound)[0] is expected


def test_the_number_may_stand_on_the_left_and_in_a_chain(estimate):
    two = estimate(spread_around(2.0))
    assert two >= 1.0
    assert 1.0 < two < 3.0
    assert np.float64(1.0) <= two
    assert Threshold(1.0, "paper") <= two


def test_a_recovery_is_the_ratio_of_means_and_not_the_mean_of_ratios(table):
    rng = np.random.default_rng(0)
    total = rng.normal(2.5, 1.4, 30)
    measured = table(
        {"corrupt": np.zeros(30), "clean": total, "mlp": 0.75 * total + rng.normal(0, 0.1, 30)}, range(30)
    )
    share = recovery(measured, "mlp", clean="clean", corrupt="corrupt", name="recovery")
    effect = share.describe()
    assert effect.estimate == pytest.approx(measured.condition("mlp").mean() / total.mean())
    assert effect.estimate == pytest.approx(0.75, abs=0.03)
    assert share >= 0.6
    assert not share >= 0.9


def test_a_mean_difference_is_paired_by_item(table):
    base = np.linspace(0, 1000, 12)
    measured = table({"before": base, "after": base + spread_around(2.0)}, range(12))
    assert mean_difference(measured, "after", "before", name="change") > 1.0


# -- deciding, whatever the data -------------------------------------------------------------------------------


@given(columns(), st.sampled_from(RELATIONS), thresholds)
def test_a_comparison_is_decided_or_raises(estimate, data, relation, threshold):
    numerator, denominator, clusters = data
    outcome(estimate(numerator, denominator, clusters=clusters), relation, threshold)


@given(data=columns(values=hostile), relation=st.sampled_from(RELATIONS), threshold=thresholds)
@example(
    data=([0.0] * 9 + [1.6e78], None, [[*range(10)], [0, 0, 0, 0, 0, 0, 1, 2, 3, 4]]), relation=">=", threshold=0
)
@settings(max_examples=300)
def test_hostile_numbers_change_nothing_about_that(estimate, data, relation, threshold):
    numerator, denominator, clusters = data
    outcome(estimate(numerator, denominator, clusters=clusters), relation, threshold)


@given(columns(), st.sampled_from(RELATIONS), ordinary)
def test_the_decision_follows_from_the_displayed_interval(estimate, data, relation, threshold):
    numerator, denominator, clusters = data
    verdict, reason, effect = outcome(estimate(numerator, denominator, clusters=clusters), relation, threshold)
    if verdict is Verdict.NOT_APPLICABLE or (verdict is Verdict.INCONCLUSIVE and effect.lower is None):
        return
    low, high, bound = effect.lower, effect.upper, effect.threshold
    assert low < high
    assert low <= effect.estimate <= high
    right, wrong = {
        ">=": (low >= bound, high < bound),
        ">": (low > bound, high <= bound),
        "<=": (high <= bound, low > bound),
        "<": (high < bound, low >= bound),
        "within": (-bound <= low <= high <= bound, low > bound or high < -bound),
    }[relation]
    assert verdict is (Verdict.PASS if right else Verdict.FAIL if wrong else Verdict.INCONCLUSIVE), reason
    assert effect.items_needed is None or (verdict is Verdict.INCONCLUSIVE and effect.items_needed > effect.n)


@given(columns(), ordinary)
def test_a_pass_of_one_side_is_never_a_pass_of_the_other(estimate, data, threshold):
    numerator, denominator, clusters = data
    effect = estimate(numerator, denominator, clusters=clusters)
    above, below = outcome(effect, ">=", threshold)[0], outcome(effect, "<", threshold)[0]
    opposite = {Verdict.PASS: Verdict.FAIL, Verdict.FAIL: Verdict.PASS}
    assert below is opposite.get(above, above)


@given(columns(), ordinary.filter(bool), st.integers(-8, 8))
def test_units_do_not_matter(estimate, data, threshold, power):
    numerator, denominator, clusters = data
    scale = 2.0**power  # exact, so that not even a bound moves
    one = estimate(numerator, denominator, clusters=clusters)
    denominator_too = None if denominator is None else np.array(denominator) * scale
    other = estimate(np.array(numerator) * scale, denominator_too, clusters=clusters)
    moved = threshold if denominator is not None else threshold * scale
    assert outcome(one, ">=", threshold)[0] is outcome(other, ">=", moved)[0]


@given(columns(values=hostile), st.none() | st.sampled_from(RELATIONS), st.none() | st.floats())
@settings(max_examples=300)
def test_describe_never_raises_and_its_numbers_fit_the_record(estimate, data, relation, threshold):
    numerator, denominator, clusters = data
    effect = estimate(numerator, denominator, clusters=clusters).describe(relation, threshold)
    for name in ("estimate", "lower", "upper", "threshold", "standardized", "mde"):
        value = getattr(effect, name)
        assert value is None or (type(value) is float and math.isfinite(value)), name
    assert (effect.lower is None) == (effect.upper is None)
    assert msgspec.json.decode(msgspec.json.encode(effect), type=Effect) == effect


@pytest.mark.parametrize("threshold", [math.nan, math.inf, -math.inf])
def test_a_threshold_must_be_a_number(estimate, threshold):
    with pytest.raises(ValueError, match="finite number"):
        _ = estimate(spread_around(2.0)) >= threshold


@pytest.mark.parametrize("margin", [0, -0.1, math.nan, math.inf])
def test_an_equivalence_margin_must_be_positive_and_finite(estimate, margin):
    with pytest.raises(ValueError, match="positive and finite"):
        estimate(spread_around(0.0)).equals(0, within=margin)


def test_equality_and_truth_of_an_estimate_are_refused(estimate):
    two = estimate(spread_around(2.0))
    with pytest.raises(TypeError, match="equals"):
        _ = two == 2.0
    with pytest.raises(TypeError, match="equals"):
        _ = two != 2.0
    with pytest.raises(TypeError, match="neither true nor false"):
        bool(two)
    assert len({two, two}) == 1


def test_an_estimate_needs_one_value_per_item(table):
    with pytest.raises(MeasurementError, match="one value for each of the 6 items"):
        Estimate("effect", "logit", table({"x": range(6)}, range(6)), np.zeros(5))


# -- degenerate data -------------------------------------------------------------------------------------------

RAMP = spread_around(5.0)


@pytest.mark.parametrize(
    ("code", "numerator", "clusters"),
    [
        ("no_items", [], [[]]),
        ("no_items", [math.nan] * 6, [range(6)]),
        ("no_items", [math.inf] * 6, [range(6)]),
        ("non_finite", [*RAMP[:-1], math.nan], [range(12)]),
        ("non_finite", [*RAMP[:-1], -math.inf], [range(12)]),
        ("non_finite", RAMP * 1e250, [range(12)]),
        ("non_finite", RAMP * 1e250, [list(range(6)) * 2, sorted(list(range(6)) * 2)]),
        ("too_few_clusters", [5.0], [[0]]),
        ("too_few_clusters", RAMP, [[0] * 12]),
        ("too_few_clusters", RAMP, [[0, 1, 2, 3] * 3]),
        ("too_few_clusters", RAMP, [range(12), [0, 1, 2, 3] * 3]),
        ("constant", [5.0] * 12, [range(12)]),
        ("constant", [0.0] * 12, [range(12)]),
        ("constant", [0.1 + 0.2, 0.3] * 6, [range(12)]),
        ("constant", [1.0, 3.0] * 6, [sorted(list(range(6)) * 2)]),
        ("constant", [5.0] * 12, [range(12), list(range(6)) * 2]),
    ],
)
@pytest.mark.parametrize("relation", RELATIONS)
def test_degenerate_data_decide_nothing_and_have_no_interval(estimate, code, numerator, clusters, relation):
    degenerate = estimate(numerator, clusters=clusters)
    verdict, reason, effect = outcome(degenerate, relation, 0.1)
    assert verdict is Verdict.INCONCLUSIVE
    assert reason.startswith(f"{code}: ")
    assert (effect.lower, effect.upper, effect.items_needed) == (None, None, None)


def test_what_is_known_of_the_level_stands_beside_the_claim(estimate):
    few = estimate(RAMP, clusters=[[0, 1, 2, 3, 4, 4] * 2])
    with gathering() as evidence:
        assert few > 0
        assert few > -1
    assert [note.split(":")[0] for note in evidence.notes] == ["few clusters"], "once"
    with gathering() as evidence:
        assert few.equals(5.0, within=40)
    assert [note.split(":")[0] for note in evidence.notes] == ["few clusters"], (
        "a narrower level cures no skewness"
    )
    with gathering() as evidence:
        assert estimate(np.tile(RAMP, 2), clusters=[range(24)]) > 0
    assert evidence.notes == []


def test_five_clusters_are_enough(estimate):
    assert estimate(RAMP, clusters=[[0, 1, 2, 3, 4, 4] * 2]) > 0


@pytest.mark.parametrize("share", [0.0, 0.7, 1.0])
def test_items_that_all_recover_the_same_share_have_no_zero_width_interval(estimate, share):
    verdict, reason, effect = outcome(estimate(share * RAMP, RAMP), ">=", 0.3)
    assert verdict is Verdict.INCONCLUSIVE
    assert reason.startswith("constant: ")
    assert effect.lower is None


def test_a_constant_numerator_over_a_varying_denominator_has_an_interval(estimate):
    share = estimate(np.full(12, 5.0), RAMP)
    assert share >= 0.5
    assert share.describe().lower < 1 < share.describe().upper


def test_a_share_very_close_to_one_keeps_an_honest_interval(estimate):
    noise = 1e-9 * np.tile([1.0, -1.0, 2.0], 4)
    effect = estimate(RAMP + noise, RAMP).describe()
    expected = critical(11) * (noise - noise.mean()).std(ddof=1) / math.sqrt(12) / RAMP.mean()
    assert (effect.upper - effect.lower) / 2 == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("scale", [1e-100, 1e-13, 1e13, 1e100])
def test_small_and_large_units_are_not_degenerate(estimate, scale):
    assert estimate(RAMP * scale) > 4 * scale


# -- denominators ----------------------------------------------------------------------------------------------


def test_a_share_of_no_effect_is_not_applicable(estimate):
    verdict, reason, _ = outcome(estimate(RAMP, spread_around(0.05)), ">=", 0.3)
    assert verdict is Verdict.NOT_APPLICABLE
    assert "touches zero" in reason


def test_a_share_of_exactly_no_effect_is_not_applicable(estimate):
    share = estimate(RAMP, [-1.0, 1.0] * 6)
    assert outcome(share, ">=", 0.3)[0] is Verdict.NOT_APPLICABLE
    assert share.describe().estimate is None


def test_a_share_of_an_effect_of_the_opposite_sign_is_not_applicable(estimate):
    verdict, reason, _ = outcome(estimate(-0.8 * RAMP + spread_around(0, width=0.1)[::-1], -RAMP), ">=", 0.3)
    assert verdict is Verdict.NOT_APPLICABLE
    assert "opposite sign" in reason


# -- differences -----------------------------------------------------------------------------------------------


def two_recoveries(table, **changes):
    rng = np.random.default_rng(4)
    total = rng.normal(3, 0.5, 20)
    conditions = {"corrupt": np.zeros(20), "clean": total}
    conditions |= {"early": 0.6 * total + rng.normal(0, 0.2, 20), "late": 0.2 * total + rng.normal(0, 0.2, 20)}
    measured = table(conditions, range(20), **changes)
    return [recovery(measured, site, clean="clean", corrupt="corrupt", name=site) for site in ("early", "late")]


def test_a_difference_of_recoveries_is_paired_and_keeps_its_denominator(table):
    early, late = two_recoveries(table)
    difference = (early - late).describe()
    assert difference.estimate == pytest.approx(early.describe().estimate - late.describe().estimate)
    assert early > late
    assert not early < late
    assert early.equals(late, within=0.9)


def test_comparing_two_estimates_says_what_was_paired(table):
    early, late = two_recoveries(table)
    decision = early > late
    assert decision.effect.name == "early minus late"
    assert decision.threshold_source == "paired with late"
    assert set(decision.examples[0].values) == {"corrupt", "early", "late", "clean"}


def test_an_estimate_less_itself_is_constant(table):
    early, _ = two_recoveries(table)
    assert outcome(early - early, ">=", 0.0)[1].startswith("constant: ")


@given(columns(), ordinary, ordinary)
def test_subtracting_a_number_shifts_the_interval(estimate, data, shift, threshold):
    numerator, denominator, clusters = data
    one = estimate(numerator, denominator, clusters=clusters)
    before, after = one.describe(), (one - shift).describe()
    if before.lower is None or after.lower is None:
        return
    size = abs(shift) + abs(before.lower) + abs(before.upper)
    assert after.lower == pytest.approx(before.lower - shift, rel=1e-6, abs=1e-7 * size)
    assert after.upper == pytest.approx(before.upper - shift, rel=1e-6, abs=1e-7 * size)


def test_estimates_over_other_items_or_clusters_cannot_be_paired(estimate):
    for other in (estimate(RAMP[:-1]), estimate(RAMP, clusters=[list(range(6)) * 2])):
        with pytest.raises(MeasurementError, match="cannot be paired"):
            _ = estimate(RAMP) - other


def test_a_share_cannot_be_paired_with_a_mean_or_a_share_of_something_else(estimate):
    share = estimate(RAMP, RAMP + 1)
    for other in (estimate(RAMP), estimate(RAMP, RAMP + 2)):
        with pytest.raises(MeasurementError, match="share their denominator"):
            _ = share > other


def test_estimates_in_different_units_cannot_be_paired(table):
    measured = table({"x": RAMP}, range(12))
    with pytest.raises(MeasurementError, match="same unit"):
        _ = Estimate("a", "logit", measured, RAMP) - Estimate("b", "probability", measured, RAMP)


def test_a_difference_shows_both_values_when_conditions_share_a_name(table):
    one = table({"patched": RAMP, "base": np.zeros(12)}, range(12))
    two = table({"patched": RAMP[::-1] + 9, "base": np.zeros(12)}, range(12))
    ours, theirs = (mean_difference(m, "patched", "base", name=n) for m, n in ((one, "ours"), (two, "theirs")))
    worst = (ours < theirs).examples[0]
    assert set(worst.values) == {"patched", "base", "patched (theirs)"}
    row = int(worst.item.removeprefix("item"))
    assert worst.values["patched (theirs)"] == pytest.approx(RAMP[::-1][row] + 9)


# -- what is said about a decision -----------------------------------------------------------------------------


def test_a_decision_enters_the_evidence_with_its_items_before_it_raises(estimate):
    with gathering() as evidence:
        assert estimate(RAMP) > 0
        with pytest.raises(Inconclusive) as raised:
            _ = estimate(RAMP) > 5
        with pytest.raises(NotApplicable):
            _ = estimate(RAMP, spread_around(0.0)) > 5
    verdicts = [decision.verdict for decision in evidence.decisions]
    assert verdicts == [Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.NOT_APPLICABLE]
    assert raised.value.decision is evidence.decisions[1]
    measured = [row for row in evidence.items.values() if not row.effect]
    assert len(measured) == 24


def test_the_threshold_source_reaches_the_decision(estimate):
    assert (estimate(RAMP) > Threshold(0.3, "table 2")).threshold_source == "table 2"
    assert (estimate(RAMP) > 0.3).threshold_source == "written in the claim"
    assert estimate(RAMP).equals(5, within=Threshold(3, "policy")).threshold_source == "policy"


@pytest.mark.parametrize(
    ("relation", "worst", "median"),
    [
        (">=", ["item0", "item1"], "item3"),
        (">", ["item0", "item1"], "item3"),
        ("<=", ["item5", "item4"], "item2"),
        ("<", ["item5", "item4"], "item2"),
        ("within", ["item5", "item0"], "item1"),
    ],
)
def test_examples_are_the_two_worst_items_and_the_median(estimate, relation, worst, median):
    effect = estimate([-9.0, -2.0, -0.5, 1.0, 4.0, 11.0])
    bound = 100.0 if relation != ">=" and relation != ">" else -100.0
    examples = ask(effect, relation, bound).examples
    assert [e.item for e in examples if e.rank == "worst"] == worst
    assert [e.item for e in examples if e.rank == "median"] == [median]
    assert examples[0].prompts == {"numerator": f"numerator of {worst[0]}"}


def test_examples_of_a_share_are_worst_by_the_tested_contrast(estimate):
    denominator = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    numerator = denominator * [0.9, 0.9, 0.9, 0.9, 0.5, 0.9]
    assert (estimate(numerator, denominator) >= 0.3).examples[0].item == "item0"
    assert outcome(estimate(numerator, denominator), ">=", 0.8)[0] is Verdict.INCONCLUSIVE
    with pytest.raises(Inconclusive) as raised:
        _ = estimate(numerator, denominator) >= 0.8
    assert raised.value.decision.examples[0].item == "item4"


def test_items_that_are_not_named_by_text_have_examples_too(table):
    named = table({"x": RAMP}, range(12))
    values, clusters = named.values.reset_index(drop=True), named.clusters.reset_index(drop=True)
    numbered = type(named)("m", "logit", values, clusters)
    assert (Estimate("effect", "logit", numbered, RAMP, shown_conditions=("x",)) > 0).examples[0].item == "0"


@pytest.mark.parametrize("factors", [1, 2])
@pytest.mark.parametrize("threshold", [0.0, 6e-252, 1e-160])
def test_a_distance_of_almost_nothing_needs_more_items_than_can_be_named(estimate, factors, threshold):
    values = [1.0, -1.0, 0.5, -0.5] * 5
    clusters = [[i // 2 for i in range(20)], [i % 5 for i in range(20)]][:factors]
    effect = estimate(values, clusters=clusters).describe(">=", threshold)
    assert effect.items_needed is None


def test_items_needed_decide_about_80_percent_of_experiments(estimate):
    """The estimate that one experiment shows is taken for the truth, and experiments of that size are run."""
    undecided = estimate(spread_around(0.35, n=20, width=2.0)).describe(">=", 0.0)
    spread = float(np.std(spread_around(0.35, n=20, width=2.0), ddof=1))
    assert undecided.items_needed > 20
    rng = np.random.default_rng(2)
    passed = 0
    for _ in range(300):
        again = estimate(rng.normal(0.35, spread, undecided.items_needed)).describe(">=", 0.0)
        passed += again.lower >= 0.0
    assert 0.70 <= passed / 300 <= 0.92


def test_nothing_more_is_needed_for_a_decided_claim(estimate):
    for threshold in (1.0, 9.0):
        effect = estimate(RAMP).describe(">=", threshold)
        assert (effect.items_needed, effect.items_range) == (None, None)


def test_the_likely_range_of_items_holds_the_number_and_has_no_end_near_the_threshold(estimate):
    for centre in (0.02, 0.3, 0.4, 0.5):
        effect = estimate(spread_around(centre, n=20, width=2.0)).describe(">=", 0.0)
        least, most = effect.items_range
        assert 20 <= least <= effect.items_needed
        assert most is None or effect.items_needed <= most
        assert (most is None) == (centre < 0.2)
        assert effect.items_assume == "factor0"


def test_about_half_of_all_ranges_hold_the_number_that_the_truth_needs(estimate):
    """By the middle halves of the estimate and of its variance, which are independent: more than half, not nearly all.

    Experiments that decide, and so have no range, are those that show a large effect: their range would lie below.
    """
    truth = 0.9  # 20 items with standard deviation 2
    needed = 20 * ((critical(19) + stats.t.ppf(0.8, 19)) * 2 / math.sqrt(20) / truth) ** 2
    rng, held, decided = np.random.default_rng(3), 0, 0
    for _ in range(600):
        effect = estimate(rng.normal(truth, 2.0, 20)).describe(">=", 0.0)
        if effect.items_range is None:
            decided += 1
            continue
        least, most = effect.items_range
        held += least <= needed and (most is None or needed <= most)
    assert 0.5 <= held / (600 - decided) <= 0.95


def test_more_blocks_of_a_jackknife_are_no_more_data(estimate):
    undecided = estimate(spread_around(0.35, n=20, width=2.0))
    assert undecided.describe(">=", 0.0).items_range is not None
    effect = replace(undecided, blocks=True).describe(">=", 0.0)
    assert (effect.items_needed, effect.items_range, effect.items_assume) == (None, None, "")


def test_an_undecided_claim_says_what_it_would_need_against_what_it_has(estimate):
    with pytest.raises(
        Inconclusive, match=r"does not decide >= 0; needs .* times the clusters of factor0 \(20 now\)"
    ):
        _ = estimate(spread_around(0.35, n=20, width=2.0)) >= 0.0


def test_the_record_of_an_effect_names_its_method(estimate):
    mean, share = (
        estimate(RAMP).describe(),
        estimate(RAMP, RAMP + 1, clusters=[range(12), [*range(6)] * 2]).describe(),
    )
    assert "cluster means (factor0), t with 11 degrees of freedom" in mean.method
    assert "Fieller interval; two-way cluster-robust (factor0 x factor1), t with 11" in share.method
    assert (mean.n, mean.clusters, share.clusters) == (12, 12, 6)
    assert mean.alpha == 0.05


# -- changes of shares -----------------------------------------------------------------------------------------

SCALES = (0.1, 1.0, 10.0)
"""Size of the total effect in logits: a share must not depend on it."""


def released_and_candidate(estimate, scale, *, released, candidate, noise=(0.0, 0.0)):
    """Shares of the total effects of two models, one of which is half as large; each item is a cluster."""
    rng = np.random.default_rng(11)
    totals = [scale * rng.normal(3, 0.4, 24), scale * rng.normal(1.5, 0.2, 24)]
    return [
        estimate(share * total + by * scale * rng.normal(0, 1, 24), total)
        for share, total, by in zip((released, candidate), totals, noise, strict=True)
    ]


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(
    ("released", "candidate", "noise", "verdict"),
    [
        (1.0, 0.5, (0.0, 0.02), Verdict.FAIL),
        (1.0, 0.5, (0.02, 0.0), Verdict.FAIL),
        (0.5, 1.0, (0.0, 0.02), Verdict.PASS),
        (0.5, 1.0, (0.02, 0.0), Verdict.PASS),
        (0.9, 1.0, (0.0, 0.02), Verdict.PASS),  # better by 0.1: failed at a logit scale of 0.1
        (1.0, 1.0, (0.0, 0.02), Verdict.PASS),
    ],
)
def test_a_share_that_is_the_same_for_every_item_is_compared_as_a_share(
    estimate, scale, released, candidate, noise, verdict
):
    then, now = released_and_candidate(estimate, scale, released=released, candidate=candidate, noise=noise)
    effect = now.change_from(then).describe()
    assert effect.estimate == pytest.approx(candidate - released, abs=0.02)
    assert now.no_worse_than(then, by=0.05, better="higher").verdict is verdict


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(("released", "candidate"), [(1.0, 0.5), (0.5, 1.0), (1.0, 0.0), (0.3, 0.31)])
def test_two_constant_shares_have_their_difference_and_decide_nothing(estimate, scale, released, candidate):
    then, now = released_and_candidate(estimate, scale, released=released, candidate=candidate)
    change = now.change_from(then)
    assert change.describe().estimate == pytest.approx(candidate - released, abs=1e-12)
    assert change._degenerate.startswith("constant: ")
    with pytest.raises(Inconclusive, match="constant"):
        now.no_worse_than(then, by=0.05, better="higher")


@pytest.mark.parametrize("spoil", ["few", "nan", "refused"])
def test_a_share_without_linearised_values_is_refused_and_never_subtracted(estimate, spoil):
    n = 4 if spoil == "few" else 12
    then, now = estimate(RAMP[:n], RAMP[:n] + 1), estimate(2 * RAMP[:n], RAMP[:n] + 2)
    if spoil == "nan":
        now = replace(now, numerator=np.r_[np.nan, now.numerator[1:]])
    if spoil == "refused":
        now = replace(now, refused="not_comparable: other items")
    for change in (now.change_from(then), then.change_from(now)):
        assert change.refused.split(":")[0] in ("too_few_clusters", "non_finite", "not_comparable")
        assert change.describe().estimate is None
        with pytest.raises(Inconclusive):
            _ = change > 0


def test_a_change_of_a_share_of_no_effect_is_not_applicable_also_where_the_share_is_constant(estimate):
    nothing = spread_around(0.05)
    with pytest.raises(NotApplicable, match="touches zero"):
        estimate(nothing, nothing).change_from(estimate(RAMP, RAMP + 1))
    with pytest.raises(NotApplicable, match="opposite sign"):
        estimate(-RAMP, -RAMP).change_from(estimate(RAMP, RAMP + 1))


@given(st.floats(0.1, 10), st.floats(0.1, 10))
def test_a_change_of_shares_does_not_depend_on_the_logit_scale_of_either_model(estimate, mine, theirs):
    then, now = released_and_candidate(estimate, 1.0, released=0.8, candidate=0.6, noise=(0.0, 0.1))
    before = now.change_from(then).describe()
    scaled = replace(now, numerator=mine * now.numerator, denominator=mine * now.denominator).change_from(
        replace(then, numerator=theirs * then.numerator, denominator=theirs * then.denominator)
    )
    after = scaled.describe()
    assert (after.estimate, after.lower, after.upper) == pytest.approx(
        (before.estimate, before.lower, before.upper)
    )
