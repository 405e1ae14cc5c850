"""Subset scanning: which rows and units together have more small p-values than chance explains?

A persona may show in a few hundred of thousands of units and in some of the statements, neither known beforehand. A
scan looks for the set of rows and units whose p-values score highest (`scan_scores`), over a grid of levels α. For
given rows and α the best units can be found exactly: sorted by how many of their p-values are at most α, one of the
prefixes is best among all subsets (linear-time subset scanning). The same holds for rows given units. So the scan
alternates between the two until the score stops rising, from several starts: fast generalised subset scan (McFowland,
Speakman & Neill 2013, JMLR 14:1533), as used for personas by Cintas et al. (2025, arXiv:2505.24539).

Each step is exact; the whole is a local optimum. A score says nothing by itself, since the search would find a high
one in noise too: see `scan_significance`.

    pvalues = empirical_pvalues(test, background)
    found = scan(pvalues)
    found.rows, found.units, found.score
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from auditkit.methods.scanning.pvalues import checked
from auditkit.methods.scanning.scores import Score, score_named
from auditkit.notebook import Showable
from auditkit.stats.streams import stream

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float64]
Indices = NDArray[np.intp]
Flags = NDArray[np.bool_]

_CELLS = 1 << 12
"""Into which the numbers from 0 to 1 are divided; a power of two, so that rounding takes no value to another cell."""


def alpha_grid(largest: float = 0.5, steps: int = 50) -> tuple[float, ...]:
    """Equally spaced levels from largest / steps to largest; by default those of the paper, 0.01 to 0.50."""
    return tuple(largest * (i + 1) / steps for i in range(steps))


@dataclass(frozen=True)
class Search:
    """How a scan searches.

    Attributes:
        score: "berk-jones", "higher criticism" (as published) or "kolmogorov-smirnov". Higher criticism grows with
            1 / sqrt(α) for a set whose p-values are all small, so it is drawn to few units at the lowest level.
        alphas: increasing levels between 0 and 1. A level below 1 / (n + 1), with n background rows, is never reached.
        restarts: the first start is from all rows, the second from all units, the others from random units.
        seed: of the random starts. They choose among units, so the order of rows has no influence.
    """

    score: str = "berk-jones"
    alphas: Sequence[float] = field(default_factory=alpha_grid)
    restarts: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        score_named(self.score)
        levels = np.asarray(self.alphas, dtype=np.float64)
        inside = levels.ndim == 1 and levels.size > 0 and bool(((levels > 0) & (levels < 1)).all())
        if not inside or (np.diff(levels) <= 0).any():
            raise ValueError("levels must be increasing numbers between 0 and 1")
        if self.restarts < 1:
            raise ValueError(f"a scan needs at least one start, got {self.restarts}")


@dataclass(frozen=True, eq=False)
class FoundSubset(Showable):
    """The best subset: indices of rows and units, ascending, and where it was best.

    Empty with score 0 where no subset has more small p-values than expected.
    """

    score: float
    alpha: float
    rows: Indices
    units: Indices

    def in_words(self) -> str:
        return f"score {self.score:.3g} at alpha {self.alpha:.3g}: {len(self.rows)} rows x {len(self.units)} units"

    def to_frame(self) -> pd.DataFrame:
        """A row for each row and each unit of the subset."""
        import pandas as pd

        kinds = ["row"] * len(self.rows) + ["unit"] * len(self.units)
        return pd.DataFrame({"kind": kinds, "index": [*self.rows.tolist(), *self.units.tolist()]})


def scan(pvalues: NDArray[Any] | Levels, search: Search | None = None) -> FoundSubset:
    """The rows and units that together score highest (group mode).

    Deterministic, and equivariant under the order of rows: the same rows are found in whatever order they come.

    Args:
        pvalues: (rows, units), between 0 and 1. To leave a unit out, set its p-values to 1. Where the same ones are
            looked at several times, they can be laid out once, as `Levels`.

    Raises:
        ValueError: p-values that are not a table of numbers between 0 and 1.
    """
    search = search or Search()
    table = _laid_out(pvalues, search)
    best = _Step(0.0, 0, np.zeros(table.rows, dtype=bool))
    units = np.zeros(table.units, dtype=bool)
    seen: set[bytes] = set()
    for rows in table.starts(search):
        reached = 0.0
        # A choice of rows that was met before leads where it led before.
        while (key := rows.tobytes()) not in seen:
            seen.add(key)
            some = table.best_units(rows)
            step = table.best_rows(some.chosen)
            if step.score <= reached:
                break
            reached, rows = step.score, step.chosen
            if reached > best.score:
                best, units = step, some.chosen
    return table.found(best, best.chosen, units)


def scan_units(
    pvalues: NDArray[Any] | Levels, rows: Sequence[int] | Indices, search: Search | None = None
) -> FoundSubset:
    """The best units for these rows, exactly."""
    table = _laid_out(pvalues, search or Search())
    chosen = _flags(rows, table.rows)
    step = table.best_units(chosen)
    return table.found(step, chosen, step.chosen)


def scan_rows(
    pvalues: NDArray[Any] | Levels, units: Sequence[int] | Indices, search: Search | None = None
) -> FoundSubset:
    """The best rows for these units, exactly: what is asked of units that were found on other rows."""
    table = _laid_out(pvalues, search or Search())
    chosen = _flags(units, table.units)
    step = table.best_rows(chosen)
    return table.found(step, step.chosen, chosen)


def row_scores(
    pvalues: NDArray[Any] | Levels, units: Sequence[int] | Indices, search: Search | None = None
) -> Array:
    """(rows,) how strongly each row by itself shows these units: the largest score over α with all of them."""
    table = _laid_out(pvalues, search or Search())
    chosen = _flags(units, table.units)
    scores = table.score(table.per_row(chosen), int(chosen.sum()), table.alphas)
    best: Array = scores.max(axis=0)
    return best


def scan_each(
    pvalues: NDArray[Any], search: Search | None = None, *, largest: float | None = None
) -> tuple[FoundSubset, ...]:
    """The best units of each row by itself (individual mode), exactly.

    For one row and one α the best units are those with p <= α, so only α is searched.

    Args:
        largest: search every distinct p-value up to this one, instead of the levels of `search`. A p-value of 0, which
            only the released variant has, would score infinitely and stands for the smallest p-value above 0.
    """
    search = search or Search()
    values = _probabilities(pvalues)
    score = score_named(search.score)
    return tuple(_best_alone(i, row, score, search, largest) for i, row in enumerate(values))


def _best_alone(i: int, row: Array, score: Score, search: Search, largest: float | None) -> FoundSubset:
    ordered = np.sort(row)
    if largest is None:
        levels = np.asarray(search.alphas, dtype=np.float64)
    else:
        levels = np.unique(ordered[(ordered > 0) & (ordered <= min(largest, 1 - 1e-9))])
    hits = np.searchsorted(ordered, _reached(levels), side="right")
    scores = score(hits, hits, levels)
    if not scores.size or scores.max() <= 0:
        return FoundSubset(0.0, 0.0, np.zeros(0, dtype=np.intp), np.zeros(0, dtype=np.intp))
    k = int(scores.argmax())
    return FoundSubset(
        float(scores[k]),
        float(levels[k]),
        np.array([i], dtype=np.intp),
        np.flatnonzero(row <= _reached(levels[k])),
    )


@dataclass(frozen=True, eq=False)
class _Step:
    """The best choice among one side's elements: its score, the index of its level, and who is in."""

    score: float
    level: int
    chosen: Flags


