"""The published indices of separability, by layer (Cintas et al. 2025, arXiv:2505.24539, tables 5 to 7).

Silhouette, Calinski-Harabasz, Davies-Bouldin and the distance of hull centroids are computed in a few principal
components, on the true labels. They decide nothing here: an index of overlapping clouds is hard to interpret, and its
value under uninformative labels depends on the number of statements and the shape of the cloud. So each index stands
beside its values under permuted labels of the same points, and beside its value at unit norm, since the hull distance
grows with the norm by itself.
"""

from __future__ import annotations

from dataclasses import astuple

import numpy as np
from numpy.typing import NDArray

from auditkit.claims.shared import SharedMeasurements, shared_measurement
from auditkit.findings.persona_localization.measurements.blocks import BLOCKS, in_blocks, over_blocks
from auditkit.findings.persona_localization.measurements.material import (
    Array,
    Flags,
    PersonaActivations,
    PersonaItems,
    one_thread,
)
from auditkit.methods.scanning.pvalues import checked
from auditkit.methods.separation.indices import Scale, labelled_indices, principal_points, separability
from auditkit.methods.separation.permutation import Significance, dealt
from auditkit.notebook import Showable
from auditkit.record.figures import Curves, Series, Table
from auditkit.record.schema import Effect, Figure
from auditkit.stats.streams import stream

COMPONENTS = 4
SCALES: tuple[Scale, ...] = ("raw", "unit norm", "whitened")
BY_LAYER: tuple[Scale, ...] = ("raw", "unit norm")

DEALINGS, TABLE_DEALINGS = 19, 199
"""Of the labels, at each layer of the curves, and in the table: with 19 a value farther apart than all of them has a
chance of 5 %. More would say no more of curves that decide nothing, and most of their time goes into convex hulls."""

NAMES = ("silhouette", "Calinski-Harabasz", "Davies-Bouldin", "hull distance")
_HIGHER = np.array([1.0, 1.0, -1.0, 1.0])
"""Of the Davies-Bouldin index, lower is further apart."""


