"""Pictures of statements at a layer: two principal components, and a non-linear embedding (t-SNE).

A picture shows where statements lie and proves nothing. Principal components show the directions in which statements
vary most, which need not be the ones that tell them apart. t-SNE (van der Maaten & Hinton 2008, JMLR 9:2579) keeps
neighbours together; distances between its groups, and their sizes, mean nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from auditkit.data.order import shuffle_key
from auditkit.findings.persona_localization.measurements.material import (
    PUBLISHED_DEPTH,
    Array,
    PersonaActivations,
    PersonaItems,
    one_thread,
)
from auditkit.methods.separation.indices import principal_points
from auditkit.methods.separation.permutation import canonical
from auditkit.record.figures import Cloud, Figure, Points
from auditkit.stats.streams import stream

PCA, TSNE = "principal components", "t-SNE"

DEPTHS = (0.0, 0.25, 0.5, 0.75, PUBLISHED_DEPTH)
"""Of the blocks that are drawn, as shares of the depth; one picture of each method and persona for each."""

DRAWN = 24
"""Statements of each kind that a picture holds, of all that were embedded: a page with thousands of marks is slow."""


def embedded(values: Array, method: str, seed: int) -> tuple[Array, str]:
    """(rows, 2) places of activations (rows, units), and how to read them. The order of rows has no influence.

    Raises:
        ValueError: rows that vary in fewer than two directions, or fewer than four rows for t-SNE.
    """
    order = canonical(values, np.full(len(values), ""))
    back = np.argsort(order)
    if method == PCA:
        points, explained = principal_points(values[order], components=2)
        points = points * np.where(points[np.abs(points).argmax(axis=0), [0, 1]] < 0, -1, 1)  # their sign is free
        return points[back], f"The first two principal components hold {explained:.0%} of the variance."
    from sklearn.manifold import TSNE as Embedding

    if len(values) < 4:
        raise ValueError(f"{len(values)} statements are too few for t-SNE, four are needed")
    near = min(30.0, (len(values) - 1) / 3)
    number = int(stream(seed, "t-SNE").integers(2**31))
    points = Embedding(2, perplexity=near, init="pca", random_state=number).fit_transform(values[order])
    said = (
        f"t-SNE with a perplexity of {near:.3g}: neighbours stay together, distances between groups mean nothing."
    )
    return np.asarray(points, dtype=np.float64)[back], said


def pictures(activations: PersonaActivations) -> Iterator[Figure]:
    """Statements of one persona of each topic: principal components after the blocks at `DEPTHS`, and t-SNE, whose
    computing takes a hundred times as long, after the published block."""
    for items in activations.one_of_each_topic():
        drawn = _drawn(items, activations.seed)
        positive = items.positive[drawn]
        kinds = (("for the persona", drawn[positive]), ("against it", drawn[~positive]))
        some = "" if len(drawn) == len(items.ids) else f", {len(drawn)} of the {len(items.ids)} that were embedded"
        for layer in dict.fromkeys(map(activations.at_depth, DEPTHS)):
            for method in (PCA, TSNE) if layer == activations.published_layer else (PCA,):
                with one_thread():
                    values = activations.at(items, layer).astype(np.float64)
                    points, said = embedded(values, method, activations.seed)
                clouds = [
                    Cloud(name, *([float(f"{v:.3g}") for v in points[kind, axis]] for axis in (0, 1)))
                    for name, kind in kinds
                ]
                caption = f"Each mark is a statement{some}. {said} A picture decides nothing."
                drawing = Points(f"{method}, first", f"{method}, second", caption, clouds)
                yield drawing.titled(f"{items.persona} after block {layer}, {method}")


def _drawn(items: PersonaItems, seed: int) -> NDArray[np.intp]:
    """Rows of the statements that are drawn, ascending: `DRAWN` of each kind, whatever order they came in."""
    rows: list[int] = []
    for kind in (True, False):
        mine = np.flatnonzero(items.positive == kind).tolist()
        rows += sorted(mine, key=lambda i: shuffle_key(seed, items.ids[i]))[:DRAWN]
    return np.array(sorted(rows), dtype=np.intp)