class Levels:
    """p-values as the index of the lowest level that they reach, laid out for counting along both sides."""

    def __init__(self, pvalues: NDArray[Any], search: Search) -> None:
        values = _probabilities(pvalues)
        self.rows, self.units = values.shape
        self.score: Score = score_named(search.score)
        alphas = np.asarray(search.alphas, dtype=np.float64)
        reached, level = _told_apart(_lowest(_reached(alphas), values), len(alphas))
        self.alphas = alphas[reached, None]
        self._by_unit = level * self.units + np.arange(self.units)
        self._by_row = np.ascontiguousarray((level * self.rows + np.arange(self.rows)[:, None]).T)

    def per_unit(self, rows: Flags) -> NDArray[np.intp]:
        """(levels, units) how many of a unit's p-values in these rows are at most each level."""
        return self._counts(self._by_unit[rows], self.units)

    def per_row(self, units: Flags) -> NDArray[np.intp]:
        """(levels, rows) how many of a row's p-values at these units are at most each level."""
        return self._counts(self._by_row[units], self.rows)

    def best_units(self, rows: Flags) -> _Step:
        return self._best(self.per_unit(rows), int(rows.sum()))

    def best_rows(self, units: Flags) -> _Step:
        return self._best(self.per_row(units), int(units.sum()))

    def starts(self, search: Search) -> Iterator[Flags]:
        """Rows to begin with."""
        yield np.ones(self.rows, dtype=bool)
        if search.restarts > 1:
            yield self.best_rows(np.ones(self.units, dtype=bool)).chosen
        for restart in range(2, search.restarts):
            yield self.best_rows(_random_units(search.seed, restart, self.units)).chosen

    def found(self, step: _Step, rows: Flags, units: Flags) -> FoundSubset:
        if step.score <= 0:
            rows, units = np.zeros_like(rows), np.zeros_like(units)
        alpha = float(self.alphas[step.level, 0]) if step.score > 0 else 0.0
        return FoundSubset(step.score, alpha, np.flatnonzero(rows), np.flatnonzero(units))

    def _counts(self, places: NDArray[np.intp], width: int) -> NDArray[np.intp]:
        levels = len(self.alphas)
        tally = np.bincount(places.ravel(), minlength=(levels + 1) * width)[: levels * width]
        counts = tally.reshape(levels, width)
        if width < 4 * levels:
            return counts.cumsum(axis=0)
        for lower, higher in pairwise(counts):  # for wide tables in a third of the time
            higher += lower
        return counts

    def _best(self, counts: NDArray[np.intp], width: int) -> _Step:
        """The best subset of elements with `width` p-values each, `counts` (levels, elements) of them small.

        Elements with equal counts go together, so the candidates are the sets {count >= t}. They are listed by t where
        there are fewer values of t than elements (units), else by element (rows).
        """
        levels, elements = counts.shape
        top = int(counts.max(initial=0))
        if top < elements:
            line = np.arange(levels)[:, None] * (top + 1)
            tally = np.bincount((counts + line).ravel(), minlength=levels * (top + 1)).reshape(levels, top + 1)
            tally = tally[:, ::-1]
            least = np.broadcast_to(np.arange(top, -1, -1), tally.shape)
            sizes, hits = tally.cumsum(axis=1), (tally * least).cumsum(axis=1)
        else:
            least = -np.sort(-counts, axis=1)
            sizes, hits = np.broadcast_to(np.arange(1, elements + 1), counts.shape), least.cumsum(axis=1)
        scores = self.score(hits, np.maximum(sizes * width, 1), self.alphas)
        level, place = divmod(int(scores.argmax()), scores.shape[1])
        if scores[level, place] <= 0:
            return _Step(0.0, 0, np.zeros(elements, dtype=bool))
        chosen = counts[level] >= least[level, place]
        score = self.score(counts[level, chosen].sum(), chosen.sum() * width, self.alphas[level, 0])
        return _Step(float(score), level, chosen)


