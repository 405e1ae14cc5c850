"""Contrasts and their directions: differences of means between two kinds of prompts.

    contrast = Contrast("refusal", states, positive, table)
    split = contrast.halves(seed=0)
    r = contrast.direction(12, -1, split.discovery)
    removed = r.remove()                 # projected out after every block, at every token
    added = r.add(0.1, layers="own")     # a tenth of the stream's norm, after block 12

A direction is fitted on one half of the clusters; whatever is said about it is measured on the other half. Twins (a
harmful and a harmless request about one subject) share a cluster.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from auditkit.engine.edits import Edit, add, project_out
from auditkit.engine.sites import Position, Site, residual
from auditkit.methods.contrast.states import ContrastError, States
from auditkit.methods.separation.permutation import Flags
from auditkit.notebook import Showable
from auditkit.stats.halves import Halves, halves

Array = NDArray[np.float64]
Layers = Literal["own", "all"] | tuple[int, int]
"""The direction's own layer, every layer, or (first, last), both included."""

_ROUNDING = 1e-4
"""Share of the difference of means below which what else differs between the kinds is rounding."""

FEWEST = 4
"""Prompts of each kind that a half needs: the mean of fewer is mostly one prompt's own words."""


@dataclass(frozen=True, eq=False)
class Direction(Showable):
    """One direction at one place, or several that span a subspace.

    Attributes:
        name: what it is of.
        vectors: (directions, width); the first is the difference of means.
        layer, position: where it was read.

    Raises:
        ContrastError: no rows of vectors, a row of norm zero, or values that are not finite.
    """

    name: str
    vectors: Array
    layer: int
    position: Position

    def __post_init__(self) -> None:
        if np.ndim(self.vectors) != 2 or not len(self.vectors):
            raise ContrastError(f"'{self.name}': give rows of vectors (directions, width)")
        if not np.isfinite(self.vectors).all():
            raise ContrastError(f"'{self.name}': a direction holds NaN or infinity")
        if not self.vectors.any(axis=1).all():
            raise ContrastError(
                f"'{self.name}': a direction of norm zero points nowhere; both kinds have one mean"
            )

    def in_words(self) -> str:
        several = f", {len(self.vectors)} directions" if len(self.vectors) > 1 else ""
        norm = float(np.linalg.norm(self.vectors[0]))
        return f"{self.name} at layer {self.layer}, position {self.position}, norm {norm:.3g}{several}"

    def to_frame(self) -> pd.DataFrame:
        """A row for each unit of the stream, a column for each direction."""
        return pd.DataFrame(self.vectors.T).rename_axis("unit").reset_index()

    @property
    def k(self) -> int:
        """How many directions."""
        return len(self.vectors)

    @property
    def width(self) -> int:
        """Length of a vector."""
        return int(self.vectors.shape[1])

    @property
    def length(self) -> float:
        """Norm of the difference of means."""
        return float(np.linalg.norm(self.vectors[0]))

    @property
    def unit(self) -> Array:
        """(width,) the difference of means with norm 1."""
        unit: Array = self.vectors[0] / self.length
        return unit

    @property
    def digest(self) -> str:
        """Identifies the direction in a report."""
        content = np.ascontiguousarray(self.vectors, dtype=np.float32).tobytes()
        return hashlib.sha256(content).hexdigest()[:16]

    def site(self, layers: Layers = "own", at: Position = "all") -> Site:
        """The residual stream after some blocks, at some positions."""
        if layers == "all":
            return residual.everywhere()[at]
        first, last = (self.layer, self.layer) if layers == "own" else layers
        return residual.layers(first, last)[at]

    def remove(self, layers: Layers = "all", at: Position = "all", strength: float = 1.0) -> Edit:
        """The edit that projects the direction, or the whole subspace, out of the stream."""
        return project_out(self.site(layers, at), self._tensor, strength)

    def add(self, dose: float, layers: Layers = "own", at: Position = "all") -> Edit:
        """The edit that adds the first direction: `dose` is a share of the stream's norm at each position."""
        return add(self.site(layers, at), self._tensor[0], dose, relative=True)

    def projections(self, states: Array) -> Array:
        """(rows,) lengths of (rows, width) states along the first direction.

        Raises:
            ContrastError: states of another width.
        """
        if states.shape[-1] != self.width:
            raise ContrastError(
                f"'{self.name}' has width {self.width} and the states have width {states.shape[-1]}: models of "
                "different width share no direction; only behaviour can be compared"
            )
        out: Array = np.asarray(states, dtype=np.float64) @ self.unit
        return out

    @cached_property
    def _tensor(self) -> Tensor:
        return torch.from_numpy(np.asarray(self.vectors, dtype=np.float32))


