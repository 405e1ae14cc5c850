"""Estimates that decide by their interval.

An `Estimate` is a mean, or a ratio of two means, over paired and clustered items. `estimate >= 0.3` passes when
the whole interval lies at or above 0.3, is false when the whole interval lies below, and otherwise raises
`Inconclusive`. What is tested is the linear contrast `numerator - θ denominator` per item, so no item's ratio is
ever taken.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy import stats

from auditkit.record.evidence import Decision
from auditkit.record.schema import Effect, Relation
from auditkit.stats.comparing import NOT_WORSE, Comparable
from auditkit.stats.intervals import (
    ALPHA,
    MIN_CLUSTERS,
    Array,
    Moments,
    caution,
    cluster_means,
    detectable,
    fieller,
    guarded,
    moments,
    spreadless,
)
from auditkit.stats.measurement import Measurement, MeasurementError, match
from auditkit.stats.power import items_needed, p_fail
from auditkit.stats.signs import METHOD, Signs, signs, span
from auditkit.stats.verdicts import NotApplicable, Threshold, sides


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
        framing: what kind of comparison this was made for, as the method says it.
        refused: reason code and words when the estimate must decide nothing, whatever its values.
        is_change: whether this is a difference from a baseline; such a one is not compared with a baseline again.
        alike: what to say when a paired difference from this estimate is zero on every item.
        shift: number that was subtracted from every item.
    """

    name: str
    unit: str
    measurement: Measurement
    numerator: Array
    denominator: Array | None = None
    shown_conditions: tuple[str, ...] = field(default=())
    alpha: float = ALPHA
    framing: str = ""
    refused: str = ""
    is_change: bool = False
    alike: str = ""
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
        same_items = self.measurement.clusters.equals(other.measurement.clusters)
        if not same_items or self.unit != other.unit or not np.array_equal(scale, theirs, equal_nan=True):
            raise MeasurementError(
                f"'{self.name}' and '{other.name}' cannot be paired: they must be measured on the same items with "
                "the same clusters, in the same unit, and ratios must share their denominator"
            )
        return self._minus(other, self.numerator - other.numerator)

    def no_worse_than(
        self, baseline: Estimate, *, by: float, better: Literal["higher", "lower"], called: str = "the baseline"
    ) -> Decision:
        """Paired non-inferiority: passes when the whole interval of the difference is better than -`by`.

        Items are matched by id, in whatever order the two were measured. Shares with different denominators
        (each model has its own total effect) are compared by their linearised values (delta method).

        Args:
            baseline: the same estimate of the model compared with.
            by: margin in the estimate's unit; being worse by less than this is acceptable.
            better: whether a higher or a lower value is the better one.
            called: the baseline in words.

        Raises:
            ValueError: for a margin that is not positive and finite, or an unknown direction.
            MeasurementError: for estimates in different units.
            NotApplicable: when one of two shares is of an effect that its model does not show.
            Inconclusive: when the interval holds the margin, or items of one have no partner in the other.
        """
        if not 0 < by < math.inf:
            raise ValueError(f"a non-inferiority margin must be positive and finite, got {by}")
        if better not in ("higher", "lower"):
            raise ValueError(f"better must be 'higher' or 'lower', got {better!r}")
        framing = f"{NOT_WORSE}, margin {by:g}, {better} is better"
        source, call = getattr(by, "source", "written in the claim"), getattr(by, "call", None)
        change = replace(self.change_from(baseline, called=called)._guarded(), framing=framing)
        margin = Threshold(-by if better == "higher" else by, source, call)
        return change > margin if better == "higher" else change < margin

    def change_from(self, baseline: Estimate, *, called: str = "the baseline") -> Estimate:
        """Paired difference with the same estimate on another model or run, matched by item id.

        Items without a partner, or in another cluster there, are not dropped in silence: the difference then
        decides nothing and says so.
        """
        if self.unit != baseline.unit:
            raise MeasurementError(
                f"'{self.name}' in {self.unit} cannot be compared with '{baseline.name}' in {baseline.unit}"
            )
        mine, theirs, problem = match(self.measurement, baseline.measurement)
        problem = self.refused or baseline.refused or problem
        ours, other = self._taken(mine), replace(baseline._taken(theirs), name=called)
        shares = (ours.denominator is not None, other.denominator is not None)
        if any(shares) and not problem:
            ours, other = ours._linearised(), other._linearised()
        change = ours._minus(other, ours.numerator - other.numerator)
        return replace(change, refused=problem, is_change=True, alike=baseline.alike)

    def describe(self, relation: Relation | None = None, threshold: float | None = None) -> Effect:
        interval = self._interval
        m = self._moments
        estimate = None if m is None else m.mean[0] if self.denominator is None else _divide(m.mean[0], m.mean[1])
        standardized = mde = wrong = None
        needed: int | None = None
        assume = ""
        if m is not None and interval is not None:
            distance, standard_error = self._nearest(relation, threshold)
            if standard_error > 0:
                mde = detectable(standard_error, m.df, self.alpha) / abs(float(m.mean[1]))
                contrast = self._contrast(self._reference(relation, threshold))
                spread = float(np.std(cluster_means(contrast, self._clusters), ddof=1))
                standardized = distance / spread if spread > 0 else None
                if relation and threshold is not None:
                    wrong = p_fail(relation, threshold, self.tail)
                    if not any(sides(relation, *interval, threshold)) and float(m.mean[1]) > 0:
                        needed, assume = items_needed(
                            contrast, self._clusters, distance, standard_error, m.df, self.alpha
                        )
        return Effect(
            name=self.name,
            estimate=_finite(estimate),
            lower=interval[0] if interval else None,
            upper=interval[1] if interval else None,
            unit=self.unit,
            relation=relation,
            threshold=float(threshold) if threshold is not None and math.isfinite(threshold) else None,
            alpha=self.alpha,
            n=int(self._finite.sum()),
            clusters=m.clusters if m else 0,
            standardized=_finite(standardized),
            mde=_finite(mde),
            items_needed=needed,
            method=self._method,
            items_assume=assume if needed else "",
            p_fail=_finite(wrong),
            df=self._signs.df if self._signs else m.df if m else None,
            **(span(self.measurement, self.shown_conditions, self.shift) if self.denominator is None else {}),
        )

    def tail(self, threshold: float) -> float | None:
        """One-sided p-value P(T <= t) of the contrast at `threshold`: small speaks for an effect below it.

        The statistic is that of the interval (cluster means or two-way variance, t). None where there is no
        interval.
        """
        if self._interval is None or self._centred is None:
            return None
        if self._signs:
            return self._signs.tail(threshold + self.shift)
        centre, m = self._centred
        distance, error = m.contrast(np.array([1.0, centre - threshold]))
        sign = math.copysign(1.0, m.mean[1])
        return float(stats.t.cdf(sign * distance / error, m.df)) if error > 0 else None

    def _averaged(self) -> Mapping[str, Array]:
        if self.is_change:
            return {}
        columns = {"numerator": self.numerator}
        return columns if self.denominator is None else columns | {"denominator": self.denominator}

    # -- computing ---------------------------------------------------------------------------------------------

    @cached_property
    def _finite(self) -> pd.Series:
        columns = self._columns
        return pd.Series(np.isfinite(columns).all(axis=1), index=self.measurement.values.index)

    @cached_property
    def _columns(self) -> Array:
        denominator = np.ones_like(self.numerator) if self.denominator is None else self.denominator
        return np.column_stack([self.numerator, denominator])

    @cached_property
    def _clusters(self) -> pd.DataFrame:
        return self.measurement.clusters[self._finite.to_numpy()]

    @cached_property
    def _moments(self) -> Moments | None:
        finite = self._finite.to_numpy()
        return moments(self._columns[finite], self._clusters) if finite.any() else None

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
        """The items as -1, 0 and 1, where they are nothing else; a Wald interval of such is too narrow."""
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
        centre = _divide(m.mean[0], m.mean[1]) or 0.0
        finite = self._finite.to_numpy()
        with np.errstate(over="ignore", invalid="ignore"):
            columns = np.column_stack([self._contrast(centre), self._columns[finite, 1]])
        return centre, moments(columns, self._clusters)

    @cached_property
    def _degenerate(self) -> str | None:
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
        _, error = around.contrast(np.array([1.0, 0.0]))
        if not all(np.isfinite(part).all() for part in (centre, around.mean, around.covariance, m.covariance)):
            return "non_finite: the values are too large for an interval to be computed"
        shown = [self.measurement.condition(condition) for condition in self.shown_conditions]
        rounding = 1e-12 * max(float(np.abs(part).max()) for part in (*self._columns.T * [[1], [centre]], *shown))
        alike = self.alike if self.is_change and centre == 0 else ""
        return None if self._signs else spreadless(self._contrast(centre), error, rounding, alike)

    @property
    def _caution(self) -> str:
        if self._interval is None or self._centred is None or self.alpha != ALPHA:
            return ""  # a narrower level is there for this reason already
        return caution(self._contrast(self._centred[0]), self._clusters)

    @property
    def _method(self) -> str:
        kind = "mean" if self.denominator is None else "ratio of means, Fieller interval"
        factors = " x ".join(map(str, self.measurement.clusters.columns))
        ways = "two-way cluster-robust" if self.measurement.clusters.shape[1] == 2 else "cluster means"
        df = f", t with {self._moments.df} degrees of freedom" if self._moments else ""
        spread = f"{METHOD}; {self._signs.spread}" if self._signs else f"{kind}; {ways} ({factors}){df}"
        framing = f"; {self.framing}" if self.framing else ""
        return f"{spread}; two-sided {100 * (1 - self.alpha):.4g} % interval{framing}"

    def _contrast(self, theta: float) -> Array:
        columns = self._columns[self._finite.to_numpy()]
        contrast: Array = columns[:, 0] - theta * columns[:, 1]
        return contrast

    def _reference(self, relation: Relation | None, threshold: float | None) -> float:
        """The number that the contrast is taken against: the nearer margin for an equivalence, else the
        threshold, else zero."""
        if threshold is None or self._centred is None:
            return 0.0
        if relation == "within":
            return math.copysign(threshold, self._centred[0])
        return float(threshold)

    def _nearest(self, relation: Relation | None, threshold: float | None) -> tuple[float, float]:
        """Mean and standard error of the contrast that is tested."""
        assert self._centred is not None
        centre, m = self._centred
        distance, error = m.contrast(np.array([1.0, centre - self._reference(relation, threshold)]))
        return distance, self._signs.standard_error if self._signs else error

    def _merit(self, relation: Relation, threshold: float) -> tuple[np.ndarray[Any, Any], Array]:
        return np.flatnonzero(self._finite.to_numpy()), self._contrast(0.0 if relation == "within" else threshold)

    def _not_applicable(self, effect: Effect) -> str | None:
        if effect.lower is None:
            return (
                f"no effect to compare with: the interval of the denominator of '{self.name}' touches zero, "
                "so the model does not show the behaviour"
            )
        if self.denominator is not None and self._moments is not None and self._moments.mean[1] < 0:
            return f"the effect that '{self.name}' is a share of has the opposite sign on this model"
        return None

    # -- pairing -----------------------------------------------------------------------------------------------

    def _minus(self, other: Estimate, numerator: Array) -> Estimate:
        """`numerator` over my items, with the conditions of both beside it."""
        both, called = self.measurement.beside(other.measurement, other.name)
        theirs = (called[condition] for condition in other.shown_conditions)
        shown = tuple(dict.fromkeys((*self.shown_conditions, *theirs)))
        name, shift = f"{self.name} minus {other.name}", self.shift - other.shift
        return replace(self, name=name, measurement=both, numerator=numerator, shown_conditions=shown, shift=shift)

    def _guarded(self) -> Estimate:
        return replace(self, alpha=guarded(self._moments.df, self.alpha)) if self._moments else self

    def _taken(self, rows: np.ndarray[Any, Any]) -> Estimate:
        """The same estimate over the items in these rows, in this order."""
        denominator = None if self.denominator is None else self.denominator[rows]
        measurement = self.measurement.take(rows)
        return replace(self, measurement=measurement, numerator=self.numerator[rows], denominator=denominator)

    def _linearised(self) -> Estimate:
        """A share as a plain mean: per item, the share plus how far the item moves it (delta method)."""
        if self.denominator is None or self._degenerate:
            return self
        absent = self._not_applicable(self.describe())
        if absent:
            raise NotApplicable(absent)
        assert self._centred is not None
        centre, m = self._centred
        values = centre + (self.numerator - centre * self.denominator) / m.mean[1]
        return replace(self, numerator=values, denominator=None)


def mean_difference(measurement: Measurement, condition: str, against: str, *, name: str) -> Estimate:
    """Paired difference `condition - against`, in the measurement's unit."""
    return Estimate(
        name,
        measurement.unit,
        measurement,
        measurement.condition(condition) - measurement.condition(against),
        shown_conditions=(condition, against),
    )


def recovery(measurement: Measurement, patched: str, *, clean: str, corrupt: str, name: str) -> Estimate:
    """Share of the effect `clean - corrupt` that `patched` restores: a ratio of means over items.

    Tested as the contrast `(patched - corrupt) - θ (clean - corrupt)`; 0 is the corrupt run, 1 the clean one.
    """
    base = measurement.condition(corrupt)
    return Estimate(
        name,
        "of the total effect",
        measurement,
        measurement.condition(patched) - base,
        measurement.condition(clean) - base,
        shown_conditions=(corrupt, patched, clean),
    )


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def _divide(a: float, b: float) -> float | None:
    return float(a / b) if b != 0 else None
