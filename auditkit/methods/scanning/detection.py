"""What a scan found, held against what it finds by chance, and on rows that it has not seen.

A scan maximises over rows, units, levels and starts, so it scores high in noise too, and precision and recall on the
rows that it was run on are flattered. Two remedies: `significance` runs the whole scan again with the roles of the
rows dealt anew, and `held_out` finds units on one half of the statements and judges them on the other.

Here a table holds all rows, and `background` says which of them the others are compared with. Two designs:

- set aside: background rows are the reference and are not scanned (as published);
- among others (`scan_background=True`): every row is scanned, a background row being ranked among the other background
  rows. Where statements are few, this uses them all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from auditkit.methods.scanning.pvalues import Ranked, Tail
from auditkit.methods.scanning.scan import FoundSubset, Levels, Search, row_scores, scan, scan_rows
from auditkit.methods.separation.auc import auc, precision_recall
from auditkit.methods.separation.permutation import Groups, Significance, both_kinds, canonical, dealt, group_codes
from auditkit.notebook import Showable
from auditkit.stats.halves import halves
from auditkit.stats.streams import stream

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]
Indices = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Detection(Showable):
    """A scan's finding, in the indices of the table that was given.

    Attributes:
        score, alpha: of the best subset.
        rows, units: the best subset.
        scanned: rows that were searched, ascending.
        row_scores: (scanned,) how strongly each scanned row by itself shows the found units; 0 where none were found.
    """

    score: float
    alpha: float
    rows: Indices
    units: Indices
    scanned: Indices
    row_scores: Array

    def in_words(self) -> str:
        found = f"{len(self.rows)} of {len(self.scanned)} rows x {len(self.units)} units"
        return f"score {self.score:.3g} at alpha {self.alpha:.3g}: {found}"

    def to_frame(self) -> pd.DataFrame:
        """A row for each row that was scanned: whether it was found, and its own score."""
        return pd.DataFrame({"row": self.scanned, "found": self.found, "score": self.row_scores})

    def among(self, rows: Indices) -> Detection:
        """The same finding in the indices of a larger table, of which this one was `rows`."""
        return replace(self, rows=rows[self.rows], scanned=rows[self.scanned])

    @property
    def found(self) -> Flags:
        """(scanned,) whether the row is in the best subset."""
        return np.isin(self.scanned, self.rows)


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Units found on some statements, judged on others.

    Attributes:
        discovery: the scan that found the units; its rows are in-sample.
        confirmation: the best rows for those units, among the other half of the statements.
        positive: (rows of the table,) the truth.
        significance: of those units on the other half alone (`Scanner.held_out`).
    """

    discovery: Detection
    confirmation: Detection
    positive: Flags
    significance: Significance

    @property
    def truth(self) -> Flags:
        """(scanned,) the truth for the rows that the confirmation scanned."""
        truth: Flags = self.positive[self.confirmation.scanned]
        return truth

    @property
    def precision(self) -> float:
        return precision_recall(self.confirmation.found, self.truth)[0]

    @property
    def recall(self) -> float:
        return precision_recall(self.confirmation.found, self.truth)[1]

    @property
    def auc(self) -> float:
        return auc(self.confirmation.row_scores, self.truth)