@lru_cache(maxsize=64)
def _random_units(seed: int, restart: int, units: int) -> Flags:
    """Units to start from, a random share of all; the same in every scan of as many units."""
    rng = stream(seed, "scan restart", str(restart))
    share = rng.random()
    chosen = np.asarray(rng.random(units) < share)
    chosen.flags.writeable = False
    return chosen


def _lowest(reached: Array, values: Array) -> Indices:
    """As `np.searchsorted(reached, values)`, for values from 0 to 1: several times as fast for many values.

    A value starts at the level of the lower end of its cell, and rises past the levels that lie within the cell.
    """
    first = np.searchsorted(reached, np.arange(_CELLS + 1) / _CELLS)
    level = first[(values * _CELLS).astype(np.intp)]
    ends = np.append(reached, np.inf)
    for _ in range(int(np.diff(first).max())):
        level += values > ends[level]
    return level


def _told_apart(level: Indices, levels: int) -> tuple[Indices, Indices]:
    """The levels that some p-value is the first to reach, and each p-value's place among these.

    At any other level the counts are those of the level below it, and with equal counts every score falls as the level
    rises. So no other level is ever the best one, and p-values among n rows need n levels at most.
    """
    there = np.flatnonzero(np.bincount(level.ravel(), minlength=levels + 1)[:levels])
    if not there.size:  # every p-value is above every level
        there = np.zeros(1, dtype=np.intp)
    return there, np.searchsorted(there, np.arange(levels + 1))[level]


def _laid_out(pvalues: NDArray[Any] | Levels, search: Search) -> Levels:
    return pvalues if isinstance(pvalues, Levels) else Levels(pvalues, search)


def _reached(levels: Array) -> Array:
    """Levels, with room for the rounding of k / (n + 1): a p-value of 5 / 100 reaches the level 0.05."""
    return levels * (1 + 1e-9)


def _probabilities(pvalues: NDArray[Any]) -> Array:
    values = np.asarray(checked(pvalues), dtype=np.float64)
    if values.min() < 0 or values.max() > 1:
        raise ValueError(f"p-values must be between 0 and 1, got {values.min():g} to {values.max():g}")
    return values


def _flags(indices: Sequence[int] | Indices, size: int) -> Flags:
    places = np.asarray(indices, dtype=np.intp)
    if places.ndim != 1 or (places.size and not 0 <= places.min() <= places.max() < size):
        raise ValueError(f"indices must lie between 0 and {size - 1}")
    flags = np.zeros(size, dtype=bool)
    flags[places] = True
    return flags
