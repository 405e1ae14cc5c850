"""Values of single heads, kept with a run so that another run can compare head with head."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from auditkit.claims.outcomes import Inconclusive
from auditkit.stats.effects.kept import recorded_values
from auditkit.stats.intervals import Array


def names(layers: int, heads: int, prefix: str = "") -> list[str]:
    """Names of the conditions that stand for the heads of a model, by layer."""
    return [f"{prefix}{layer}.{head}" for layer in range(layers) for head in range(heads)]


def recorded(
    items: pd.DataFrame,
    measurement: str,
    ids: Sequence[object],
    layers: int,
    heads: int,
    prefixes: Sequence[str] = ("",),
) -> list[Array]:
    """For each prefix, the (item, layer, head) values of a recorded run, in the order of `ids`.

    Args:
        items: the recorded run's items.
        measurement: name of the table with a condition for each prefix and head.

    Raises:
        Inconclusive: the run recorded none, other heads, or other items.
    """
    grid = recorded_values(items, measurement, ids)
    wanted = [names(layers, heads, prefix) for prefix in prefixes]
    if set(grid.columns) != {name for each in wanted for name in each}:
        raise Inconclusive(
            f"not_comparable: the baseline recorded {len(grid.columns) // len(prefixes)} heads and this model has "
            f"{layers * heads}; heads of different models do not correspond"
        )
    shape = (len(grid), layers, heads)
    return [np.asarray(grid[each], dtype=float).reshape(shape) for each in wanted]
