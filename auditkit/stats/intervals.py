"""Cluster-robust intervals for means and ratios of means.

Values are columns measured on the same items. With one cluster factor the unit of inference is the cluster: the
mean of cluster means, with a t interval on C - 1 degrees of freedom. With two crossed factors a contrast is tested
by three variances: that by either factor alone, and the two-way one of Cameron, Gelbach & Miller (2011), which is
the sum of both minus that of their intersections. It counts as different from zero only if all three say so.

The ratio interval is Fieller's (1954): the set of θ for which the contrast `numerator - θ denominator` is not
distinguishable from zero. It is therefore the same decision as testing that contrast, and with a denominator
that is constantly one it is the ordinary t interval.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from auditkit.stats.quantiles import chance_below, chances_of_skewness, quantile, skewnesses

ALPHA = 0.05
POWER = 0.80
MIN_CLUSTERS = 5
ENOUGH_CLUSTERS = 15
"""From here on the interval of skewed clusters holds the truth at least 94 % of the time (docs/statistics.md)."""

SKEWED_LEVEL = 0.05
SKEWED_ERROR = 13
"""Percent of the time that one side errs with 5 to 8 log-normal(0.8) clusters (a test compares docs/statistics.md)."""

Array = NDArray[np.float64]

_spent: ContextVar[float] = ContextVar("auditkit_spent", default=1.0)


@contextmanager
def spending(share: float) -> Iterator[None]:
    """Decide inside the block at a share of `ALPHA`: that of one of several looks at a claim."""
    token = _spent.set(share)
    try:
        yield
    finally:
        _spent.reset(token)


def spent() -> float:
    """The share of `ALPHA` that the look under way may spend; 1 where a claim is looked at once."""
    return _spent.get()


def level() -> float:
    """1 - the level of the intervals that decide now."""
    return ALPHA * spent()


@dataclass(frozen=True)
class Moments:
    """Mean vector (k,) and its covariances (k, k), with the clusters behind them.

    Attributes:
        parts: the covariance by the only factor; with two crossed factors by either of them and by their cells.
        counts: how many clusters each factor has.
        dfs: degrees of freedom of each factor's own variance, where they are not its clusters minus one.
    """

    mean: Array
    parts: tuple[Array, ...]
    counts: tuple[int, ...]
    dfs: tuple[float, ...] = ()

    @property
    def own(self) -> tuple[float, ...]:
        """Degrees of freedom of the variance by each factor."""
        return self.dfs or tuple(float(count - 1) for count in self.counts)

    @property
    def clusters(self) -> int:
        """Clusters of the factor that has fewer."""
        return min(self.counts)

    @property
    def finite(self) -> bool:
        return all(np.isfinite(part).all() for part in (self.mean, *self.parts))

    @property
    def covariances(self) -> tuple[Array, ...]:
        """Every covariance by which a contrast is tested. The two-way one may be indefinite; the others bound it."""
        if len(self.parts) == 1:
            return self.parts
        first, second, cells = self.parts
        return first, second, first + second - cells

    def tests(self, weights: Array) -> tuple[tuple[float, float], ...]:
        """Variance and degrees of freedom of a linear combination of the columns, by each of the covariances."""
        variances = [float(weights @ covariance @ weights) for covariance in self.covariances]
        return tuple(zip(variances, self._dfs(variances), strict=True))

    def contrast(self, weights: Array) -> tuple[float, float]:
        """Mean of a linear combination of the columns, and the largest of its standard errors."""
        largest = max(variance for variance, _ in self.tests(weights))
        return float(weights @ self.mean), math.sqrt(max(largest, 0.0))

    def deciding(self, weights: Array, alpha: float) -> tuple[float, float]:
        """Standard error and degrees of freedom of the strictest test of a linear combination."""
        errors = [(math.sqrt(max(variance, 0.0)), df) for variance, df in self.tests(weights)]
        return max(errors, key=lambda test: test[0] * critical(test[1], alpha))

    def tail(self, weights: Array) -> float:
        """One-sided P(T <= t) of a linear combination, by the least significant of the tests."""
        mean = float(weights @ self.mean)
        chances = [
            chance_below(mean / math.sqrt(variance), df) for variance, df in self.tests(weights) if variance > 0
        ]
        return min(chances, key=lambda chance: abs(chance - 0.5))

    def _dfs(self, variances: Sequence[float]) -> tuple[float, ...]:
        if len(self.own) == 1:
            return self.own
        first, second, both = variances
        return (*self.own, satterthwaite(first, second, both, *self.own[:2]))


def satterthwaite(first: float, second: float, both: float, one: float, two: float) -> float:
    """Degrees of freedom of the two-way variance, from those of the two that it adds up (Satterthwaite 1946).

    They are those of a sum, 2 V² / Var(V), with the variance of the cells, which is subtracted, as known: it rests on
    many more cells than either factor has clusters. They are never fewer than the smaller factor's own, and where
    little is left after the subtraction the variance by one factor alone decides instead.

    Args:
        first, second: variance of the mean by either factor.
        both: the two-way variance, their sum minus that of the cells.
        one, two: degrees of freedom of the variance by either factor.
    """
    fewest = min(one, two)
    if fewest < 1 or not 0 < both < math.inf:
        return fewest
    spread = (first / both) ** 2 / one + (second / both) ** 2 / two
    return max(1 / spread, fewest) if spread > 0 else fewest


def moments(columns: Array, clusters: pd.DataFrame) -> Moments:
    """Cluster-robust mean and covariances.

    Args:
        columns: (items, k) finite values.
        clusters: (items, factors) labels, one or two factors.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows comes out as not finite
        return _moments(columns, cluster_codes(clusters))


