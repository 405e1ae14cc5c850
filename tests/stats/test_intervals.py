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
    ALPHA,
    Moments,
    cautions,
    cluster_means,
    critical,
    detectable,
    fieller,
    guarded,
    moments,
    satterthwaite,
)

pytestmark = pytest.mark.unit

ONE = np.array([1.0])
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
    assert m.clusters == len(means)
    assert m.deciding(np.array([1.0, 0.0]), ALPHA)[1] == len(means) - 1


@given(seeds)
def test_covariance_of_columns_is_that_of_cluster_means(seed):
    columns, clusters = one_way(seed)
    means = pd.DataFrame(columns).groupby(clusters["factor0"]).mean()
    np.testing.assert_allclose(moments(columns, clusters).parts[0], means.cov() / len(means))


def test_an_interval_far_from_zero_keeps_its_width():
    values = 1e7 + np.tile([-1e-3, 0.0, 1e-3], 4)
    lower, upper = fieller(moments(np.column_stack([values, np.ones(12)]), frame(range(12))))
    expected = critical(11) * values.std(ddof=1) / math.sqrt(12)
    assert (upper - lower) / 2 == pytest.approx(expected, rel=1e-5)


# -- Fieller ---------------------------------------------------------------------------------------------------


def rejected(columns: np.ndarray, clusters: pd.DataFrame, theta: float, bounds: list[float]) -> float:
    """How far the test that asks most is beyond its critical value at `theta`, as a multiple of it; computed plainly.

    Args:
        bounds: critical value of t by each variance.
    """
    contrast = columns @ [1.0, -theta]
    if clusters.shape[1] == 1:
        means = pd.Series(contrast).groupby(clusters["factor0"].to_numpy()).mean()
        return abs(means.mean()) / (bounds[0] * means.std(ddof=1) / math.sqrt(len(means)))
    first, second, both = parts(contrast, clusters)
    variances = (first, second, first + second - both)
    return min(
        abs(contrast.mean()) / (bound * math.sqrt(max(variance, 1e-300)))
        for bound, variance in zip(bounds, variances, strict=True)
    )


def criticals(columns: np.ndarray, clusters: pd.DataFrame) -> list[float]:
    """Critical values of t by each variance, with the degrees of freedom at the estimate."""
    m = moments(columns, clusters)
    return [critical(df) for _, df in m.tests(np.array([1.0, -m.mean[0] / m.mean[1]]))]


@given(seeds, st.booleans(), st.sampled_from([1.0, 0.8, 0.4]))
def test_the_interval_of_a_share_is_the_inversion_of_the_test_that_decides(seed, two, keep):
    """Its ends are where the contrast turns significant, and by brute force nothing beyond them is compatible."""
    columns, clusters = crossed(seed, keep=keep) if two else one_way(seed)
    assume(clusters.nunique().min() > 2)
    bounds = fieller(moments(columns, clusters))
    assume(bounds is not None)
    criteria = criticals(columns, clusters)
    width = bounds[1] - bounds[0]
    for bound in bounds:
        assert rejected(columns, clusters, bound, criteria) == pytest.approx(1, rel=1e-6)
    for step in np.geomspace(1e-4, 1e3, 40) * width:
        assert rejected(columns, clusters, bounds[0] - step, criteria) > 1
        assert rejected(columns, clusters, bounds[1] + step, criteria) > 1
    inside = [rejected(columns, clusters, theta, criteria) for theta in np.linspace(*bounds, 9)[1:-1]]
    assert min(inside) < 1


@given(seeds, st.booleans())
def test_a_share_has_no_interval_exactly_where_its_denominator_touches_zero(seed, two):
    columns, clusters = (crossed if two else one_way)(seed)
    m = moments(columns, clusters)
    weights = np.array([1.0, -m.mean[0] / m.mean[1]])
    touches = [
        abs(m.mean[1]) <= critical(df) * math.sqrt(max(covariance[1, 1], 0.0))
        for (_, df), covariance in zip(m.tests(weights), m.covariances, strict=True)
    ]
    assert (fieller(m) is None) == any(touches)


@given(seeds)
def test_fieller_equals_the_textbook_roots(seed):
    columns, clusters = one_way(seed)
    m, t = moments(columns, clusters), critical(len(set(clusters["factor0"])) - 1)
    bounds = fieller(m)
    assume(bounds is not None)
    (a, b), (v,) = m.mean, m.parts
    roots = np.roots([b * b - t * t * v[1, 1], -2 * (a * b - t * t * v[0, 1]), a * a - t * t * v[0, 0]])
    np.testing.assert_allclose(bounds, np.sort(roots.real), rtol=1e-6, atol=1e-9)


def test_fieller_is_unbounded_exactly_when_the_denominator_touches_zero():
    t = critical(9)
    for mean, bounded in ((0.0, False), (t * 0.999, False), (t * 1.001, True), (-t * 1.001, True)):
        m = Moments(np.array([1.0, mean]), (np.eye(2),), (10,))
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
    assert m.contrast(ONE)[1] ** 2 == pytest.approx(max(first + second - both, first, second), rel=1e-9)
    assert m.counts == (7, 9)
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
            corrected = moments(columns[:, :1], clusters).contrast(ONE)[1] ** 2
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
    assert doubled.contrast(ONE)[1] ** 2 == pytest.approx(one_way_variance(columns[:, 0], list(labels)))


