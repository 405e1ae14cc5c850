"""Effects that are not a mean over items (a median over layers, a correlation), with a cluster bootstrap interval.

Whole clusters are drawn with replacement and the statistic is computed again for each draw (cluster bootstrap: Field &
Welsh 2007, doi:10.1111/j.1467-9868.2007.00593.x). With few clusters plain percentiles are too narrow, so the draws give
the standard error alone, their variance widened by C / (C - 1), and the interval is t with C - 1 degrees of freedom.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from auditkit.record.schema import Effect, Relation
from auditkit.stats.effects.base import Comparable
from auditkit.stats.intervals import MIN_CLUSTERS, Array, critical, detectable, level
from auditkit.stats.measurement import Measurement, MeasurementError
from auditkit.stats.power import p_fail
from auditkit.stats.quantiles import chance_below
from auditkit.stats.streams import stream

DRAWS = 2000


@dataclass(frozen=True, eq=False)
class Resampled(Comparable):
    """A statistic of weighted items, with a cluster bootstrap interval.

    Attributes:
        measurement: the table whose items and clusters are resampled; one cluster factor.
        statistic: weights (draws, items), of which every row sums to 1 -> (draws,) values.
        seed: of the draws.
    """

    name: str
    unit: str
    measurement: Measurement
    statistic: Callable[[Array], Array]
    seed: int = 0
    draws: int = DRAWS
    shift: float = 0.0
    shown_conditions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.measurement.clusters.shape[1] != 1:
            raise MeasurementError(f"'{self.name}': a cluster bootstrap needs one cluster factor")

    def __sub__(self, other: Any) -> Resampled:
        if isinstance(other, float | int):
            return replace(self, name=f"{self.name} minus {other:g}", shift=self.shift + other)
        if not isinstance(other, Resampled) or not self.measurement.clusters.equals(other.measurement.clusters):
            raise MeasurementError(
                f"'{self.name}' can be compared with a number, or with another over the same items"
            )
        both = [(self.statistic, self.shift), (other.statistic, other.shift)]
        (one, a), (two, b) = both
        return replace(
            self, name=f"{self.name} minus {other.name}", statistic=lambda w: one(w) - a - two(w) + b, shift=0.0
        )

    def describe(self, relation: Relation | None = None, threshold: float | None = None) -> Effect:
        interval = None if self._degenerate else self._interval
        wrong = mde = None
        if interval is not None:
            mde = detectable(self._error, self._df)
            if relation and threshold is not None:
                wrong = p_fail(relation, threshold, self.tail)
        return Effect(
            name=self.name,
            estimate=self.estimate if math.isfinite(self.estimate) else None,
            lower=interval[0] if interval else None,
            upper=interval[1] if interval else None,
            unit=self.unit,
            relation=relation,
            threshold=float(threshold) if threshold is not None and math.isfinite(threshold) else None,
            alpha=level(),
            n=len(self.measurement.values),
            clusters=self._count,
            standardized=None,
            mde=mde,
            items_needed=None,
            method=f"cluster bootstrap of {self.draws} draws ({self.measurement.clusters.columns[0]}), t with "
            f"{self._df} degrees of freedom; two-sided {100 * (1 - level()):.4g} % interval",
            p_fail=wrong,
            df=self._df,
        )

    @cached_property
    def estimate(self) -> float:
        """The statistic with equal weight for every cluster."""
        return float(self.statistic(self._weights(np.ones((1, self._count))))[0]) - self.shift

    def tail(self, threshold: float) -> float | None:
        """One-sided p-value of a statistic at most this large at `threshold`."""
        if self._degenerate or self._error == 0:
            return None
        return chance_below((self.estimate - threshold) / self._error, self._df)

    @property
    def _degenerate(self) -> str | None:
        if not len(self.measurement.values):
            return "no_items: nothing was measured"
        if self._count < MIN_CLUSTERS:
            return f"too_few_clusters: {self._count} clusters, at least {MIN_CLUSTERS} are needed to decide"
        if not (math.isfinite(self.estimate) and np.isfinite(self._drawn).all()):
            return f"non_finite: '{self.name}' is not defined for every draw of clusters"
        if self._error <= 1e-12 * max(abs(self.estimate), 1e-300):
            return "constant: every draw of clusters gives the same value, so there is no spread to judge by"
        return None

    def _merit(self, relation: Relation, threshold: float) -> tuple[np.ndarray[Any, Any], Array]:
        return np.array([], dtype=np.intp), np.array([])  # no item has a value of its own

    @cached_property
    def _codes(self) -> np.ndarray[Any, Any]:
        return pd.factorize(self.measurement.clusters.iloc[:, 0])[0]

    @cached_property
    def _count(self) -> int:
        return int(self._codes.max()) + 1 if len(self._codes) else 0

    @property
    def _df(self) -> int:
        return max(self._count - 1, 1)

    def _weights(self, counts: Array) -> Array:
        """(draws, clusters) how often each is drawn -> (draws, items) weights that sum to 1."""
        sizes = np.bincount(self._codes, minlength=self._count)
        weights: Array = (counts / sizes)[:, self._codes] / counts.sum(1, keepdims=True)
        return weights

    @cached_property
    def _drawn(self) -> Array:
        draw = stream(self.seed, "bootstrap", self.name)
        counts = draw.multinomial(self._count, np.full(self._count, 1 / self._count), size=self.draws).astype(
            float
        )
        with np.errstate(divide="ignore", invalid="ignore"):
            return self.statistic(self._weights(counts))

    @cached_property
    def _error(self) -> float:
        return float(np.std(self._drawn, ddof=1)) * math.sqrt(self._count / max(self._count - 1, 1))

    @property
    def _interval(self) -> tuple[float, float]:
        half = critical(self._df) * self._error
        return self.estimate - half, self.estimate + half
