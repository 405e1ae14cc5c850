"""Design effect of the contrast of two groups' rates: items per independent item, with shared clusters as pairs.

Items of one cluster resemble each other, which makes them worth less than independent ones. Where both groups were
asked about in the same clusters, what a cluster does to both alike drops out of their contrast, which makes them worth
more, as pairing does. The variance of the contrast is therefore that of both rates, never taken to be less than that of
independent items, less what they share.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from auditkit.stats.intervals import MIN_CLUSTERS, Array, fewest_clusters, pooled

Group = tuple[Array, pd.DataFrame]
"""(items,) values of 0 and 1, and their (items, factors) cluster labels."""


def deflation(one: Group, other: Group, weight: float) -> tuple[float, int | None]:
    """Times more items there are than independent ones as informative about `rate - weight * rate of the other`.

    It is below 1 only where both groups have both outcomes in at least 5 clusters and the contrast of the two within a
    cluster is another than the commonest in at least 5: with fewer, what they share is not known. The second number is
    then how many such clusters there are, since the others tell nothing of the spread; None where it is not below 1.

    Args:
        weight: 1 for a difference, the ratio itself for a ratio.
    """
    (a, labels), (b, others) = one, other
    n, m = len(a), len(b)
    p, q = float(a.mean()), float(b.mean())
    plain = p * (1 - p) / n + weight**2 * q * (1 - q) / m
    if plain <= 0:
        return 1.0, None
    mine, theirs = a - p, -weight * (b - q)
    own = pooled(mine, labels)[0] + pooled(theirs, others)[0]
    both = np.concatenate([mine / n, theirs / m]) * (n + m)
    variance = pooled(both, pd.concat([labels, others]))[0]
    found = (variance + max(plain - own, 0.0)) / plain
    if found >= 1:
        return found, None
    telling = _unlike(one, other, weight) if _both_outcomes(one) and _both_outcomes(other) else 0
    return (found, telling) if telling >= MIN_CLUSTERS and found > 1e-9 else (1.0, None)


def _both_outcomes(group: Group) -> bool:
    values, labels = group
    return all(fewest_clusters(labels[values == v]) >= MIN_CLUSTERS for v in (0.0, 1.0))


def _unlike(one: Group, other: Group, weight: float) -> int:
    """Clusters, of the factor with the fewest such, in which the contrast of both groups is not the commonest one."""
    counts = []
    (values, mine), (against, theirs) = one, other
    for a, b in zip(mine.to_numpy(dtype=object).T, theirs.to_numpy(dtype=object).T, strict=True):
        codes, labels = pd.factorize(np.concatenate([a, b]))
        first = _means(values, codes[: len(a)], len(labels))
        second = _means(against, codes[len(a) :], len(labels))
        contrast = (first - weight * second).round(9)
        times = np.unique(contrast[~np.isnan(contrast)], return_counts=True)[1]
        counts.append(int(times.sum() - times.max(initial=0)))
    return min(counts)


def _means(values: Array, codes: NDArray[np.intp], count: int) -> Array:
    """(count,) mean of each cluster; NaN for one without items."""
    sums, items = np.bincount(codes, values, count), np.bincount(codes, minlength=count)
    return np.asarray(np.divide(sums, items, out=np.full(count, np.nan), where=items > 0), dtype=np.float64)
