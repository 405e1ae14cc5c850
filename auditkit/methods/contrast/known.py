"""A direction that a run records, so that a later run on another model can ask where its states lie along it.

A run keeps the vector, its place, and the length of a unit: what moves the outcome by its margin when it is added. A
model of another width shares no direction with the run, so the two are compared by behaviour alone.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from auditkit.claims.evidence import note
from auditkit.claims.outcomes import Inconclusive, NotApplicable, NotAsked, Unsupported
from auditkit.methods.contrast.directions import Direction
from auditkit.record.baseline import NO_BASELINE
from auditkit.stats.effects.mean import Estimate
from auditkit.stats.measurement import Measurement


class KnownDirection:
    """A direction with the length of a unit along it.

    Attributes:
        of: what the direction is of, as in "direction of refusal".
        direction: with its place.
        unit: length that moves the outcome by its margin.
    """

    def __init__(self, of: str, direction: Direction, unit: float) -> None:
        self.of, self.direction, self.unit = of, direction, unit

    def recorded(self) -> tuple[Measurement, Measurement]:
        """The direction and its place, as tables that a run keeps."""
        own = self.direction
        vector = {f"dimension {n}": float(value) for n, value in enumerate(own.vectors[0])}
        place = {"layer": float(own.layer), "position": float(str(own.position)), "unit": self.unit}
        first, second = _names(self.of)
        return _column(first, vector), _column(second, place)

    def keep(self) -> None:
        """Record both under the current claim."""
        for table in self.recorded():
            Estimate(table.name, "1", table, table.condition("value")).keep_items()

    @classmethod
    def read(cls, of: str, items: pd.DataFrame, width: int, lacking: str) -> KnownDirection:
        """The direction that a run recorded.

        Args:
            items: the run's.
            width: of this model's stream.
            lacking: why a run may have recorded none, in words.

        Raises:
            NotAsked: it has another width, so only behaviour is compared.
            Unsupported: it recorded none.
        """
        tables = [items[(items["measurement"] == name) & (items["effect"] == "")] for name in _names(of)]
        vector, place = (dict(zip(rows["item"], rows["value"], strict=True)) for rows in tables)
        if not vector or not place:
            raise Unsupported(f"the baseline recorded no direction of {of}: {lacking}")
        if len(vector) != width:
            raise NotAsked(
                f"the baseline has width {len(vector)} and this model has width {width}, so they share no direction; "
                "they are compared by behaviour only"
            )
        values = np.array([[vector[f"dimension {n}"] for n in range(width)]], dtype=np.float64)
        own = Direction(f"{of} of the baseline", values, int(place["layer"]), int(place["position"]))
        return cls(of, own, place["unit"])

    def lengths(self, states: np.ndarray) -> np.ndarray:
        """(rows,) lengths of (rows, width) states along the direction, in units."""
        lengths: np.ndarray = self.direction.projections(states) / self.unit
        return lengths

    def shift(self, now: Estimate, then: Estimate) -> Estimate:
        """Change of a mean projection since the baseline, in units.

        Raises:
            NotAsked: every state is that of the baseline, as where a fine-tune changed later layers alone.
        """
        change = now.change_from(then)
        if not change.refused and not change.numerator.any():
            raise NotAsked(
                f"states at layer {self.direction.layer} are the same in both models, so only later layers changed"
            )
        return change


def of_baseline(
    of: str, items: pd.DataFrame | None, width: int, lacking: str, keep: Callable[[], None]
) -> KnownDirection:
    """Keep what this run records of its own direction, and return the baseline's.

    Args:
        items: of the baseline's run; None where there is no baseline.
        width, lacking: see `KnownDirection.read`.
        keep: records this run's own direction.

    Raises:
        NotAsked: the run has no baseline; or the baseline has another width.
        NotApplicable: the run has no baseline, and its model does not show the behaviour.
        Unsupported: the baseline recorded no direction.
    """
    known, use = None if items is None else KnownDirection.read(of, items, width, lacking), ""
    try:
        keep()
        use = "; the values are recorded, so this run can be one"
    except (Inconclusive, NotApplicable) as missing:
        if known is None and isinstance(missing, NotApplicable):
            raise  # the behaviour is not there, whatever it would be compared with
        note(f"this run records no direction of its own, so it can be no baseline of this claim: {missing}")
    if known is None:
        raise NotAsked(f"{NO_BASELINE} (--baseline){use}")
    own = known.direction
    note(f"direction of the baseline at layer {own.layer}, position {own.position} (-1 is the last token)")
    return known


def _names(of: str) -> tuple[str, str]:
    return f"direction of {of}", f"place of the direction of {of}"


def _column(name: str, values: dict[str, float]) -> Measurement:
    index = pd.Index(list(values), name="item")
    clusters = pd.DataFrame({"number": list(values)}, index=index)
    return Measurement(name, "1", pd.DataFrame({"value": list(values.values())}, index=index), clusters)