def _moments(columns: Array, factors: list[NDArray[np.intp]]) -> Moments:
    counts = tuple(int(codes.max()) + 1 for codes in factors)
    if len(factors) == 1:
        means = _cluster_sums(columns, factors[0]) / np.bincount(factors[0])[:, None]
        count = counts[0]
        covariance = np.atleast_2d(np.cov(means.T, ddof=1)) / count if count > 1 else _unknown(columns)
        return Moments(means.mean(axis=0), (covariance,), counts)
    mean = columns.mean(axis=0)
    if min(counts) < 2:
        return Moments(mean, (_unknown(columns),) * 3, counts)
    cells = pd.factorize(factors[0] * counts[1] + factors[1])[0]
    return Moments(mean, tuple(_sandwich(columns - mean, codes) for codes in (*factors, cells)), counts)


def cluster_codes(clusters: pd.DataFrame) -> list[NDArray[np.intp]]:
    """Per factor (items,) numbers of the clusters, from 0 in the order in which their labels occur."""
    # Not column by column: looking up a column by its name takes pandas longer than numbering a few hundred labels.
    return [pd.factorize(labels)[0] for labels in clusters.to_numpy(dtype=object).T]


def fewest_clusters(clusters: pd.DataFrame) -> int:
    """How many clusters the factor with the fewest clusters has; 0 without items."""
    return min(int(codes.max(initial=-1)) + 1 for codes in cluster_codes(clusters))


def cluster_means(values: Array, clusters: pd.DataFrame) -> Array:
    """(clusters,) mean per cluster, of the factor with fewer clusters where two are crossed."""
    factors = cluster_codes(clusters)
    codes = min(factors, key=lambda candidate: int(candidate.max()))
    return (_cluster_sums(values[:, None], codes) / np.bincount(codes)[:, None])[:, 0]


def one_way_parts(values: Array, clusters: pd.DataFrame) -> tuple[float, float, float, tuple[int, int]]:
    """Variances of the mean of (items,) values by either of two factors and by their cells, and the counts."""
    codes = cluster_codes(clusters)
    counts = (int(codes[0].max()) + 1, int(codes[1].max()) + 1)
    cells = pd.factorize(codes[0] * counts[1] + codes[1])[0]
    residuals = (values - values.mean())[:, None]
    first, second, both = (float(_sandwich(residuals, c)[0, 0]) for c in (*codes, cells))
    return first, second, both, counts


def pooled(residuals: Array, clusters: pd.DataFrame) -> tuple[float, int]:
    """Cluster-robust variance of the mean of (items,) residuals around pooled means, and the fewest clusters.

    Every item has the same weight, as in a rate; `moments` gives every cluster the same weight.
    """
    codes = cluster_codes(clusters)
    fewest = min(int(c.max()) + 1 for c in codes)
    if fewest < 2:
        return math.nan, fewest
    column = residuals[:, None]
    if len(codes) == 1:
        return float(_sandwich(column, codes[0])[0, 0]), fewest
    cells = pd.factorize(codes[0] * (int(codes[1].max()) + 1) + codes[1])[0]
    first, second, both = (float(_sandwich(column, c)[0, 0]) for c in (*codes, cells))
    return max(first, second, first + second - both), fewest


def fieller(m: Moments, alpha: float | None = None) -> tuple[float, float] | None:
    """Interval (lower, upper) of mean[0] / mean[1] at level 1 - alpha, or None when it is unbounded.

    It is unbounded when the denominator's own interval touches zero: then no ratio can be stated. With crossed
    factors it is the hull of the intervals by each variance, so that its ends are the thresholds at which the last
    of the tests of `numerator - θ denominator` turns. Degrees of freedom are those at the estimate.
    """
    a, b = m.mean
    if b == 0:
        return None
    ratio = a / b
    weights = np.array([1.0, -ratio])
    ends: list[float] = []
    for (variance, df), covariance in zip(m.tests(weights), m.covariances, strict=True):
        # Solve (a - θb)² <= t² (vaa - 2θ vab + θ² vbb) for δ = θ - a/b. Around the estimate, and not around zero,
        # since the textbook discriminant loses every digit of an interval that is narrow for its distance from 0.
        t = critical(df, alpha)
        (_, vab), (_, vbb) = covariance
        quadratic = b * b - t * t * vbb
        if not quadratic > 0:
            return None
        skew = t * (ratio * vbb - vab)  # t times the covariance of denominator and contrast, negated
        square = quadratic * variance + skew * skew
        if square >= 0:  # else no θ at all is compatible by this variance: the two-way one may be negative
            ends += [float(ratio + t * (skew + sign * math.sqrt(square)) / quadratic) for sign in (-1, 1)]
    return (min(ends), max(ends)) if ends else None


