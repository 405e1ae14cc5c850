"""Dose curves: how an outcome follows a direction that is added, and what that costs elsewhere.

    curve = dose_curve(model, r, outcome, doses=(-0.2, -0.1, 0.1, 0.2), damage=texts, null=null)
    curve.change(0.1), curve.damage(0.1), curve.wrong_way(0.1), curve.slope(), curve.dose_for(0.5)

A dose is the length of what is added as a share of the stream's norm at each position. A mean that moves as expected
can hide items that move the other way (anti-steering: Tan et al. 2024, arXiv:2407.12404), so their share stands beside
it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from auditkit.adapters.protocol import Adapter
from auditkit.claims.evidence import note
from auditkit.engine.edits import Edit
from auditkit.engine.sites import Position
from auditkit.methods.contrast.directions import Contrast, Direction, Layers
from auditkit.methods.contrast.effects import Effects, Sign, effects
from auditkit.methods.contrast.outcomes import PLAIN, Outcome
from auditkit.methods.contrast.states import ContrastError
from auditkit.notebook import Showable
from auditkit.record.figures import Curves, Figure, Series
from auditkit.record.schema import Effect
from auditkit.stats.effects.mean import Estimate
from auditkit.stats.effects.rate import Rate
from auditkit.stats.measurement import Measurement

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class DoseCurve(Showable):
    """An outcome, and damage, by dose.

    Attributes:
        doses: ascending, without 0.
        outcome: the outcome under each dose.
        harm: damage on benign text under each dose; None where it was not asked for.
        null: null direction -> the outcome under each dose of it.
        sign: +1 where the outcome should rise with the dose, -1 where it should fall.
    """

    doses: tuple[float, ...]
    outcome: Effects
    harm: Effects | None
    null: Mapping[str, Effects]
    sign: Sign = 1

    def change(self, dose: float) -> Estimate:
        """Mean change of the outcome by a dose."""
        return self.outcome.change(_name(self._known(dose)))

    def damage(self, dose: float) -> Estimate:
        """Mean damage on benign text by a dose, in nats per token.

        Raises:
            ContrastError: a dose that was not measured, or no benign text.
        """
        if self.harm is None:
            raise ContrastError("no damage was measured; give benign text")
        return self.harm.level(_name(self._known(dose)))

    def wrong_way(self, dose: float) -> Rate:
        """Share of items whose outcome moves against `sign` at a positive dose, or with it at a negative one."""
        up = (dose > 0) == (self.sign > 0)
        return self.outcome.wrong_way(_name(self._known(dose)), 1 if up else -1)

    def slope(self, null: str | None = None) -> Estimate:
        """Mean over items of the least-squares slope of the outcome on the dose, 0 included.

        Args:
            null: of this null direction in place of the direction.
        """
        found = self.outcome if null is None else self._null(null)
        name = f"slope of {found.name} on the dose{'' if null is None else f' of {null}'}"
        return self._estimate(name, {"slope": self._slopes(found)}, self._slopes(found))

    def slope_beyond(self, null: str) -> Estimate:
        """Mean of how much steeper the outcome follows the direction than a null direction, paired by item."""
        own, other = self._slopes(self.outcome), self._slopes(self._null(null))
        name = f"slope of {self.outcome.name} on the dose beyond {null}"
        return self._estimate(name, {"direction": own, null: other}, own - other)

    @property
    def monotone(self) -> bool:
        """Whether the mean outcome moves by `sign` from every dose to the next."""
        return bool((self.sign * np.diff(self._means(self.outcome)) > 0).all())

    def dose_for(self, margin: float) -> float | None:
        """The smallest positive dose at which the mean outcome has changed by `margin`, between measured doses by a
        straight line; None where no measured dose moves it so far. The margin is negative where the outcome falls.

        Raises:
            ContrastError: a margin of 0.
        """
        if not margin:
            raise ContrastError("a margin of 0 needs no dose")
        means = self._means(self.outcome)
        before, reached = 0.0, 0.0
        for dose, mean in zip(self._with_zero(), means, strict=True):
            moved = (mean - means[self._with_zero().index(0.0)]) * np.sign(margin)
            if dose <= 0:
                continue
            if moved >= abs(margin):
                return float(before + (dose - before) * (abs(margin) - reached) / (moved - reached))
            before, reached = dose, moved
        return None

    def in_words(self) -> str:
        effect = self.slope().describe()
        span = "" if effect.lower is None else f" [{effect.lower:.3g}, {effect.upper:.3g}]"
        slope = "no slope" if effect.estimate is None else f"slope {effect.estimate:.3g}{span}"
        doses = ", ".join(f"{dose:g}" for dose in self.doses)
        return f"{self.outcome.name} at doses {doses}: {slope} {effect.unit}"

    def to_frame(self) -> pd.DataFrame:
        """A row for each dose: change, share that moves the wrong way, damage, and the range of the nulls' changes."""
        rows = []
        for dose in self.doses:
            effect = self.change(dose).describe()
            row = {"dose": dose, "change": effect.estimate, "lower": effect.lower, "upper": effect.upper}
            row["wrong way"] = self.wrong_way(dose).describe().estimate
            if self.harm is not None:
                row["damage"] = self.damage(dose).describe().estimate
            if self.null:
                moved = [found.values[_name(dose)] - found.values[PLAIN] for found in self.null.values()]
                means = [float(change.mean()) for change in moved]
                row |= {"null lowest": min(means), "null highest": max(means)}
            rows.append(row)
        return pd.DataFrame(rows)

    def figures(self, title: str = "") -> tuple[Figure, ...]:
        """The outcome's change by dose, with the nulls; the damage; the share of items that move the wrong way."""
        named = title or f"{self.outcome.name} by dose"
        series = [Series.through("direction", self.doses, [self.change(dose).describe() for dose in self.doses])]
        for name, found in self.null.items():
            series.append(
                Series.through(name, self.doses, [found.change(_name(d)).describe() for d in self.doses])
            )
        name, axis = self.outcome.name, "dose (share of the stream's norm)"
        caption = f"Mean change of {name} by dose of the direction, and of directions that should do nothing."
        out = [self._curves(axis, f"change of {name} ({self.outcome.unit})", caption, series, 0.0).titled(named)]
        wrong: list[Effect] = [self.wrong_way(dose).describe() for dose in self.doses]
        caption = f"Share of items whose {name} moves against what the dose should do; one half is chance."
        share = self._curves(
            axis, "share of items", caption, [Series.through("wrong way", self.doses, wrong)], 0.5
        )
        out.append(share.titled(f"{named}: items that move the wrong way"))
        if self.harm is not None:
            harm = [self.damage(dose).describe() for dose in self.doses]
            caption = "KL divergence from the plain model on benign text, in the mean over tokens."
            lines = [Series.through("damage", self.doses, harm)]
            out.append(
                self._curves(axis, "damage (nats per token)", caption, lines, 0.0).titled(f"{named}: damage")
            )
        return tuple(out)

    def _curves(self, x: str, y: str, caption: str, series: Sequence[Series], reference: float) -> Curves:
        return Curves(x, y, caption, series, reference=reference, whole=False)

    def _known(self, dose: float) -> float:
        if dose not in self.doses:
            raise ContrastError(f"dose {dose:g} was not measured, only {', '.join(f'{d:g}' for d in self.doses)}")
        return dose

    def _null(self, name: str) -> Effects:
        if name not in self.null:
            raise ContrastError(f"no null direction '{name}' was measured, only {', '.join(self.null) or 'none'}")
        return self.null[name]

    def _with_zero(self) -> list[float]:
        return sorted((*self.doses, 0.0))

    def _columns(self, found: Effects) -> Array:
        """(doses with 0, items)."""
        note(*found.notes)
        return np.stack([found.values[_name(dose) if dose else PLAIN] for dose in self._with_zero()])

    def _means(self, found: Effects) -> list[float]:
        return [float(mean) for mean in self._columns(found).mean(1)]

    def _slopes(self, found: Effects) -> Array:
        x = np.array(self._with_zero())
        x -= x.mean()
        slopes: Array = x @ self._columns(found) / (x @ x)
        return slopes

    def _estimate(self, name: str, shown: Mapping[str, Array], values: Array) -> Estimate:
        unit = f"{self.outcome.unit} per unit of dose"
        frame = pd.DataFrame(dict(shown), self.outcome.table.index)
        measured = Measurement(name, unit, frame, self.outcome.table)
        return Estimate(name, unit, measured, values, None, tuple(shown))


