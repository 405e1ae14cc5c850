"""Units are coordinates: what of a finding depends on them.

A unit is one coordinate of the residual stream, whose basis nothing in a transformer's linear maps prefers. A finding
about units that holds as well after a random rotation of the space is one about directions or subspaces, and naming
units adds nothing to it. A few coordinates are special, however: massive activations are hundreds of times larger than
the rest at almost every token (Sun et al. 2024, arXiv:2402.17762) and can carry a distance or a norm by themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auditkit.methods.scanning.pvalues import checked
from auditkit.stats.streams import stream

Array = NDArray[np.float64]
Turn = Callable[[NDArray[Any]], NDArray[Any]]


@dataclass(frozen=True)
class Massive:
    """A unit with massive activations: its largest magnitude, that as a multiple of the row's median, and in how many
    of the rows."""

    unit: int
    largest: float
    times_median: float
    share_of_rows: float


def massive_units(
    activations: NDArray[Any], *, times: float = 1000.0, least: float = 100.0
) -> tuple[Massive, ...]:
    """Units whose magnitude exceeds `least` and `times` the median magnitude of their row, in some row.

    The defaults are those of the source. Small models have smaller ones: lower both to see which units stand out.

    Args:
        activations: (rows, units), finite.
    """
    magnitude = np.abs(checked(activations).astype(np.float64))
    median = np.median(magnitude, axis=1, keepdims=True)
    massive = (magnitude > least) & (magnitude >= times * median)
    ratio = np.divide(magnitude, median, out=np.full_like(magnitude, np.inf), where=median > 0)
    return tuple(
        Massive(
            int(unit),
            float(magnitude[:, unit].max()),
            float(ratio[massive[:, unit], unit].max()),
            float(massive[:, unit].mean()),
        )
        for unit in np.flatnonzero(massive.any(axis=0))
    )


def without(
    activations: NDArray[Any], units: Sequence[int] | NDArray[Any]
) -> tuple[NDArray[Any], NDArray[np.intp]]:
    """The activations without these units, and (units left,) which unit of the model each remaining column is."""
    values = np.asarray(activations)
    kept = np.setdiff1d(np.arange(values.shape[1]), np.asarray(units, dtype=np.intp))
    return values[:, kept], kept


def random_rotation(units: int, seed: int, name: str) -> Array:
    """(units, units) orthogonal matrix, uniform over all of them (Haar; Mezzadri 2007, arXiv:math-ph/0609050)."""
    q, r = np.linalg.qr(stream(seed, "rotation", name).normal(size=(units, units)))
    rotation: Array = q * np.sign(np.diagonal(r))
    return rotation


@dataclass(frozen=True, eq=False)
class OtherBases:
    """A number about units, in the model's own basis and in rotated ones."""

    own: float
    rotated: Array

    def survives(self, threshold: float) -> bool | None:
        """Whether "at least `threshold`" holds in rotated bases too: in 95 % of them, in at most 5 %; None between."""
        share = float((self.rotated >= threshold).mean())
        return True if share >= 0.95 else False if share <= 0.05 else None

    def says(self, threshold: float) -> str:
        """One sentence for the report."""
        count = f"{int((self.rotated >= threshold).sum())} of {len(self.rotated)} random rotations"
        if self.own < threshold:
            return (
                f"{self.own:.3g} in the model's own basis, {self.rotated.min():.3g} to {self.rotated.max():.3g} in "
                f"{len(self.rotated)} random rotations: below {threshold:g} before any, so no claim is there to survive"
            )
        numbers = f"{self.own:.3g} in the model's own basis, at least {threshold:g} in {count}"
        match self.survives(threshold):
            case True:
                return (
                    f"{numbers}: the claim survives rotation, so it is about directions and not about single units"
                )
            case False:
                return f"{numbers}: the claim does not survive rotation, so it is about these units"
        return f"{numbers}: whether it is about units or directions is undecided"


def in_other_bases(
    measure: Callable[[Turn], float], units: int, *, rotations: int = 20, seed: int = 0, name: str = "basis"
) -> OtherBases:
    """A number about units, in the model's own basis and after random rotations of it.

    Args:
        measure: computes the number from activations that it first passes through the function it is given, all of
            them, so that everything is rotated alike.
        units: width of the activations.
        rotations: how many; with 20, `survives` allows for one that differs.
    """
    if rotations < 1:
        raise ValueError(f"at least one rotation is needed, got {rotations}")

    def turned(i: int) -> Turn:
        rotation = random_rotation(units, seed, f"{name} {i}")
        return lambda activations: np.asarray(activations, dtype=np.float64) @ rotation

    values = [measure(turned(i)) for i in range(rotations)]
    return OtherBases(measure(np.asarray), np.array(values))
