"""How far the two kinds of prompts lie apart along the direction, by layer and position.

The direction is fitted on the discovery half and projected on the confirmation half. *Gap*: the difference of the two
kinds' mean projections in units of the standard deviation within a kind (pooled, on the discovery half). *AUC*: the
chance that a positive prompt's projection lies above another one's. Both have an interval by cluster: an item's value
is its part in the mean, so that the mean over items is the gap or the AUC (`auc_parts`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from auditkit.engine.sites import Position
from auditkit.methods.contrast.directions import Contrast, Direction
from auditkit.methods.contrast.states import ContrastError
from auditkit.methods.separation.auc import auc_parts
from auditkit.notebook import Showable
from auditkit.record.figures import Figure, Heatmap
from auditkit.stats.effects.mean import Estimate
from auditkit.stats.halves import Halves
from auditkit.stats.measurement import Measurement

Array = NDArray[np.float64]

GAP, AUC = "gap", "AUC"
UNITS = {GAP: "standard deviations", AUC: ""}


@dataclass(frozen=True, eq=False)
class Separated(Showable):
    """Separation at every place that was read.

    Attributes:
        contrast: the prompts and their states.
        split: the halves: fitted on discovery, projected on confirmation.
    """

    contrast: Contrast
    split: Halves

    def direction(self, layer: int, position: Position) -> Direction:
        """The direction that the discovery half gives."""
        return self.contrast.direction(layer, position, self.split.discovery)

    def gap(self, layer: int, position: Position, direction: Direction | None = None) -> Estimate:
        """Mean difference of the two kinds' projections, in standard deviations.

        Args:
            direction: another one, such as a null, in place of the contrast's own.

        Raises:
            ContrastError: a place that was not read, a direction of another width, or projections that do not differ
                within a kind.
        """
        return self._estimate(GAP, layer, position, direction)

    def auc(self, layer: int, position: Position, direction: Direction | None = None) -> Estimate:
        """Chance that a positive prompt lies above another one; arguments and errors as `gap`."""
        return self._estimate(AUC, layer, position, direction)

    def in_words(self) -> str:
        states = self.contrast.states
        places = f"{len(states.layers)} layers x {len(states.positions)} positions"
        return f"separation of {self.contrast.name} at {places}, {len(self.split.confirmation)} prompts held out"

    def to_frame(self) -> pd.DataFrame:
        """A row for each place: gap and AUC with their intervals; missing where there is no direction."""
        rows = []
        for layer in self.contrast.states.layers:
            for position in self.contrast.states.positions:
                row: dict[str, object] = {"layer": layer, "position": position}
                for what in (GAP, AUC):
                    try:
                        effect = self._estimate(what, layer, position, None).describe()
                    except ContrastError:  # such as one mean of both kinds: nothing can be measured there
                        row |= dict.fromkeys((what, f"{what} lower", f"{what} upper"))
                        continue
                    row |= {what: effect.estimate, f"{what} lower": effect.lower, f"{what} upper": effect.upper}
                rows.append(row)
        return pd.DataFrame(rows)

    def figures(self, title: str = "") -> tuple[Figure, ...]:
        """Gap and AUC by layer and position."""
        frame, states = self.to_frame(), self.contrast.states
        labels = {
            GAP: "difference of mean projections (standard deviations)",
            AUC: "chance to rank a pair right (AUC)",
        }
        out = []
        for what, label in labels.items():
            grids = [
                [[_number(v) for v in frame[frame.position == position][column]] for position in states.positions]
                for column in (what, f"{what} lower", f"{what} upper")
            ]
            values, lower, upper = grids
            caption = (
                f"Each cell is the {what} of the held-out half along the direction of the other half; position -1 is "
                "the last token of the prompt."
            )
            grid = Heatmap(
                "layer", "position", label, caption, [str(layer) for layer in states.layers],
                [str(position) for position in states.positions], values, lower, upper,
            )  # fmt: skip
            out.append(grid.titled(f"{title or self.contrast.name}: {what}"))
        return tuple(out)

    def _estimate(self, what: str, layer: int, position: Position, direction: Direction | None) -> Estimate:
        own = direction or self.direction(layer, position)
        values = own.projections(self.contrast.states.at(layer, position))
        rows = self.contrast.rows(self.split.confirmation)
        flags, scores = self.contrast.positive[rows], values[rows]
        gap = what == GAP
        parts = difference_parts(scores, flags) / self._spread(values, own) if gap else auc_parts(scores, flags)
        table = self.contrast.table.iloc[rows]
        name = f"{what} of {own.name} at layer {layer}, position {position}"
        shown = pd.DataFrame({"projection": scores}, table.index)
        return Estimate(
            name, UNITS[what], Measurement(name, UNITS[what], shown, table), parts, None, ("projection",)
        )

    def _spread(self, values: Array, direction: Direction) -> float:
        """Pooled standard deviation within a kind, on the discovery half."""
        rows = self.contrast.rows(self.split.discovery)
        kinds = [values[rows[self.contrast.positive[rows] == kind]] for kind in (True, False)]
        squares = sum(float(((kind - kind.mean()) ** 2).sum()) for kind in kinds)
        spread = float(np.sqrt(squares / max(sum(map(len, kinds)) - 2, 1)))
        if not spread > 1e-6 * max(float(np.abs(values).max()), 1e-30):
            raise ContrastError(
                f"'{direction.name}': the projections do not differ within a kind, so a gap has no unit"
            )
        return spread


def separation(contrast: Contrast, split: Halves) -> Separated:
    """Separation of a contrast, fitted on one half and projected on the other."""
    return Separated(contrast, split)


def difference_parts(values: Array, positive: NDArray[np.bool_]) -> Array:
    """(rows,) values whose mean is the difference of the two kinds' means, and whose spread is its variance.

    Raises:
        ContrastError: rows of one kind only.
    """
    yes, no = int(positive.sum()), int((~positive).sum())
    if not yes or not no:
        raise ContrastError("a difference needs rows of both kinds")
    top, bottom = values[positive].mean(), values[~positive].mean()
    parts = np.empty(len(values))
    parts[positive] = (yes + no) / yes * (values[positive] - top)
    parts[~positive] = -(yes + no) / no * (values[~positive] - bottom)
    out: Array = parts + (top - bottom)
    return out


def _number(value: float | None) -> float | None:
    return None if value is None or value != value else float(value)
