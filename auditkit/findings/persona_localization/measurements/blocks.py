"""Blocks of statements: a jackknife interval for a number that is defined only for many statements together.

The overlap of two sets of units, or the distance of two clouds, is one number for all statements. Computed again
without each of ten blocks, it shows how much it depends on the sample of statements (the jackknife over blocks; Efron
1992, doi:10.1111/j.2517-6161.1992.tb01866.x, where it is computed from repeated draws).
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from auditkit.findings.persona_localization.measurements.material import Array, PersonaItems
from auditkit.stats.effects.mean import Estimate
from auditkit.stats.measurement import Measurement
from auditkit.stats.streams import stream

BLOCKS = 10


def in_blocks(items: PersonaItems, seed: int) -> NDArray[np.intp]:
    """(statements,) the block of each: whole groups, as many of each kind of group in every block as can be."""
    block_of: dict[str, int] = {}
    kind_of = {name: tuple(sorted(set(items.positive[items.groups == name]))) for name in np.unique(items.groups)}
    for kind in sorted(set(kind_of.values())):
        names = sorted(name for name, one in kind_of.items() if one == kind)
        order = stream(seed, "blocks", items.persona, str(kind)).permutation(len(names))
        block_of |= {names[i]: place % BLOCKS for place, i in enumerate(order)}
    return np.array([block_of[name] for name in items.groups.tolist()], dtype=np.intp)


def over_blocks(name: str, unit: str, value: float, without: Array, label: str) -> Estimate:
    """A number of all statements with the jackknife's interval over blocks.

    Args:
        value: with all statements.
        without: (`BLOCKS`,) the same without each block.
        label: the number, in the table of items.
    """
    values = value - (len(without) - 1) * (without - without.mean())
    index = pd.Index([f"without block {block}" for block in range(len(without))])
    table = pd.DataFrame({f"{label} without the block": without, "jackknife value": values}, index=index)
    blocks = pd.DataFrame({"block of statements": index}, index=index)
    measured = Measurement(name, unit, table, blocks)
    return Estimate(name, unit, measured, values, shown_conditions=tuple(map(str, table)), blocks=True)
