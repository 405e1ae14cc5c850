"""Estimates that decide by their interval.

An `Estimate` is a mean, or a ratio of two means, over paired and clustered items. `estimate >= 0.3` passes when
the whole interval lies at or above 0.3, is false when the whole interval lies below, and otherwise raises
`Inconclusive`. What is tested is the contrast `numerator - θ denominator` per item, so no item's ratio is taken.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd
from msgspec import structs

from auditkit.claims.evidence import Decision
from auditkit.claims.outcomes import NotApplicable, sides
from auditkit.record.schema import Effect, Recipe, Relation
from auditkit.stats.effects.base import Comparable, non_inferiority
from auditkit.stats.intervals import (
    MIN_CLUSTERS,
    Array,
    Moments,
    cluster_means,
    detectable,
    divide,
    fieller,
    finite,
    guarded,
    level,
    spreadless,
)
from auditkit.stats.measurement import Measurement, MeasurementError, match
from auditkit.stats.power import Needed, items_needed, p_fail
from auditkit.stats.signs import METHOD, Signs, signs, span
from auditkit.stats.strata import cautions, described, moments


@dataclass(frozen=True, eq=False)
class Estimate(Comparable):
    """Mean of `numerator`, or ratio of the means of `numerator` and `denominator`.

    Attributes:
        name: what is estimated, in words.
        unit: unit of the estimate.
        measurement: the table it is computed from.
        numerator: (items,) paired value per item.
        denominator: (items,) or None for a plain mean.
        shown_conditions: conditions whose values explain an item to a reader.
        alpha: 1 - the level of the interval.
        framing: words that the method adds for a special comparison, such as non-inferiority.
        refused: reason code and words when the estimate must decide nothing, whatever its values.
        is_change: whether this is a difference from a baseline; such a one is not compared with a baseline again.
        alike: the sentence for a paired difference from this estimate that is zero on every item.
        blocks: whether the items are blocks of a jackknife; more blocks are not more data.
        shift: number that was subtracted from every item.
    """

    name: str
    unit: str
    measurement: Measurement
    numerator: Array
    denominator: Array | None = None
    shown_conditions: tuple[str, ...] = field(default=())
    alpha: float = field(default_factory=level)
    framing: str = ""
    refused: str = ""
    is_change: bool = False
    alike: str = ""
    blocks: bool = False
    shift: float = 0.0

    def __post_init__(self) -> None:
        items = (len(self.measurement.values),)
        if self.numerator.shape != items or (self.denominator is not None and self.denominator.shape != items):
            raise MeasurementError(f"'{self.name}' needs one value for each of the {items[0]} items")

    def __sub__(self, other: float | Estimate) -> Estimate:
        """Paired difference with another estimate over the same items, or shift by a number.

        Raises:
            MeasurementError: other items, clusters or units, or ratios with different denominators.
        """
        scale = np.ones_like(self.numerator) if self.denominator is None else self.denominator
        if isinstance(other, float | int):
            moved, name = self.numerator - other * scale, f"{self.name} minus {other:g}"
            return replace(self, name=name, numerator=moved, shift=self.shift + other)
        if not isinstance(other, Estimate):
            raise MeasurementError(f"'{self.name}' and '{other.name}' are of different kinds and cannot be paired")
        theirs = np.ones_like(other.numerator) if other.denominator is None else other.denominator
        alike = self.measurement.clusters.equals(other.measurement.clusters) and self.unit == other.unit
        if not alike or not np.array_equal(scale, theirs, equal_nan=True):
            raise MeasurementError(
                f"'{self.name}' and '{other.name}' cannot be paired: they must be measured on the same items with "
                "the same clusters, in the same unit, and ratios must share their denominator"
            )
        return self._minus(other, self.numerator - other.numerator)

    def no_worse_than(
        self, baseline: Estimate, *, by: float, better: Literal["higher", "lower"], label: str = "the baseline"
    ) -> Decision:
        """Paired non-inferiority: passes when the whole interval of the difference is better than -`by`.

        Items are matched by id, in whatever order the two were measured. Shares with different denominators
        (each model has its own total effect) are compared by their linearised values (delta method).

        Args:
            baseline: the same estimate of the model compared with.
            by: margin in the estimate's unit; being worse by less than this is acceptable.
            better: whether a higher or a lower value is the better one.
            label: the baseline in words.

        Raises:
            ValueError: for a margin that is not positive and finite, or an unknown direction.
            MeasurementError: for estimates in different units.
            NotApplicable: when one of two shares is of an effect that its model does not show.
            Inconclusive: when the interval holds the margin, or items of one have no partner in the other.
        """
        framing, not_worse = non_inferiority(by, better)
        return not_worse(replace(self.change_from(baseline, label=label)._guarded(), framing=framing))

    def change_from(self, baseline: Estimate, *, label: str = "the baseline") -> Estimate:
        """Paired difference with the same estimate on another model or run, matched by item id.

        Shares are compared by their linearised values, since each has its own denominator. Items without a
        partner, or in another cluster there, are not dropped in silence: the difference then decides nothing and
        says so. The same holds where a share has no linearised values.

        Raises:
            MeasurementError: for estimates in different units.
            NotApplicable: when one of two shares is of an effect that its model does not show.
        """
        if self.unit != baseline.unit:
            raise MeasurementError(
                f"'{self.name}' in {self.unit} cannot be compared with '{baseline.name}' in {baseline.unit}"
            )
        mine, theirs, problem = match(self.measurement, baseline.measurement)
        problem = self.refused or baseline.refused or problem
        ours, other = self._taken(mine), replace(baseline._taken(theirs), name=label)
        if ours.denominator is not None or other.denominator is not None:
            ours, other = (one._linearised(problem) for one in (ours, other))
            problem = ours.refused or other.refused
        change = ours._minus(other, ours.numerator - other.numerator)
        return replace(change, refused=problem, is_change=True, alike=baseline.alike)

    def describe(self, relation: Relation | None = None, threshold: float | None = None) -> Effect:
        interval = self._interval
        m = self._moments
        estimate = None if m is None else divide(m.mean[0], m.mean[1])
        standardized = mde = wrong = None
        needed = Needed()
        if m is not None and interval is not None:
            distance, standard_error, df = self._nearest(relation, threshold)
            if standard_error > 0:
                mde = detectable(standard_error, df, self.alpha) / abs(float(m.mean[1]))
                contrast = self._contrast(self._reference(relation, threshold))
                spread = float(np.std(cluster_means(contrast, self._clusters), ddof=1))
                standardized = distance / spread if spread > 0 else None
                if relation and threshold is not None:
                    wrong = p_fail(relation, threshold, self.tail)
                    undecided = not any(sides(relation, *interval, threshold)) and float(m.mean[1]) > 0
                    if undecided and not self.blocks:
                        needed = items_needed(contrast, self._clusters, distance, standard_error, df, self.alpha)
        return Effect(
            name=self.name, unit=self.unit, estimate=finite(estimate), alpha=self.alpha,
            lower=interval[0] if interval else None, upper=interval[1] if interval else None, relation=relation,
            threshold=float(threshold) if threshold is not None and math.isfinite(threshold) else None,
            n=int(self._finite.sum()), clusters=m.clusters if m else 0,
            standardized=finite(standardized), mde=finite(mde),
            items_needed=needed.items, items_range=needed.likely, items_assume=needed.factors,
            method=self._method, p_fail=finite(wrong),
            df=self._signs.df if self._signs else self._df,
            **(span(self.measurement, self.shown_conditions, self.shift) if self.denominator is None else {}),
        )  # fmt: skip

    def tail(self, threshold: float) -> float | None:
        """One-sided p-value P(T <= t) of the contrast at `threshold`: small speaks for an effect below it.

        The statistic is that of the interval. None where there is no interval.
        """
        if self._interval is None or self._centred is None:
            return None
        if self._signs:
            return self._signs.tail(threshold + self.shift)
        centre, m = self._centred
        weights = math.copysign(1.0, m.mean[1]) * np.array([1.0, centre - threshold])
        return m.tail(weights) if m.contrast(weights)[1] > 0 else None

    def _averaged(self) -> Mapping[str, Array]:
        top = {"change" if self.is_change else "numerator": self.numerator}
        return top if self.denominator is None else top | {"denominator": self.denominator}

    @property
    def _recipe(self) -> Recipe:
        kind: Literal["change", "mean"] = "change" if self.is_change else "mean"
        made = Recipe(kind=kind, rows=self.name, shown=self.shown_conditions, undivided=self.denominator is None)
        return structs.replace(made, shift=self.shift, blocks=self.blocks, refused=self._unusable)

    # -- computing ---------------------------------------------------------------------------------------------

    @cached_property
    def _finite(self) -> pd.Series:
        return pd.Series(np.isfinite(self._columns).all(axis=1), index=self.measurement.values.index)

    @cached_property
    def _columns(self) -> Array:
        denominator = np.ones_like(self.numerator) if self.denominator is None else self.denominator
        return np.column_stack([self.numerator, denominator])

    @cached_property
    def _clusters(self) -> pd.DataFrame:
        return self.measurement.clusters_of(self._finite)

    @cached_property
    def _moments(self) -> Moments | None:
        known = self._finite.to_numpy()
        strata = self.measurement.strata_of(self._finite)
        return moments(self._columns[known], self._clusters, strata) if known.any() else None

    @cached_property
    def _interval(self) -> tuple[float, float] | None:
        if self._degenerate or self._centred is None:
            return None
        if self._signs:
            return self._signs.interval(self.alpha, self.shift)
        centre, m = self._centred
        shift = fieller(m, self.alpha)
        return (centre + shift[0], centre + shift[1]) if shift else None

    @cached_property
    def _signs(self) -> Signs | None:
        """The items as signs where each is -1, 0 or 1, as a Wald interval of such values is too narrow; else None."""
        shown = () if self.is_change else self.shown_conditions
        return signs(self.numerator + self.shift, self.measurement, shown) if self.denominator is None else None

    @cached_property
    def _centred(self) -> tuple[float, Moments] | None:
        """The point estimate, and the moments of (contrast at that point, denominator).

        Every deciding number is computed from these: the variance of a contrast that is small beside its two
        terms (a recovery near 1 has nothing else) would drown in the rounding of the terms' variances.
        """
        m = self._moments
        if m is None:
            return None
        centre = divide(m.mean[0], m.mean[1]) or 0.0
        known = self._finite.to_numpy()
        with np.errstate(over="ignore", invalid="ignore"):
            columns = np.column_stack([self._contrast(centre), self._columns[known, 1]])
        return centre, moments(columns, self._clusters, self.measurement.strata_of(self._finite))

    @cached_property
    def _unusable(self) -> str:
        """Reason code and words when nothing may be computed from the values; empty if it may."""
        if self.refused:
            return self.refused
        m, centred = self._moments, self._centred
        lost = int((~self._finite).sum())
        if m is None or centred is None:
            return f"no_items: none of {len(self._finite)} items has a finite value"
        if lost:
            return f"non_finite: {lost} of {len(self._finite)} items have NaN or infinite values"
        if m.clusters < MIN_CLUSTERS:
            return f"too_few_clusters: {m.clusters} clusters, at least {MIN_CLUSTERS} are needed to decide"
        centre, around = centred
        if not (math.isfinite(centre) and around.finite and m.finite):
            return "non_finite: the values are too large for an interval to be computed"
        return ""

    @cached_property
    def _degenerate(self) -> str | None:
        if self._unusable or self._centred is None:
            return self._unusable
        centre, around = self._centred
        _, error = around.contrast(np.array([1.0, 0.0]))
        shown = [self.measurement.condition(condition) for condition in self.shown_conditions]
        rounding = 1e-12 * max(float(np.abs(part).max()) for part in (*self._columns.T * [[1], [centre]], *shown))
        alike = self.alike if self.is_change and centre == 0 else ""
        return None if self._signs else spreadless(self._contrast(centre), error, rounding, alike)

    @property
    def _cautions(self) -> tuple[str, ...]:
        if self._interval is None or self._centred is None:
            return ()
        return cautions(self._contrast(self._centred[0]), self._clusters, self.measurement.strata_of(self._finite))

    @property
    def _method(self) -> str:
        kind = "mean" if self.denominator is None else "ratio of means, Fieller interval"
        factors = described(self._clusters, self.measurement.strata_of(self._finite))
        ways = "two-way cluster-robust" if self.measurement.clusters.shape[1] == 2 else "cluster means"
        df = f", t with {self._df:.3g} degrees of freedom" if self._df is not None else ""
        spread = f"{METHOD}; {self._signs.spread}" if self._signs else f"{kind}; {ways} ({factors}){df}"
        framing = f"; {self.framing}" if self.framing else ""
        return f"{spread}; two-sided {100 * (1 - self.alpha):.4g} % interval{framing}"

    def _contrast(self, theta: float) -> Array:
        columns = self._columns[self._finite.to_numpy()]
        contrast: Array = columns[:, 0] - theta * columns[:, 1]
        return contrast

    def _reference(self, relation: Relation | None, threshold: float | None) -> float:
        """The tested value of the contrast: the nearer margin of an equivalence, else the threshold, else 0."""
        if threshold is None or self._centred is None:
            return 0.0
        if relation == "within":
            return math.copysign(threshold, self._centred[0])
        return float(threshold)

    def _nearest(self, relation: Relation | None, threshold: float | None) -> tuple[float, float, float]:
        """Mean, standard error and degrees of freedom of the contrast that is tested."""
        assert self._centred is not None
        centre, m = self._centred
        weights = np.array([1.0, centre - self._reference(relation, threshold)])
        error, df = m.deciding(weights, self.alpha)
        return float(weights @ m.mean), self._signs.standard_error if self._signs else error, df

    @property
    def _df(self) -> float | None:
        """Degrees of freedom of the test that decides, at the estimate."""
        if self._centred is None:
            return None
        return self._centred[1].deciding(np.array([1.0, 0.0]), self.alpha)[1] if self._centred[1].finite else None

    def _merit(self, relation: Relation, threshold: float) -> tuple[np.ndarray[Any, Any], Array]:
        return np.flatnonzero(self._finite.to_numpy()), self._contrast(0.0 if relation == "within" else threshold)

    def _not_applicable(self, effect: Effect | None = None) -> str | None:
        if self.denominator is None or self._centred is None:
            return None
        around = self._centred[1]
        if fieller(around, self.alpha) is None:
            return (
                f"no effect to compare with: the interval of the denominator of '{self.name}' touches zero, "
                "so the model does not show the behaviour"
            )
        if around.mean[1] < 0:
            return f"the effect that '{self.name}' is a share of has the opposite sign on this model"
        return None

    # -- pairing -----------------------------------------------------------------------------------------------

    def _minus(self, other: Estimate, numerator: Array) -> Estimate:
        """A paired difference: `numerator` over the items of this estimate, with the conditions of both shown."""
        both, names = self.measurement.beside(other.measurement, other.name)
        theirs = (names[condition] for condition in other.shown_conditions)
        shown = tuple(dict.fromkeys((*self.shown_conditions, *theirs)))
        name, shift = f"{self.name} minus {other.name}", self.shift - other.shift
        return replace(self, name=name, measurement=both, numerator=numerator, shown_conditions=shown, shift=shift)

    def _guarded(self) -> Estimate:
        return self if self._df is None else replace(self, alpha=guarded(self._df, self.alpha))

    def _taken(self, rows: np.ndarray[Any, Any]) -> Estimate:
        """The same estimate over the items in these rows, in this order."""
        below = None if self.denominator is None else self.denominator[rows]
        return replace(
            self, measurement=self.measurement.take(rows), numerator=self.numerator[rows], denominator=below
        )

    def _linearised(self, problem: str = "") -> Estimate:
        """The same as a plain mean: per item, the share plus how far the item moves it (delta method).

        A share whose items all have the same one is linearised like any other. Where the values allow none, or
        `problem` says so, the items have no values and the reason is kept: a numerator is in other units than a
        share, so it must never take the place of one.
        """
        problem = problem or self._unusable
        if problem:
            nothing = np.full_like(self.numerator, np.nan)
            return replace(self, numerator=nothing, denominator=None, refused=problem)
        if self.denominator is None:
            return self
        absent = self._not_applicable()
        if absent:
            raise NotApplicable(absent)
        centre, around = self._centred  # type: ignore[misc]  # it applies, so there are moments
        values = centre + self._contrast(centre) / around.mean[1]
        return replace(self, numerator=values, denominator=None)


def mean_difference(measurement: Measurement, condition: str, against: str, *, name: str) -> Estimate:
    """Paired difference `condition - against`, in the measurement's unit."""
    values = measurement.condition(condition) - measurement.condition(against)
    return Estimate(name, measurement.unit, measurement, values, shown_conditions=(condition, against))


def recovery(measurement: Measurement, patched: str, *, clean: str, corrupt: str, name: str) -> Estimate:
    """Share of the effect `clean - corrupt` that `patched` restores: a ratio of means over items.

    Tested as the contrast `(patched - corrupt) - θ (clean - corrupt)`; 0 is the corrupt run, 1 the clean one.
    """
    base = measurement.condition(corrupt)
    parts = (measurement.condition(patched) - base, measurement.condition(clean) - base)
    shown = (corrupt, patched, clean)
    return Estimate(name, "of the total effect", measurement, *parts, shown_conditions=shown)
