"""Split halves: look for a site on one half of the clusters, judge it on the other, and the other way round.

A site that was chosen because it came out well on some items will come out too well on them again. Whole clusters go
to one half or the other, so that the halves share neither an item nor anything that items share.

Cross-fitting uses all items: each half finds for the other, every item is judged by what the other half found, and the
values of both halves are joined into one estimate (`joined`). What it estimates is the mean over the two findings.

No item takes part in its own selection, yet the two halves' errors are not independent. Each pair of items from
different halves enters twice: once as one found and the other judged, and once the other way. Where a direction was
learnt, as by a linear probe, both entries are the same product, so that the variance of the mean is up to twice what
independent values would have; where one of few candidates was chosen it is less. The same holds of cross-validation in
any number of folds. `CrossFitted` therefore doubles the variance, for whatever was found.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import cached_property

import numpy as np
import pandas as pd
from msgspec import structs
from numpy.typing import NDArray

from auditkit.claims.evidence import note
from auditkit.claims.outcomes import Inconclusive
from auditkit.record.schema import Recipe
from auditkit.stats.effects.mean import Estimate
from auditkit.stats.intervals import MIN_CLUSTERS, Moments
from auditkit.stats.measurement import Measurement, MeasurementError
from auditkit.stats.signs import Signs
from auditkit.stats.streams import stream

SHARED = 2.0
"""Variance of a cross-fitted mean, at most, as a multiple of that of independent values: pairs are counted twice."""


@dataclass(frozen=True)
class Halves:
    """Item ids of the two halves, in the order of the table, and the ids of items in neither half."""

    discovery: tuple[str, ...]
    confirmation: tuple[str, ...]
    left_out: tuple[str, ...]
    """Items of a crossed design whose two clusters went to different halves."""

    @property
    def both_ways(self) -> tuple[Halves, Halves]:
        """This split, and the split with the two halves exchanged."""
        return self, replace(self, discovery=self.confirmation, confirmation=self.discovery)


class CrossFitted(Estimate):
    """An estimate over items each of which was judged by what other items found; its variance is doubled.

    Unlike a plain `Estimate` of the same values it holds its stated error whatever was found (see the module).
    """

    @classmethod
    def of(cls, estimate: Estimate) -> CrossFitted:
        """`estimate` with doubled variance, for items judged by what other items selected, as in cross-validation."""
        return cls(**{field.name: getattr(estimate, field.name) for field in fields(Estimate)})

    @cached_property
    def _moments(self) -> Moments | None:
        return _doubled(super()._moments)

    @cached_property
    def _centred(self) -> tuple[float, Moments] | None:
        found = super()._centred
        doubled = None if found is None else _doubled(found[1])
        return None if found is None or doubled is None else (found[0], doubled)

    @cached_property
    def _signs(self) -> Signs | None:
        found = super()._signs
        return None if found is None else replace(found, size=max(found.size / SHARED, 1.0))

    @property
    def _recipe(self) -> Recipe:
        return structs.replace(super()._recipe, cross_fitted=True)

    @property
    def _method(self) -> str:
        return f"{super()._method}; items are judged by what other items found, so the variance is doubled"


def joined(name: str, first: Estimate, second: Estimate) -> CrossFitted:
    """Two estimates, each over the half that the other's finding came from, as one over all items.

    Args:
        name: of what is estimated, whatever each half found.
        first, second: over different items in different clusters, with the same conditions and the same unit.

    Raises:
        MeasurementError: the halves share an item or a cluster, or were not measured alike.
    """
    one, other = first.measurement, second.measurement
    shares = (first.denominator is None, second.denominator is None)
    if first.unit != second.unit or shares[0] != shares[1] or one.conditions != other.conditions:
        raise MeasurementError(f"'{name}': both halves must be measured in one unit under the same conditions")
    if list(one.clusters.columns) != list(other.clusters.columns):
        raise MeasurementError(f"'{name}': both halves must have the same cluster factors")
    for factor in one.clusters.columns:
        labels = [set(half.clusters[factor].astype(str)) for half in (one, other)]
        if common := sorted(labels[0] & labels[1]):
            raise MeasurementError(
                f"'{name}': {factor} '{common[0]}' is in both halves, so each half judged what it found itself"
            )
    table = Measurement(
        one.name,
        one.unit,
        pd.concat([one.values, other.values]),
        pd.concat([one.clusters, other.clusters]),
        {**one.prompts, **other.prompts},
    )
    denominator = None
    if first.denominator is not None and second.denominator is not None:
        denominator = np.concatenate([first.denominator, second.denominator])
    return CrossFitted.of(
        replace(
            first,
            name=name,
            measurement=table,
            numerator=np.concatenate([first.numerator, second.numerator]),
            denominator=denominator,
            refused=first.refused or second.refused,
        )
    )


def cross_fit(name: str, split: Halves, judge: Callable[[Halves], Estimate]) -> CrossFitted:
    """Cross-fitting: each half selects, the other half judges, and one estimate covers the items of both.

    Args:
        name: of what is estimated.
        judge: finds on `discovery` and gives an estimate over the items of `confirmation`; called once each way.

    Raises:
        MeasurementError: see `joined`; and whatever `judge` raises.
    """
    first, second = (judge(way) for way in split.both_ways)
    return joined(name, first, second)


def halves(items: Measurement | pd.DataFrame, seed: int, name: str) -> Halves:
    """Split items by cluster into two halves; the same seed, name and clusters give the same split.

    Clusters are split, not items, and the numbers of clusters differ by at most one. With two crossed factors both
    are split, and only items whose clusters are in the same half are used: about half of a complete crossing.

    Args:
        items: a measurement, or its table of cluster labels: (item x factor), one or two factors.
        seed: the run's seed (`audit.seed`).
        name: of what is split, usually the claim's; another name gives an independent split.

    Raises:
        MeasurementError: fewer than two clusters of a factor, so that one half would be empty.
    """
    clusters = items.clusters if isinstance(items, Measurement) else items
    sides = np.column_stack([_sides(clusters[factor], seed, name) for factor in clusters.columns])
    votes = sides.sum(axis=1)
    ids = [tuple(clusters.index[np.flatnonzero(votes == n)]) for n in (len(clusters.columns), 0)]
    if not all(ids):
        raise MeasurementError(f"'{name}': the clusters leave one half without an item")
    used = {*ids[0], *ids[1]}
    split = Halves(ids[0], ids[1], tuple(item for item in clusters.index if item not in used))
    out = f"; {len(split.left_out)} items whose clusters went to different halves are left out"
    note(
        f"split half '{name}' by {' and '.join(map(str, clusters.columns))}: {len(split.discovery)} items to "
        f"discover, {len(split.confirmation)} other items to confirm{out if split.left_out else ''}"
    )
    return split


def two_halves(table: pd.DataFrame, seed: int, name: str) -> Halves:
    """Split items, by their (item x factor) cluster labels, into items to discover on and items to confirm on.

    Raises:
        Inconclusive: too few clusters for both.
    """
    count = table.iloc[:, 0].nunique()
    if count < 2 * MIN_CLUSTERS:
        raise Inconclusive(
            f"too_few_clusters: {count} {table.columns[0]}s; to discover and to confirm on others, {2 * MIN_CLUSTERS} "
            "are needed"
        )
    return halves(table, seed, name)


def _sides(labels: pd.Series, seed: int, name: str) -> NDArray[np.bool_]:
    """(items,) whether an item's cluster is in the first half. Which it is does not depend on the items' order."""
    known = sorted(labels.astype(str).unique())
    if len(known) < 2:
        raise MeasurementError(f"'{name}': {labels.name} has one cluster; two are needed to split it in half")
    order = stream(seed, "halves", name, str(labels.name)).permutation(len(known))
    chosen = {known[i] for i in order[: (len(known) + 1) // 2]}
    return np.asarray(labels.astype(str).isin(chosen), dtype=bool)


def _doubled(m: Moments | None) -> Moments | None:
    return None if m is None else replace(m, parts=tuple(SHARED * part for part in m.parts))
