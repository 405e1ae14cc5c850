"""Cluster-robust intervals for means and ratios of means.

Values are columns measured on the same items. With one cluster factor the unit of inference is the cluster: the
mean of cluster means, with a t interval on C - 1 degrees of freedom. With two crossed factors the variance is
the two-way one of Cameron, Gelbach & Miller (2011): one-way variances of both factors minus that of their
intersections, for no contrast below either, on min(C1, C2) - 1 degrees of freedom.

The ratio interval is Fieller's (1954): the set of θ for which the contrast `numerator - θ denominator` is not
distinguishable from zero. It is therefore the same decision as testing that contrast, and with a denominator
that is constantly one it is the ordinary t interval.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

ALPHA = 0.05
POWER = 0.80
MIN_CLUSTERS = 5
ENOUGH_CLUSTERS = 15
"""From here on the interval of skewed clusters holds the truth at least 94 % of the time (docs/statistics.md)."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Moments:
    """Mean vector (k,) and its covariance (k, k), with the clusters and degrees of freedom behind them."""

    mean: Array
    covariance: Array
    clusters: int
    df: int

    def contrast(self, weights: Array) -> tuple[float, float]:
        """Mean and standard error of a linear combination of the columns."""
        variance = float(weights @ self.covariance @ weights)
        return float(weights @ self.mean), math.sqrt(max(variance, 0.0))


