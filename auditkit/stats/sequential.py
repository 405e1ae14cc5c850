"""Group-sequential comparisons: more items are measured, at looks declared beforehand, until a comparison decides.

Measuring again until the answer is the wanted one is no evidence. A plan of looks, declared before the first one, is:
it says how many items each look has and which share of the error it may spend (in proportion to the items). Each look
then tests at the level that its share affords (`boundaries`), with t on the clusters that are there. Its interval is
a repeated confidence interval (Jennison & Turnbull 1989): all looks' intervals together hold the truth with 95 %.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import numpy as np

from auditkit.claims.evidence import Decision, note
from auditkit.record.needed import needed
from auditkit.record.schema import Effect, Relation, Verdict
from auditkit.stats.boundaries import one_sided_levels
from auditkit.stats.effects.base import Comparable
from auditkit.stats.effects.mean import Estimate
from auditkit.stats.intervals import ALPHA, MIN_CLUSTERS, Array
from auditkit.stats.measurement import Measurement, MeasurementError
from auditkit.stats.quantiles import chance_below, quantile


@dataclass(frozen=True)
class Looks:
    """Numbers of items at which a claim is looked at, the last being the most it may use.

    Raises:
        ValueError: looks that do not rise, or fewer items than there must be clusters.
    """

    looks: tuple[int, ...]

    def __post_init__(self) -> None:
        rising = all(a < b for a, b in itertools.pairwise(self.looks))
        if not self.looks or not rising or self.looks[0] < MIN_CLUSTERS:
            raise ValueError(f"looks must be rising numbers of items from {MIN_CLUSTERS} on, got {self.looks}")

    @classmethod
    def every(cls, step: int, *, first: int, most: int) -> Looks:
        """Looks at `first` items, then every `step` items, up to `most`."""
        if step < 1:
            raise ValueError(f"a step between looks is at least one item, got {step}")
        return cls((*range(first, most, step), most))

    def levels(self, clusters: Sequence[tuple[int, ...]], alpha: float = ALPHA) -> list[float]:
        """Two-sided level of each look taken so far.

        Args:
            clusters: per look its number of clusters by each factor; fewer than 5 cannot decide and spend nothing.
        """
        used = [k for k, counts in enumerate(clusters) if min(counts) >= MIN_CLUSTERS]
        fractions = [self.looks[k] / self.looks[-1] for k in used]
        ratios = [
            min(
                self.looks[a] / self.looks[b], *(m / n for m, n in zip(clusters[a], clusters[b], strict=True)), 1.0
            )
            for a, b in itertools.pairwise(used)
        ]
        levels = [0.0] * len(clusters)
        for k, level in zip(used, one_sided_levels(tuple(fractions), tuple(ratios), alpha / 2), strict=True):
            levels[k] = 2 * (level if len(self.looks) == 1 else _cautious(level, min(clusters[k]) - 1))
        return levels


@dataclass(frozen=True, eq=False)
class Sequential(Comparable):
    """An effect that is measured look by look until a comparison decides; made by `sequentially`."""

    plan: Looks
    measure: Callable[[int], Estimate]
    shift: float = 0.0
    taken: list[Estimate] = field(default_factory=list)
    """The looks so far, shared by every comparison of this effect."""

    @property
    def name(self) -> str:  # type: ignore[override]  # of the effect
        return self._look(0).name

    @property
    def unit(self) -> str:  # type: ignore[override]  # of the effect
        return self._look(0).unit

    @property
    def measurement(self) -> Measurement:  # type: ignore[override]  # at the last look
        return self.taken[-1].measurement

    @property
    def shown_conditions(self) -> tuple[str, ...]:  # type: ignore[override]  # of the effect
        return self._look(0).shown_conditions

    def __sub__(self, other: Any) -> Sequential:
        if isinstance(other, float | int):
            return replace(self, shift=self.shift + other)
        raise MeasurementError(f"'{self.name}' is sequential: compare it with a number, or measure the difference")

    def describe(self, relation: Relation | None = None, threshold: float | None = None) -> Effect:
        """The effect at the last look taken (the first, if none was)."""
        self._look(0)
        return self._at(len(self.taken) - 1).describe(relation, threshold)

    @property
    def _degenerate(self) -> str | None:
        self._look(0)
        return self._at(len(self.taken) - 1)._degenerate

    @property
    def _cautions(self) -> tuple[str, ...]:
        return self.taken[-1]._cautions

    def _averaged(self) -> Mapping[str, Array]:
        return self.taken[-1]._averaged()

    def _merit(self, relation: Relation, threshold: float) -> tuple[np.ndarray[Any, Any], Array]:
        return self._at(len(self.taken) - 1)._merit(relation, threshold)

    def _decision(self, relation: Relation, threshold: float) -> Decision:
        looks = self.plan.looks
        for k in range(len(looks)):
            self._look(k)
            estimate = self._at(k)
            decision = estimate._decision(relation, threshold)
            if decision.verdict in (Verdict.PASS, Verdict.FAIL):
                break
        where = f"at look {k + 1} of {len(looks)}, with {looks[k]} of at most {looks[-1]} items"
        note(f"sequential design: looks at {', '.join(map(str, looks))} items; ended {where}")
        effect = decision.effect
        more = f"; {needed(effect)}"  # the plan says how many items there may be
        p = None if effect.p_fail is None else 1.0
        if decision.verdict is Verdict.FAIL:
            p = self._p(k, relation, threshold)
        effect = msgspec.structs.replace(
            effect, items_needed=None, items_range=None, items_assume="", alpha=ALPHA, p_fail=p
        )
        return replace(decision, effect=effect, reason=f"{decision.reason.removesuffix(more)}, {where}")

    def _look(self, k: int) -> Estimate:
        """Look `k`, taken now if it was not; its items must hold those of the look before, unchanged."""
        while len(self.taken) <= k:
            wanted = self.plan.looks[len(self.taken)]
            estimate = self.measure(wanted)
            if not isinstance(estimate, Estimate):
                raise MeasurementError(
                    "a sequential design takes means and shares; use rate(...).mean() for a rate"
                )
            if len(estimate.numerator) != wanted:
                raise MeasurementError(
                    f"'{estimate.name}': a look at {wanted} items got {len(estimate.numerator)}"
                )
            if self.taken:
                _require_grown(self.taken[-1], estimate)
            self.taken.append(estimate)
        return self.taken[k]

    def _at(self, k: int) -> Estimate:
        """The estimate of look `k` with the interval that its share of the error affords."""
        level = self.plan.levels(self._counts(k))[k]
        framing = (
            f"sequential design, look {k + 1} of {len(self.plan.looks)} at level {level:.3g}, "
            "error spent in proportion to items, t with half the degrees of freedom; the intervals of all looks hold "
            "together with 95 %"
        )
        estimate = self.taken[k] - self.shift if self.shift else self.taken[k]
        return replace(estimate, alpha=level or ALPHA, framing=framing)

    def _counts(self, k: int) -> list[tuple[int, ...]]:
        return [tuple(map(int, e.measurement.clusters.nunique())) for e in self.taken[: k + 1]]

    def _p(self, k: int, relation: Relation, threshold: float) -> float:
        """The smallest one-sided error at which some look so far would have FAILed (a sequential p-value)."""
        observed = [self._at(j).describe(relation, threshold).p_fail for j in range(k + 1)]
        p = [1.0 if value is None else value for value in observed]
        low, high = 1e-12, ALPHA / 2
        for _ in range(15):
            middle = math.sqrt(low * high)
            levels = self.plan.levels(self._counts(k), 2 * middle)
            crossed = any(one <= level / 2 for one, level in zip(p, levels, strict=True))
            low, high = (low, middle) if crossed else (middle, high)
        return high


def sequentially(plan: Looks, measure: Callable[[int], Estimate]) -> Sequential:
    """An effect that takes more items, as `plan` says, until a comparison with a number decides.

    `measure(n)` gives the estimate over the first n items. A look must hold the items of the look before with the
    same values: more items are added, none is drawn again.

    Raises:
        MeasurementError: from a comparison, when `measure` gives other items than asked for.
    """
    return Sequential(plan, measure)


def _cautious(level: float, df: int) -> float:
    """The level at which t with `df` tests as strictly as t with half as many tests at `level`.

    Early looks have few clusters and small levels, where the tail of t is too light for skewed clusters.
    """
    return chance_below(quantile(level, df / 2), df)


def _require_grown(before: Estimate, after: Estimate) -> None:
    index = after.measurement.values.index
    missing: Iterable[Any] = before.measurement.values.index.difference(index)
    for item in missing:
        raise MeasurementError(f"'{after.name}': item {item!r} of the look before is missing at the next")
    rows = index.get_indexer(before.measurement.values.index)
    ours = after._columns[rows]
    size = np.abs(before._columns[np.isfinite(before._columns)]).max(initial=0.0)
    if not np.allclose(ours, before._columns, rtol=1e-4, atol=1e-4 * size, equal_nan=True):
        raise MeasurementError(f"'{after.name}': items of the look before have other values at the next")
