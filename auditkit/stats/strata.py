"""Means over fixed strata: clusters are sampled within kinds, and the kinds themselves are not a sample.

Decisions come in kinds (hire, lend, admit), each with its own question, and every kind has several cases. A claim
"of these kinds of decision" generalises to further cases of the same kinds and not to other kinds. What the kinds
differ by is then no sampling error: the variance is that of clusters around the mean of their own stratum,
`sum over strata h of (n_h / C)^2 s_h^2 / n_h` for C clusters in all (Cochran 1977, Sampling Techniques, 5.3). The
degrees of freedom are Satterthwaite's (ibid., eq. 5.16), since kinds need not spread alike: at most clusters minus
strata, and near those of one stratum where one holds all the variance.

Strata are used where each has `MIN_PER_STRATUM` clusters. With fewer there is no spread within a stratum to go by, and
the interval over all clusters is taken, which holds what the strata differ by as well and is therefore wider.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from auditkit.stats import intervals
from auditkit.stats.intervals import Array, Moments

MIN_PER_STRATUM = 3


class _Within(NamedTuple):
    """Clusters of the factor that lies within strata."""

    factor: str
    codes: NDArray[np.intp]
    """(items,) cluster."""
    stratum: NDArray[np.intp]
    """(clusters,) stratum."""


def nested(clusters: pd.DataFrame, strata: pd.Series) -> list[str]:
    """The cluster factors of which every cluster lies within one stratum."""
    return [within.factor for within in _nested(clusters, strata)]


def usable(clusters: pd.DataFrame, strata: pd.Series | None) -> bool:
    """Whether there are two strata or more, and each has enough clusters for a variance of its own."""
    return _within(clusters, strata) is not None


def described(clusters: pd.DataFrame, strata: pd.Series | None) -> str:
    """The design in words: "case", "case x name, within strata of kind"."""
    factors = " x ".join(map(str, clusters.columns))
    if strata is None or not usable(clusters, strata):
        return factors
    return f"{factors}, within strata of {strata.name}"


def moments(columns: Array, clusters: pd.DataFrame, strata: pd.Series | None = None) -> Moments:
    """`intervals.moments`, with the variance of clusters within strata where there are some.

    Args:
        columns: (items, k) finite values. Where strata are used, the degrees of freedom are those of the first column.
        clusters: (items, factors) labels, one or two factors.
        strata: (items,) label of the stratum, or None.
    """
    within = _within(clusters, strata)
    if within is None:
        return intervals.moments(columns, clusters)
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows comes out as not finite
        found = intervals.moments(_around(columns, within, clusters.shape[1]), clusters)
        df = _degrees_of_freedom(columns[:, 0], within, clusters.shape[1])
    dfs = zip(map(str, clusters.columns), found.own, strict=True)
    return replace(found, dfs=tuple(float(df) if name == within.factor else own for name, own in dfs))


def cautions(contrast: Array, clusters: pd.DataFrame, strata: pd.Series | None = None) -> tuple[str, ...]:
    """`intervals.cautions` of (items,) values, after what strata differ by is taken away where they are used."""
    return intervals.cautions(without_strata(contrast, clusters, strata), clusters)


def without_strata(columns: Array, clusters: pd.DataFrame, strata: pd.Series | None) -> Array:
    """(items, k) or (items,) values with the same mean, whose variance over clusters is the one within strata.

    Every value keeps its distance from the mean of its stratum, times sqrt(n_h / (n_h - 1) (C - 1) / C), around the
    overall mean. With one factor the variance over clusters is then exactly that of the module's formula; with two, the
    variance by the other factor is raised by that factor squared (1.2 for five strata of five), on the safe side.
    Without usable strata the values come back as they are.
    """
    within = _within(clusters, strata)
    return columns if within is None else _around(columns, within, clusters.shape[1])


def _around(columns: Array, within: _Within, factors: int) -> Array:
    kinds = within.stratum[within.codes]
    items = np.ones(len(kinds))
    if factors == 1:  # a mean of clusters gives each the same weight, and items a share of it
        items = 1.0 / np.bincount(within.codes)[within.codes]
    values = columns.reshape(len(columns), -1)
    sums = np.zeros((int(kinds.max()) + 1, values.shape[1]))
    np.add.at(sums, kinds, values * items[:, None])
    means = sums / np.bincount(kinds, weights=items)[:, None]
    overall = (values * items[:, None]).sum(axis=0) / items.sum()
    each, total = np.bincount(within.stratum), len(within.stratum)
    scale = np.sqrt(each / (each - 1) * (total - 1) / total)
    found: Array = overall + scale[kinds, None] * (values - means[kinds])
    return found.reshape(columns.shape)


def _degrees_of_freedom(values: Array, within: _Within, factors: int) -> int:
    """Satterthwaite's for the mean of (items,) values, rounded down."""
    sums: Array = np.bincount(within.codes, weights=values).astype(np.float64)
    sizes: Array = np.bincount(within.codes).astype(np.float64)
    if factors == 1:  # a mean of clusters gives each the same weight
        sums, sizes = sums / sizes, np.ones(len(sizes))
    each = np.bincount(within.stratum)
    means = np.bincount(within.stratum, weights=sums) / np.bincount(within.stratum, weights=sizes)
    centred = sums - sizes * means[within.stratum]
    scale = float(np.abs(centred).max())
    most = len(within.stratum) - len(each)
    if not 0 < scale < np.inf:
        return most
    squares = np.bincount(within.stratum, weights=(centred / scale) ** 2)
    parts = each * squares / (each - 1)
    return min(most, int(parts.sum() ** 2 / (parts**2 / (each - 1)).sum() + 1e-9))


def _within(clusters: pd.DataFrame, strata: pd.Series | None) -> _Within | None:
    """The first factor that lies within strata; None unless there are two strata or more with enough clusters each."""
    if strata is None or not len(strata):
        return None
    within = _nested(clusters, strata)[0]
    counts = np.bincount(within.stratum)
    return within if len(counts) > 1 and int(counts.min()) >= MIN_PER_STRATUM else None


def _nested(clusters: pd.DataFrame, strata: pd.Series) -> list[_Within]:
    kinds = pd.factorize(strata)[0]
    found = []
    for name, codes in zip(clusters.columns, intervals.cluster_codes(clusters), strict=True):
        stratum = np.empty(int(codes.max()) + 1, dtype=np.intp)
        stratum[codes] = kinds
        if (stratum[codes] == kinds).all():  # no cluster has items of another stratum
            found.append(_Within(str(name), codes, stratum))
    return found