@dataclass(frozen=True, eq=False)
class Contrast(Showable):
    """States of two kinds of prompts.

    Attributes:
        name: what the two kinds differ in.
        states: one row for each prompt.
        positive: (prompts,) whether a prompt is of the kind that the direction points to.
        table: (prompt x factor) cluster labels in the order of the states; its index names the prompts.

    Raises:
        ContrastError: flags or labels of another number of prompts, one kind only, names that occur twice, or several
            factors.
    """

    name: str
    states: States
    positive: Flags
    table: pd.DataFrame

    def __post_init__(self) -> None:
        rows = len(self.states.values)
        flags = np.asarray(self.positive)
        if flags.shape != (rows,) or flags.dtype != bool:
            raise ContrastError(f"'{self.name}': {rows} prompts need a true or false each, got {flags.shape}")
        if len(self.table) != rows or self.table.shape[1] != 1 or not self.table.index.is_unique:
            raise ContrastError(
                f"'{self.name}': {rows} prompts need a table with one row each, unique names and one column of "
                f"clusters, got {self.table.shape[0]} rows and {self.table.shape[1]} columns"
            )
        if flags.all() or not flags.any():
            raise ContrastError(f"'{self.name}': prompts of one kind only; a contrast needs both")

    @classmethod
    def of_pairs(cls, name: str, positive: States, negative: States, table: pd.DataFrame) -> Contrast:
        """Pairs of prompts: row i of both is one pair, of which row i of the table has the name and cluster.

        The prompts are named after their pair, with " +" and " -".

        Raises:
            ContrastError: states of different places or numbers, and as the class.
        """
        if (positive.layers, positive.positions) != (negative.layers, negative.positions):
            raise ContrastError(f"'{name}': both kinds must be read at the same layers and positions")
        if positive.width != negative.width or len(positive.values) != len(negative.values):
            raise ContrastError(
                f"'{name}': pairs need equally many states of one width, got {positive.values.shape} and "
                f"{negative.values.shape}"
            )
        values = np.concatenate([positive.values, negative.values])
        both = pd.concat([table.set_axis([f"{item} {sign}" for item in table.index]) for sign in "+-"])
        flags = np.repeat([True, False], len(table))
        return cls(name, States(values, positive.layers, positive.positions), flags, both)

    def in_words(self) -> str:
        kinds = f"{int(self.positive.sum())} and {int((~self.positive).sum())} prompts"
        return f"{self.name}, {kinds} in {self.table.iloc[:, 0].nunique()} clusters; {self.states.in_words()}"

    def to_frame(self) -> pd.DataFrame:
        """A row for each prompt: its cluster, and whether it is of the kind that the direction points to."""
        return self.table.assign(positive=self.positive).rename_axis("prompt").reset_index()

    @property
    def clusters(self) -> NDArray[np.str_]:
        """(prompts,) cluster labels."""
        return self.table.iloc[:, 0].astype(str).to_numpy().astype(str)

    def halves(self, seed: int) -> Halves:
        """Whole clusters in two halves: the direction is fitted on `discovery`, and judged on `confirmation`.

        Raises:
            ContrastError: a half with fewer than `FEWEST` prompts of a kind.
            MeasurementError: fewer than two clusters.
        """
        split = halves(self.table, seed, f"contrast {self.name}")
        for half, items in (("discovery", split.discovery), ("confirmation", split.confirmation)):
            self._enough(f"the {half} half", self.rows(items))
        return split

    def rows(self, items: Iterable[str] | None = None) -> NDArray[np.intp]:
        """Row numbers of prompts by name, in the order of the states; all where None.

        Raises:
            ContrastError: a name that is not there.
        """
        if items is None:
            return np.arange(len(self.table))
        wanted = list(items)
        if strangers := sorted(map(str, set(wanted) - set(self.table.index))):
            raise ContrastError(f"'{self.name}' has no prompt {strangers[0]!r}")
        return np.flatnonzero(self.table.index.isin(wanted))

    def direction(self, layer: int, position: Position, items: Iterable[str] | None = None) -> Direction:
        """The difference of means at one place, of some prompts by name; all where None.

        Raises:
            ContrastError: fewer than `FEWEST` prompts of a kind, a place that was not read, or equal means.
        """
        return Direction(
            self.name, self.differences(self.states.at(layer, position), items)[None], layer, position
        )

    def dose(self, direction: Direction, items: Iterable[str] | None = None) -> float:
        """The length of a direction as a share of the mean norm of the states at its place, of some prompts by name;
        of all where None."""
        states = self.states.at(direction.layer, direction.position)[self.rows(items)]
        return direction.length / float(np.linalg.norm(states, axis=1).mean())

    def differences(
        self, values: NDArray[Any], items: Iterable[str] | None = None, flags: Flags | None = None
    ) -> Array:
        """(...) mean of (prompts, ...) values over the positive prompts minus that over the others.

        Args:
            items: of these prompts only.
            flags: (prompts,) other labels in place of the contrast's own.

        Raises:
            ContrastError: fewer than `FEWEST` prompts of a kind.
        """
        rows, labels = self.rows(items), self.positive if flags is None else flags
        self._enough("a direction", rows)
        some = labels[rows]
        difference: Array = values[rows[some]].mean(0, dtype=np.float64) - values[rows[~some]].mean(
            0, dtype=np.float64
        )
        return difference

    def subspace(
        self, layer: int, position: Position, k: int = 4, items: Iterable[str] | None = None
    ) -> Direction:
        """The difference of means, and the k - 1 strongest directions of what the clusters' differences have besides.

        They are the right singular vectors of the differences between the kinds within each cluster, once their part
        along the difference of means is removed: of all subspaces that hold the difference of means, the one that holds
        most of the clusters' differences.

        Raises:
            ContrastError: fewer than k clusters with both kinds, and as `direction`.
        """
        first = self.direction(layer, position, items)
        if k < 1:
            raise ContrastError(f"a subspace of {k} directions; give 1 or more")
        if k == 1:
            return first
        values, rows = self.states.at(layer, position), self.rows(items)
        differences = []
        for label in np.unique(self.clusters[rows]):
            own = rows[self.clusters[rows] == label]
            if self.positive[own].any() and not self.positive[own].all():
                yes, no = own[self.positive[own]], own[~self.positive[own]]
                differences.append(values[yes].mean(0) - values[no].mean(0))
        if len(differences) < k:
            raise ContrastError(
                f"'{self.name}': {len(differences)} clusters hold both kinds of prompts; {k} directions need at least "
                f"{k} of them"
            )
        rest = np.stack(differences)
        rest -= np.outer(rest @ first.unit, first.unit)
        _, strengths, others = np.linalg.svd(rest, full_matrices=False)
        found = int((strengths > _ROUNDING * first.length).sum())
        if found < k - 1:
            raise ContrastError(
                f"'{self.name}': the clusters' differences span {found + 1} directions at layer {layer}, position "
                f"{position}; give k of at most that"
            )
        vectors = np.concatenate([first.vectors, others[: k - 1] * first.length])
        return Direction(f"{self.name}, {k} directions", vectors, layer, position)

    def _enough(self, what: str, rows: NDArray[np.intp]) -> None:
        yes = int(self.positive[rows].sum())
        no = len(rows) - yes
        if min(yes, no) < FEWEST:
            raise ContrastError(
                f"'{self.name}': {what} needs {FEWEST} prompts of each kind, got {yes} positive and {no} negative; "
                "give more pairs"
            )
