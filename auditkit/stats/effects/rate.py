"""Rates: how often something happens, and how two groups compare.

A rate counts items of value 1 among items of value 0 or 1. Where every item is a cluster of its own the items are
independent, and the interval is Wilson's. Where items share clusters, they count for as many independent ones as the
cluster-robust variance says (never for more than there are), with t on one degree of freedom fewer than clusters. Where
one of the two outcomes occurs in fewer than 5 clusters, they count for at most as many as there are clusters.

`women / men` and `women - men` compare the rates of two groups with a score interval, under the same rule. Where both
groups were asked about in the same clusters, what moves both alike is taken out of the uncertainty of their contrast.
A rate of nothing (0 of 0) and a ratio to a rate of 0 are undefined, and undefined is undecided.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np

from auditkit.claims.evidence import Decision
from auditkit.record.schema import Recipe, Relation
from auditkit.stats.deflation import deflation
from auditkit.stats.effects.mean import Estimate
from auditkit.stats.effects.score import Rows, Score
from auditkit.stats.intervals import MIN_CLUSTERS, Array, fewest_clusters, level, pooled
from auditkit.stats.measurement import Measurement, MeasurementError
from auditkit.stats.proportions import (
    Compare,
    score_interval,
    score_statistic,
    wilson,
    wilson_statistic,
)


@dataclass(frozen=True, eq=False)
class Rate(Score):
    """Share of the items in `_rows` whose value is 1; made by `rate`."""

    name: str
    unit: str
    measurement: Measurement
    values: Array
    """(items,) 0, 1, or NaN where the item could not be measured."""
    members: np.ndarray[Any, np.dtype[np.bool_]]
    """(items,) whether the item belongs to the group that the rate is of."""
    shown_conditions: tuple[str, ...] = ()
    shift: float = 0.0

    def __sub__(self, other: Any) -> Any:
        """Difference with the rate of another group, or shift by a number.

        Raises:
            MeasurementError: for groups that share items, or of different measurements.
        """
        if isinstance(other, float | int):
            return replace(self, name=f"{self.name} minus {other:g}", shift=self.shift + other)
        return RateContrast(f"{self.name} minus {_named(other)}", "1", "difference", self, other)

    def __truediv__(self, other: Rate) -> RateContrast:
        """Ratio to the rate of another group; below 0.8 it misses the four-fifths rule."""
        return RateContrast(f"{self.name} / {_named(other)}", "1", "ratio", self, other)

    def mean(self) -> Estimate:
        """The same items as a mean of zeros and ones, to be paired with those of another model."""
        everyone = Estimate(self.name, self.unit, self.measurement, self.values, None, self.shown_conditions)
        return everyone._taken(np.flatnonzero(self.members))

    def no_worse_than(
        self, baseline: Rate, *, by: float, better: Literal["higher", "lower"], label: str = "the baseline"
    ) -> Decision:
        """Paired non-inferiority of the rate of one model to that of another: `Estimate.no_worse_than`, with Tango's
        interval.

        Raises:
            Inconclusive: also when no item differs between the two, which can mean that a change took no effect.
        """
        return self.mean().no_worse_than(baseline.mean(), by=by, better=better, label=label)

    def keep_effect(self, *, beside: bool = False) -> None:
        self.mean().keep_effect(beside=beside)

    @property
    def _recipe(self) -> Recipe:
        return Recipe(kind="rate", rows=self.name, shift=self.shift, refused=self._degenerate or "")

    @cached_property
    def _rows(self) -> Rows:  # type: ignore[override]  # computed once
        return np.flatnonzero(self.members & np.isfinite(self.values))

    @cached_property
    def _labels(self) -> Any:
        return self.measurement.clusters.iloc[self._rows]

    @cached_property
    def _estimate(self) -> float | None:  # type: ignore[override]  # computed once
        return float(self.values[self._rows].mean()) if len(self._rows) else None

    @cached_property
    def _fewest(self) -> int:  # type: ignore[override]  # computed once
        return fewest_clusters(self._labels)

    @cached_property
    def _independent(self) -> bool:
        return self._factors == 1 and self._fewest == len(self._rows)

    @cached_property
    def _df(self) -> int | None:  # type: ignore[override]  # computed once
        return None if self._independent else max(self._fewest - 1, 1)

    @cached_property
    def _size(self) -> float:
        """Effective sample size: the number of independent items that are as informative."""
        items, mean = len(self._rows), self._estimate or 0.0
        if self._independent:
            return float(items)
        variance, _ = pooled(self.values[self._rows] - mean, self._labels)
        most = self._fewest if self._lopsided else items
        return min(float(most), mean * (1 - mean) / variance) if variance > 0 else float(self._fewest)

    @cached_property
    def _lopsided(self) -> bool:
        """Whether one of the two outcomes occurs in too few clusters for their variance to be known."""
        values = self.values[self._rows]
        return any(fewest_clusters(self._labels[values == v]) < MIN_CLUSTERS for v in (0.0, 1.0))

    @property
    def _standard_error(self) -> float:  # type: ignore[override]  # computed once
        mean = (((self._estimate or 0.0) * self._size) + 1) / (self._size + 2)  # not 0 where all are the same
        return math.sqrt(mean * (1 - mean) / self._size)

    @property
    def _least(self) -> float:  # type: ignore[override]  # computed once
        return -self.shift

    @property
    def _degenerate(self) -> str | None:
        lost = int((self.members & ~np.isfinite(self.values)).sum())
        if not self.members.any():
            return f"undefined_rate: 0 of 0; '{self.name}' has no item to count"
        if lost:
            return f"non_finite: {lost} of {int(self.members.sum())} items have NaN or infinite values"
        if self._fewest < MIN_CLUSTERS:
            return f"too_few_clusters: {self._fewest} clusters, at least {MIN_CLUSTERS} are needed to decide"
        return None

    def _bounds(self, critical: float) -> tuple[float, float]:
        return wilson(self._estimate or 0.0, self._size, critical)

    def _statistic(self, theta: float) -> float:
        return wilson_statistic(self._estimate or 0.0, self._size, theta)

    @property
    def _method(self) -> str:  # type: ignore[override]  # computed once
        counted = f"{int(self.values[self._rows].sum())} of {len(self._rows)}"
        return f"rate ({counted}), Wilson interval; {self._spread}; two-sided {100 * (1 - level()):g} % interval"

    def _merit(self, relation: Relation, threshold: float) -> tuple[Rows, Array]:
        return self._rows, self.values[self._rows] - (0.0 if relation == "within" else threshold)


@dataclass(frozen=True, eq=False)
class RateContrast(Score):
    """Ratio or difference of the rates of two groups without common items, with a score interval."""

    name: str
    unit: str
    compare: Compare
    rate: Rate
    against: Rate
    shift: float = 0.0

    def __post_init__(self) -> None:
        if self.rate.measurement is not self.against.measurement or (
            np.logical_and(self.rate.members, self.against.members).any()
        ):
            raise MeasurementError(
                f"'{self.name}': a contrast of rates is of two groups of items of one measurement that share no "
                "item; compare the same items under two conditions with mean_difference, which pairs them"
            )

    @property
    def measurement(self) -> Measurement:  # type: ignore[override]  # that of both rates
        return self.rate.measurement

    @property
    def shown_conditions(self) -> tuple[str, ...]:  # type: ignore[override]  # those of both rates
        return self.rate.shown_conditions

    def _averaged(self) -> Mapping[str, Array]:
        sides = {"rate": self.rate, "against": self.against}
        return {name: np.where(one.members, one.values, np.nan) for name, one in sides.items()}

    @property
    def _recipe(self) -> Recipe:
        refused = self._degenerate or ""
        return Recipe(kind="rates", rows=self.name, shift=self.shift, compare=self.compare, refused=refused)

    def __sub__(self, other: Any) -> RateContrast:
        if isinstance(other, float | int):
            return replace(self, name=f"{self.name} minus {other:g}", shift=self.shift + other)
        raise MeasurementError(f"'{self.name}' can be compared with a number only")

    @property
    def _rows(self) -> Rows:  # type: ignore[override]  # of both groups
        return np.concatenate([self.rate._rows, self.against._rows])

    @cached_property
    def _estimate(self) -> float | None:  # type: ignore[override]  # computed once
        one, other = self.rate._estimate, self.against._estimate
        if one is None or other is None or (self.compare == "ratio" and other == 0):
            return None
        return one / other if self.compare == "ratio" else one - other

    @property
    def _fewest(self) -> int:  # type: ignore[override]  # in the smaller group
        return min(self.rate._fewest, self.against._fewest)

    @cached_property
    def _independent(self) -> bool:
        labels = self.measurement.clusters.iloc[self._rows]
        return self._factors == 1 and fewest_clusters(labels) == len(self._rows)

    @cached_property
    def _df(self) -> int | None:  # type: ignore[override]  # computed once
        return None if self._independent else max((self._worth[1] or self._fewest) - 1, 1)

    @cached_property
    def _worth(self) -> tuple[float, int | None]:
        """`deflation` of the contrast, no less than one cluster each where an outcome is rare."""
        if self._independent:
            return 1.0, None
        one, other = ((r.values[r._rows], r._labels) for r in (self.rate, self.against))
        times, telling = deflation(one, other, (self._estimate or 1.0) if self.compare == "ratio" else 1.0)
        if self.rate._lopsided or self.against._lopsided:
            times = max(times, len(self._rows) / (self.rate._fewest + self.against._fewest))
        return times, telling

    @property
    def _cautions(self) -> tuple[str, ...]:
        if self.compare != "ratio" or self._degenerate or self._worth[0] >= 1:
            return ()
        return (
            "ratio of groups asked about the same clusters: its interval lies wholly above the truth in up to 3.5 % of "
            "runs instead of 2.5 % (docs/statistics.md, How often it errs)",
        )

    @property
    def _sizes(self) -> tuple[float, float]:
        return len(self.rate._rows) / self._worth[0], len(self.against._rows) / self._worth[0]

    @property
    def _standard_error(self) -> float:  # type: ignore[override]  # computed once
        n1, n0 = self._sizes
        p1, p0 = (((r._estimate or 0.0) * n + 1) / (n + 2) for r, n in ((self.rate, n1), (self.against, n0)))
        theta = self._estimate or 0.0
        if self.compare == "ratio":
            return math.sqrt(p1 * (1 - p1) / n1 + theta**2 * p0 * (1 - p0) / n0) / p0
        return math.sqrt(p1 * (1 - p1) / n1 + p0 * (1 - p0) / n0)

    @property
    def _least(self) -> float | None:  # type: ignore[override]  # a ratio has no greatest value, so neither is said
        return -1 - self.shift if self.compare == "difference" else None

    @property
    def _degenerate(self) -> str | None:
        problem = self.rate._degenerate or self.against._degenerate
        if not problem and self.compare == "ratio" and self.against._estimate == 0:
            return f"undefined_ratio: '{self.against.name}' is 0 of {len(self.against._rows)}"
        return problem

    def _bounds(self, critical: float) -> tuple[float, float]:
        one, other = self.rate._estimate or 0.0, self.against._estimate or 0.0
        return score_interval(one, self._sizes[0], other, self._sizes[1], self.compare, critical)

    def _statistic(self, theta: float) -> float:
        one, other = self.rate._estimate or 0.0, self.against._estimate or 0.0
        if (self.compare == "ratio" and theta <= 0) or (self.compare == "difference" and abs(theta) >= 1):
            distance = one - theta * other if self.compare == "ratio" else one - other - theta
            return math.copysign(math.inf, distance) if distance else 0.0
        return score_statistic(one, self._sizes[0], other, self._sizes[1], theta, self.compare)

    @property
    def _method(self) -> str:  # type: ignore[override]  # computed once
        counts = " and ".join(
            f"{int(r.values[r._rows].sum())} of {len(r._rows)}" for r in (self.rate, self.against)
        )
        return (
            f"{self.compare} of two rates ({counts}), score interval (Miettinen & Nurminen 1985); {self._spread}; "
            f"two-sided {100 * (1 - level()):g} % interval"
        )

    def _merit(self, relation: Relation, threshold: float) -> tuple[Rows, Array]:
        merits = [self.rate.values[self.rate._rows], -self.against.values[self.against._rows]]
        return self._rows, np.concatenate(merits)


def rate(measurement: Measurement, condition: str, *, name: str, among: Collection[str] | None = None) -> Rate:
    """How often `condition` is 1, over all items or `among` the items with these ids.

    Raises:
        MeasurementError: for values other than 0 and 1 (NaN means not measured), or an unknown item.
    """
    values = measurement.condition(condition)
    known = values[np.isfinite(values)]
    if not np.isin(known, (0.0, 1.0)).all():
        odd = known[~np.isin(known, (0.0, 1.0))][0]
        raise MeasurementError(f"{measurement.name}: a rate counts values of 0 and 1, '{condition}' has {odd:g}")
    members = np.ones(len(values), dtype=bool)
    if among is not None:
        measurement.only(among)  # refuses ids that were not measured
        members = measurement.values.index.isin(list(among))
    return Rate(name, "1", measurement, values, members, shown_conditions=(condition,))


def _named(other: Any) -> str:
    if not isinstance(other, Rate):
        raise MeasurementError("a rate can be compared with a number or with the rate of another group")
    return other.name
