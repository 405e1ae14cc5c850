"""Exact comparison: the items are the whole population, so their mean is compared as it is.

A fixed list of prompts that a policy names is not a sample, so its mean has no sampling error and no interval is shown.
The caller must say so by naming the population and its size. A measurement of another number of items decides nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from auditkit.claims.outcomes import place, sides, wrong_place
from auditkit.record.schema import Effect, Recipe, Relation, Verdict
from auditkit.stats.effects.base import Comparable
from auditkit.stats.effects.mean import Estimate
from auditkit.stats.effects.rate import Rate
from auditkit.stats.intervals import Array
from auditkit.stats.measurement import Measurement, MeasurementError


@dataclass(frozen=True, eq=False)
class Exact(Comparable):
    """Plain mean of `numerator`, or ratio of plain sums, over a population of `size` items; made by `exactly`."""

    name: str
    unit: str
    measurement: Measurement
    numerator: Array
    denominator: Array
    population: str
    size: int
    shown_conditions: tuple[str, ...] = ()
    sentence: str = ""
    """What the value says, with "{value}" in its place; empty for "the value over all items of the population is"."""

    def __sub__(self, other: Any) -> Exact:
        if isinstance(other, float | int):
            numerator = self.numerator - other * self.denominator
            return replace(self, name=f"{self.name} minus {other:g}", numerator=numerator, sentence="")
        raise MeasurementError(f"'{self.name}' is exact and can be compared with a number only")

    def describe(self, relation: Relation | None = None, threshold: float | None = None) -> Effect:
        value = None if self._degenerate else math.fsum(self.numerator) / math.fsum(self.denominator)
        threshold = float(threshold) if threshold is not None and math.isfinite(threshold) else None
        wrong = None
        if value is not None and relation and threshold is not None:
            wrong = 0.0 if sides(relation, value, value, threshold)[1] else 1.0
        return Effect(
            name=self.name,
            estimate=value,
            lower=None,
            upper=None,
            unit=self.unit,
            relation=relation,
            threshold=threshold,
            alpha=0.0,
            n=len(self.numerator),
            clusters=len(self.numerator),
            standardized=None,
            mde=None,
            items_needed=None,
            method=f"exact over the whole population ({self.population}, {self.size} items); no interval",
            exact=True,
            p_fail=wrong,
        )

    def _averaged(self) -> Mapping[str, Array]:
        return {"exact numerator": self.numerator, "exact denominator": self.denominator}

    @property
    def _recipe(self) -> Recipe:
        return Recipe(kind="exact", rows=self.name, size=self.size, refused=self._degenerate or "")

    @property
    def _degenerate(self) -> str | None:
        n, lost = len(self.numerator), int((~np.isfinite(self.numerator + self.denominator)).sum())
        if not n:
            return "no_items: nothing was measured"
        if lost:
            return f"non_finite: {lost} of {n} items have NaN or infinite values"
        if n != self.size:
            return f"incomplete_population: {n} items were measured, {self.population} has {self.size}"
        if math.fsum(self.denominator) <= 0:
            return "undefined_ratio: the denominator sums to zero or less over the population"
        return None

    def _verdict(self, effect: Effect) -> tuple[Verdict, str]:
        if self._degenerate or effect.estimate is None or effect.threshold is None or not effect.relation:
            return Verdict.INCONCLUSIVE, self._degenerate or "nothing to compare with"
        holds, _ = sides(effect.relation, effect.estimate, effect.estimate, effect.threshold)
        whole = self._value(effect.estimate, effect.threshold)
        if holds:
            return Verdict.PASS, f"{whole}, which is {place(effect.relation, effect.threshold, 6)}"
        return Verdict.FAIL, f"{whole}, which is {wrong_place(effect.relation, effect.threshold, 6)}"

    def _value(self, value: float, threshold: float) -> str:
        if not self.sentence:
            items = "the one item" if self.size == 1 else f"all {self.size} items"
            return f"the value over {items} of {self.population} is exactly {value:.6g}"
        digits = 6 if f"{value:.3g}" == f"{threshold:.3g}" else 3
        return self.sentence.format(value=f"{value:.{digits}g}")

    def _merit(self, relation: Relation, threshold: float) -> tuple[np.ndarray[Any, Any], Array]:
        finite = np.isfinite(self.numerator + self.denominator)
        theta = 0.0 if relation == "within" else threshold
        return np.flatnonzero(finite), (self.numerator - theta * self.denominator)[finite]


def exactly(effect: Estimate | Rate, *, population: str, size: int, sentence: str = "") -> Exact:
    """The same effect over items that are the whole population, to be compared exactly.

    Args:
        effect: a mean, share or rate.
        population: the name of the population: "the prompts of policy 7, version 3".
        size: how many items it has; another number of measured items decides nothing.
        sentence: what the value says, with "{value}" in its place: "the worst of 100 prompts scores {value}".

    Raises:
        ValueError: without a name of the population, or with a size below 1.
    """
    if not population.strip() or size < 1:
        raise ValueError("an exact comparison names its population and how many items it has")
    if isinstance(effect, Rate):
        kept = effect.measurement.take(np.flatnonzero(effect.members))
        numerator, ones = effect.values[effect.members] - effect.shift, np.ones(len(kept.values))
        return Exact(
            effect.name, effect.unit, kept, numerator, ones, population, size, effect.shown_conditions, sentence
        )
    if effect.refused:
        raise MeasurementError(f"'{effect.name}': {effect.refused}")
    denominator = np.ones_like(effect.numerator) if effect.denominator is None else effect.denominator
    return Exact(
        effect.name, effect.unit, effect.measurement, effect.numerator, denominator, population, size,
        effect.shown_conditions, sentence,
    )  # fmt: skip
