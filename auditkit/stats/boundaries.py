"""Critical values for looking at growing data more than once (group-sequential, alpha spending).

The statistics of successive looks share their data. With information I_k at look k, their correlation is
sqrt(I_j / I_k), and the chance to cross a boundary for the first time at look k follows by integrating over where the
looks before have ended (Armitage, McPherson & Rowe 1969). Each look may spend a declared share of the error (Lan &
DeMets 1983), and its critical value is the one that spends just that.

A higher correlation than assumed makes crossings rarer (Slepian 1962), so the information ratio of two looks is taken
as the smaller of the ratios of items and of clusters: whatever part of the variance lies between clusters, the true
ratio is at least that.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from scipy import optimize
from scipy.special import ndtr

from auditkit.stats.intervals import Array
from auditkit.stats.quantiles import chance_below, quantile

_POINTS = 301
_LOWEST = -9.0
_MOST_ALIKE = 0.98
"""Looks more alike than this are treated as if they were this much alike, which the grid resolves."""


@lru_cache(maxsize=1024)
def one_sided_levels(fractions: tuple[float, ...], ratios: tuple[float, ...], alpha: float) -> tuple[float, ...]:
    """One-sided level at which each look tests, so that any look crosses with probability `alpha` at most.

    Args:
        fractions: (looks,) share of the error that may be spent up to and with this look, rising to at most 1.
        ratios: (looks - 1,) information of a look divided by that of the next, in (0, 1].
        alpha: one-sided error over all looks.
    """
    levels: list[float] = []
    density: Array | None = None
    grid = np.empty(0)
    spent = 0.0
    for look, fraction in enumerate(fractions):
        due = max(alpha * fraction - spent, 0.0)
        if density is None:
            level = due
            critical = -quantile(level, None) if level > 0 else -_LOWEST
            grid = np.linspace(_LOWEST, min(critical, -_LOWEST), _POINTS)
            density = np.exp(-(grid**2) / 2) / math.sqrt(2 * math.pi)
        else:
            r = math.sqrt(min(ratios[look - 1], _MOST_ALIKE))
            step = math.sqrt(1 - r * r)
            weighted = density * _weights(grid)

            def crossing(c: float, w: Array = weighted, z: Array = grid, r: float = r, s: float = step) -> float:
                return float(w @ ndtr((r * z - c) / s))

            if due <= 0 or crossing(-_LOWEST) >= due:
                critical = -_LOWEST
            else:
                critical = float(optimize.brentq(lambda c, d=due, f=crossing: f(c) - d, -3.0, -_LOWEST, xtol=1e-7))
            level = chance_below(-critical, None) if due > 0 else 0.0
            new = np.linspace(_LOWEST, critical, _POINTS)
            density = np.exp(-(((new[:, None] - r * grid[None, :]) / step) ** 2) / 2) @ weighted
            density = density / (step * math.sqrt(2 * math.pi))
            grid = new
        spent += due
        levels.append(level)
    return tuple(levels)


def _weights(grid: Array) -> Array:
    """Simpson's weights on an odd number of equally spaced points."""
    weights = np.full(len(grid), 2.0)
    weights[1::2] = 4.0
    weights[[0, -1]] = 1.0
    weights *= (grid[1] - grid[0]) / 3
    return weights
