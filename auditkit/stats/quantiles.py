"""Quantiles and chances of the normal distribution and of Student's t.

They are taken from scipy.special, from which scipy.stats takes them too: importing scipy.stats takes most of a second,
for which every command and every session of pytest would wait.
"""

from __future__ import annotations

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
