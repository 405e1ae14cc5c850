"""Positive, skewed quantities: distances, divergences and their ratios decide on the log scale.

Such values differ by powers of ten between items, and a few of them carry the mean. Its t interval then misses the
truth far more often than stated on the side of the long tail (docs/statistics.md, How often it errs). Their logarithms
are much less skewed, so the interval of the mean of the logarithms holds the truth more nearly as often as it says.
What is shown is the geometric mean, exp of that mean, with the ends of the interval taken back to the original unit; a
threshold is compared as its logarithm. "At least twice as much, in the geometric mean" is `geometric_ratio(...) >= 2`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import numpy as np

from auditkit.claims.outcomes import Threshold
from auditkit.record.schema import Effect, Recipe, Relation
from auditkit.stats.effects.base import Comparable
from auditkit.stats.effects.mean import Estimate
from auditkit.stats.intervals import Array
from auditkit.stats.measurement import Measurement, MeasurementError


@dataclass(frozen=True, eq=False)
class Geometric(Comparable):
    """Geometric mean of positive values, or of their ratio; made by `geometric_mean` and `geometric_ratio`.

    Attributes:
        logs: the mean of the natural logarithms, which decides. Take it for what only means can do: equivalence
            (`effect.logs.equals(0, within=math.log(1.25))`) and comparison with a baseline
            (`effect.logs.no_worse_than(baseline(effect.logs), by=math.log(1.25), better="lower")`).
    """

    name: str
    unit: str
    logs: Estimate

    @property
    def measurement(self) -> Measurement:  # type: ignore[override]  # that of the logarithms
        return self.logs.measurement

    @property
    def shown_conditions(self) -> tuple[str, ...]:  # type: ignore[override]  # those of the logarithms
        return self.logs.shown_conditions

    def __sub__(self, other: Any) -> Any:
        """Refused: on the log scale effects are divided, not subtracted.

        Raises:
            MeasurementError: always.
        """
        raise MeasurementError(
            f"'{self.name}' is a geometric mean: divide it by another (a / b >= 2), or use its mean of logarithms "
            "(.logs) for an equivalence or a change"
        )

    def __truediv__(self, other: float | Geometric) -> Geometric:
        """Paired ratio to another geometric mean over the same items, or to a positive number.

        Raises:
            MeasurementError: other items, clusters or units.
        """
        if isinstance(other, Geometric):
            return Geometric(f"{self.name} / {other.name}", "times", self.logs - other.logs)
        return replace(self, name=f"{self.name} / {other:g}", logs=self.logs - _log(self.name, other))

    def describe(self, relation: Relation | None = None, threshold: float | None = None) -> Effect:
        """The effect as a record, in the original unit.

        The minimum detectable effect is the distance upwards from the threshold; downwards it is shorter, since
        distances on the log scale are ratios.
        """
        positive = threshold is not None and 0 < threshold < math.inf
        on_logs = self.logs.describe(relation, _log(self.name, threshold) if positive and threshold else None)
        anchor = threshold if positive else _exp(on_logs.estimate)
        return msgspec.structs.replace(
            on_logs,
            name=self.name,
            unit=self.unit,
            estimate=_exp(on_logs.estimate),
            lower=_exp(on_logs.lower),
            upper=_exp(on_logs.upper),
            threshold=float(threshold) if threshold is not None and math.isfinite(threshold) else None,
            mde=anchor * math.expm1(min(on_logs.mde, 700)) if anchor and on_logs.mde is not None else None,
            method=f"geometric mean, decided on the log scale; {on_logs.method}",
        )

    def tail(self, threshold: float) -> float | None:
        """One-sided p-value P(T <= t) of the mean logarithm at log(`threshold`); None where there is no interval."""
        return self.logs.tail(_log(self.name, threshold))

    def keep_effect(self, *, beside: bool = False) -> None:
        self.logs.keep_effect(beside=beside)

    @property
    def _recipe(self) -> Recipe:
        return msgspec.structs.replace(self.logs._recipe, log=True)

    def _compare(self, relation: Relation, threshold: float | Comparable) -> Any:
        if isinstance(threshold, Geometric):
            ratio = self / threshold
            return ratio._decide(relation, Threshold(1.0, f"paired with {threshold.name}"))
        if not isinstance(threshold, Comparable):
            _log(self.name, threshold)
        return super()._compare(relation, threshold)

    @property
    def _degenerate(self) -> str | None:
        return self.logs._degenerate

    @property
    def _cautions(self) -> tuple[str, ...]:
        return self.logs._cautions

    def _merit(self, relation: Relation, threshold: float) -> tuple[np.ndarray[Any, Any], Array]:
        return self.logs._merit(relation, _log(self.name, threshold))


def geometric_mean(measurement: Measurement, condition: str, *, name: str, resolution: float = 0.0) -> Geometric:
    """Geometric mean of the values under one condition, in the measurement's unit.

    Args:
        resolution: values within ± this are rounding and count as this; 0 where every value is exact.

    A value of zero or below has no logarithm: the effect then decides nothing (`not_positive`).
    """
    logs, refused = _logarithms(measurement, condition, resolution)
    unit = f"ln {measurement.unit}"
    mean = Estimate(name, unit, measurement, logs, shown_conditions=(condition,), refused=refused)
    return Geometric(name, measurement.unit, mean)


def geometric_ratio(
    measurement: Measurement, condition: str, against: str, *, name: str, resolution: float = 0.0
) -> Geometric:
    """How many times larger `condition` is than `against`, item by item, in the geometric mean.

    Args:
        resolution: as for `geometric_mean`.
    """
    (one, why), (other, why_other) = (_logarithms(measurement, c, resolution) for c in (condition, against))
    shown, refused = (condition, against), why or why_other
    mean = Estimate(name, "ln times", measurement, one - other, shown_conditions=shown, refused=refused)
    return Geometric(name, "times", mean)


def _logarithms(measurement: Measurement, condition: str, resolution: float) -> tuple[Array, str]:
    """(items,) natural logarithms, NaN where a value has none, and a reason code with words if any value has none."""
    if not 0 <= resolution < math.inf:
        raise ValueError(f"a resolution is a finite number from 0 on, got {resolution}")
    values = measurement.condition(condition)
    values = np.where(np.abs(values) < resolution, resolution, values)
    wrong = values <= 0
    with np.errstate(divide="ignore", invalid="ignore"):
        logs: Array = np.where(wrong, np.nan, np.log(values))
    if not wrong.any():
        return logs, ""
    return logs, (
        f"not_positive: {int(wrong.sum())} of {len(values)} values of '{condition}' are zero or below (the least is "
        f"{values[wrong].min():.3g}), so they have no logarithm"
    )


def _log(name: str, threshold: float) -> float:
    if not 0 < threshold < math.inf:
        raise ValueError(
            f"'{name}' is a geometric mean: compare it with a positive, finite number, not {threshold}"
        )
    return math.log(threshold)


def _exp(value: float | None) -> float | None:
    return None if value is None else math.exp(min(value, 700.0))
