"""What a rate and a contrast of rates share: an interval and p-values from one score statistic."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any

import numpy as np

from auditkit.claims.outcomes import sides
from auditkit.record.needed import BOTH
from auditkit.record.schema import Effect, Relation
from auditkit.stats.effects.base import Comparable
from auditkit.stats.intervals import critical, detectable, level
from auditkit.stats.power import Needed, needed, p_fail
from auditkit.stats.quantiles import chance_below

Rows = np.ndarray[Any, np.dtype[np.intp]]


class Score(Comparable):
    """An effect whose interval and p-values come from one score statistic."""

    shift: float
    """Subtracted from the estimate: "equals 0.5" is about the rate minus 0.5."""
    _estimate: float | None
    _df: int | None
    _rows: Rows
    _fewest: int
    _method: str
    _standard_error: float
    _least: float | None

    def _bounds(self, critical: float) -> tuple[float, float]:
        raise NotImplementedError

    def _statistic(self, theta: float) -> float:
        raise NotImplementedError

    @cached_property
    def _interval(self) -> tuple[float, float] | None:
        if self._degenerate:
            return None
        lower, upper = self._bounds(critical(self._df))
        return lower - self.shift, upper - self.shift

    def tail(self, threshold: float) -> float | None:
        """One-sided p-value P(T <= t) of the score statistic at `threshold`; None where there is no interval."""
        if self._interval is None:
            return None
        return chance_below(self._statistic(threshold + self.shift), self._df)

    def describe(self, relation: Relation | None = None, threshold: float | None = None) -> Effect:
        interval, estimate = self._interval, self._estimate
        if threshold is not None and not math.isfinite(threshold):
            threshold = None
        mde = wrong = None
        more = Needed()
        if interval and estimate is not None:
            smallest = detectable(self._standard_error, self._df)
            mde = smallest if smallest > 0 else None
            if relation and threshold is not None:
                wrong = p_fail(relation, threshold, self.tail)
                here = estimate - self.shift
                margin = math.copysign(threshold, here) if relation == "within" else threshold
                distance = abs(here - margin)
                if not any(sides(relation, *interval, threshold)):
                    names = BOTH.join(map(str, self.measurement.clusters.columns))
                    power, error, n = self._factors, self._standard_error, len(self._rows)
                    more = needed(n, distance, error, self._df, level(), names, lambda shrink: shrink**power)
        return Effect(
            name=self.name,
            estimate=None if estimate is None else estimate - self.shift,
            lower=interval[0] if interval else None,
            upper=interval[1] if interval else None,
            unit=self.unit,
            relation=relation,
            threshold=None if threshold is None else float(threshold),
            alpha=level(),
            n=len(self._rows),
            clusters=self._fewest,
            standardized=None,
            mde=mde,
            items_needed=more.items,
            items_range=more.likely,
            method=self._method,
            items_assume=more.factors,
            p_fail=wrong,
            df=self._df,
            least=self._least,
            greatest=None if self._least is None else 1 - self.shift,
        )

    @property
    def _factors(self) -> int:
        return int(self.measurement.clusters.shape[1])

    @property
    def _spread(self) -> str:
        factors = " x ".join(map(str, self.measurement.clusters.columns))
        if self._df is None:
            return "items are independent"
        return f"items count by their design effect over {factors}, t with {self._df} degrees of freedom"
