"""Rates and contrasts of rates: their intervals, their rule for clusters, and what they leave undecided."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from auditkit.record.schema import Verdict
from auditkit.stats.measurement import MeasurementError
from auditkit.stats.proportions import score_interval, score_statistic, wilson
from auditkit.stats.rates import rate
from auditkit.stats.verdicts import Inconclusive

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
        ((5, 10, 10, 10), "ratio", (0.2317, 0.8033)),  # Koopman's, as docs/decisions.md has it
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


def test_a_shared_cluster_makes_the_contrast_wider_and_never_narrower(table):
    rng = np.random.default_rng(3)
    chance = rng.beta(0.5, 0.5, 12)
    x = (rng.random(240) < np.tile(chance, 20)).astype(float)
    clusters = [f"{'a' if i < 120 else 'b'}{i % 12}" for i in range(240)]
    for labels in (clusters, [c[1:] for c in clusters]):
        measured = table({"x": x}, labels)
        ids = list(measured.values.index)
        groups = [rate(measured, "x", name=g, among=part) for g, part in (("a", ids[:120]), ("b", ids[120:]))]
        effect = (groups[0] - groups[1]).describe()
        p = [g.describe().estimate for g in groups]
        lower, upper = score_interval(p[0], 120, p[1], 120, "difference", 1.96)
        assert effect.upper - effect.lower >= upper - lower
    assert effect.df == 11
    assert effect.method.startswith("difference of two rates")
    assert (groups[0] - groups[1])._decision(">", -0.9).verdict is Verdict.PASS
