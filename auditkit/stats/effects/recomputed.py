"""Effects computed again from the rows of items.parquet that a run kept of them, by the recipe in the record."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from auditkit.record.schema import Effect, Recipe
from auditkit.stats.effects.base import BESIDE, Comparable
from auditkit.stats.effects.exact import Exact
from auditkit.stats.effects.geometric import Geometric
from auditkit.stats.effects.mean import Estimate
from auditkit.stats.effects.rate import Rate, RateContrast
from auditkit.stats.intervals import Array
from auditkit.stats.measurement import Measurement, read_clusters


def recomputed(effect: Effect, items: pd.DataFrame, *, beside: bool) -> Comparable | None:
    """The estimate that a recorded effect was, from the items of its claim (columns of `ItemRow`).

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
    top = next(iter(parts.values()))
    if (
        not recipe.refused
        and recipe.kind != "rates"
        and any(part["value"].isna().any() for part in parts.values())
    ):
        return None  # two effects of one name whose values differ: the rows can tell neither
    clusters, strata = read_clusters(top["clusters"])
    columns = {name: part["value"].reindex(top.index).to_numpy(dtype=np.float64) for name, part in parts.items()}
    values = _conditions(recipe, items, str(top["measurement"].iloc[0]), top.index)
    unit = effect.unit if values.empty else _unit(items, str(top["measurement"].iloc[0]))
    measurement = Measurement(effect.name, unit, values, clusters, strata=strata)
    return _rebuilt(effect, recipe, measurement, columns)


def _parts(recipe: Recipe, items: pd.DataFrame, beside: str) -> dict[str, pd.DataFrame]:
    """Part -> its rows by item, in the order in which they were kept."""
    wanted = {
        "mean": ("numerator", "denominator"),
        "change": ("change", "denominator"),
        "rate": ("numerator",),
        "rates": ("rate", "against"),
        "exact": ("exact numerator", "exact denominator"),
    }[recipe.kind]
    rows = items[items["effect"] == recipe.rows]
    found = {name: rows[rows["condition"] == f"{beside}{name}"].set_index("item") for name in wanted}
    needed = wanted if recipe.kind in ("rates", "exact") else wanted[:1]
    if missing := [name for name in needed if found[name].empty]:
        raise ValueError(f"the items hold no {missing[0]} of '{recipe.rows}'")
    return {name: part for name, part in found.items() if not part.empty}


def _conditions(recipe: Recipe, items: pd.DataFrame, measurement: str, index: pd.Index) -> pd.DataFrame:
    """(item x condition) values of the conditions that the effect is made of."""
    rows = items[(items["effect"] == "") & (items["measurement"] == measurement)]
    kept = {name: rows[rows["condition"] == name].set_index("item")["value"] for name in recipe.shown}
    found = {name: value.reindex(index).to_numpy(dtype=np.float64) for name, value in kept.items() if len(value)}
    return pd.DataFrame(found, index=index)


def _unit(items: pd.DataFrame, measurement: str) -> str:
    rows = items[(items["effect"] == "") & (items["measurement"] == measurement)]
    return str(rows["unit"].iloc[0]) if len(rows) else ""


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
