"""Intervals against independent computations, and what they must not depend on."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from auditkit.stats.intervals import (
    Moments,
    caution,
    cluster_means,
    critical,
    detectable,
    fieller,
    guarded,
    moments,
)

pytestmark = pytest.mark.unit

seeds = st.integers(0, 10**6)


def frame(*factors: object) -> pd.DataFrame:
    return pd.DataFrame({f"factor{i}": list(labels) for i, labels in enumerate(factors)})  # type: ignore[call-overload]  # stubs want one label type


def one_way(seed: int) -> tuple[np.ndarray, pd.DataFrame]:
    """Two correlated columns in 5 to 12 clusters of unequal size."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(rng.integers(5, 13)), 3)[: -int(rng.integers(1, 3))]
    columns = rng.normal(size=(len(labels), 2)) + rng.normal(size=(labels.max() + 1, 2))[labels]
    columns[:, 0] += 0.5 * columns[:, 1]
    return columns + rng.normal(size=2) * 3, frame(labels)


def crossed(seed: int, keep: float = 0.8) -> tuple[np.ndarray, pd.DataFrame]:
    """Two columns over an incomplete crossing of two factors."""
    rng = np.random.default_rng(seed)
    first, second = (g.ravel() for g in np.meshgrid(np.arange(7), np.arange(9), indexing="ij"))
    kept = rng.random(len(first)) < keep
    first, second = first[kept], second[kept]
    weight = rng.random(2)
    columns = rng.normal(size=(len(first), 2))
    columns += weight[0] * rng.normal(size=(7, 2))[first] + weight[1] * rng.normal(size=(9, 2))[second]
    return columns + rng.normal(size=2) * 3, frame(first, second)


def one_way_variance(values: np.ndarray, labels: list[object]) -> float:
    """Cluster-robust variance of the mean, spelled out."""
    mean = sum(values) / len(values)
    total = 0.0
    for label in set(labels):
        total += sum(v - mean for v, mine in zip(values, labels, strict=True) if mine == label) ** 2
    count = len(set(labels))
    return total * count / (count - 1) / len(values) ** 2


def parts(values: np.ndarray, clusters: pd.DataFrame) -> tuple[float, float, float]:
    first, second = (list(clusters[name]) for name in clusters.columns)
    both = list(zip(first, second, strict=True))
    return tuple(one_way_variance(values, labels) for labels in (first, second, both))  # type: ignore[return-value]  # always three


# -- one factor ------------------------------------------------------------------------------------------------


@given(seeds)
def test_one_factor_is_the_t_interval_on_cluster_means(seed):
    columns, clusters = one_way(seed)
    means = pd.Series(columns[:, 0]).groupby(clusters["factor0"]).mean()
    expected = stats.ttest_1samp(means, 0.0).confidence_interval(0.95)
    m = moments(np.column_stack([columns[:, 0], np.ones(len(columns))]), clusters)
    assert fieller(m) == pytest.approx(tuple(expected), rel=1e-9)
    assert (m.clusters, m.df) == (len(means), len(means) - 1)


@given(seeds)
def test_covariance_of_columns_is_that_of_cluster_means(seed):
    columns, clusters = one_way(seed)
    means = pd.DataFrame(columns).groupby(clusters["factor0"]).mean()
    np.testing.assert_allclose(moments(columns, clusters).covariance, means.cov() / len(means))


def test_an_interval_far_from_zero_keeps_its_width():
    values = 1e7 + np.tile([-1e-3, 0.0, 1e-3], 4)
    lower, upper = fieller(moments(np.column_stack([values, np.ones(12)]), frame(range(12))))
    expected = critical(11) * values.std(ddof=1) / math.sqrt(12)
    assert (upper - lower) / 2 == pytest.approx(expected, rel=1e-5)


# -- Fieller ---------------------------------------------------------------------------------------------------


@given(seeds, st.booleans())
def test_fieller_bounds_are_where_the_contrast_is_just_significant(seed, two):
    columns, clusters = (crossed if two else one_way)(seed)
    m = moments(columns, clusters)
    bounds = fieller(m)
    denominator, error = m.contrast(np.array([0.0, 1.0]))
    assert (bounds is None) == (abs(denominator) <= critical(m.df) * error)
    assume(bounds is not None)
    for bound in bounds:
        mean, se = m.contrast(np.array([1.0, -bound]))
        assert abs(mean) == pytest.approx(critical(m.df) * se, rel=1e-6)
    inside, outside = sum(bounds) / 2, bounds[1] + (bounds[1] - bounds[0])
    mean, se = m.contrast(np.array([1.0, -inside]))
    assert abs(mean) < critical(m.df) * se
    mean, se = m.contrast(np.array([1.0, -outside]))
    assert abs(mean) > critical(m.df) * se


