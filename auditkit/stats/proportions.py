"""Intervals for rates: Wilson's for one, Miettinen and Nurminen's for the ratio or difference of two groups, Tango's
for the difference of two rates of the same items.

Both invert a score test, so they stay inside what is possible and keep a width where every item came out the same.
Counts need not be whole: clustered items enter as the smaller number of independent items that would be as
informative (the design effect; Kish 1965, Rao & Scott 1992), with t instead of normal quantiles.

statsmodels has such intervals too. It is not used for two groups because it fails or errs where a count is 0 or full:
10 of 10 against 10 of 10 gives it a ratio above 1. For pairs it has tests and no interval of the difference. Wilson's
is one line, which the tests hold against SciPy's; that one takes whole counts only.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

from scipy import optimize

Compare = Literal["ratio", "difference"]


def wilson(rate: float, n: float, critical: float) -> tuple[float, float]:
    """Wilson's (1927) interval for `rate` among `n` independent items, at a critical value."""
    square = critical * critical / n
    centre = (rate + square / 2) / (1 + square)
    half = math.sqrt(square * (rate * (1 - rate) + square / 4)) / (1 + square)
    return (0.0 if rate == 0 else max(centre - half, 0.0)), (1.0 if rate == 1 else min(centre + half, 1.0))


def wilson_statistic(rate: float, n: float, theta: float) -> float:
    """(rate - theta) in standard errors under theta; infinite where theta allows no other rate."""
    variance = theta * (1 - theta) / n
    distance = rate - theta
    if not 0 <= theta <= 1 or variance <= 0:
        return math.copysign(math.inf, distance) if distance else 0.0
    return distance / math.sqrt(variance)


def score_statistic(p1: float, n1: float, p0: float, n0: float, theta: float, compare: Compare) -> float:
    """Miettinen & Nurminen's (1985) statistic of `p1 - p0 = theta`, or of `p1 / p0 = theta`.

    Positive when the observed rates lie above `theta`. The variance is taken at the rates that are most likely
    under `theta`.
    """
    if compare == "ratio":
        reference = _restricted_by_ratio(p1, n1, p0, n0, theta)
        tested = min(theta * reference, 1.0)
        distance, weight = p1 - theta * p0, theta * theta
    else:
        reference = _restricted_by_difference(p1, n1, p0, n0, theta)
        tested = min(max(reference + theta, 0.0), 1.0)
        distance, weight = p1 - p0 - theta, 1.0
    total = n1 + n0
    variance = tested * (1 - tested) / n1 + weight * reference * (1 - reference) / n0
    variance *= total / (total - 1)
    if abs(distance) < 1e-14:
        return 0.0
    return distance / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, distance)


def score_interval(
    p1: float, n1: float, p0: float, n0: float, compare: Compare, critical: float
) -> tuple[float, float]:
    """All `theta` that the score statistic does not reject. The ratio's upper end is infinite where `p0` is 0."""

    def beyond(theta: float, side: float) -> float:
        value = side * score_statistic(p1, n1, p0, n0, theta, compare) - critical
        return max(min(value, 1e6), -1e6)

    if compare == "difference":
        middle, least, most = p1 - p0, -1.0, 1.0
    else:
        middle, least, most = (p1 / p0 if p0 > 0 else math.inf), 0.0, math.inf
    lower = least
    if beyond(least, 1.0) > 0:
        inner = middle if middle < math.inf else _outside(beyond, 1.0, least)
        lower = _root(lambda theta: beyond(theta, 1.0), least, inner)
    if middle == most or (most < math.inf and beyond(most, -1.0) <= 0):
        return lower, most
    high = most if most < math.inf else _outside(beyond, -1.0, middle)
    return lower, _root(lambda theta: beyond(theta, -1.0), middle, high)


def paired_statistic(gains: float, losses: float, n: float, theta: float) -> float:
    """Tango's (1998, doi:10.1002/(SICI)1097-0258(19980430)17:8<891::AID-SIM780>3.0.CO;2-B) score statistic of
    `gains - losses = theta`.

    Positive when the observed difference lies above `theta`. The variance is taken at the shares that are most likely
    under `theta`, so it does not vanish where no item, or every item, changed.

    Args:
        gains: share of the `n` items that only the first condition has (value 1).
        losses: share that only the second has (value -1).
    """
    distance = gains - losses - theta
    if abs(distance) < 1e-14:
        return 0.0
    b = (2 - gains + losses) * theta - gains - losses
    c = losses * theta * (1 - theta)
    lost = (math.sqrt(max(b * b + 8 * c, 0.0)) - b) / 4
    lost = min(max(lost, 0.0, -theta), (1 - theta) / 2)
    variance = (2 * lost + theta * (1 - theta)) / n
    return distance / math.sqrt(variance) if variance > 1e-15 else math.copysign(math.inf, distance)


def paired_interval(gains: float, losses: float, n: float, critical: float) -> tuple[float, float]:
    """All differences from -1 to 1 that `paired_statistic` does not reject."""
    middle = gains - losses

    def beyond(theta: float, side: float) -> float:
        return max(min(side * paired_statistic(gains, losses, n, theta) - critical, 1e6), -1e6)

    lower = _root(lambda theta: beyond(theta, 1.0), -1.0, middle) if middle > -1 else -1.0
    return lower, (_root(lambda theta: beyond(theta, -1.0), middle, 1.0) if middle < 1 else 1.0)


def _outside(beyond: Callable[[float, float], float], side: float, start: float) -> float:
    """A ratio above `start` at which the statistic has crossed the critical value on this side."""
    theta = 1.0 + start
    while (beyond(theta, side) > 0) == (side > 0) and theta < 1e12:
        theta *= 4.0
    return theta


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    return float(optimize.brentq(function, low, high, xtol=1e-12, rtol=1e-10)) if low < high else low


def _restricted_by_ratio(p1: float, n1: float, p0: float, n0: float, theta: float) -> float:
    """The reference rate that is most likely when the tested rate is `theta` times it."""
    a = (n1 + n0) * theta
    b = -(n1 * theta + p1 * n1 + n0 + p0 * n0 * theta)
    c = p1 * n1 + p0 * n0
    if a == 0:
        return min(max(-c / b, 0.0), 1.0)
    root = 2 * c / (-b + math.sqrt(max(b * b - 4 * a * c, 0.0)))
    return min(max(root, 0.0), 1.0, 1.0 / theta) if theta > 1 else min(max(root, 0.0), 1.0)


def _restricted_by_difference(p1: float, n1: float, p0: float, n0: float, delta: float) -> float:
    """The reference rate that is most likely when the tested rate is `delta` above it."""
    x1, x0, total = p1 * n1, p0 * n0, n1 + n0
    l3 = total
    l2 = (n1 + 2 * n0) * delta - total - x1 - x0
    l1 = (n0 * delta - total - 2 * x0) * delta + x1 + x0
    l0 = x0 * delta * (1 - delta)
    q = l2**3 / (3 * l3) ** 3 - l1 * l2 / (6 * l3**2) + l0 / (2 * l3)
    p = math.copysign(math.sqrt(max(l2**2 / (3 * l3) ** 2 - l1 / (3 * l3), 0.0)), q)
    angle = (math.pi + math.acos(min(max(q / p**3, -1.0), 1.0))) / 3 if p else math.pi / 2
    return min(max(2 * p * math.cos(angle) - l2 / (3 * l3), 0.0, -delta), 1.0, 1.0 - delta)
