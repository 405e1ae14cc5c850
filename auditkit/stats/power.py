"""The p-value of a FAIL, and the number of items at which a comparison would be decided.

The number of items rests on an uncertain estimate and an uncertain variance, so it has a likely range: its ends are
those of the middle halves of both.

The p-value is that of the comparison as a null hypothesis ("the claim holds"), taken from the statistic that the
interval is made of, so that FAIL and p <= alpha / 2 are the same for one-sided claims. It is what a family of claims
corrects.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd
from scipy.special import gammaincinv

from auditkit.record.needed import BOTH
from auditkit.record.schema import Relation
from auditkit.stats.intervals import Array, detectable, one_way_parts
from auditkit.stats.quantiles import quantile

LARGE = 10**6
"""Items beyond which nobody measures."""


def p_fail(relation: Relation, threshold: float, tail: Callable[[float], float | None]) -> float | None:
    """p-value of "the effect stands in `relation` to `threshold`", from the lower tail P(T <= t) at a threshold.

    For an equivalence it is the chance, at the nearer margin, to come out this far or farther on either side.
    """
    below = tail(threshold)
    if below is None:
        return None
    match relation:
        case ">=" | ">":
            return below
        case "<=" | "<":
            return 1 - below
        case _:
            other = tail(-threshold)
            return None if other is None else min(1.0, below + other, 2 - below - other)


@dataclass(frozen=True)
class Needed:
    """Items at which the present distance from the threshold would be decided with 80 % power.

    Attributes:
        items: at the estimate itself; None from a million on, or where it lies on the threshold.
        likely: with the estimate and its variance at the ends of their middle halves; the end is None where the
            estimate may as well lie on the other side of the threshold, so that no number would do.
        factors: names of the cluster factors that must grow with the items.
    """

    items: int | None = None
    likely: tuple[int, int | None] | None = None
    factors: str = ""


def items_needed(
    contrast: Array, clusters: pd.DataFrame, distance: float, standard_error: float, df: float, alpha: float
) -> Needed:
    """Items at which the present distance from the threshold would be decided with 80 % power.

    With one factor the variance falls as one over the number of clusters, so clusters must grow with the items.
    With two crossed factors it is a / C1 + b / C2 + e / (C1 C2): when both grow by f, items grow by f squared and
    the variance falls by something between f and f squared, depending on the parts. Where at most half of their
    combinations are measured, each cluster keeps its number of items when both grow by f: items grow by f, and the
    variance falls by f.

    Args:
        contrast: (items,) values whose mean is tested against zero.
        distance: that mean.
        standard_error: its standard error as the interval uses it.
        df: of the test that decides.
    """
    names = BOTH.join(map(str, clusters.columns))
    if clusters.shape[1] == 1:
        return needed(len(contrast), distance, standard_error, df, alpha, names, lambda shrink: shrink)
    # In standard errors, since squares of very large values are none.
    first, second, both, counts = one_way_parts(contrast / standard_error, clusters)
    if 2 * len(contrast) <= counts[0] * counts[1]:
        names = f"{clusters.columns[0]}, with as many of {clusters.columns[1]}"
        return needed(len(contrast), distance, standard_error, df, alpha, names, lambda shrink: shrink)
    between = max(first - both, 0.0) / (1 - 1 / counts[1]) + max(second - both, 0.0) / (1 - 1 / counts[0])
    between = min(1.0, between)

    def grown(shrink: float) -> float:
        part = between * shrink
        return ((part + math.sqrt(part * part + 4 * (1 - between) * shrink)) / 2) ** 2

    return needed(len(contrast), distance, standard_error, df, alpha, names, grown)


def needed(
    n: int, distance: float, standard_error: float, df: float | None, alpha: float, factors: str,
    grown: Callable[[float], float],
) -> Needed:  # fmt: skip
    """`items_needed` for any statistic.

    Args:
        n: items now.
        df: of t; None where the statistic is normal and its variance known.
        grown: how many times the items make the variance so many times smaller.
    """
    if not (math.isfinite(distance) and 0 < standard_error < math.inf):
        return Needed()
    ask, half = detectable(1.0, df, alpha), quantile(0.75, df)
    tight = loose = 1.0
    if df is not None:  # what the true variance is times the measured one, by chi-square
        tight, loose = (df / float(2 * gammaincinv(df / 2, q)) for q in (0.75, 0.25))
    away = abs(distance) / standard_error

    def items(apart: float, variance: float) -> float:
        times = variance * (ask / apart) * (ask / apart)
        return n * grown(max(1.0, times)) if times < 1e100 else math.inf  # nothing can be squared further on

    most = items(away - half, loose) if away > half else math.inf
    least = items(away + half, tight)
    likely = (math.ceil(min(least, LARGE)), math.ceil(most) if most < LARGE else None)
    here = items(away, 1.0) if away > 0 else math.inf
    return Needed(math.ceil(here) if here < LARGE else None, likely, factors)
