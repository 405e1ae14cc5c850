"""Empirical p-values: how unusual a unit's activation is among those of background rows.

A statement's activation at a unit is ranked among the activations that *background* statements have there. If the
statement is like the background (exchangeable with it), its rank is uniform, whatever the distribution of the unit,
so no unit needs a model and units of any scale can be compared. With n background rows the smallest p-value is
1 / (n + 1).
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

Tail = Literal["left", "right", "two-sided", "released"]
Array = NDArray[np.float64]
Flags = NDArray[np.bool_]


class Ranked:
    """Rows ranked at every unit, once, so that any of them can be taken as the background.

    Args:
        activations: (rows, units), finite.

    Raises:
        ValueError: not two-dimensional, empty, or not finite.
    """

    def __init__(self, activations: NDArray[Any]) -> None:
        values = np.ascontiguousarray(checked(activations).T)
        units, rows = values.shape
        order = np.argsort(values, axis=1, kind="stable")
        ordered = np.take_along_axis(values, order, axis=1)
        starts = np.ones(order.shape, dtype=bool)  # where equal values begin
        starts[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
        places = np.arange(rows)
        # Places in a flattened table of running counts, one line of rows + 1 per unit.
        line = np.arange(units)[:, None] * (rows + 1)
        self.shape = (rows, units)
        self._order = order
        self._below = np.empty_like(order)
        if starts.all():  # no two values are equal, in a third of the time
            np.put_along_axis(self._below, order, places + line, axis=1)
            self._through = self._below + 1
            return
        first = np.maximum.accumulate(np.where(starts, places, 0), axis=1)
        ends = np.where(np.roll(starts, -1, axis=1), places, rows)
        last = np.minimum.accumulate(ends[:, ::-1], axis=1)[:, ::-1]
        self._through = np.empty_like(order)
        np.put_along_axis(self._below, order, first + line, axis=1)
        np.put_along_axis(self._through, order, last + 1 + line, axis=1)

    def against(self, background: Flags, tail: Tail = "two-sided") -> Array:
        """p-values of the rows outside `background`, in their order: (rows outside, units).

        Args:
            background: (rows,) which rows are the background.
            tail: see `empirical_pvalues`.
        """
        below, through, n = self._counts(background, ~background)
        return _pvalues(below, through, n, tail)

    def against_others(self, background: Flags, tail: Tail = "two-sided") -> Array:
        """p-values of all rows, a background row being ranked among the other background rows: (rows, units).

        Where statements are few, a background that is set aside costs half of them. Here each background row is ranked
        among the other n - 1, so its p-values are multiples of 1 / n. A row outside is ranked among all n, and its
        p-value is (n + 1) / n times that of `against`, at most 1: valid as well, and a multiple of 1 / n too. Otherwise
        a level that falls between k / (n + 1) and k / n would tell the two kinds of rows apart in noise.
        """
        below, through, n = self._counts(background, np.ones(self.shape[0], dtype=bool))
        values = np.empty(self.shape)
        outside = _pvalues(below[~background], through[~background], n, tail)
        values[~background] = np.minimum(1.0, outside * (n + 1) / n)
        values[background] = _pvalues(below[background], through[background] - 1, n - 1, tail)
        return values

    def _counts(self, background: Flags, wanted: Flags) -> tuple[NDArray[np.int32], NDArray[np.int32], int]:
        """Of the background: how many are below each wanted row, how many not above it, and how many there are."""
        rows, units = self.shape
        if background.shape != (rows,) or background.dtype != bool:
            raise ValueError(f"the background must be {rows} flags, one for each row")
        n = int(background.sum())
        if not 2 <= n < rows:
            raise ValueError(f"{n} of {rows} rows are background; at least two must be, and one must not")
        running = np.zeros((units, rows + 1), dtype=np.int32)
        np.cumsum(background[self._order], axis=1, out=running[:, 1:])
        flat = running.ravel()
        return flat[self._below[:, wanted]].T, flat[self._through[:, wanted]].T, n


def empirical_pvalues(test: NDArray[Any], background: NDArray[Any], tail: Tail = "two-sided") -> Array:
    """Rank of each test activation among the background's, as a p-value: (rows, units).

    With n background values b and a test value x:

    - "right", unusually high: (1 + #{b >= x}) / (n + 1)
    - "left", unusually low: (1 + #{b <= x}) / (n + 1)
    - "two-sided": twice the smaller one, at most 1
    - "released": #{b < x} / (n + 1), which the released code of Cintas et al. (2025, arXiv:2505.24539) computes where
      its paper describes the right tail. For comparison only: it finds low activations, can be 0, which no valid
      p-value of n + 1 ranks can, and is 0 wherever a unit is constant.

    The first three are valid: under exchangeability P(p <= a) <= a for every a, with ties counted against the finding.
    A unit that is constant has p = 1.

    Args:
        test: (rows, units), finite.
        background: (n, units), finite, n >= 2.

    Raises:
        ValueError: other shapes, values that are not finite, an unknown tail.
    """
    test, background = checked(test), checked(background)
    if test.shape[1] != background.shape[1]:
        raise ValueError(f"{test.shape[1]} units in the test rows, {background.shape[1]} in the background")
    flags = np.arange(len(background) + len(test)) < len(background)
    return Ranked(np.concatenate([background, test])).against(flags, tail)


def constant_units(activations: NDArray[Any]) -> NDArray[np.intp]:
    """Units that have the same value in every row, and so tell nothing."""
    values = checked(activations)
    return np.flatnonzero((values == values[:1]).all(axis=0))


def checked(activations: NDArray[Any]) -> NDArray[Any]:
    """(rows, units), finite; or one line that says what is wrong."""
    values = np.asarray(activations)
    if values.ndim != 2 or not values.size:
        raise ValueError(f"activations must be a table of rows by units with something in it, got {values.shape}")
    finite = np.isfinite(values)
    if not finite.all():
        row, unit = map(int, np.argwhere(~finite)[0])
        raise ValueError(
            f"{int((~finite).sum())} activations are NaN or infinite (first: row {row}, unit {unit}); "
            "leave those rows out or find out why"
        )
    return values


def _pvalues(below: NDArray[np.int32], through: NDArray[np.int32], n: int, tail: Tail) -> Array:
    right: Array = (1 + n - below) / (n + 1)
    left: Array = (1 + through) / (n + 1)
    match tail:
        case "right":
            return right
        case "left":
            return left
        case "two-sided":
            both: Array = np.minimum(1.0, 2 * np.minimum(left, right))
            return both
        case "released":
            released: Array = below / (n + 1)
            return released
    raise ValueError(f"unknown tail {tail!r}; there are {', '.join(get_args(Tail))}")