def spreadless(contrast: Array, error: float, rounding: float, alike: str) -> str | None:
    """Reason code and words when the (items,) values of a contrast have no spread, so that no interval exists.

    Args:
        rounding: what arithmetic alone can make of equal values.
        alike: the sentence for values that are all exactly zero; empty for none.
    """
    if alike and not contrast.any():
        return f"identical: {alike}"
    if np.abs(contrast).max() <= rounding:
        return "constant: every item has the same value, so there is no spread to judge by"
    if error <= rounding:
        return "constant: every cluster has the same mean, so there is no spread to judge by"
    return None


def cautions(contrast: Array, clusters: pd.DataFrame) -> tuple[str, ...]:
    """Cautions where the coverage of a nominal 95 % interval is known to differ (docs/statistics.md).

    Args:
        contrast: (items,) values whose mean has the interval.
        clusters: (items, factors) labels.
    """
    counts = {str(name): int(clusters[name].nunique()) for name in clusters.columns}
    few = [f"{count} of {name}" for name, count in counts.items() if count < ENOUGH_CLUSTERS]
    found = []
    if few:
        found.append(
            f"few clusters: with {' and '.join(few)} the 95 % interval holds the truth less often if what they measure "
            f"is skewed: with 5 to 8 clusters as skewed as distances are, one side errs {SKEWED_ERROR} % of the time "
            "instead of 2.5 % (docs/statistics.md, How often it errs); more clusters help, more items in each do not"
        )
    largest = clusters.columns[0]
    if len(counts) == 2:
        first, second, both, _ = one_way_parts(contrast, clusters)
        largest = clusters.columns[0 if first >= second else 1]
        if first + second - both < max(first, second):
            found.append(
                "wide interval: values of one cluster hardly resemble each other, so the variance by "
                f"{largest} alone decides, which is more than the two-way variance; the 95 % interval then holds the "
                "truth more often, up to 99 % with few clusters, and errs towards INCONCLUSIVE (docs/statistics.md, "
                "How often it errs)"
            )
    if counts[str(largest)] >= ENOUGH_CLUSTERS:
        means = cluster_means(contrast, clusters[[largest]])
        if skewed_clusters(means[None, :])[0]:
            found.append(
                f"skewed clusters: the means of the {len(means)} clusters of {largest} have a skewness of "
                f"{skewnesses(means[None, :])[0]:.1f}, more than chance makes of symmetric ones, so on the side of "
                "the long tail the 95 % interval misses the truth more often than 2.5 % of the time "
                "(docs/statistics.md, How often it errs)"
            )
    return tuple(found)


def skewed_clusters(means: Array) -> NDArray[np.bool_]:
    """(rounds,) whether (rounds, clusters) means are more skewed than chance makes of normal ones.

    D'Agostino's test (1970) at 5 %, on each side; it needs eight clusters.
    """
    chances = chances_of_skewness(skewnesses(means), means.shape[1])
    skewed: NDArray[np.bool_] = chances < SKEWED_LEVEL
    return skewed


def critical(df: float | None, alpha: float | None = None) -> float:
    """Two-sided critical value of t, or of the normal distribution where `df` is None.

    Args:
        alpha: its level; None: that of the claim under way.
    """
    return quantile(1 - (level() if alpha is None else alpha) / 2, df)


def guarded(df: float, alpha: float | None = None) -> float:
    """The two-sided level at which t with `df` tests as strictly as t with one degree of freedom fewer.

    For claims whose PASS says "no harm": skewed clusters make it err by up to 5.3 % instead of 2.5 % otherwise.
    """
    alpha = level() if alpha is None else alpha
    return 2 * chance_below(-critical(df - 1, alpha), df) if df > 1 else alpha


def detectable(standard_error: float, df: float | None, alpha: float | None = None) -> float:
    """Distance from the threshold that is decided with 80 % power: (t_{1-α/2} + t_{0.8}) standard errors.

    Args:
        alpha: see `critical`.
    """
    return (critical(df, alpha) + quantile(POWER, df)) * standard_error


def finite(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def divide(a: float, b: float) -> float | None:
    """a / b, or None where b is zero."""
    return float(a / b) if b != 0 else None


def _cluster_sums(columns: Array, codes: NDArray[np.intp]) -> Array:
    sums = np.zeros((int(codes.max()) + 1, columns.shape[1]))
    np.add.at(sums, codes, columns)
    return sums


def _sandwich(residuals: Array, codes: NDArray[np.intp]) -> Array:
    sums = _cluster_sums(residuals, codes)
    count = len(sums)
    return (sums.T @ sums) * (count / (count - 1)) / len(residuals) ** 2


def _unknown(columns: Array) -> Array:
    return np.full((columns.shape[1], columns.shape[1]), np.nan)
