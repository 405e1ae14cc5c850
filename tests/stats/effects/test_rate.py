"""Rates and contrasts of rates: their intervals, their rule for clusters, and what they leave undecided."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import auditkit
from auditkit.claims.outcomes import Inconclusive
from auditkit.record.schema import Verdict
from auditkit.stats.deflation import deflation
from auditkit.stats.effects.mean import Estimate, mean_difference
from auditkit.stats.effects.rate import rate
from auditkit.stats.measurement import Measurement, MeasurementError
from auditkit.stats.proportions import (
    paired_interval,
    paired_statistic,
    score_interval,
    score_statistic,
    wilson,
)
from auditkit.stats.signs import signs
from auditkit.stats.simulations import rates_paired

pytestmark = pytest.mark.unit

counts = st.integers(0, 30)


def hits(of: int, n: int) -> list[float]:
    return [1.0] * of + [0.0] * (n - of)


def undecided(comparison) -> str:
    with pytest.raises(Inconclusive) as raised:
        comparison()
    assert raised.value.decision.effect.lower is None
    return str(raised.value).split(":")[0]


# -- intervals -------------------------------------------------------------------------------------------------


@given(st.integers(0, 40), st.integers(1, 40))
def test_wilson_is_the_library_s(x, n):
    x = min(x, n)
    expected = stats.binomtest(x, n).proportion_ci(0.95, method="wilson")
    assert wilson(x / n, n, stats.norm.ppf(0.975)) == pytest.approx(tuple(expected), abs=1e-9)


@pytest.mark.parametrize(
    ("table", "compare", "published"),
    [
        ((56, 70, 48, 80), "difference", (0.0528, 0.3382)),  # Newcombe 1998, table II a, method 5
        ((36, 40, 16, 80), "ratio", (2.94, 7.15)),  # Koopman 1984
        ((5, 10, 10, 10), "ratio", (0.2317, 0.8033)),  # Koopman's, as docs/decisions/statistics.md has it
    ],
)
def test_score_intervals_are_the_published_ones(table, compare, published):
    x1, n1, x0, n0 = table
    assert score_interval(x1 / n1, n1, x0 / n0, n0, compare, 1.959964) == pytest.approx(published, rel=3e-3)


@given(counts, counts, st.integers(2, 30), st.integers(2, 30), st.sampled_from(["ratio", "difference"]))
@settings(max_examples=200, deadline=None)
def test_score_bounds_are_where_the_statistic_is_just_critical(x1, x0, n1, n0, compare):
    p1, p0 = min(x1, n1) / n1, min(x0, n0) / n0
    lower, upper = score_interval(p1, n1, p0, n0, compare, 1.96)
    assert lower < upper
    if compare == "ratio" and p0 == 0:
        assert upper == math.inf
        return
    assert lower <= (p1 / p0 if compare == "ratio" else p1 - p0) <= upper
    for bound, end in ((lower, 0.0 if compare == "ratio" else -1.0), (upper, 1.0)):
        if bound != end and not (compare == "ratio" and bound == 0):
            assert abs(score_statistic(p1, n1, p0, n0, bound, compare)) == pytest.approx(1.96, abs=1e-4)


# -- the same items twice --------------------------------------------------------------------------------------


def test_tango_s_examples_come_out_as_published():
    """Tango 1998, section 6.1 (soft contact lenses: one of 44 pairs differs, margin 0.1), and Fagerland, Lydersen &
    Laake 2014 (airway hyper-responsiveness: 1 and 7 of 21 pairs)."""
    assert paired_statistic(0, 1 / 44, 44, -0.1) == pytest.approx(1.709, abs=5e-4)
    assert stats.norm.sf(paired_statistic(0, 1 / 44, 44, -0.1)) == pytest.approx(0.044, abs=5e-4)
    assert paired_interval(0, 1 / 44, 44, stats.norm.ppf(0.95))[0] == pytest.approx(-0.096, abs=5e-4)
    assert paired_interval(1 / 21, 7 / 21, 21, 1.959964) == pytest.approx((-0.517, -0.026), abs=5e-4)


@given(counts, counts, st.integers(0, 30))
@settings(max_examples=100, deadline=None)
def test_paired_bounds_are_where_the_statistic_is_just_critical(b, c, alike):
    n = max(b + c + alike, 2)
    lower, upper = paired_interval(b / n, c / n, n, 1.96)
    assert -1 <= lower <= (b - c) / n <= upper <= 1
    assert lower < upper
    assert paired_interval(c / n, b / n, n, 1.96) == pytest.approx((-upper, -lower), abs=1e-9)
    for bound in (lower, upper):
        if abs(bound) < 1 - 1e-9:
            assert abs(paired_statistic(b / n, c / n, n, bound)) == pytest.approx(1.96, abs=1e-4)


@pytest.mark.parametrize("theta", [-0.3, -0.05, 0.0, 0.1])
def test_the_restricted_share_is_the_likeliest(theta):
    """Against a search over all shares of lost items that the tested difference allows."""
    gains, losses, n = 0.1, 0.25, 40
    lost = np.linspace(max(0.0, -theta), (1 - theta) / 2, 20001)[1:-1]
    likelihood = (
        gains * np.log(lost + theta) + losses * np.log(lost) + (1 - gains - losses) * np.log(1 - 2 * lost - theta)
    )
    best = lost[np.argmax(likelihood)]
    expected = (gains - losses - theta) / math.sqrt((2 * best + theta * (1 - theta)) / n)
    assert paired_statistic(gains, losses, n, theta) == pytest.approx(expected, rel=1e-3)


def paired(table, gains: int, losses: int, alike: int, clusters=None) -> Estimate:
    now = [1.0] * gains + [0.0] * losses + [1.0] * alike
    then = [0.0] * gains + [1.0] * losses + [1.0] * alike
    measured = table({"now": now, "then": then}, range(len(now)) if clusters is None else clusters)
    return mean_difference(measured, "now", "then", name="right, now minus then")


@pytest.mark.parametrize(("n", "margin"), [(n, m) for n in (20, 50, 75, 100, 200) for m in (0.05, 0.10)])
def test_worse_by_the_margin_passes_at_most_as_often_as_said(n, margin):
    """Exact: every table of n pairs, weighed by its chance where the difference is just minus the margin. The t
    interval of before passes 10.2 % of them at n = 50 and 0.10, 9 % at 75 and 100 and 0.05."""
    gained, lost = np.meshgrid(np.arange(n + 1), np.arange(n + 1), indexing="ij")
    gained, lost = (part[gained + lost <= min(n, 60)] for part in (gained, lost))
    for gains in (0.0, 0.01, 0.05, 0.1):
        shares = [gains, gains + margin, 1 - 2 * gains - margin]
        chance = stats.multinomial.pmf(np.stack([gained, lost, n - gained - lost], axis=1), n, shares)
        likely = chance > 1e-7
        passes = [
            paired_statistic(g / n, x / n, n - 1, -margin) > 1.959964
            for g, x in zip(gained[likely], lost[likely], strict=True)
        ]
        assert chance[likely] @ passes <= 0.026


def test_not_worse_of_a_rate_uses_the_paired_score_interval(table):
    now, then = (
        rate(table({"x": values}, range(50)), "x", name="right") for values in (hits(48, 50), hits(50, 50))
    )
    with pytest.raises(Inconclusive) as raised:
        now.no_worse_than(then, by=0.1, better="higher")
    effect = raised.value.decision.effect
    assert (effect.lower, effect.upper) == pytest.approx(
        paired_interval(0, 0.04, 49, stats.norm.ppf(1 - effect.alpha / 2))
    )
    assert "Tango" in effect.method
    assert effect.lower < -0.1
    assert now.no_worse_than(then, by=0.2, better="higher").verdict is Verdict.PASS


def test_everything_lost_fails_and_is_not_called_constant(table):
    now, then = (rate(table({"x": [value] * 30}, range(30)), "x", name="right") for value in (0.0, 1.0))
    now, then = (replace(one, measurement=replace(one.measurement, unit="1")) for one in (now, then))
    decision = paired(table, 0, 30, 0)._decision(">", -0.1)
    assert decision.verdict is Verdict.INCONCLUSIVE  # in logits, values that are all the same say nothing
    measured = Measurement("right", "1", now.measurement.values.assign(then=1.0), now.measurement.clusters)
    lost = mean_difference(measured, "x", "then", name="right, now minus then")
    assert not lost > -0.1
    assert not then.mean() < 0.5
    assert now.mean().equals(0.0, within=0.2)


@pytest.mark.parametrize("values", [[0.0] * 12, [1.0] * 12])
def test_equal_values_that_are_no_outcomes_stay_undecided(estimate, values):
    assert undecided(lambda: estimate(values) >= 0.5) == "constant"


def test_a_shifted_difference_keeps_its_interval(table):
    difference = paired(table, 9, 3, 38)
    whole, moved = difference.describe(), (difference - 0.3).describe()
    assert (moved.lower + 0.3, moved.upper + 0.3) == pytest.approx((whole.lower, whole.upper))
    assert (difference - 0.3).tail(-0.3) == pytest.approx(difference.tail(0.0))
    assert "Tango" in (difference - 0.3).describe().method


@given(
    st.lists(st.sampled_from([-1.0, 0.0, 1.0]), min_size=10, max_size=60),
    st.integers(5, 12),
    st.floats(-0.9, 0.9),
)
@settings(max_examples=60, deadline=None)
def test_the_p_value_of_signs_says_what_their_interval_says(table, values, clusters, threshold):
    measured = table({"x": values}, [i % clusters for i in range(len(values))])
    estimate = Estimate("x", "1", measured, measured.condition("x"))
    effect = estimate.describe(">=", threshold)
    if effect.lower is None:
        assert len(set(values)) == 1
    elif abs(effect.upper - threshold) > 1e-9:
        assert -1 <= effect.lower < effect.upper <= 1
        assert (effect.upper < threshold) == (effect.p_fail < 0.025)


def test_clustered_signs_count_by_their_design_effect_and_never_for_more_than_they_are(table):
    alike = np.repeat([1.0, -1.0, 0.0, 0.0, 1.0, -1.0, 1.0, 0.0, 0.0, -1.0], 4)
    clusters = np.repeat(range(10), 4)
    found = signs(alike, table({"x": alike}, clusters), ())
    assert found.size == pytest.approx(9)  # whole clusters: ten items, less one for the mean
    assert found.df == 9
    spread = np.tile([1.0, -1.0, 0.0, 0.0], 10)
    assert signs(spread, table({"x": spread}, clusters), ()).size == 9  # no variance at all: no more than clusters
    rng = np.random.default_rng(2)
    for _ in range(50):
        free = rng.choice([-1.0, 0.0, 1.0], 40)
        assert signs(free, table({"x": free}, clusters), ()).size <= 39


def test_a_rare_change_in_few_clusters_is_not_trusted(table):
    values = np.zeros(200)
    values[:3] = -1
    found = signs(values, table({"x": values}, np.repeat(range(20), 10)), ())
    assert found.size <= 19


# -- the rule for clusters -------------------------------------------------------------------------------------


def test_independent_items_get_wilson_s_interval(table):
    effect = rate(table({"refused": hits(12, 40)}, range(40)), "refused", name="refusals").describe()
    expected = stats.binomtest(12, 40).proportion_ci(0.95, method="wilson")
    assert (effect.lower, effect.upper) == pytest.approx(tuple(expected))
    assert "12 of 40" in effect.method
    assert "independent" in effect.method
    assert effect.df is None


def test_clusters_that_agree_count_as_single_items(table):
    """Each cluster all 0 or all 1: the items say no more than their clusters do, and t replaces the normal."""
    values = np.repeat(hits(6, 12), 5)
    effect = rate(table({"x": values}, np.repeat(range(12), 5)), "x", name="x").describe()
    size = 0.25 / (0.25 * 60 * 5 / 60**2 * 12 / 11)  # p q / variance of the mean of clusters
    assert (effect.lower, effect.upper) == pytest.approx(wilson(0.5, size, stats.t.ppf(0.975, 11)))
    assert effect.df == 11


@pytest.mark.parametrize("outcome", [0.0, 1.0])
def test_items_that_all_agree_have_an_interval_of_clusters_and_not_of_zero_width(table, outcome):
    effect = rate(table({"x": [outcome] * 200}, np.repeat(range(8), 25)), "x", name="x").describe()
    assert (effect.lower, effect.upper) == pytest.approx(wilson(outcome, 8, stats.t.ppf(0.975, 7)))
    assert effect.upper - effect.lower > 0.3
    assert effect.mde is not None


def test_a_rare_outcome_in_few_clusters_is_not_trusted(table):
    values = np.zeros(300)
    values[:4] = 1
    effect = rate(table({"x": values}, np.repeat(range(30), 10)), "x", name="x").describe()
    assert effect.upper - effect.lower > wilson(4 / 300, 300, 2.0)[1] * 2


@given(st.lists(st.sampled_from([0.0, 1.0]), min_size=10, max_size=60), st.integers(5, 10), st.floats(0.01, 0.99))
def test_the_p_value_says_what_the_interval_says(table, values, clusters, threshold):
    measured = rate(table({"x": values}, [i % clusters for i in range(len(values))]), "x", name="x")
    effect = measured.describe(">=", threshold)
    assert 0 <= effect.lower < effect.upper <= 1
    if abs(effect.upper - threshold) > 1e-9:
        assert (effect.upper < threshold) == (effect.p_fail < 0.025)


# -- verdicts --------------------------------------------------------------------------------------------------


def test_a_rate_decides_by_its_interval(table):
    high = rate(table({"x": hits(90, 100)}, range(100)), "x", name="x")
    assert high >= 0.8
    assert not high <= 0.8
    assert high.equals(0.9, within=0.1)
    with pytest.raises(Inconclusive, match=r"needs .* times the clusters of factor0 \(100 now\)"):
        _ = high >= 0.88


def two_groups(table, one: int, other: int, n: int = 60):
    measured = table({"x": hits(one, n) + hits(other, n)}, range(2 * n))
    ids = list(measured.values.index)
    return (
        rate(measured, "x", name="women", among=ids[:n]),
        rate(measured, "x", name="men", among=ids[n:]),
    )


def test_the_four_fifths_line(table):
    women, men = two_groups(table, 12, 45)
    assert not women / men >= 0.8
    women, men = two_groups(table, 59, 58)
    assert women / men >= 0.8
    assert women - men >= -0.2
    women, men = two_groups(table, 40, 45)
    with pytest.raises(Inconclusive):
        _ = women / men >= 0.8


def test_nothing_of_nothing_is_undefined(table):
    women, men = two_groups(table, 0, 0)
    assert undecided(lambda: women / men >= 0.8) == "undefined_ratio"
    assert (women - men).describe().estimate == 0
    measured = women.measurement
    nobody = rate(measured, "x", name="nobody", among=[])
    assert nobody.describe().estimate is None
    assert undecided(lambda: nobody <= 0.1) == "undefined_rate"
    assert undecided(lambda: nobody / men <= 1) == "undefined_rate"
    assert undecided(lambda: men / nobody <= 1) == "undefined_rate"


@pytest.mark.parametrize(
    ("code", "values", "clusters"),
    [
        ("non_finite", [*hits(5, 11), math.nan], range(12)),
        ("non_finite", [math.nan] * 12, range(12)),
        ("non_finite", [*hits(5, 11), math.inf], range(12)),
        ("too_few_clusters", [1.0], [0]),
        ("too_few_clusters", hits(6, 12), [0] * 12),
    ],
)
def test_bad_values_decide_nothing(table, code, values, clusters):
    measured = rate(table({"x": values}, clusters), "x", name="x")
    for compare in (lambda: measured >= 0.0, lambda: measured <= 1.0):
        assert undecided(compare) == code


def test_what_is_no_rate_is_refused(table):
    measured = table({"x": [0.0, 0.5, 1.0] * 4}, range(12))
    with pytest.raises(MeasurementError, match=r"values of 0 and 1, 'x' has 0\.5"):
        rate(measured, "x", name="x")
    with pytest.raises(MeasurementError, match="item 'nobody' was not measured"):
        rate(table({"x": hits(3, 6)}, range(6)), "x", name="x", among=["nobody"])


def test_groups_must_not_share_items(table):
    everyone = rate(table({"x": hits(6, 12)}, range(12)), "x", name="everyone")
    with pytest.raises(MeasurementError, match="share no item"):
        _ = everyone / everyone


def test_clusters_make_a_contrast_wider_and_shared_ones_give_the_pairing_back(table):
    """Clusters of one group each only take away; those that both groups share take out what moves both alike."""
    rng = np.random.default_rng(3)
    chance = rng.beta(0.5, 0.5, 12)
    x = (rng.random(240) < np.tile(chance, 20)).astype(float)
    apart = [f"{'a' if i < 120 else 'b'}{i % 12}" for i in range(240)]
    widths = []
    for labels in (apart, [c[1:] for c in apart]):
        measured = table({"x": x}, labels)
        ids = list(measured.values.index)
        groups = [rate(measured, "x", name=g, among=part) for g, part in (("a", ids[:120]), ("b", ids[120:]))]
        effect = (groups[0] - groups[1]).describe()
        widths.append(effect.upper - effect.lower)
        assert effect.method.startswith("difference of two rates")
        assert (groups[0] - groups[1])._decision(">", -0.9).verdict is Verdict.PASS
        if labels is apart:
            p = [g.describe().estimate for g in groups]
            lower, upper = score_interval(p[0], 120, p[1], 120, "difference", 1.96)
            assert effect.upper - effect.lower >= upper - lower
            assert effect.df == 11
    assert widths[1] < widths[0]


def asked_twice(seed: int, cases: int, each: int, one: float, other: float, noise: float = 0.15) -> Measurement:
    """Two groups asked about the same cases; a case moves both alike, `noise` the items of one group."""
    rng = np.random.default_rng(seed)
    hard = rng.random(cases)
    said = {
        f"{case}|{group}{k}": float(hard[case] + noise * rng.normal() < chance)
        for group, chance in (("a", one), ("b", other))
        for case in range(cases)
        for k in range(each)
    }
    index = pd.Index(list(said), name="item")
    labels = pd.DataFrame({"case": [item.split("|")[0] for item in index]}, index=index)
    return Measurement("said", "1", pd.DataFrame({"x": list(said.values())}, index=index), labels)


def of_groups(measured: Measurement):
    return [
        rate(measured, "x", name=group, among=[i for i in measured.values.index if f"|{group}" in i])
        for group in ("a", "b")
    ]


def test_groups_asked_about_the_same_cases_keep_their_pairing():
    """The standard error is that of the differences within cases, and the interval is narrower for it."""
    measured = asked_twice(0, 40, 3, 0.5, 0.6)
    a, b = of_groups(measured)
    effect = (a - b).describe()
    within = (
        measured.values["x"].groupby([measured.clusters["case"], measured.values.index.str[-2]]).mean().unstack()
    )
    error = (within["a"] - within["b"]).std() / math.sqrt(40)
    apart = score_interval(a._estimate, 120, b._estimate, 120, "difference", 1.96)
    times, telling = (a - b)._worth
    assert times < 1
    assert effect.df == telling - 1
    assert effect.upper - effect.lower < 0.9 * (apart[1] - apart[0])
    assert effect.upper - effect.lower == pytest.approx(2 * error * stats.t.ppf(0.975, effect.df), rel=0.1)
    assert (a / b)._worth[0] < 1


def test_no_pairing_is_believed_of_groups_that_hardly_differ_or_never_vary():
    a, b = of_groups(asked_twice(1, 30, 1, 0.5, 0.5, noise=0.0))  # the same answer in every case
    assert (a - b)._worth == (1.0, None)
    a, b = of_groups(asked_twice(1, 30, 1, 0.98, 0.6))
    assert min((a - b)._sizes) <= 30
    values, labels = np.array(hits(10, 20)), pd.DataFrame({"c": range(20)})
    apart = labels.assign(c=range(20, 40))
    assert deflation((values, labels), (values, apart), 1.0)[1] is None


@pytest.mark.slow
@pytest.mark.parametrize("compare", ["difference", "ratio"])
def test_the_contrast_of_paired_groups_covers_as_it_says(compare):
    held = []
    for seed in range(250):
        a, b = of_groups(asked_twice(seed, 25, 2, 0.5, 0.6))
        effect = (a - b if compare == "difference" else a / b).describe()
        held.append(effect.lower <= TRUTH[compare] <= effect.upper)
    assert np.mean(held) >= 0.93


_one, _other = (
    float(stats.norm.cdf((chance - (np.arange(20000) + 0.5) / 20000) / 0.15).mean()) for chance in (0.5, 0.6)
)
TRUTH = {"difference": _one - _other, "ratio": _one / _other}


# -- what is simulated is what a suite computes ----------------------------------------------------------------


def test_arrays_of_signs_are_signs(table):
    rng = np.random.default_rng(4)
    counts = rates_paired._changes(rng, np.array([0.1, 0.2, 0.7]), 0.3, (25, 12))
    statistics, df = rates_paired.signs_statistic(counts, -0.05)
    for row, statistic in zip(counts, statistics, strict=True):
        values = np.concatenate([[1.0] * int(g) + [-1.0] * int(x) + [0.0] * int(4 - g - x) for g, x in row])
        found = signs(values, table({"x": values}, np.repeat(range(12), 4)), ())
        assert found.df == df
        assert paired_statistic(found.gains, found.losses, found.size, -0.05) == pytest.approx(statistic)


@pytest.mark.parametrize("compare", ["difference", "ratio"])
def test_arrays_of_paired_groups_are_contrasts(compare):
    rng = np.random.default_rng(5)
    one, other = rates_paired._asked(rng, (0.5, 0.6), 0.5, (12, 25))
    times, _, df = rates_paired.deflations(one, other, compare)
    assert (times < 1).any()
    for first, second, worth, freedom in zip(one, other, times, df, strict=True):
        said = np.concatenate([(np.arange(4) < hits[:, None]).astype(float).ravel() for hits in (first, second)])
        index = pd.Index([f"{k}|{'a' if k < 100 else 'b'}" for k in range(200)], name="item")
        labels = pd.DataFrame({"case": np.tile(np.repeat(range(25), 4), 2)}, index=index)
        a, b = of_groups(Measurement("said", "1", pd.DataFrame({"x": said}, index=index), labels))
        contrast = a - b if compare == "difference" else a / b
        assert contrast._worth[0] == pytest.approx(worth)
        assert contrast._df == freedom
        assert bool(contrast._cautions) == (compare == "ratio" and worth < 1)


def test_the_page_says_what_the_tables_hold():
    text = (Path(auditkit.__file__).parents[1] / "docs" / "statistics.md").read_text(encoding="utf-8")

    def column(name: str, *places: int) -> list[float]:
        block = text.split(f"<!-- simulated: {name} -->")[1].split("<!-- end -->")[0].strip().splitlines()[2:]
        cells = [line.split("|")[1:-1][place] for line in block for place in places]
        return [float(number.strip(" %")) for cell in cells for number in cell.split("/")]

    assert max(column("paired", 3)) <= 2.55
    assert max(column("paired", 2)) > 10
    assert max(column("paired", 4)) <= 4.3
    assert max(column("paired_clusters", 2, 3, 4, 5)) <= 2.8
    assert max(column("pairing", 3)) <= 2.8
    assert max(column("pairing", 6)) <= 3.5
    assert min(column("calibrated", 1)) >= 97.2