@given(st.integers(1, 39), st.integers(1, 39), st.floats(0, 10), st.floats(0, 10), st.floats(0.01, 1))
def test_two_way_degrees_of_freedom_lie_between_the_smaller_factor_s_and_the_sum(one, two, first, second, left):
    both = (first + second) * left
    df = satterthwaite(first, second, both, one, two)
    assert min(one, two) <= df <= one + two + 1e-9
    assert df == pytest.approx(satterthwaite(second, first, both, two, one))


@pytest.mark.parametrize(
    ("first", "second", "both", "expected"),
    [
        (1.0, 1.0, 2.0, 4 / (1 / 5 + 1 / 23)),  # 2 V² / Var(V) with Var(V_k) = 2 V_k² / df_k
        (0.0, 1.0, 1.0, 23.0),
        (1.0, 0.0, 1.0, 5.0),
        (1.0, 1.0, 0.5, 5.0),  # little is left: never fewer than the smaller factor's
        (1.0, 1.0, -0.1, 5.0),
    ],
)
@pytest.mark.parametrize("scale", [1e-300, 1.0, 1e300])
def test_two_way_degrees_of_freedom_are_satterthwaite_s(first, second, both, expected, scale):
    assert satterthwaite(scale * first, scale * second, scale * both, 5, 23) == pytest.approx(expected)


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
        for weights in np.array([[1.0, 0.0], [0.0, 1.0], [1.0, -0.7]]):
            np.testing.assert_allclose(
                sorted(other.tests(weights)), sorted(m.tests(weights)), rtol=1e-7, atol=1e-10
            )
        assert (fieller(other) is None) == (fieller(m) is None)
        np.testing.assert_allclose(fieller(other) or 0.0, fieller(m) or 0.0, rtol=1e-7, atol=1e-9)


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
    assert all(np.isnan(part).all() for part in m.parts)
    assert not m.finite
    assert m.clusters == 1


@pytest.mark.parametrize("two", [False, True])
@pytest.mark.filterwarnings("error")
def test_values_too_large_to_square_come_out_as_not_finite(two):
    columns, clusters = (crossed if two else one_way)(1)
    assert not moments(columns * 1e200, clusters).finite


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
    said = cautions(values, frame(np.arange(120) % clusters))
    assert [text.startswith(f"few clusters: with {clusters} of factor0") for text in said] == [True] * warned


@pytest.mark.parametrize(
    ("sizes", "named"),
    [
        ((6, 24), "6 of factor0"),
        ((24, 6), "6 of factor1"),
        ((8, 9), "8 of factor0 and 9 of factor1"),
        ((16, 17), ""),
    ],
)
def test_few_clusters_of_either_of_two_factors_are_said(sizes, named) -> None:
    first, second = (g.ravel() for g in np.meshgrid(*map(range, sizes), indexing="ij"))
    rng = np.random.default_rng(0)
    values = rng.normal(size=sizes[0])[first] + rng.normal(size=sizes[1])[second] + rng.normal(size=len(first))
    said = [text for text in cautions(values, frame(first, second)) if text.startswith("few clusters: ")]
    assert [text.split(" the 95 %")[0] for text in said] == ([f"few clusters: with {named}"] if named else [])


def test_skewed_clusters_are_said_where_their_means_show_it_and_there_are_enough_to_see_it() -> None:
    rng = np.random.default_rng(1)
    labels = frame(np.arange(40))
    skewed, normal = np.exp(rng.normal(size=40)), stats.norm.ppf((np.arange(40) + 0.5) / 40)
    assert [text.split(":")[0] for text in cautions(skewed, labels)] == ["skewed clusters"]
    assert [text.split(":")[0] for text in cautions(-skewed, labels)] == ["skewed clusters"]
    assert cautions(normal, labels) == ()
    assert [t.split(":")[0] for t in cautions(skewed[:14], frame(np.arange(14)))] == ["few clusters"]


def test_a_two_way_interval_is_said_to_be_wide_exactly_where_the_variance_was_raised() -> None:
    rng = np.random.default_rng(0)
    first, second = (g.ravel() for g in np.meshgrid(range(8), range(9), indexing="ij"))
    labels, told = frame(first, second), set()
    for spread in (0.0, 0.0, 0.0, 0.5, 2.0, 2.0):
        values = spread * (rng.normal(size=8)[first] + rng.normal(size=9)[second]) + rng.normal(size=72)
        variance = moments(values[:, None], labels).contrast(ONE)[1] ** 2
        residuals = values - values.mean()
        ways = [
            (np.bincount(codes, residuals) ** 2).sum() * count / (count - 1) / 72**2
            for codes, count in ((first, 8), (second, 9), (np.arange(72), 72))
        ]
        raised = not np.isclose(variance, ways[0] + ways[1] - ways[2])
        factor = f"the variance by factor{int(ways[1] > ways[0])} alone decides"
        said = [text for text in cautions(values, labels) if text.startswith("wide interval: ")]
        assert len(said) == raised
        assert all(factor in text for text in said)
        told.add(raised)
    assert told == {True, False}


def test_the_widths_in_the_documentation_are_those_of_claims_of_no_harm() -> None:
    levels = {clusters: round(100 * (1 - guarded(clusters - 1)), 1) for clusters in (5, 8, 15, 30)}
    assert levels == {5: 96.7, 8: 95.6, 15: 95.1, 30: 95.0}