@given(seeds)
def test_fieller_equals_the_textbook_roots(seed):
    columns, clusters = one_way(seed)
    m, t = moments(columns, clusters), critical(len(set(clusters["factor0"])) - 1)
    bounds = fieller(m)
    assume(bounds is not None)
    (a, b), v = m.mean, m.covariance
    roots = np.roots([b * b - t * t * v[1, 1], -2 * (a * b - t * t * v[0, 1]), a * a - t * t * v[0, 0]])
    np.testing.assert_allclose(bounds, np.sort(roots.real), rtol=1e-6, atol=1e-9)


def test_fieller_is_unbounded_exactly_when_the_denominator_touches_zero():
    t = critical(9)
    for mean, bounded in ((0.0, False), (t * 0.999, False), (t * 1.001, True), (-t * 1.001, True)):
        m = Moments(np.array([1.0, mean]), np.eye(2), 10, 9)
        assert (fieller(m) is not None) == bounded


@given(seeds, st.floats(0.1, 10), st.floats(-5, 5))
def test_scaling_the_denominator_or_shifting_by_it_moves_the_ratio_alone(seed, scale, shift):
    columns, clusters = crossed(seed)
    bounds = fieller(moments(columns, clusters))
    assume(bounds is not None)
    changed = np.column_stack([columns[:, 0] + shift * columns[:, 1], scale * columns[:, 1]])
    expected = [(bound + shift) / scale for bound in bounds]
    np.testing.assert_allclose(fieller(moments(changed, clusters)), expected, rtol=1e-6, atol=1e-8)


# -- two crossed factors ---------------------------------------------------------------------------------------


@given(seeds)
@settings(max_examples=40)
def test_two_way_variance_is_the_sum_minus_the_intersections(seed):
    columns, clusters = crossed(seed)
    first, second, both = parts(columns[:, 0], clusters)
    m = moments(columns[:, :1], clusters)
    assert m.covariance[0, 0] == pytest.approx(max(first + second - both, first, second), rel=1e-9)
    assert (m.clusters, m.df) == (7, 6)
    assert m.mean[0] == pytest.approx(columns[:, 0].mean())


def test_two_way_variance_agrees_with_statsmodels():
    api = pytest.importorskip("statsmodels.api")
    agreed = 0
    for seed in range(40):
        columns, clusters = crossed(seed)
        values, groups = columns[:, 0], clusters.to_numpy()
        plain = api.OLS(values, np.ones(len(values))).fit(
            cov_type="cluster", cov_kwds={"groups": groups, "use_correction": False}
        )
        first, second, both = parts(values, clusters)
        cells = len(clusters.drop_duplicates())
        uncorrected = first * 6 / 7 + second * 8 / 9 - both * (cells - 1) / cells
        assert float(plain.cov_params()[0, 0]) == pytest.approx(uncorrected, rel=1e-9)
        if first + second - both > max(first, second):
            corrected = moments(columns[:, :1], clusters).covariance[0, 0]
            assert corrected == pytest.approx(uncorrected, rel=0.35)  # up to the factors C/(C-1)
            agreed += 1
    assert agreed >= 10


@given(seeds, st.floats(-20, 20))
@settings(max_examples=60)
def test_no_contrast_has_less_two_way_variance_than_either_one_way_variance(seed, theta):
    columns, clusters = crossed(seed, keep=0.6)
    _, error = moments(columns, clusters).contrast(np.array([1.0, -theta]))
    first, second, _ = parts(columns @ [1.0, -theta], clusters)
    assert error**2 >= max(first, second) * (1 - 1e-9)


def test_a_factor_that_repeats_the_other_changes_nothing():
    columns, clusters = one_way(3)
    labels = clusters["factor0"]
    doubled = moments(columns[:, :1], frame(labels, labels))
    assert doubled.covariance[0, 0] == pytest.approx(one_way_variance(columns[:, 0], list(labels)))


# -- what does not matter --------------------------------------------------------------------------------------


