"""What stands beside a verdict: how surely an effect is on the wrong side, and how many items would decide.

The p-value is that of the comparison as a null hypothesis ("the claim holds"), taken from the statistic that the
interval is made of, so that FAIL and p <= alpha / 2 are the same for one-sided claims. It is what a family of claims
corrects.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pandas as pd

from auditkit.record.schema import Relation
from auditkit.stats.intervals import Array, detectable, one_way_parts

GROW = "clusters grow with the items"
GROW_BOTH = "both factors grow together and stay crossed as they are"


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


def items_needed(
    contrast: Array, clusters: pd.DataFrame, distance: float, standard_error: float, df: int, alpha: float
) -> tuple[int | None, str]:
    """Items at which the present distance from the threshold would be decided with 80 % power, and what of them.

    With one factor the variance falls as one over the number of clusters, so clusters must grow with the items.
    With two crossed factors it is a / C1 + b / C2 + e / (C1 C2): when both grow by f, items grow by f squared and
    the variance falls by something between f and f squared, depending on the parts.

    Args:
        contrast: (items,) values whose mean is tested against zero.
        distance: that mean.
        standard_error: its standard error as the interval uses it.
    """
    n = len(contrast)
    if distance == 0 or not math.isfinite(distance):
        return None, ""
    ratio = detectable(standard_error, df, alpha) / abs(distance)
    shrink = ratio * ratio
    if clusters.shape[1] == 1:
        return _whole(n * shrink), GROW
    # In standard errors, since squares of very large values are none.
    first, second, both, counts = one_way_parts(contrast / standard_error, clusters)
    between = max(first - both, 0.0) / (1 - 1 / counts[1]) + max(second - both, 0.0) / (1 - 1 / counts[0])
    between = min(1.0, between)
    part = between * shrink
    growth = (part + math.sqrt(part * part + 4 * (1 - between) * shrink)) / 2
    return _whole(n * growth * growth), GROW_BOTH


def _whole(items: float) -> int | None:
    return math.ceil(items) if items < 1e6 else None