class LayerIndices(Showable):
    """The four indices at each layer, on true labels and on labels dealt at random; computed once."""

    def __init__(self, activations: PersonaActivations, *, dealings: int = DEALINGS) -> None:
        self.activations, self.seed, self.dealings = activations, activations.seed, dealings
        self._known = SharedMeasurements()

    def notes(self) -> tuple[str, ...]:
        """At how many layers each index lies outside what dealt labels give."""
        return tuple(map(self._outside, BY_LAYER))

    def figures(self) -> tuple[Figure, ...]:
        """Each index by layer with its interval, beside labels dealt at random; means over personas."""
        drawn = []
        layers = list(range(self.activations.layers))
        for place, name in enumerate(NAMES):
            lines = []
            for scale in BY_LAYER:
                effects = [self._effect(scale, layer, place) for layer in layers]
                columns = [[_short(getattr(e, end)) for e in effects] for end in ("estimate", "lower", "upper")]
                lines.append(Series(scale, layers, *columns))
                null = [np.sort(self._means(scale, layer)[1 : self.dealings + 1, place]) for layer in layers]
                band = [[_short(float(one[at])) for one in null] for at in (len(null[0]) // 2, 0, -1)]
                lines.append(Series(f"{scale}, labels at random", layers, *band))
            caption = (
                f"{name} in {COMPONENTS} principal components, on true labels, mean over personas. Intervals are "
                f"over statements. Labels at random: from the lowest to the highest of {self.dealings} dealings, so a "
                f"layer lies outside with a chance of {2 / (self.dealings + 1):.0%}."
            )
            caption += " Lower is further apart." if _HIGHER[place] < 0 else ""
            caption += " It has the unit of the activations and grows with their norm." if place == 3 else ""
            drawing = Curves("layer", name, caption, lines, log=bool(place))
            drawn.append(drawing.titled(f"{name} by layer"))
        return tuple(drawn)

    def by_persona(self) -> Figure:
        """The indices of each persona after the first and the published block, with p."""
        rows: list[list[str | float | None]] = []
        for items in self.activations.personas:
            for layer in (0, self.activations.published_layer):
                found = self._labelled(items, layer, "raw", TABLE_DEALINGS)[: TABLE_DEALINGS + 1] * _HIGHER
                row: list[str | float | None] = [f"{items.persona}, block {layer}"]
                for value, null, sign in zip(found[0], found[1:].T, _HIGHER, strict=True):
                    known = not np.isnan(value)
                    row += [_short(float(value * sign)), Significance(value, null).p if known else None]
                rows.append(row)
        columns = [part for name in NAMES for part in (name, f"p of {name}")]
        return Table(
            f"Indices of the activations as they are, in {COMPONENTS} principal components, on true labels. p: how "
            f"often labels dealt at random lie as far apart, {TABLE_DEALINGS} dealings, for one index of one persona.",
            ["persona", *columns],
            rows,
        ).titled("Published indices by persona")

    def by_scale(self) -> Figure:
        """The indices at some layers as published, at unit norm, and whitened; means over personas."""
        layers = sorted({0, *map(self.activations.at_depth, (1 / 3, 2 / 3)), self.activations.published_layer})
        rows: list[list[str | float | None]] = []
        for scale in SCALES:
            for layer in layers:
                found = np.array([self._drawn(one, layer, scale) for one in self.activations.personas])
                rows.append([f"{scale}, block {layer}", *(_short(float(mean)) for mean in found.mean(axis=0))])
        return Table(
            f"Published indices in {COMPONENTS} principal components, on true labels, means over personas. Only the "
            "hull distance has the unit of the activations and grows with their norm; for Davies-Bouldin lower is "
            "further apart.",
            ("activations", *NAMES, "share of variance"),
            rows,
        ).titled("Published indices of separability")

    # -- computing ---------------------------------------------------------------------------------------------

    def _drawn(self, items: PersonaItems, layer: int, scale: Scale) -> list[float]:
        draws = 5 if np.bincount(items.positive).min() > 100 else 1  # of fewer all are in every draw
        values = checked(self.activations.at(items, layer))
        try:
            with one_thread():
                drawn = separability(
                    values, items.positive, scale=scale, components=COMPONENTS, draws=draws, seed=self.seed
                )
        except ValueError:  # too few statements, or too flat, for a hull
            return [np.nan] * (len(NAMES) + 1)
        return [*astuple(drawn.mean), drawn.explained]

    def _labelled(self, items: PersonaItems, layer: int, scale: Scale, dealings: int) -> Array:
        """(1 + dealings + blocks, 4): true labels, labels dealt at random, true labels without each block.

        Not a number where statements are too few or too flat. The order of statements has no influence, and a dealing
        is the same at every layer.
        """
        order, labels, among = self._known.get((items.persona, dealings), lambda: self._labels(items, dealings))
        values = checked(self.activations.at(items, layer)[order])
        try:
            with one_thread():
                points, _ = principal_points(values, scale=scale, components=COMPONENTS)
                return labelled_indices(points, labels, among)
        except ValueError:
            return np.full((len(labels), len(NAMES)), np.nan)

    def _labels(self, items: PersonaItems, dealings: int) -> tuple[NDArray[np.intp], Flags, Flags]:
        """The order of statements, their labels in each labeling, and which of them the labeling is about."""
        order = np.lexsort([np.array(items.ids), items.groups])
        positive, groups = items.positive[order], items.groups[order]
        drawn = dealt(positive, groups, dealings, stream(self.seed, "index null", items.persona))
        labels = np.concatenate([positive[None], drawn, np.repeat(positive[None], self._blocks, axis=0)])
        among = np.ones(labels.shape, dtype=bool)
        block_of = in_blocks(items, self.seed)[order]
        for block in range(self._blocks):
            among[1 + dealings + block] = block_of != block
        return order, labels, among

    @shared_measurement
    def _blocks(self) -> int:
        """Blocks that are left out in turn; none where there are too few statements."""
        return BLOCKS if min(one.fewest_groups() for one in self.activations.personas) >= 2 * BLOCKS else 0

    def _means(self, scale: Scale, layer: int) -> Array:
        """(1 + dealings + blocks, 4) means over personas."""

        def measure() -> Array:
            every = [self._labelled(items, layer, scale, self.dealings) for items in self.activations.personas]
            return np.asarray(np.mean(every, axis=0))

        return self._known.get((scale, layer), measure)

    def _effect(self, scale: Scale, layer: int, place: int) -> Effect:
        values = self._means(scale, layer)[:, place]
        name = f"{NAMES[place]}, {scale}, after block {layer}"
        without = values[self.dealings + 1 :] if self._blocks else np.repeat(values[:1], BLOCKS)
        return over_blocks(name, "1", float(values[0]), without, NAMES[place]).describe()

    def _outside(self, scale: Scale) -> str:
        """At how many layers true labels lie farther apart than any dealing."""
        layers = range(self.activations.layers)
        every = np.array([self._means(scale, layer)[: self.dealings + 1] * _HIGHER for layer in layers])
        if missing := int(np.isnan(every[:, 0]).any(axis=1).sum()):
            return (
                f"{scale}: at {missing} of {len(layers)} layers there are no indices: statements are too few, or vary "
                f"in fewer than {COMPONENTS} directions"
            )
        counts: NDArray[np.intp] = (every[:, 0] > every[:, 1:].max(axis=1)).sum(axis=0)
        said = ", ".join(f"{count} by {name}" for count, name in zip(counts.tolist(), NAMES, strict=True))
        return (
            f"{scale}: of {len(layers)} layers, true labels lie farther apart than in all {self.dealings} dealings at "
            f"{said}; by chance at {len(layers) / (self.dealings + 1):.1f}"
        )


def _short(value: float | None) -> float | None:
    """Four digits are more than any of these tells."""
    return None if value is None or np.isnan(value) else float(f"{value:.4g}")