@given(seeds, st.booleans())
def test_order_of_items_names_of_clusters_and_order_of_factors_do_not_matter(seed, two):
    columns, clusters = (crossed if two else one_way)(seed)
    m = moments(columns, clusters)
    order = np.random.default_rng(seed).permutation(len(columns))
    renamed = clusters.map(lambda label: f"c{97 - label}")
    for other in (
        moments(columns[order], clusters.iloc[order]),
        moments(columns, renamed),
        moments(columns, clusters[clusters.columns[::-1]]),
    ):
        np.testing.assert_allclose(other.mean, m.mean, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(other.covariance, m.covariance, rtol=1e-7, atol=1e-10)


@given(seeds, st.booleans(), st.floats(-1e3, 1e3), st.floats(1e-6, 1e6), st.sampled_from([-1, 1]))
def test_shift_and_scale_carry_over_to_the_interval(seed, two, shift, scale, sign):
    columns, clusters = (crossed if two else one_way)(seed)
    values, ones = columns[:, 0], np.ones(len(columns))
    lower, upper = fieller(moments(np.column_stack([values, ones]), clusters))
    changed = fieller(moments(np.column_stack([sign * scale * (values + shift), ones]), clusters))
    expected = sorted(sign * scale * (bound + shift) for bound in (lower, upper))
    np.testing.assert_allclose(changed, expected, rtol=1e-6, atol=1e-9 * scale * (1 + abs(shift)))


def test_cluster_means_are_of_the_factor_with_fewer_clusters():
    clusters = frame("aabbcc", "xyzxyz")
    assert sorted(cluster_means(np.arange(6.0), frame("aabbcc"))) == [0.5, 2.5, 4.5]
    clusters["factor1"] = list("xyxyxy")
    assert sorted(cluster_means(np.arange(6.0), clusters)) == [2.0, 3.0]


@pytest.mark.parametrize("factors", [["aaaa"], ["aaaa", "wxyz"]])
def test_one_cluster_has_no_variance_and_not_zero_variance(factors):
    m = moments(np.arange(8.0).reshape(4, 2), frame(*factors))
    assert np.isnan(m.covariance).all()
    assert m.clusters == 1


@pytest.mark.parametrize("two", [False, True])
@pytest.mark.filterwarnings("error")
def test_values_too_large_to_square_come_out_as_not_finite(two):
    columns, clusters = (crossed if two else one_way)(1)
    assert not np.isfinite(moments(columns * 1e200, clusters).covariance).any()


# -- power -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [8, 30])
def test_a_distance_that_is_detectable_is_decided_in_about_80_percent_of_experiments(count):
    rng = np.random.default_rng(11)
    distance = detectable(1 / math.sqrt(count), count - 1)  # of a mean with standard deviation 1
    means = rng.normal(distance, 1.0, (20_000, count))
    error = means.std(axis=1, ddof=1) / math.sqrt(count)
    power = np.mean(means.mean(axis=1) - critical(count - 1) * error > 0)
    assert 0.78 <= power <= 0.84


# -- where the level is another than stated --------------------------------------------------------------------


@pytest.mark.parametrize(("clusters", "warned"), [(5, True), (14, True), (15, False), (40, False)])
def test_few_clusters_are_said(clusters: int, warned: bool) -> None:
    values = np.random.default_rng(0).normal(size=120)
    said = caution(values, frame(np.arange(120) % clusters))
    assert said.startswith(f"few clusters: with {clusters} of them") == warned
    assert bool(said) == warned


def test_a_two_way_interval_is_said_to_be_wide_exactly_where_the_variance_was_raised() -> None:
    rng = np.random.default_rng(0)
    first, second = (g.ravel() for g in np.meshgrid(range(8), range(9), indexing="ij"))
    labels, told = frame(first, second), set()
    for spread in (0.0, 0.0, 0.0, 0.5, 2.0, 2.0):
        values = spread * (rng.normal(size=8)[first] + rng.normal(size=9)[second]) + rng.normal(size=72)
        variance = moments(values[:, None], labels).covariance[0, 0]
        residuals = values - values.mean()
        ways = [
            (np.bincount(codes, residuals) ** 2).sum() * count / (count - 1) / 72**2
            for codes, count in ((first, 8), (second, 9), (np.arange(72), 72))
        ]
        raised = not np.isclose(variance, ways[0] + ways[1] - ways[2])
        factor = f"raised to that by factor{int(ways[1] > ways[0])} alone"
        assert (factor in caution(values, labels)) == raised
        assert bool(caution(values, labels)) == raised
        told.add(raised)
    assert told == {True, False}


def test_the_widths_in_the_documentation_are_those_of_claims_of_no_harm() -> None:
    levels = {clusters: round(100 * (1 - guarded(clusters - 1)), 1) for clusters in (5, 8, 15, 30)}
    assert levels == {5: 96.7, 8: 95.6, 15: 95.1, 30: 95.0}
