"""Separability: how far apart positive and negative statements lie, at one layer.

Cintas et al. (2025, arXiv:2505.24539) project both sets on a few principal components and compute four indices there.
Three things can make such an index grow with depth without better separation: the norm of the residual stream, which
grows by itself; a few massive activations; and clusters that are not the labels. So the indices here are computed on
the true labels, with the activations as they are, divided by their norm, or whitened, and are held against labels dealt
at random (`exchange.permuted`). A cross-validated probe (`probes`) asks the same question without principal components.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from auditkit.methods.scanning.pvalues import checked
from auditkit.methods.separation.permutation import both_kinds, canonical
from auditkit.methods.separation.probes import unit_norm
from auditkit.stats.streams import stream

Array = NDArray[np.float64]
Scale = Literal["raw", "unit norm", "whitened"]


@dataclass(frozen=True)
class Indices:
    """Separation of two labelled sets of points.

    Attributes:
        silhouette: -1 to 1, higher is further apart (Rousseeuw 1987); scale-free.
        calinski_harabasz: variance between over variance within, higher is further apart (1974); scale-free.
        davies_bouldin: lower is further apart (1979); scale-free.
        hull_distance: distance between the centroids of the corners of the two convex hulls. It has the unit of the
            points and grows with them, so only unit-norm or whitened points make layers comparable.
    """

    silhouette: float
    calinski_harabasz: float
    davies_bouldin: float
    hull_distance: float


@dataclass(frozen=True)
class DrawnIndices:
    """Mean and standard deviation of indices over draws of statements."""

    mean: Indices
    sd: Indices
    explained: float
    """Share of the variance in the components."""


def principal_points(
    activations: NDArray[Any], *, scale: Scale = "raw", components: int = 4
) -> tuple[Array, float]:
    """(rows, components) principal components of all rows together, and the share of variance that they hold.

    Args:
        activations: (rows, units), finite.
        scale: "raw", "unit norm" (every row divided by its length first) or "whitened" (components of variance 1).

    Raises:
        ValueError: fewer varying directions than components, or an unknown scale.
    """
    values = checked(activations).astype(np.float64)
    if scale not in get_args(Scale):
        raise ValueError(f"unknown scale {scale!r}; there are {', '.join(get_args(Scale))}")
    if scale == "unit norm":
        values = unit_norm(values)
    values = values - values.mean(axis=0)
    # Rows are fewer than units, so that their products are the smaller problem; a direction counts from 1e-7 of the
    # widest on, which is what float32 activations tell.
    variances, directions = (part[..., ::-1] for part in np.linalg.eigh(values @ values.T))
    there = int((variances > variances[0] * 1e-14).sum())
    if there < components:
        raise ValueError(f"the rows vary in {there} directions, {components} components were asked for")
    kept = variances[:components]
    spread = np.sqrt(len(values) - 1) if scale == "whitened" else np.sqrt(kept)
    return directions[:, :components] * spread, float(kept.sum() / (values**2).sum())


def indices(points: NDArray[Any], positive: NDArray[Any]) -> Indices:
    """The four indices of (rows, dimensions) points under their true labels.

    Raises:
        ValueError: rows of one kind only, or so few or so flat a set that it has no convex hull.
    """
    from sklearn.metrics import calinski_harabasz_score, davies_bouldin_score, silhouette_score

    values = checked(points).astype(np.float64)
    flags = both_kinds(positive, len(values), "positive")
    return Indices(
        float(silhouette_score(values, flags)),
        float(calinski_harabasz_score(values, flags)),
        float(davies_bouldin_score(values, flags)),
        float(np.linalg.norm(_hull_centre(values[flags]) - _hull_centre(values[~flags]))),
    )


def labelled_indices(
    points: NDArray[Any], labels: NDArray[np.bool_], among: NDArray[np.bool_] | None = None
) -> Array:
    """(labelings, 4) the indices of the same points under many labelings, in the order of `Indices`.

    Distances are computed once, so a null or a jackknife costs little more than one value.

    Args:
        points: (rows, dimensions), finite.
        labels: (labelings, rows) whether each row counts as positive.
        among: (labelings, rows) the rows that a labeling is about; all where None.

    Raises:
        ValueError: a labeling with fewer than two rows of a kind, or one so flat that it has no convex hull.
    """
    from scipy.spatial.distance import cdist

    values = checked(points).astype(np.float64)
    inside = np.ones(labels.shape, dtype=bool) if among is None else among
    kinds = [labels & inside, ~labels & inside]
    sizes = [kind.sum(axis=1, keepdims=True) for kind in kinds]
    if min(int(size.min()) for size in sizes) < 2:
        raise ValueError("an index needs at least two rows of each kind")
    total = sizes[0] + sizes[1]

    apart = cdist(values, values)
    to_yes, to_no = (kind @ apart for kind in kinds)
    own = np.where(labels, to_yes / (sizes[0] - 1), to_no / (sizes[1] - 1))
    other = np.where(labels, to_no / sizes[1], to_yes / sizes[0])
    larger = np.maximum(own, other)
    widths = np.divide(other - own, larger, out=np.zeros_like(own), where=larger > 0)
    silhouette = (widths * inside).sum(axis=1) / total[:, 0]

    centres = [kind @ values / size for kind, size in zip(kinds, sizes, strict=True)]
    middle = inside @ values / total
    between = sum(
        size[:, 0] * ((centre - middle) ** 2).sum(axis=1) for size, centre in zip(sizes, centres, strict=True)
    )
    to_own = np.linalg.norm(values - np.where(labels[:, :, None], *(c[:, None] for c in centres)), axis=2) * inside
    within = (to_own**2).sum(axis=1)
    calinski_harabasz = between * (total[:, 0] - 2) / within

    widest = sum((to_own * kind).sum(axis=1) / size[:, 0] for kind, size in zip(kinds, sizes, strict=True))
    davies_bouldin = widest / np.linalg.norm(centres[0] - centres[1], axis=1)
    hulls = [[_hull_centre(values[rows]) for rows in kind] for kind in kinds]
    hull_distance = np.linalg.norm(np.array(hulls[0]) - np.array(hulls[1]), axis=1)
    return np.column_stack([silhouette, calinski_harabasz, davies_bouldin, hull_distance])


def separability(
    activations: NDArray[Any], positive: NDArray[Any], *, scale: Scale = "raw", components: int = 4,
    draws: int = 5, per_kind: int = 100, seed: int = 0, name: str = "separability",
) -> DrawnIndices:  # fmt: skip
    """Indices of random draws of as many positive as negative statements, as published: 5 draws of 100 each.

    Where there are fewer statements of a kind, as many as that are drawn of each; the smaller kind is then the same in
    every draw. The order of rows has no influence.
    """
    values = checked(activations)
    flags = both_kinds(positive, len(values), "positive")
    order = canonical(values, np.full(len(values), ""))
    values, flags = values[order], flags[order]
    points, explained = principal_points(values, scale=scale, components=components)
    yes, no = np.flatnonzero(flags), np.flatnonzero(~flags)
    size = min(per_kind, len(yes), len(no))
    found = []
    for draw in range(draws):
        rng = stream(seed, "separability", name, str(draw))
        rows = np.sort(np.concatenate([rng.permutation(kind)[:size] for kind in (yes, no)]))
        found.append(astuple(indices(points[rows], flags[rows])))
    table = np.array(found)
    return DrawnIndices(Indices(*table.mean(axis=0).tolist()), Indices(*table.std(axis=0).tolist()), explained)


def _hull_centre(points: Array) -> Array:
    from scipy.spatial import ConvexHull, QhullError

    try:
        corners = points[ConvexHull(points).vertices] if points.shape[1] > 1 else np.sort(points, axis=0)[[0, -1]]
    except QhullError as error:
        raise ValueError(
            f"{len(points)} points of one kind do not span {points.shape[1]} dimensions, so they have no convex hull; "
            "use more statements or fewer components"
        ) from error
    centre: Array = corners.mean(axis=0)
    return centre