def moments(columns: Array, clusters: pd.DataFrame) -> Moments:
    """Cluster-robust mean and covariance.

    Args:
        columns: (items, k) finite values.
        clusters: (items, factors) labels, one or two factors.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows comes out as not finite
        return _moments(columns, [pd.factorize(clusters[name])[0] for name in clusters.columns])


def _moments(columns: Array, factors: list[NDArray[np.intp]]) -> Moments:
    counts = [int(codes.max()) + 1 for codes in factors]
    if len(factors) == 1:
        means = _cluster_sums(columns, factors[0]) / np.bincount(factors[0])[:, None]
        count = counts[0]
        covariance = np.atleast_2d(np.cov(means.T, ddof=1)) / count if count > 1 else _unknown(columns)
        return Moments(means.mean(axis=0), covariance, count, count - 1)
    mean = columns.mean(axis=0)
    if min(counts) < 2:
        return Moments(mean, _unknown(columns), min(counts), min(counts) - 1)
    cells = pd.factorize(factors[0] * counts[1] + factors[1])[0]
    first, second, both = (_sandwich(columns - mean, codes) for codes in (*factors, cells))
    return Moments(mean, _two_way(first, second, both), min(counts), min(counts) - 1)


def cluster_means(values: Array, clusters: pd.DataFrame) -> Array:
    """(clusters,) mean per cluster, of the factor with fewer clusters where two are crossed."""
    factors = [pd.factorize(clusters[name])[0] for name in clusters.columns]
    codes = min(factors, key=lambda candidate: int(candidate.max()))
    return (_cluster_sums(values[:, None], codes) / np.bincount(codes)[:, None])[:, 0]


def one_way_parts(values: Array, clusters: pd.DataFrame) -> tuple[float, float, float, tuple[int, int]]:
    """Variances of the mean of (items,) values by either of two factors and by their cells, and the counts."""
    codes = [pd.factorize(clusters[name])[0] for name in clusters.columns]
    counts = (int(codes[0].max()) + 1, int(codes[1].max()) + 1)
    cells = pd.factorize(codes[0] * counts[1] + codes[1])[0]
    residuals = (values - values.mean())[:, None]
    first, second, both = (float(_sandwich(residuals, c)[0, 0]) for c in (*codes, cells))
    return first, second, both, counts


def pooled(residuals: Array, clusters: pd.DataFrame) -> tuple[float, int]:
    """Cluster-robust variance of the mean of (items,) residuals around pooled means, and the fewest clusters.

    Every item has the same weight, as in a rate; `moments` gives every cluster the same weight.
    """
    codes = [pd.factorize(clusters[name])[0] for name in clusters.columns]
    fewest = min(int(c.max()) + 1 for c in codes)
    if fewest < 2:
        return math.nan, fewest
    column = residuals[:, None]
    if len(codes) == 1:
        return float(_sandwich(column, codes[0])[0, 0]), fewest
    cells = pd.factorize(codes[0] * (int(codes[1].max()) + 1) + codes[1])[0]
    return float(_two_way(*(_sandwich(column, c) for c in (*codes, cells)))[0, 0]), fewest


def fieller(m: Moments, alpha: float = ALPHA) -> tuple[float, float] | None:
    """Interval (lower, upper) of mean[0] / mean[1] at level 1 - alpha, or None when it is unbounded.

    It is unbounded when the denominator's own interval touches zero: then no ratio can be stated.
    """
    t = critical(m.df, alpha)
    a, b = m.mean
    (_, vab), (_, vbb) = m.covariance
    # Solve (a - θb)² <= t² (vaa - 2θ vab + θ² vbb) for δ = θ - a/b. Around the estimate, and not around zero,
    # since the textbook discriminant loses every digit of an interval that is narrow for its distance from 0.
    quadratic = b * b - t * t * vbb
    if not quadratic > 0:
        return None
    ratio = a / b
    _, error = m.contrast(np.array([1.0, -ratio]))
    skew = t * (ratio * vbb - vab)  # t times the covariance of denominator and contrast, negated
    root = math.sqrt(quadratic * error * error + skew * skew)
    return float(ratio + t * (skew - root) / quadratic), float(ratio + t * (skew + root) / quadratic)


def spreadless(contrast: Array, error: float, rounding: float, alike: str) -> str | None:
    """Reason code and words when (items,) values of a contrast, with this clustered error, have no spread.

    Args:
        rounding: what arithmetic alone can make of equal values.
        alike: what it is called when every value is exactly zero; empty where that is nothing special.
    """
    if alike and not contrast.any():
        return f"identical: {alike}"
    if np.abs(contrast).max() <= rounding:
        return "constant: every item has the same value, so there is no spread to judge by"
    if error <= rounding:
        return "constant: every cluster has the same mean, so there is no spread to judge by"
    return None


def caution(contrast: Array, clusters: pd.DataFrame) -> str:
    """Where a nominal 95 % interval is known to hold another share of the truth (docs/statistics.md); else empty.

    Args:
        contrast: (items,) values whose mean has the interval.
        clusters: (items, factors) labels.
    """
    if clusters.shape[1] == 1:
        count = int(clusters.nunique().iloc[0])
        if count >= ENOUGH_CLUSTERS:
            return ""
        return (
            f"few clusters: with {count} of them the 95 % interval holds the truth a little less often if what they "
            "measure is skewed (docs/statistics.md, How often it errs); more clusters help, more items in each do not"
        )
    first, second, both, _ = one_way_parts(contrast, clusters)
    if first + second - both >= max(first, second):
        return ""
    factor = clusters.columns[0 if first >= second else 1]
    return (
        f"wide interval: values of one cluster hardly resemble each other, so the two-way variance was raised to that "
        f"by {factor} alone; the 95 % interval then holds the truth more often, up to 99 % with few clusters, and errs "
        "towards INCONCLUSIVE (docs/statistics.md, How often it errs)"
    )


def critical(df: int, alpha: float = ALPHA) -> float:
    """Two-sided critical value of t."""
    return float(stats.t.ppf(1 - alpha / 2, df))


def guarded(df: int, alpha: float = ALPHA) -> float:
    """The two-sided level at which t with `df` tests as strictly as t with one degree of freedom fewer.

    For claims whose PASS says "no harm": skewed clusters make it err by up to 5.3 % instead of 2.5 % otherwise.
    """
    return 2 * float(stats.t.sf(critical(df - 1, alpha), df)) if df > 1 else alpha


def detectable(standard_error: float, df: int, alpha: float = ALPHA) -> float:
    """Distance from the threshold that is decided with 80 % power: (t_{1-α/2} + t_{0.8}) standard errors."""
    return (critical(df, alpha) + float(stats.t.ppf(POWER, df))) * standard_error


def _cluster_sums(columns: Array, codes: NDArray[np.intp]) -> Array:
    sums = np.zeros((int(codes.max()) + 1, columns.shape[1]))
    np.add.at(sums, codes, columns)
    return sums


def _sandwich(residuals: Array, codes: NDArray[np.intp]) -> Array:
    sums = _cluster_sums(residuals, codes)
    count = len(sums)
    return (sums.T @ sums) * (count / (count - 1)) / len(residuals) ** 2


def _two_way(first: Array, second: Array, both: Array) -> Array:
    """`first + second - both`, raised where needed so that no contrast falls below either one-way variance.

    Matrices are compared in coordinates in which `first + second` is the identity, so that the result follows
    every change of units and every shift of the numerator by a multiple of the denominator.
    """
    total = first + second
    if not (np.isfinite(total).all() and np.isfinite(both).all()):
        return np.full_like(total, np.nan)
    scale = np.sqrt(np.diag(total))
    scale[scale == 0] = 1.0
    eigenvalues, vectors = np.linalg.eigh(total / np.outer(scale, scale))
    kept = eigenvalues > 1e-12
    root = np.sqrt(eigenvalues[kept])
    into, back = (vectors[:, kept] / root).T / scale, scale[:, None] * vectors[:, kept] * root
    one, two, cells = (into @ matrix @ into.T for matrix in (first, second, both))

    def raised(*floors: Array) -> Array:
        bound: Array = one + two - cells
        for floor in floors:
            bound = floor + _positive_part(bound - floor)
        return bound

    # Both orders bound both floors; their mean does not depend on which factor is named first.
    covariance: Array = back @ ((raised(one, two) + raised(two, one)) / 2) @ back.T
    return covariance


def _positive_part(matrix: Array) -> Array:
    eigenvalues, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    clipped: Array = (vectors * np.clip(eigenvalues, 0.0, None)) @ vectors.T
    return clipped


def _unknown(columns: Array) -> Array:
    return np.full((columns.shape[1], columns.shape[1]), np.nan)
