"""Null directions: what a direction of the same length at the same place does by itself.

    null = nulls(contrast, r, split.discovery, seed=0, each=4, others={"politeness": other})

Four kinds. *Random*: isotropic. *Covariance*: random with the covariance that the states have within each kind, so that
it lies where states vary. *Shuffled*: the difference of means after the labels were dealt anew within clusters.
*Other*: directions of other contrasts. Each has the length of the direction that it stands against.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from auditkit.methods.contrast.directions import Contrast, Direction
from auditkit.methods.contrast.states import ContrastError
from auditkit.methods.separation.permutation import dealt
from auditkit.stats.streams import stream

Array = NDArray[np.float64]

RANDOM, COVARIANCE, SHUFFLED, OTHER = "random", "covariance", "shuffled", "other"


def nulls(
    contrast: Contrast,
    direction: Direction,
    items: Iterable[str] | None = None,
    *,
    seed: int,
    each: int = 4,
    others: Mapping[str, Direction] | None = None,
) -> dict[str, Direction]:
    """Name ("random 1", ..., "other: politeness") -> null direction, at the place and with the length of `direction`.

    Args:
        contrast: whose states give the covariance and whose labels are dealt.
        items: the prompts that the direction was fitted on, by name.
        seed: the run's seed.
        each: how many of each kind.
        others: name -> direction of another contrast; its place may be another, its width not.

    Raises:
        ContrastError: states of another width, fewer than 1 of each kind, or as `Contrast.direction`.
    """
    if each < 1:
        raise ContrastError(f"{each} null directions of each kind; give 1 or more")
    values = contrast.states.at(direction.layer, direction.position)
    direction.projections(values)  # refuses another width
    chosen = contrast.rows(items)
    flags = contrast.positive
    centred = values[chosen].copy()
    for kind in (True, False):
        centred[flags[chosen] == kind] -= centred[flags[chosen] == kind].mean(0)
    found: dict[str, Array] = {}
    for number in range(1, each + 1):
        draw = stream(seed, "null directions", contrast.name, str(number))
        found[f"{RANDOM} {number}"] = draw.standard_normal(direction.width)
        found[f"{COVARIANCE} {number}"] = draw.standard_normal(len(centred)) @ centred
    labels = dealt(flags[chosen], contrast.clusters[chosen], each, stream(seed, "shuffled labels", contrast.name))
    for number, dealt_anew in enumerate(labels, 1):
        anew = flags.copy()
        anew[chosen] = dealt_anew
        found[f"{SHUFFLED} {number}"] = contrast.differences(values, contrast.table.index[chosen], anew)
    for name, other in (others or {}).items():
        if other.width != direction.width:
            raise ContrastError(f"'{name}' has width {other.width} and '{direction.name}' {direction.width}")
        found[f"{OTHER}: {name}"] = other.vectors[0]
    return {name: _as_long(name, vector, direction) for name, vector in found.items()}


def kind_of(name: str) -> str:
    """The kind of a null direction by its name."""
    return OTHER if name.startswith(f"{OTHER}:") else name.rsplit(" ", 1)[0]


def _as_long(name: str, vector: Array, direction: Direction) -> Direction:
    length = float(np.linalg.norm(vector))
    if not length:
        raise ContrastError(f"the null direction '{name}' has norm zero: the states it is made of do not differ")
    return Direction(name, (vector * (direction.length / length))[None], direction.layer, direction.position)