def dose_curve(
    adapter: Adapter,
    direction: Direction,
    outcome: Outcome,
    doses: Sequence[float],
    *,
    damage: Outcome | None = None,
    null: Mapping[str, Direction] | None = None,
    layers: Layers = "own",
    at: Position = "all",
    sign: Sign = 1,
    description: str = "doses",
) -> DoseCurve:
    """Measure an outcome, and damage on benign text, under several doses of a direction and of null directions.

    Args:
        doses: shares of the stream's norm, positive along the direction and negative against it; 0 is always there.
        damage: benign text, edited at all tokens.
        null: name -> null direction, added in the same doses.
        layers, at: where it is added, in the outcome's prompts.
        sign: +1 where the outcome should rise with the dose, -1 where it should fall.

    Raises:
        ContrastError: no dose other than 0, or one that comes twice or is not finite.
        SiteError, NotApplicable, GuardTripped: see `auditkit.engine.conditions`.
    """
    wanted = [float(dose) for dose in doses if dose]
    if not wanted or len(set(wanted)) < len(wanted) or not np.isfinite(wanted).all():
        raise ContrastError(
            f"doses {', '.join(map(str, doses)) or 'none'}: give different finite numbers other than 0"
        )
    chosen = tuple(sorted(wanted))

    def conditions(one: Direction, where: Position, label: str = "") -> dict[str, Edit]:
        return {f"{label}{_name(dose)}": one.add(dose, layers, where) for dose in chosen}

    every = conditions(direction, at)
    for name, other in (null or {}).items():
        every |= conditions(other, at, f"{name}: ")
    found = effects(adapter, outcome, every, description)  # together, so that all doses share the runs before them

    def part(label: str) -> Effects:
        values = {_name(dose): found.values[f"{label}{_name(dose)}"] for dose in chosen}
        return Effects(found.name, found.unit, found.table, {PLAIN: found.values[PLAIN], **values}, found.notes)

    harm = None if damage is None else effects(adapter, damage, conditions(direction, "all"), "damage")
    return DoseCurve(chosen, part(""), harm, {name: part(f"{name}: ") for name in null or {}}, sign)


def length_of(dose: float | None, contrast: Contrast, direction: Direction) -> float:
    """The length, along the direction, of what a dose adds in the mean over a contrast's prompts at its place.

    Raises:
        ContrastError: no dose, as `DoseCurve.dose_for` gives where none moves the outcome by the margin.
    """
    if dose is None:
        raise ContrastError(
            f"'{direction.name}': no measured dose moves the outcome by its margin, so a shift has no unit; give "
            "larger doses"
        )
    states = contrast.states.at(direction.layer, direction.position)
    return dose * float(np.linalg.norm(states, axis=1).mean())


def _name(dose: float) -> str:
    return f"dose {dose:g}"
