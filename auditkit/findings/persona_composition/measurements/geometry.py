"""Directions of persona and task in activation space, and the cosines that a shared baseline gives by itself.

dX and dY both contain -h_BB. So they resemble each other, and their sum resembles dXY, also where nothing adds up. For
four independent states of equal variance

    cos(dX, dY) = 1/2      cos(dXY, dX + dY) = 1/sqrt(3) = 0.577      |interaction| / |dXY| = sqrt(2)

Cosines are therefore compared with these numbers and not with 0, or better with the cosines for another persona's dX,
which contains the same baseline and has no relation to this persona. With different baselines for dX and dY no state is
shared, and the cosine of independent directions is 0.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from auditkit.claims.evidence import Section
from auditkit.claims.shared import shared_measurement
from auditkit.findings.persona_composition.measurements.cells import FACTORS, SITES, Cells
from auditkit.methods.separation.permutation import Significance
from auditkit.record.figures import Curves, Dots, Series, Table
from auditkit.stats.effects.mean import Estimate, mean_difference
from auditkit.stats.measurement import Measurement
from auditkit.stats.streams import stream

Array = NDArray[np.float64]

SUM, TASK, APART, INDEPENDENT = "sum", "task alone", "persona and task", "independent baselines"
OTHER = {"persona": "sum with another persona", "task": "sum with another task"}
NULL_SUM, NULL_APART, NULL_RATIO = 1 / 3**0.5, 0.5, 2**0.5
"""What four independent states of equal variance give."""
SHUFFLES = 1000
EXCHANGED = 10
"""Names among which a cell's own is exchanged, at most. A run is needed for every cell and name, so exchanging all
names of a grid of 24 would cost three times as much."""


def cosine(one: Array, other: Array) -> Array:
    """Along the last axis; 0 where a vector has no length."""
    lengths = np.linalg.norm(one, axis=-1) * np.linalg.norm(other, axis=-1)
    products = (one * other).sum(-1)
    return np.asarray(np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0))


def against_others(values: Array, own: NDArray[np.intp]) -> Array:
    """(cell, ...) what each cell has with other names than its own, as an interval over cells needs it.

    It is the cell's mean over other names, plus how far the cell's own name lies above the average where it stands in
    other cells (Hajek's projection of a U-statistic). The mean over cells is that of the first part alone. Without the
    second part an interval would take the other names as fixed, although they are drawn as the cells' own are.

    Args:
        values: (cell, name, ...) of every cell with every name; NaN where it was not measured.
        own: (cell,) which of the names is the cell's own.
    """
    others = values.copy()
    others[np.arange(len(values)), own] = np.nan
    elsewhere = np.nanmean(others, axis=0)[own]
    return np.asarray(np.nanmean(others, axis=1) + elsewhere - elsewhere.mean(axis=0))


class Geometry:
    """Angles between the differences of states, at every site and measured layer.

    Args:
        cells: whose states.
    """

    def __init__(self, cells: Cells) -> None:
        self.cells, self.seed = cells, cells.seed

    # -- claims ------------------------------------------------------------------------------------------------

    def compare(self, site: str, depth: float, what: str, against: str) -> Estimate:
        """Mean difference of two cosines, cell by cell; see the module's constants for what there is."""
        measured = self.measurement(site, depth)
        return mean_difference(measured, what, against, name=f"{site}: {what} against {against}")

    def level(self, site: str, depth: float, what: str) -> Estimate:
        """Mean of one of the cosines."""
        measured = self.measurement(site, depth)
        return Estimate(f"{site}: {what}", "cosine", measured, measured.condition(what), shown_conditions=(what,))

    def shuffled(self, site: str, depth: float, factor: str) -> Significance:
        """The mean cosine of dXY and dX + dY among its values with the names of personas (or tasks) exchanged.

        A name goes with all its cells, as often as it was drawn: whole clusters are exchanged, within their group.
        """
        values = self._sums[factor][:, :, SITES.index(site), self._at(depth)]
        own, groups = self._own[factor], self._groups[factor]
        rows, names = np.arange(len(own)), np.concatenate(groups)
        draw, instead = stream(self.seed, "shuffled names", factor, site), np.empty_like(names)
        null = []
        for _ in range(SHUFFLES):
            instead[names] = np.concatenate([draw.permutation(group) for group in groups])
            null.append(values[rows, instead[own]].mean())
        return Significance(float(values[rows, own].mean()), np.array(null))

    def measurement(self, site: str, depth: float) -> Measurement:
        """Cosines of every cell at a site and layer."""
        index = (slice(None), SITES.index(site), self._at(depth))
        columns = {name: values[index] for name, values in self.columns.items()}
        table, cells = self.cells.table, self.cells
        prompts = {item: {SUM: prompt.text} for item, prompt in zip(table.index, cells.prompts, strict=True)}
        where = f"geometry at {site}, layer {cells.layers[self._at(depth)]}"
        return Measurement(where, "cosine", pd.DataFrame(columns, index=table.index), table, prompts)

    # -- measuring ---------------------------------------------------------------------------------------------

    @shared_measurement
    def columns(self) -> dict[str, Array]:
        """Name -> (cell, site, layer) cosine."""
        to_x, to_y, to_xy = self._x, self._y, self._xy
        made = {SUM: cosine(to_xy, to_x + to_y), TASK: cosine(to_xy, to_y), APART: cosine(to_x, to_y)}
        for factor, values in self._sums.items():
            made[OTHER[factor]] = against_others(values, self._own[factor])
        return made | {INDEPENDENT: cosine(*self._independent)}

    @shared_measurement
    def ratio(self) -> Array:
        """(cell, site, layer) length of the interaction as a multiple of that of dXY."""
        lengths = np.linalg.norm(self._xy, axis=-1)
        rest = np.linalg.norm(self._xy - self._x - self._y, axis=-1)
        return np.asarray(np.divide(rest, lengths, out=np.full_like(rest, np.nan), where=lengths > 0))

    @shared_measurement
    def _x(self) -> Array:
        return _array(self.cells.xb) - _array(self.cells.bb)

    @shared_measurement
    def _y(self) -> Array:
        return _array(self.cells.by) - _array(self.cells.bb)

    @shared_measurement
    def _xy(self) -> Array:
        return _array(self.cells.xy) - _array(self.cells.bb)

    @shared_measurement
    def _own(self) -> dict[str, NDArray[np.intp]]:
        """Factor -> (cell,) which of the names below is its own."""
        return {factor: pd.factorize(self.cells.table[factor])[0] for factor in FACTORS}

    @shared_measurement
    def _groups(self) -> dict[str, list[NDArray[np.intp]]]:
        """Factor -> groups of the names that are exchanged for each other, drawn by the seed, of nearly equal size."""
        found = {}
        for factor, own in self._own.items():
            order = stream(self.seed, "groups of names", factor).permutation(int(own.max()) + 1)
            found[factor] = np.array_split(order, -(-len(order) // EXCHANGED))
        return found

    @shared_measurement
    def _sums(self) -> dict[str, Array]:
        """Factor -> (cell, name, site, layer) cosine of dXY with the sum in which a persona (or task) of the own one's
        group stands; NaN for those of other groups."""
        people = {cell.persona.name: cell.persona.text for cell in self.cells.cells}
        texts = {
            "persona": [people[name] for name in self.cells.table["persona"].unique()],
            "task": [self.cells.design.grid.tasks[name] for name in self.cells.table["task"].unique()],
        }
        home, found = cosine(self._xy, self._x + self._y), {}
        for factor, groups in self._groups.items():
            own, values = self._own[factor], np.full((len(home), len(texts[factor]), *home.shape[1:]), np.nan)
            values[np.arange(len(home)), own] = home
            asked = [self._alone(factor, text) for text in texts[factor]]
            group_of = {name: number for number, group in enumerate(groups) for name in group}
            rows, names = np.array(
                [
                    (row, name)
                    for name in group_of
                    for row, mine in enumerate(own)
                    if mine != name and group_of[mine] == group_of[name]
                ]
            ).T
            read = self.cells.some(rows.tolist(), [asked[name] for name in names])
            kept = self._y if factor == "persona" else self._x
            sums = _array(read) - _array(self.cells.bb)[rows] + kept[rows]  # dX + dY, one of them another's
            values[rows, names] = cosine(self._xy[rows], sums)
            found[factor] = values
        return found

    def _alone(self, factor: str, text: str) -> tuple[str, str]:
        """A persona (or task) with the baseline of the other, by text."""
        grid = self.cells.design.grid
        return (text, grid.baseline_task) if factor == "persona" else (grid.baseline, text)

    @shared_measurement
    def _independent(self) -> tuple[Array, Array]:
        """dX and dY without a baseline in common: of other personas, and of two tasks."""
        cells, grid = self.cells, self.cells.design.grid
        one, other = grid.baselines[0], grid.baselines[1 % len(grid.baselines)]
        to_x = _array(cells.xb) - _array(cells.of(one, grid.baseline_task))
        return to_x, _array(cells.of(other, None)) - _array(cells.of(other, grid.other_task))

    def _at(self, depth: float) -> int:
        return self.cells.layers.index(self.cells.layer(depth))

    # -- figures -----------------------------------------------------------------------------------------------

    def at(self, depth: float) -> Section:
        """Geometry against its null: by site at one layer, by layer at p_last, and as numbers with shuffled names."""
        names = (SUM, *OTHER.values(), TASK, APART, INDEPENDENT)
        by_site = Dots.of(
            "cosine",
            f"At layer {self.cells.layer(depth)}. Sum: dXY with dX + dY. With another persona or task: the cosine with "
            "a sum of names that are not the cell's; the shared baseline alone would give "
            f"{NULL_SUM:.3f} (dashed) for independent states. Persona and task: dX with dY, {NULL_APART:g} for "
            "independent states. Independent baselines: dX with dY that share none, 0 for independent states.",
            {site: {name: self.level(site, depth, name).describe() for name in names} for site in SITES},
            reference=NULL_SUM,
        )
        by_layer = Curves(
            "layer",
            "cosine at p_last",
            "The sum of persona and task with the cell's own difference, and the same with another persona or task. "
            f"The dashed line, {NULL_SUM:.3f}, is what a shared baseline makes of independent states.",
            [self._series(name) for name in (SUM, *OTHER.values(), APART)],
            reference=NULL_SUM,
        )
        drawn = (
            by_site.titled("Directions of persona and task"),
            by_layer.titled("Directions of persona and task by layer"),
            self._table(depth).titled("Directions against exchanged names"),
        )
        return Section(self.cells.notes(), drawn)

    def _series(self, name: str) -> Series:
        depths = [layer / self.cells.adapter.layers for layer in self.cells.layers]
        effects = [self.level("p_last", depth, name).describe() for depth in depths]
        return Series.through(name, self.cells.layers, effects)

    def _table(self, depth: float) -> Table:
        rows: list[list[str | float | None]] = []
        for site in SITES:
            shuffled = [self.shuffled(site, depth, factor) for factor in FACTORS]
            ratio = float(np.median(self.ratio[:, SITES.index(site), self._at(depth)]))
            numbers = [n for one in shuffled for n in (float(one.null.mean()), one.p)]
            rows.append([site, shuffled[0].score, *numbers, ratio])
        return Table(
            f"Mean cosine of dXY and dX + dY at layer {self.cells.layer(depth)}, its mean with the names of "
            f"personas or of tasks exchanged {SHUFFLES} times (in groups of at most {EXCHANGED} names), and the share "
            "of those that reach it. Interaction: median norm of the interaction term, as a multiple of that of dXY "
            f"({NULL_RATIO:.3f} for independent states).",
            ["site", "own", "personas exchanged", "p", "tasks exchanged", "p ", "interaction"],
            rows,
        )


def _array(states: Tensor) -> Array:
    values: Array = states.double().numpy()
    return values
