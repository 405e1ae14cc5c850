"""What edits do to an outcome, item by item, with intervals by cluster.

null = nulls(contrast, r, split.discovery, seed=0)
conditions = {"direction": [r.remove()]} | {name: [other.remove()] for name, other in null.items()}
found = effects(model, outcome.only(confirmation), conditions)
found.change("direction")                       # the mean change by the edit
found.beyond("direction", "random 1")           # what it changes more than a null does, paired
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from auditkit.adapters.protocol import Adapter
from auditkit.claims.evidence import note
from auditkit.engine.edits import Edit
from auditkit.methods.contrast.outcomes import PLAIN, Outcome, measured
from auditkit.methods.contrast.states import ContrastError
from auditkit.notebook import Showable
from auditkit.record.figures import Dots, Figure
from auditkit.stats.effects.mean import Estimate, mean_difference
from auditkit.stats.effects.rate import Rate, rate
from auditkit.stats.measurement import Measurement

Array = NDArray[np.float64]
Sign = Literal[1, -1]
"""Whether an edit should raise an outcome or lower it."""


@dataclass(frozen=True, eq=False)
class Effects(Showable):
    """An outcome's values under conditions.

    Attributes:
        name, unit: of the outcome.
        table: (item x factor) cluster labels.
        values: condition -> (items,); `PLAIN` is without edits.
        notes: what the guards of the runs measured; noted under every claim that uses an effect.
    """

    name: str
    unit: str
    table: pd.DataFrame
    values: Mapping[str, Array]
    notes: tuple[str, ...] = ()

    @property
    def conditions(self) -> tuple[str, ...]:
        """The conditions with edits."""
        return tuple(name for name in self.values if name != PLAIN)

    def level(self, condition: str = PLAIN) -> Estimate:
        """Mean of the outcome under a condition."""
        table = self._measured(f"{self.name}, {_label(condition)}", condition)
        return Estimate(table.name, self.unit, table, self._of(condition), None, tuple(table.values.columns))

    def change(self, condition: str) -> Estimate:
        """Mean change by a condition's edits, paired by item."""
        name = f"change of {self.name} by {condition}"
        return mean_difference(self._measured(name, PLAIN, condition), condition, _label(PLAIN), name=name)

    def beyond(self, condition: str, other: str) -> Estimate:
        """Mean of what one condition changes more than another, paired by item."""
        name = f"change of {self.name} by {condition} beyond {other}"
        return mean_difference(self._measured(name, other, condition), condition, other, name=name)

    def share(self, condition: str, other: str, sign: Sign) -> Estimate:
        """One condition's mean change as a share of another's: a ratio of means.

        Args:
            sign: +1 where the other condition should raise the outcome, -1 where it should lower it. If it does the
                opposite, there is nothing to have a share of, and a comparison is NOT APPLICABLE.
        """
        moved = "rise" if sign > 0 else "fall"
        name = f"{moved} of {self.name} by {condition} as a share of that by {other}"
        own, whole = (sign * (self._of(one) - self._of(PLAIN)) for one in (condition, other))
        table = self._measured(name, PLAIN, condition, other)
        return Estimate(
            name,
            f"of the {moved} by {other}",
            table,
            own,
            whole,
            shown_conditions=(_label(PLAIN), condition, other),
        )

    def wrong_way(self, condition: str, sign: Sign) -> Rate:
        """Share of the items whose outcome moves against `sign`: +1 where the edit should raise it, -1 lower."""
        against = (np.sign(self._of(condition) - self._of(PLAIN)) == -sign).astype(float)
        label = f"items whose {self.name} moves the wrong way by {condition}"
        table = Measurement(label, "1", pd.DataFrame({condition: against}, self.table.index), self.table)
        return rate(table, condition, name=label)

    def in_words(self) -> str:
        moved = {name: float((self._of(name) - self._of(PLAIN)).mean()) for name in self.conditions}
        changes = ", ".join(f"{name} {change:+.3g}" for name, change in moved.items())
        return f"{self.name} ({self.unit}), {len(self.table)} items; mean change by {changes}"

    def to_frame(self) -> pd.DataFrame:
        """A row for each condition: mean change with its interval, and the share that falls and rises."""
        rows = []
        for condition in self.conditions:
            effect = self.change(condition).describe()
            moved = self._of(condition) - self._of(PLAIN)
            rows.append(
                {
                    "condition": condition, "change": effect.estimate, "lower": effect.lower, "upper": effect.upper,
                    "fell": float((moved < 0).mean()), "rose": float((moved > 0).mean()),
                }
            )  # fmt: skip
        return pd.DataFrame(rows)

    def figures(self, title: str = "") -> tuple[Figure, ...]:
        """The mean change by each condition."""
        found = {condition: self.change(condition).describe() for condition in self.conditions}
        caption = f"Mean change of {self.name} by each edit, with its 95 % interval; the dashed line is no change."
        dots = Dots.of(f"change of {self.name} ({self.unit})", caption, {"edits": found}, reference=0.0)
        return (dots.titled(title or f"changes of {self.name}"),)

    def _of(self, condition: str) -> Array:
        if condition not in self.values:
            raise ContrastError(f"{self.name} has no condition '{condition}', only {', '.join(self.conditions)}")
        note(*self.notes)
        return self.values[condition]

    def _measured(self, name: str, *conditions: str) -> Measurement:
        values = pd.DataFrame({_label(one): self._of(one) for one in conditions}, self.table.index)
        return Measurement(name, self.unit, values, self.table)


def _label(condition: str) -> str:
    return condition or "without edits"


def effects(
    adapter: Adapter, outcome: Outcome, conditions: Mapping[str, Edit | Sequence[Edit]], description: str = "edits"
) -> Effects:
    """Measure an outcome without edits and under each condition.

    Args:
        conditions: name -> an edit, or several that act together; the same for all items.

    Raises:
        ContrastError: no conditions.
        SiteError, NotApplicable, GuardTripped: see `auditkit.engine.conditions`.
    """
    if not conditions:
        raise ContrastError(f"{outcome.name}: no conditions to measure")
    several = {name: [edits] if isinstance(edits, Edit) else list(edits) for name, edits in conditions.items()}
    values, notes = measured(adapter, outcome, several, description)
    return Effects(outcome.name, outcome.unit, outcome.table, values, notes)