@dataclass(frozen=True)
class Scanner:
    """How activations are scanned.

    Attributes:
        tail: see `scan_pvalues.empirical_pvalues`. "two-sided" lets a unit deviate upwards in one row and downwards in
            another. A direction for each unit is found with "right" on `both_directions(activations)`.
        search: how the p-values are searched.
        scan_background: see the module.
    """

    tail: Tail = "two-sided"
    search: Search = field(default_factory=Search)
    scan_background: bool = False

    def detect(
        self, activations: NDArray[Any], background: NDArray[Any], *, units: Sequence[int] | Indices | None = None
    ) -> Detection:
        """Scan the rows outside the background; with `units`, search the best rows for just these units.

        Args:
            activations: (rows, units), finite.
            background: (rows,) flags.
        """
        return _Table(self, activations, units).detect(both_kinds(background, len(activations), "background"))

    def significance(
        self, activations: NDArray[Any], background: NDArray[Any], *, groups: Groups | None = None,
        units: Sequence[int] | Indices | None = None, permutations: int = 200, seed: int = 0, name: str = "scan",
    ) -> Significance:  # fmt: skip
        """How often the scan scores as high when it is dealt anew which rows are background.

        Null hypothesis: the rows are exchangeable, that is, the others come from where the background comes from.
        Then every choice of background rows was as likely as the real one. Whole groups change places with groups of
        the same size (`exchange.dealt`); p-values and the whole search (units, rows, levels, restarts) are done anew
        each time. With `units` only rows and levels are searched, and the units must have been found on other rows.

        Args:
            groups: (rows,) what belongs together; by default each row is its own, equal rows together.
            permutations: the smallest p is 1 / (permutations + 1).
            seed, name: of the random stream.
        """
        flags = both_kinds(background, len(activations), "background")
        values = np.asarray(activations)
        codes = group_codes(groups, values)
        order = canonical(values, codes)
        table = _Table(self, values[order], units)
        rng = stream(seed, "scan permutations", name)
        null = [table.scan(one)[1].score for one in dealt(flags[order], codes[order], permutations, rng)]
        return Significance(table.scan(flags[order])[1].score, np.array(null))

    def held_out(
        self, activations: NDArray[Any], positive: NDArray[Any], groups: Groups, *, permutations: int = 200,
        seed: int = 0, name: str = "scan", exchanged: bool = False,
    ) -> HeldOut:  # fmt: skip
        """Find units on one half of the groups, and judge them on the other.

        On the first half the negative statements are the background and are scanned too, each among the others
        (`scan_background`, whatever this scanner's own says). All statements of the second half are then ranked among
        the negative ones of the first, and the best rows for the found units are searched. So nothing of the second
        half's labels enters but the judgement, as with a probe that was fitted on the first. Its significance is asked
        of the second half alone, its negative statements being the background.

        Args:
            groups: (rows,) item ids, or what must not be torn apart.
            exchanged: find on the second half and judge on the first.

        Raises:
            ValueError: a half with one kind of row only, or no units found on the one to find on.
        """
        flags = both_kinds(positive, len(activations), "positive")
        values = np.asarray(activations)
        codes = group_codes(groups, values)
        clusters = pd.DataFrame({"group": codes}, index=[str(i) for i in range(len(codes))])
        split = halves(clusters, seed, name).both_ways[exchanged]
        first, second = (np.sort(np.array(half, dtype=np.intp)) for half in (split.discovery, split.confirmation))
        scanner = replace(self, scan_background=True)
        discovery = scanner.detect(values[first], ~flags[first])
        rows = np.concatenate([first[~flags[first]], second])
        known = np.arange(len(rows)) < len(rows) - len(second)
        confirmation = replace(self, scan_background=False).detect(values[rows], known, units=discovery.units)
        chance = scanner.significance(
            values[second], ~flags[second], groups=codes[second], units=discovery.units,
            permutations=permutations, seed=seed, name=name,
        )  # fmt: skip
        return HeldOut(discovery.among(first), confirmation.among(rows), flags, chance)

    def repeated(
        self, activations: NDArray[Any], positive: NDArray[Any], *, runs: int = 100, background: int = 250,
        clean: int = 50, planted: int = 50, seed: int = 0, name: str = "scan",
    ) -> tuple[Detection, ...]:  # fmt: skip
        """The published protocol: scans of `clean` negative and `planted` positive rows, drawn anew in every run.

        Precision and recall of such runs are in-sample. What they are good for is how stable the found units are.

        Raises:
            ValueError: fewer rows than are drawn.
        """
        flags = both_kinds(positive, len(activations), "positive")
        values = np.asarray(activations)
        order = canonical(values, group_codes(None, values))
        yes, no = order[flags[order]], order[~flags[order]]
        if len(no) < background + clean or len(yes) < planted:
            drawn = f"{background + clean} negative and {planted} positive rows"
            raise ValueError(f"a run draws {drawn}, there are {len(no)} and {len(yes)}")
        found = []
        for run in range(runs):
            rng = stream(seed, "scan runs", name, str(run))
            negative = rng.permutation(no)[: background + clean]
            rows = np.sort(np.concatenate([negative, rng.permutation(yes)[:planted]]))
            found.append(self.detect(values[rows], np.isin(rows, negative[:background])).among(rows))
        return tuple(found)


def both_directions(activations: NDArray[Any]) -> NDArray[Any]:
    """(rows, 2 units) every unit as it is and negated, for a right-tailed scan that finds a direction per unit.

    Column c is unit c modulo the number of units (`units_of`), unusually high in the first half, low in the second.
    """
    values = np.asarray(activations)
    return np.concatenate([values, -values], axis=1)


def units_of(columns: Indices, units: int) -> Indices:
    """The units behind columns of `both_directions`, each once."""
    return np.unique(columns % units)


class _Table:
    """One table of activations, ranked once, under any choice of background."""

    def __init__(self, scanner: Scanner, activations: NDArray[Any], units: Sequence[int] | Indices | None) -> None:
        values = np.asarray(activations)
        if units is not None and not len(units):
            raise ValueError("there are no units to look at: the scan that should have found them found none")
        self.scanner = scanner
        self.units = None if units is None else np.asarray(units, dtype=np.intp)
        self.ranked = Ranked(values if self.units is None else values[:, self.units])

    def scan(self, background: Flags) -> tuple[Levels, FoundSubset]:
        """p-values of the scanned rows, laid out, and the best subset in their indices."""
        ranked, scanner = self.ranked, self.scanner
        rank = ranked.against_others if scanner.scan_background else ranked.against
        pvalues = Levels(rank(background, scanner.tail), scanner.search)
        if self.units is None:
            return pvalues, scan(pvalues, scanner.search)
        return pvalues, scan_rows(pvalues, np.arange(pvalues.units), scanner.search)

    def detect(self, background: Flags) -> Detection:
        pvalues, found = self.scan(background)
        scanned = np.arange(len(background)) if self.scanner.scan_background else np.flatnonzero(~background)
        scores = np.zeros(len(scanned))
        looked_at = found.units if self.units is None else np.arange(len(self.units))
        if len(looked_at):
            scores = row_scores(pvalues, looked_at, self.scanner.search)
        units = looked_at if self.units is None else self.units
        return Detection(found.score, found.alpha, scanned[found.rows], units, scanned, scores)
