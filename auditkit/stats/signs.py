"""Means of values that are -1, 0 or 1: paired differences of what happens or does not.

An item that one condition gets right and the other wrong counts 1 or -1, all others 0. A t interval of such a mean
takes its spread from the few items that changed: with 50 to 100 items it says "no worse" of a rate that is worse by the
whole margin up to four times as often as it should. Tango's (1998) score interval takes the spread that the tested
difference implies. Items that share clusters count for as many independent ones as the variance of the mean says, never
for more than there are; where the items other than the commonest value lie in fewer than 5 clusters there is no
variance to go by, and there are then at most as many independent items as clusters.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from auditkit.stats.intervals import MIN_CLUSTERS, Array, critical, level
from auditkit.stats.measurement import Measurement
from auditkit.stats.proportions import paired_interval, paired_statistic
from auditkit.stats.quantiles import chance_below
from auditkit.stats.strata import moments

METHOD = "mean of -1, 0 and 1, Tango's paired score interval"


@dataclass(frozen=True)
class Signs:
    """Share of items at 1 and at -1, and how many independent items they are worth.

    Attributes:
        size: independent items that are as informative about the mean, less one.
        df: of t; None where every item is a cluster of its own, and the normal distribution holds.
    """

    gains: float
    losses: float
    size: float
    df: float | None

    def interval(self, alpha: float, shift: float) -> tuple[float, float]:
        """Two-sided interval of the mean minus `shift`, at level 1 - `alpha`."""
        lower, upper = paired_interval(self.gains, self.losses, self.size, critical(self.df, alpha))
        return lower - shift, upper - shift

    def tail(self, theta: float) -> float:
        """One-sided p-value of a mean at most this large when the truth is `theta`."""
        if abs(theta) >= 1:
            distance = self.gains - self.losses - theta
            return 0.5 if distance == 0 else float(distance > 0)
        statistic = paired_statistic(self.gains, self.losses, self.size, theta)
        return chance_below(statistic, self.df)

    @property
    def standard_error(self) -> float:
        """Standard error with half an item added to each direction (Agresti & Min 2005), so that it is never zero."""
        n = self.size + 1
        gains, losses = ((share * n + 0.5) / (n + 2) for share in (self.gains, self.losses))
        return math.sqrt((gains + losses - (gains - losses) ** 2) / (n + 2))

    @property
    def spread(self) -> str:
        if self.df is None:
            return "items are independent"
        return f"items count by their design effect, t with {self.df:.3g} degrees of freedom"


def signs(values: Array, measurement: Measurement, outcomes: Collection[str]) -> Signs | None:
    """The (items,) values as signs; None where one of them is neither -1, 0 nor 1.

    Args:
        outcomes: conditions that the values are made of. Values that are all the same are signs only where these are
            known to be 0 or 1 without a unit, since values of any kind may all be 0.
    """
    if not np.isfinite(values).all() or not len(values):
        return None
    whole = np.rint(values)
    if (np.abs(values - whole) > 1e-9).any() or (np.abs(whole) > 1).any():
        return None
    if (whole == whole[0]).all():
        shown = [measurement.condition(condition) for condition in outcomes]
        if not shown or measurement.unit != "1" or not np.isin(shown, (0.0, 1.0)).all():
            return None
    clusters = measurement.clusters
    m = moments(np.column_stack([whole > 0, whole < 0]).astype(float), clusters, measurement.strata)
    gains, losses = map(float, m.mean)
    counts = [clusters[name].nunique() for name in clusters.columns]
    most = _items(clusters) - 1
    if len(counts) == 1 and counts[0] == len(values):
        return Signs(gains, losses, most, None)
    changed = whole != np.unique(whole)[np.argmax(np.unique(whole, return_counts=True)[1])]
    few = [clusters[name][part].nunique() for name in clusters.columns for part in (changed, ~changed)]
    if min(few) < MIN_CLUSTERS:
        most = min(most, min(counts) - 1)
    error, df = m.deciding(np.array([1.0, -1.0]), level())
    variance = error**2
    plain = gains + losses - (gains - losses) ** 2
    size = plain / variance if variance > 1e-12 else min(counts) - 1
    return Signs(gains, losses, max(min(size, most), 1.0), df)


def span(measurement: Measurement, conditions: Collection[str], shift: float) -> dict[str, Any]:
    """`least` and `greatest` value that a mean of these conditions or of their differences can have, less `shift`.

    Empty where they are not known. They are where every value has no unit and lies between 0 and 1, as rates,
    probabilities and accuracies do.
    """
    shown = np.array([measurement.condition(condition) for condition in conditions])
    if measurement.unit != "1" or not shown.size or not ((shown >= 0) & (shown <= 1)).all():
        return {}
    return {"least": (0.0 if len(conditions) == 1 else -1.0) - shift, "greatest": 1.0 - shift}


def _items(clusters: pd.DataFrame) -> float:
    """Items that weigh alike and are as many as these, whose weights are those of `moments` (Kish 1965)."""
    if clusters.shape[1] > 1:
        return float(len(clusters))
    sizes = clusters.iloc[:, 0].value_counts()
    return float(len(sizes) ** 2 / (1 / sizes).sum())
