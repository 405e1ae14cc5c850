"""Effects as a run recorded them: rebuilt from the values that each averages, item by item."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pandas as pd

from auditkit.claims.outcomes import Inconclusive
from auditkit.record.baseline import BASELINE_LABEL
from auditkit.record.schema import Effect, ItemRow
from auditkit.stats.effects.mean import Estimate
from auditkit.stats.halves import CrossFitted
from auditkit.stats.measurement import Measurement, read_clusters

if TYPE_CHECKING:
    from auditkit.stats.intervals import Array

_BESIDE = "the same on the baseline"


@dataclass(frozen=True)
class Kept:
    """An effect as its run recorded it: the estimate, and the digest of each item's content."""

    estimate: Estimate
    digests: dict[str, str]


def read_rows(rows: Iterable[ItemRow]) -> dict[str, Kept]:
    """Effect -> what was recorded of it, from the rows of one claim."""
    return read_effects(pd.DataFrame(msgspec.to_builtins(list(rows)), columns=list(ItemRow.__struct_fields__)))


def read_effects(items: pd.DataFrame) -> dict[str, Kept]:
    """Effect -> what was recorded of it, from rows of one claim (columns of `ItemRow`), in their order."""
    found: dict[str, Kept] = {}
    for name, frame in items.groupby("effect", sort=False):
        columns = {
            str(condition): part.set_index("item") for condition, part in frame.groupby("condition", sort=False)
        }
        if "numerator" not in columns:  # exact values, contrasts of rates and changes are not paired
            continue
        top = columns["numerator"]
        clusters, strata = read_clusters(top["clusters"])
        numerator: Array = top["value"].to_numpy(dtype=np.float64)
        values = pd.DataFrame({_BESIDE: numerator}, index=top.index)
        unit = str(top["unit"].iloc[0])
        denominator: Array | None = None
        if "denominator" in columns:
            denominator = columns["denominator"]["value"].reindex(top.index).to_numpy(dtype=np.float64)
        measurement = Measurement(str(name), unit, values, clusters, strata=strata)
        shown = () if denominator is not None else (_BESIDE,)
        estimate = Estimate(str(name), unit, measurement, numerator, denominator, shown)
        found[str(name)] = Kept(estimate, dict(zip(top.index, top["digest"], strict=True)))
    return found


def cross_fitted(kept: Mapping[str, Kept], effects: Iterable[Effect]) -> dict[str, Kept]:
    """`kept`, with the doubled variance of what is cross-fitted.

    Args:
        effects: as claims recorded them, with how each is computed; rows by themselves do not tell. A change since the
            baseline tells it of the effect that changed.
    """
    recipes = (effect.recipe for effect in effects if effect.recipe is not None)
    names = {recipe.rows.removesuffix(f" minus {BASELINE_LABEL}") for recipe in recipes if recipe.cross_fitted}
    return {
        name: replace(one, estimate=CrossFitted.of(one.estimate)) if name in names else one
        for name, one in kept.items()
    }


def recorded_values(
    items: pd.DataFrame, measurement: str, ids: Iterable[object], claim: str | None = None
) -> pd.DataFrame:
    """(item, condition) values that a run recorded of a measurement, in the order of `ids`.

    Args:
        items: the recorded run's items.
        claim: whose; None where one claim alone records it.

    Raises:
        Inconclusive: none, or of other items.
    """
    mine = (items["measurement"] == measurement) & (items["effect"] == "")
    rows = items[mine if claim is None else mine & (items["claim"] == claim)]
    if not len(rows):
        raise Inconclusive(f"not_measured: the baseline recorded no values of {measurement}; run its whole suite")
    grid = rows.pivot(index="item", columns="condition", values="value")
    known = list(map(str, ids))
    if set(grid.index) != set(known):
        raise Inconclusive(
            f"unmatched_items: {measurement}: {len(set(grid.index) ^ set(known))} items are in one of the two runs only"
        )
    return grid.loc[known]
