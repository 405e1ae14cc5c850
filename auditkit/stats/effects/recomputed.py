"""Computes a recorded effect again from its rows in items.parquet, by the recipe in the record."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from auditkit.record.schema import Effect, Recipe
from auditkit.stats.effects.base import BESIDE, Comparable
from auditkit.stats.effects.exact import Exact
from auditkit.stats.effects.geometric import Geometric
from auditkit.stats.effects.mean import Estimate
from auditkit.stats.effects.rate import Rate, RateContrast
from auditkit.stats.halves import CrossFitted
from auditkit.stats.intervals import Array
from auditkit.stats.measurement import Measurement, read_clusters


class ItemDesign(NamedTuple):
    """Items, the clusters that they lie in, by factor, and their strata where there are some."""

    items: pd.Index
    clusters: pd.DataFrame
    strata: pd.Series | None


class ClaimItems:
    """The items of one claim, grouped by the effect and the part of it (numerator, denominator) that they belong to.

    Args:
        items: columns of `ItemRow`.
    """

    def __init__(self, items: pd.DataFrame) -> None:
        self.parts: dict[tuple[str, str], dict[str, tuple[float, str]]] = {}
        """(effect, part) -> item -> value and cluster labels, in the order in which they were kept."""
        self.conditions: dict[tuple[str, str], dict[str, float]] = {}
        """(measurement, condition) -> item -> value."""
        self.designs: dict[tuple[tuple[str, ...], tuple[str, ...]], ItemDesign] = {}
        """Items and the text of their labels -> their design, read once for the many effects that have the same."""
        self.measurement: dict[str, str] = {}
        """Effect -> the measurement that it is computed from."""
        self.units: dict[str, str] = {}
        """Measurement -> its unit."""
        columns = ("effect", "condition", "item", "value", "clusters", "measurement", "unit")
        every = zip(*(items[name].tolist() for name in columns), strict=True)
        for effect, condition, item, value, clusters, measurement, unit in every:
            number = math.nan if value is None else float(value)
            if effect:
                self.parts.setdefault((effect, condition), {})[item] = number, clusters
                self.measurement[effect] = measurement
            else:
                self.conditions.setdefault((measurement, condition), {})[item] = number
                self.units[measurement] = unit

    def design(self, part: Mapping[str, tuple[float, str]]) -> ItemDesign:
        """The design of the items of one part of an effect."""
        key = tuple(part), tuple(labels for _, labels in part.values())
        if key not in self.designs:
            index = pd.Index(key[0], dtype=object)
            self.designs[key] = ItemDesign(index, *read_clusters(pd.Series(key[1], index, dtype=object)))
        return self.designs[key]


def recomputed(effect: Effect, items: ClaimItems, *, beside: bool) -> Comparable | None:
    """The recorded effect as an estimate again, from the items of its claim.

    None where the record has no recipe for it, or its rows stand for two effects of one name.

    Args:
        beside: the effect belongs to a control, or is shown beside the claim.

    Raises:
        ValueError: rows that the recipe needs are not there.
    """
    recipe = effect.recipe
    if recipe is None:
        return None
    parts = _parts(recipe, items, BESIDE if beside else "")
    index, clusters, strata = items.design(next(iter(parts.values())))
    columns = {name: _column({item: row[0] for item, row in part.items()}, index) for name, part in parts.items()}
    if (
        not recipe.refused
        and recipe.kind != "rates"
        and any(np.isnan(column).any() for column in columns.values())
    ):
        return None  # two effects of one name whose values differ: the rows can tell neither
    name = items.measurement[recipe.rows]
    found = {shown: items.conditions[name, shown] for shown in recipe.shown if (name, shown) in items.conditions}
    names = pd.Index(list(found), dtype=object)  # see `read_clusters`
    table = [_column(kept, index) for kept in found.values()]
    values = pd.DataFrame(np.array(table).reshape(len(found), len(index)).T, index, names)
    unit = items.units.get(name, "") if found else effect.unit
    measurement = Measurement(effect.name, unit, values, clusters, strata=strata)
    return _rebuilt(effect, recipe, measurement, columns)


def _parts(recipe: Recipe, items: ClaimItems, beside: str) -> dict[str, dict[str, tuple[float, str]]]:
    """Part -> its rows by item."""
    wanted = {
        "mean": ("numerator", "denominator"),
        "change": ("change", "denominator"),
        "rate": ("numerator",),
        "rates": ("rate", "against"),
        "exact": ("exact numerator", "exact denominator"),
    }[recipe.kind]
    wanted = wanted[:1] if recipe.undivided else wanted
    found = {name: items.parts.get((recipe.rows, f"{beside}{name}"), {}) for name in wanted}
    needed = wanted if recipe.kind in ("rates", "exact") else wanted[:1]
    if missing := [name for name in needed if not found[name]]:
        raise ValueError(f"the items hold no {missing[0]} of '{recipe.rows}'")
    return {name: part for name, part in found.items() if part}


def _column(values: Mapping[str, float], index: pd.Index) -> Array:
    """(items,) values in the order of the index; NaN where there is none."""
    return np.array([values.get(item, math.nan) for item in index], dtype=np.float64)


def _rebuilt(effect: Effect, recipe: Recipe, measurement: Measurement, columns: Mapping[str, Array]) -> Comparable:
    match recipe.kind:
        case "mean" | "change":
            estimate = Estimate(
                effect.name,
                effect.unit,
                measurement,
                next(iter(columns.values())),
                columns.get("denominator"),
                tuple(measurement.values.columns),
                alpha=effect.alpha,
                refused=recipe.refused,
                is_change=recipe.kind == "change",
                blocks=recipe.blocks,
                shift=recipe.shift,
            )
            estimate = CrossFitted.of(estimate) if recipe.cross_fitted else estimate
            return Geometric(effect.name, effect.unit, estimate) if recipe.log else estimate
        case "rate":
            everyone = np.ones(len(measurement.values), dtype=bool)
            return Rate(effect.name, "1", measurement, columns["numerator"], everyone, shift=recipe.shift)
        case "rates":
            one, other = (
                Rate(name, "1", measurement, columns[name], np.isfinite(columns[name]))
                for name in ("rate", "against")
            )
            assert recipe.compare
            return RateContrast(effect.name, effect.unit, recipe.compare, one, other, recipe.shift)
        case "exact":
            return Exact(
                effect.name,
                effect.unit,
                measurement,
                columns["exact numerator"],
                columns["exact denominator"],
                "the population",
                recipe.size,
            )
