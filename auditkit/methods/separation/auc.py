"""How well a score, or a set of found rows, tells positive statements from the others.

The AUC is the chance that a positive row scores above another one, ties counting half. Scores of different folds come
from different probes and are not on one scale, so pairs are only compared within a fold.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]


def auc(scores: NDArray[Any], positive: NDArray[Any], folds: NDArray[Any] | None = None) -> float:
    """Mean over rows of `auc_parts`: the AUC, over folds weighted by their rows."""
    return float(auc_parts(scores, positive, folds).mean())


def auc_parts(scores: NDArray[Any], positive: NDArray[Any], folds: NDArray[Any] | None = None) -> Array:
    """(rows,) values whose mean is the AUC and whose spread is its variance.

    They are the structural components of DeLong, DeLong & Clarke-Pearson (1988, doi:10.2307/2531595) brought to one
    scale: with m positive and n other rows, A the AUC and V a row's share of the other kind that it is on the right
    side of, A + (m + n)/m (V - A) for a positive row and A + (m + n)/n (V - A) for another. As values of items in a
    `Measurement` they give the AUC an interval that respects clusters, and pair two layers or two detectors row by row.

    Args:
        scores: (rows,) higher for positive rows.
        positive: (rows,) flags.
        folds: (rows,) which rows may be compared; all by default.

    Raises:
        ValueError: a fold with rows of one kind only.
    """
    values, flags = np.asarray(scores, dtype=np.float64), np.asarray(positive).astype(bool)
    strata = np.zeros(len(flags), dtype=int) if folds is None else np.asarray(folds)
    parts = np.empty(len(flags))
    for fold in np.unique(strata):
        inside = strata == fold
        yes, no = np.flatnonzero(inside & flags), np.flatnonzero(inside & ~flags)
        if not (len(yes) and len(no)):
            raise ValueError(f"fold {fold} has rows of one kind only; use fewer folds or more statements")
        above = _below(values[yes], values[no]) / len(no)
        below = (len(yes) - _below(values[no], values[yes])) / len(yes)
        mean = float(above.mean())
        size = len(yes) + len(no)
        parts[yes] = mean + size / len(yes) * (above - mean)
        parts[no] = mean + size / len(no) * (below - mean)
    return parts


def _below(values: Array, others: Array) -> Array:
    """(values,) how many of the others are below each value, equal ones counting half; NaN where one is NaN.

    The difference of two ranks, in a tenth of the time of `rankdata`.
    """
    if np.isnan(values).any() or np.isnan(others).any():
        return np.full(len(values), np.nan)
    ordered = np.sort(others)
    return np.asarray((np.searchsorted(ordered, values) + np.searchsorted(ordered, values, "right")) / 2)


def precision_recall(found: NDArray[Any], positive: NDArray[Any]) -> tuple[float, float]:
    """Share of the found rows that are positive, and share of the positive rows that were found.

    Precision is NaN where nothing was found: there is nothing to be right about.
    """
    hits, flags = np.asarray(found).astype(bool), np.asarray(positive).astype(bool)
    both = int((hits & flags).sum())
    return both / int(hits.sum()) if hits.any() else float("nan"), both / int(flags.sum())


def many_aucs(scores: Array, positive: Flags) -> Array:
    """AUC of every column: scores and flags are (rows, columns)."""
    ranks = rankdata(scores, axis=0)
    m = positive.sum(axis=0)
    n = len(positive) - m
    areas: Array = ((ranks * positive).sum(axis=0) - m * (m + 1) / 2) / (m * n)
    return areas
