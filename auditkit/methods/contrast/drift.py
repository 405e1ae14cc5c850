"""Drift between two models: did the direction turn, and did the states move along it?

    found = drift(base, candidate, r, unit=length_of(curve.dose_for(0.5), base, r))
    found.cosine, found.reliability, found.shift

Both contrasts hold the same prompts, read at the same place in two models of one width (a model and its fine-tune).
*Cosine*: between the two models' own directions. It is never 1 with few prompts, even for one model, so the cosine of
the base's two halves stands beside it (*reliability*). *Shift*: the mean projection of the candidate's states on the
base's direction minus that of the base's, in units of the length that moves the outcome by its margin; a shift of 1
would move it by the margin. Models of different width share no direction: their behaviour alone can be compared.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from auditkit.methods.contrast.directions import Contrast, Direction
from auditkit.methods.contrast.states import ContrastError
from auditkit.notebook import Showable
from auditkit.record.figures import Dots, Figure
from auditkit.stats.effects.mean import Estimate, mean_difference
from auditkit.stats.effects.resampled import Resampled
from auditkit.stats.measurement import Measurement

Array = NDArray[np.float64]

_BASE, _CANDIDATE = "base", "candidate"


@dataclass(frozen=True, eq=False)
class Drift(Showable):
    """How a candidate's states differ from a base's, along a direction of the base.

    Attributes:
        name: of the contrast.
        cosine: between the two models' directions, over the prompts that were compared.
        reliability: cosine between the base's directions of two halves of the prompts.
        shift: mean over the prompts of the shift along the base's direction, in units.
        unit: length of one unit along the direction.
        projections: (prompts, 2) of base and candidate.
    """

    name: str
    cosine: Resampled
    reliability: float
    shift: Estimate
    unit: float
    projections: pd.DataFrame

    def in_words(self) -> str:
        return f"{self.cosine.in_words()}; {self.shift.in_words()}"

    def to_frame(self) -> pd.DataFrame:
        """Cosine, reliability and shift, with intervals where they have one."""
        rows: list[dict[str, object]] = []
        for name, estimate in (("cosine", self.cosine), ("shift", self.shift)):
            effect = estimate.describe()
            rows.append({"what": name, "value": effect.estimate, "lower": effect.lower, "upper": effect.upper})
        rows.insert(1, {"what": "reliability", "value": self.reliability, "lower": None, "upper": None})
        return pd.DataFrame(rows)

    def figures(self, title: str = "") -> tuple[Figure, ...]:
        """Cosine and shift with their intervals."""
        cosine = Dots.of(
            "cosine",
            "Cosine between the two models' directions; the dashed line is the cosine between two halves of the base's "
            "own prompts.",
            {"directions": {"base and candidate": self.cosine.describe()}}, reference=self.reliability,
        )  # fmt: skip
        shift = Dots.of(
            "shift in units of the dose that moves the outcome by its margin",
            "Mean shift of the candidate's states along the base's direction.",
            {"states": {self.name: self.shift.describe()}}, reference=0.0,
        )  # fmt: skip
        named = title or self.name
        return cosine.titled(f"{named}: directions"), shift.titled(f"{named}: states")


def drift(
    base: Contrast, candidate: Contrast, direction: Direction, unit: float, items: Iterable[str] | None = None,
    *, seed: int = 0,
) -> Drift:  # fmt: skip
    """Compare a candidate's states with a base's.

    Args:
        base, candidate: the same prompts in the two models.
        direction: of the base, fitted on other prompts than `items`.
        unit: length along the direction that counts as 1 (`length_of`).
        items: the prompts that are compared, by name; all where None.

    Raises:
        ContrastError: states of another width, other prompts or labels, a unit that is not positive and finite, or as
            `Contrast.direction`.
    """
    one, other = base.states.width, candidate.states.width
    if one != other:
        raise ContrastError(
            f"'{base.name}': the base has width {one} and the candidate {other}, so they share no direction; only "
            "behaviour can be compared"
        )
    if not base.table.equals(candidate.table) or not np.array_equal(base.positive, candidate.positive):
        raise ContrastError(f"'{base.name}': base and candidate must hold the same prompts in the same order")
    if not (np.isfinite(unit) and unit > 0):
        raise ContrastError(f"'{base.name}': a unit of {unit:g}; give a positive length, such as length_of(...)")
    place = direction.layer, direction.position
    rows = base.rows(items)
    chosen = list(base.table.index[rows])
    both = [contrast.states.at(*place) for contrast in (base, candidate)]
    values = [direction.projections(states)[rows] for states in both]
    projections = pd.DataFrame(
        {_BASE: values[0] / unit, _CANDIDATE: values[1] / unit}, pd.Index(chosen, name=base.table.index.name)
    )
    table = base.table.iloc[rows]
    name = f"shift along {direction.name}"
    measured = Measurement(name, "doses that move the outcome by its margin", projections, table)
    shift = mean_difference(measured, _CANDIDATE, _BASE, name=name)
    for contrast in (base, candidate):
        contrast.direction(*place, chosen)  # refuses too few prompts and equal means
    states, flags = [values[rows] for values in both], base.positive[rows]
    cosine = Resampled(
        f"cosine of {base.name} between base and candidate", "", measured,
        lambda weights: _cosines(weights, flags, *states), seed, shown_conditions=(_BASE, _CANDIDATE),
    )  # fmt: skip
    halves = base.halves(seed)
    ways = [base.direction(*place, half).unit for half in (halves.discovery, halves.confirmation)]
    return Drift(base.name, cosine, float(ways[0] @ ways[1]), shift, unit, projections)


def _cosines(weights: Array, flags: NDArray[np.bool_], one: Array, other: Array) -> Array:
    """(draws,) cosine between two models' differences of weighted means, for (draws, items) weights."""
    with np.errstate(invalid="ignore", divide="ignore"):  # a draw without one kind has no direction
        yes = weights * flags
        no = weights * ~flags
        yes, no = yes / yes.sum(1, keepdims=True), no / no.sum(1, keepdims=True)
        mine, theirs = ((yes - no) @ states for states in (one, other))
        cosines: Array = (mine * theirs).sum(1) / (np.linalg.norm(mine, axis=1) * np.linalg.norm(theirs, axis=1))
    return cosines
