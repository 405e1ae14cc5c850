"""Quantiles and chances of the normal distribution and of Student's t, and D'Agostino's test of skewness.

They are made of scipy.special, as scipy.stats makes them too: importing scipy.stats takes most of a second, for which
every command and every session of pytest would wait. Tests compare both.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.special import ndtr, ndtri, stdtr, stdtrit


def quantile(chance: float, df: float | None) -> float:
    """The value below which t with `df` degrees of freedom falls with this chance.

    Where `df` is None, the normal distribution takes the place of t.
    """
    return float(quantiles(chance, df))


def quantiles(chances: Any, df: float | None) -> Any:
    """`quantile` of an array of chances.

    SciPy's t is +inf at 0 and at chances so small that it cannot find their quantile (1e-300); the sign is mended here.
    """
    return np.copysign(ndtri(chances) if df is None else stdtrit(df, chances), np.asarray(chances) - 0.5)


def chance_below(value: float, df: float | None) -> float:
    """P(T <= value) for t with `df` degrees of freedom, or for the normal distribution where `df` is None."""
    return float(ndtr(value) if df is None else stdtr(df, value))


def skewnesses(rows: Any) -> Any:
    """(rows,) skewness of the values in each of (rows, values): the third central moment by the second to 3/2.

    NaN where a row has no spread beyond rounding.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        mean = rows.mean(axis=1)
        centred = rows - mean[:, None]
        second, third = (centred**2).mean(axis=1), (centred**3).mean(axis=1)
        spread = second > (np.finfo(np.float64).eps * mean) ** 2
        return np.where(spread, third / np.where(spread, second, 1.0) ** 1.5, np.nan)


def chances_of_skewness(skewness: Any, n: int) -> Any:
    """Two-sided p-values of skewness in samples of `n` normal values, by D'Agostino (1970), Biometrika 57, 679-681.

    Args:
        n: eight or more.
    """
    scaled = skewness * math.sqrt((n + 1) * (n + 3) / (6 * (n - 2)))
    kurtosis = 3 * (n**2 + 27 * n - 70) * (n + 1) * (n + 3) / ((n - 2) * (n + 5) * (n + 7) * (n + 9))
    squared = math.sqrt(2 * (kurtosis - 1)) - 1
    normal = np.arcsinh(scaled / math.sqrt(2 / (squared - 1))) / math.sqrt(0.5 * math.log(squared))
    return 2 * ndtr(-np.abs(normal))
