"""Scores of a set of p-values: how many more are small than chance explains.

A set has N p-values, k of which are at most α. Under the null about N α are, so a score compares k with N α, and is 0
where k is not larger. All three rise with k and, for a fixed α, are maximised over subsets by taking the elements
with the most small p-values first: the linear-time subset scanning property (Neill 2012, doi:10.1111/j.1467-9868
.2011.01014.x; McFowland, Speakman & Neill 2013, JMLR 14:1533). Each is also convex along the line on which elements
with equally many small p-values are added one by one, so such elements enter a best subset together.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import rel_entr

Array = NDArray[np.float64]
Score = Callable[[ArrayLike, ArrayLike, ArrayLike], Array]


def higher_criticism(hits: ArrayLike, size: ArrayLike, alpha: ArrayLike) -> Array:
    """(k - N α) / sqrt(N α (1 - α)), the z of a binomial count (Donoho & Jin 2004)."""
    k, n, a = _arrays(hits, size, alpha)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(k > n * a, (k - n * a) / np.sqrt(n * a * (1 - a)), 0.0)


def berk_jones(hits: ArrayLike, size: ArrayLike, alpha: ArrayLike) -> Array:
    """N KL(k/N || α), the log-likelihood ratio of a binomial share above α (Berk & Jones 1979)."""
    k, n, a = _arrays(hits, size, alpha)
    expected = n * a
    above = np.asarray(k > expected)  # logarithms take most of a scan's time, so they are taken where they count
    score = rel_entr(k, expected, out=np.zeros(above.shape), where=above)
    score += rel_entr(n - k, n * (1 - a), out=np.zeros(above.shape), where=above)
    return score


def kolmogorov_smirnov(hits: ArrayLike, size: ArrayLike, alpha: ArrayLike) -> Array:
    """sqrt(N) (k/N - α), the one-sided Kolmogorov-Smirnov distance of the p-values from uniform, scaled."""
    k, n, a = _arrays(hits, size, alpha)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(k > n * a, (k - n * a) / np.sqrt(n), 0.0)


SCORES: dict[str, Score] = {
    "higher criticism": higher_criticism,
    "berk-jones": berk_jones,
    "kolmogorov-smirnov": kolmogorov_smirnov,
}


def score_named(name: str) -> Score:
    """The score of that name.

    Raises:
        ValueError: for an unknown name.
    """
    if name not in SCORES:
        raise ValueError(f"unknown score {name!r}; there are {', '.join(SCORES)}")
    return SCORES[name]


def _arrays(*values: ArrayLike) -> tuple[NDArray[Any], ...]:
    return tuple(np.asarray(value, dtype=np.float64) for value in values)
