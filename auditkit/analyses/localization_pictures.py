"""Pictures of statements at a layer: two principal components, and a non-linear embedding (t-SNE).

A picture shows where statements lie and proves nothing. Principal components show the directions in which statements
vary most, which need not be the ones that tell them apart. t-SNE (van der Maaten & Hinton 2008, JMLR 9:2579) keeps
neighbours together; distances between its groups, and their sizes, mean nothing.
"""

from __future__ import annotations

import numpy as np

from auditkit.analyses.exchange import canonical
from auditkit.analyses.localization_statements import Array, PersonaActivations, one_thread
from auditkit.analyses.separability import principal_points
from auditkit.record.evidence import figure
from auditkit.record.figures import Cloud, Points
from auditkit.stats.streams import stream

PCA, TSNE = "principal components", "t-SNE"


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


def show_pictures(activations: PersonaActivations) -> None:
    """Under the claim: statements of one persona of each topic, after the first, the middle and the published block."""
    layers = dict.fromkeys((0, activations.at_depth(0.5), activations.published_layer))
    for items in activations.one_of_each_topic():
        for layer in layers:
            for method in (PCA, TSNE):
                with one_thread():
                    values = activations.at(items, layer).astype(np.float64)
                    points, said = embedded(values, method, activations.seed)
                kinds = (("for the persona", items.positive), ("against it", ~items.positive))
                clouds = [
                    Cloud(name, *([round(float(v), 2) for v in points[kind, axis]] for axis in (0, 1)))
                    for name, kind in kinds
                ]
                reading = f"Each mark is a statement. {said} A picture decides nothing."
                drawing = Points(f"{method}, first", f"{method}, second", reading, clouds)
                figure(drawing.titled(f"{items.persona} after block {layer}, {method}"))
