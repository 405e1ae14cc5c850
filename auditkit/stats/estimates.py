"""Estimates that decide by their interval.

An `Estimate` is a mean, or a ratio of two means, over paired and clustered items. `estimate >= 0.3` passes when
the whole interval lies at or above 0.3, is false when the whole interval lies below, and otherwise raises
`Inconclusive`: a comparison that cannot tell never says no, and `==` or bare truth, which could, are refused.
What is tested is the linear contrast `numerator - θ denominator` per item, so no item's ratio is ever taken.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import numpy as np
import pandas as pd

from auditkit.record.evidence import Decision, current
from auditkit.record.schema import Effect, Example, Relation, Verdict
from auditkit.stats.intervals import (
    ALPHA,
    MIN_CLUSTERS,
    Array,
    Moments,
    cluster_means,
    detectable,
    fieller,
    moments,
)
from auditkit.stats.measurement import Measurement, MeasurementError
from auditkit.stats.verdicts import Inconclusive, NotApplicable, Threshold, sides


@dataclass(frozen=True, eq=False)
class Estimate:
    """Mean of `numerator`, or ratio of the means of `numerator` and `denominator`.

    Attributes:
        name: what is estimated, in words.
        unit: unit of the estimate.
        measurement: the table it is computed from.
        numerator: (items,) paired value per item.
        denominator: (items,) or None for a plain mean.
        shown_conditions: conditions whose values explain an item to a reader.
    """

    name: str
    unit: str
    measurement: Measurement
    numerator: Array
    denominator: Array | None = None
    shown_conditions: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        items = (len(self.measurement.values),)
        if self.numerator.shape != items or (self.denominator is not None and self.denominator.shape != items):
            raise MeasurementError(f"'{self.name}' needs one value for each of the {items[0]} items")

    def __eq__(self, other: object) -> bool:
        raise TypeError(f"'{self.name}' cannot be tested with == or !=; use equals(..., within=margin)")

    __hash__ = object.__hash__

    def __bool__(self) -> bool:
        raise TypeError(f"'{self.name}' is an estimate and neither true nor false; compare it with a threshold")

    def __ge__(self, threshold: float | Estimate) -> Decision:
        return self._compare(">=", threshold)

    def __gt__(self, threshold: float | Estimate) -> Decision:
        return self._compare(">", threshold)

    def __le__(self, threshold: float | Estimate) -> Decision:
        return self._compare("<=", threshold)

    def __lt__(self, threshold: float | Estimate) -> Decision:
        return self._compare("<", threshold)

    def equals(self, other: float | Estimate, *, within: float) -> Decision:
        """Equivalence: passes when the whole interval of the difference lies within ±`within`.

        Two one-sided tests (Schuirmann 1987), each at half of alpha, so that the deciding interval is the
        displayed one. Fails when the whole interval lies outside.

        Raises:
            ValueError: for a margin that is not positive and finite.
            Inconclusive: when the interval crosses the margin.
        """
        if not 0 < within < math.inf:
            raise ValueError(f"an equivalence margin must be positive and finite, got {within}")
        difference = self - other
        return difference._decide("within", within)

    def __sub__(self, other: float | Estimate) -> Estimate:
        """Paired difference with another estimate over the same items, or shift by a number.

        Raises:
            MeasurementError: other items, clusters or units, or ratios with different denominators.
        """
        scale = np.ones_like(self.numerator) if self.denominator is None else self.denominator
        if not isinstance(other, Estimate):
            return replace(self, name=f"{self.name} minus {other:g}", numerator=self.numerator - other * scale)
        theirs = np.ones_like(other.numerator) if other.denominator is None else other.denominator
        same_items = self.measurement.clusters.equals(other.measurement.clusters)
        if not same_items or self.unit != other.unit or not np.array_equal(scale, theirs, equal_nan=True):
            raise MeasurementError(
                f"'{self.name}' and '{other.name}' cannot be paired: they must be measured on the same items with "
                "the same clusters, in the same unit, and ratios must share their denominator"
            )
        extra: dict[str, Array] = {}
        called: dict[str, str] = {}
        for condition in other.measurement.conditions:
            name, values = condition, other.measurement.condition(condition)
            taken = name in self.measurement.conditions
            if taken and not np.array_equal(self.measurement.condition(name), values, equal_nan=True):
                while name in self.measurement.conditions:
                    name = f"{name} ({other.name})"
                taken = False
            called[condition] = name
            if not taken:
                extra[name] = values
        theirs_shown = tuple(called[condition] for condition in other.shown_conditions)
        return replace(
            self,
            name=f"{self.name} minus {other.name}",
            measurement=self.measurement.with_conditions(extra) if extra else self.measurement,
            numerator=self.numerator - other.numerator,
            shown_conditions=tuple(dict.fromkeys((*self.shown_conditions, *theirs_shown))),
        )

    def describe(self, relation: Relation | None = None, threshold: float | None = None) -> Effect:
        """The estimate as a record, with the power figures of a comparison where one is asked.

        Undefined quantities are None; nothing is raised.
        """
        interval = self._interval
        m = self._moments
        estimate = standard_error = None
        if m is not None:
            ratio = m.mean[0] if self.denominator is None else _divide(m.mean[0], m.mean[1])
            estimate = _finite(ratio)
        standardized = mde = None
        items_needed: int | None = None
        if m is not None and interval is not None:
            scale = float(m.mean[1])
            distance, standard_error = self._nearest(relation, threshold)
            if standard_error > 0:
                mde = detectable(standard_error, m.df) / abs(scale)
                spread = float(
                    np.std(
                        cluster_means(self._contrast(self._reference(relation, threshold)), self._clusters),
                        ddof=1,
                    )
                )
                standardized = distance / spread if spread > 0 else None
                undecided = relation and threshold is not None and not any(sides(relation, *interval, threshold))
                if undecided and scale > 0:
                    items_needed = _needed(int(self._finite.sum()), distance, detectable(standard_error, m.df))
        return Effect(
            name=self.name,
            estimate=estimate,
            lower=interval[0] if interval else None,
            upper=interval[1] if interval else None,
            unit=self.unit,
            relation=relation,
            threshold=float(threshold) if threshold is not None and math.isfinite(threshold) else None,
            alpha=ALPHA,
            n=int(self._finite.sum()),
            clusters=m.clusters if m else 0,
            standardized=_finite(standardized),
            mde=_finite(mde),
            items_needed=items_needed,
            method=self._method,
        )

    def keep_items(self) -> None:
        """Enter the values behind this estimate into the claim's items."""
        evidence = current()
        if evidence is not None:
            for row in self.measurement.rows(claim=""):
                evidence.items[(row.measurement, row.condition, row.item)] = row

    # -- deciding ----------------------------------------------------------------------------------------------

    def _compare(self, relation: Relation, threshold: float | Estimate) -> Decision:
        if isinstance(threshold, Estimate):
            return (self - threshold)._decide(relation, Threshold(0.0, f"paired with {threshold.name}"))
        return self._decide(relation, threshold)

    def _decide(self, relation: Relation, threshold: float) -> Decision:
        if not math.isfinite(threshold):
            raise ValueError(f"a threshold must be a finite number, got {threshold}")
        effect = self.describe(relation, threshold)
        verdict, reason = self._verdict(effect)
        source = getattr(threshold, "source", "written in the claim")
        decision = Decision(verdict, reason, effect, source, self._examples(relation, float(threshold)))
        evidence = current()
        if evidence is not None:
            evidence.decisions.append(decision)
            self.keep_items()
        if verdict is Verdict.INCONCLUSIVE:
            raise Inconclusive(reason, decision)
        if verdict is Verdict.NOT_APPLICABLE:
            raise NotApplicable(reason)
        return decision

    def _verdict(self, effect: Effect) -> tuple[Verdict, str]:
        degenerate = self._degenerate
        if degenerate:
            return Verdict.INCONCLUSIVE, degenerate
        lower, upper, threshold = effect.lower, effect.upper, effect.threshold
        if lower is None or upper is None or threshold is None:
            return Verdict.NOT_APPLICABLE, (
                f"no effect to compare with: the interval of the denominator of '{self.name}' touches zero, "
                "so the model does not show the behaviour"
            )
        if self.denominator is not None and self._moments is not None and self._moments.mean[1] < 0:
            return Verdict.NOT_APPLICABLE, (
                f"the effect that '{self.name}' is a share of has the opposite sign on this model"
            )
        holds, fails = sides(effect.relation or "within", lower, upper, threshold)
        what = f"±{threshold:.3g}" if effect.relation == "within" else f"{effect.relation} {threshold:.3g}"
        span = f"[{lower:.3g}, {upper:.3g}]"
        if holds:
            return Verdict.PASS, f"the whole interval {span} is {what}"
        if fails:
            return Verdict.FAIL, f"the whole interval {span} is on the wrong side of {what}"
        more = f"; about {effect.items_needed} items would decide" if effect.items_needed else ""
        return Verdict.INCONCLUSIVE, f"the interval {span} does not decide {what}{more}"

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
        centre, m = self._centred
        shift = fieller(m)
        return (centre + shift[0], centre + shift[1]) if shift else None

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
        """Reason code and words when no honest interval exists (design, Statistics, rule 6)."""
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
        if np.abs(self._contrast(centre)).max() <= rounding:
            return "constant: every item has the same value, so there is no spread to judge by"
        if error <= rounding:
            return "constant: every cluster has the same mean, so there is no spread to judge by"
        return None

    @property
    def _method(self) -> str:
        kind = "mean" if self.denominator is None else "ratio of means, Fieller interval"
        factors = " x ".join(map(str, self.measurement.clusters.columns))
        ways = "two-way cluster-robust" if self.measurement.clusters.shape[1] == 2 else "cluster means"
        df = f", t with {self._moments.df} degrees of freedom" if self._moments else ""
        return f"{kind}; {ways} ({factors}){df}; two-sided {100 * (1 - ALPHA):g} % interval"

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
        return m.contrast(np.array([1.0, centre - self._reference(relation, threshold)]))

    def _examples(self, relation: Relation, threshold: float) -> tuple[Example, ...]:
        """The two worst items and the median one, from the claim's point of view."""
        finite = self._finite.to_numpy()
        rows = np.flatnonzero(finite)
        if not len(rows):
            return ()
        merit = self._contrast(0.0 if relation == "within" else threshold)
        merit = {"within": -np.abs(merit), "<": -merit, "<=": -merit}.get(relation, merit)
        order = np.argsort(merit, kind="stable")
        median = int(order[len(order) // 2])
        worst = [int(i) for i in order[:2] if i != median]
        return (
            *(self._example(int(rows[i]), "worst") for i in worst),
            self._example(int(rows[median]), "median"),
        )

    def _example(self, row: int, rank: Literal["worst", "median"]) -> Example:
        conditions = self.shown_conditions or self.measurement.conditions
        item = self.measurement.values.index[row]
        values = {c: float(self.measurement.condition(c)[row]) for c in conditions}
        return Example(
            item=str(item),
            rank=rank,
            prompts=dict(self.measurement.prompts.get(item, {})),
            values={c: value for c, value in values.items() if np.isfinite(value)},
            unit=self.measurement.unit,
        )


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


def _needed(n: int, distance: float, detectable_distance: float) -> int | None:
    """Items at which the present distance from the threshold would be decided with 80 % power."""
    if distance == 0:
        return None
    needed = n * (detectable_distance / abs(distance)) ** 2
    return math.ceil(needed) if needed < 1e6 else None
