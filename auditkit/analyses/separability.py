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

from auditkit.analyses.exchange import both_kinds, canonical
from auditkit.analyses.probes import unit_norm
from auditkit.analyses.scan_pvalues import checked
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
class Drawn:
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
    from sklearn.decomposition import PCA

    values = checked(activations).astype(np.float64)
    if scale not in get_args(Scale):
        raise ValueError(f"unknown scale {scale!r}; there are {', '.join(get_args(Scale))}")
    if scale == "unit norm":
        values = unit_norm(values)
    there = int(np.linalg.matrix_rank(values - values.mean(axis=0)))
    if there < components:
        raise ValueError(f"the rows vary in {there} directions, {components} components were asked for")
    pca = PCA(components, whiten=scale == "whitened", svd_solver="full").fit(values)
    return np.asarray(pca.transform(values)), float(pca.explained_variance_ratio_.sum())


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


def separability(
    activations: NDArray[Any], positive: NDArray[Any], *, scale: Scale = "raw", components: int = 4,
    draws: int = 5, per_kind: int = 100, seed: int = 0, name: str = "separability",
) -> Drawn:  # fmt: skip
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
    return Drawn(Indices(*table.mean(axis=0).tolist()), Indices(*table.std(axis=0).tolist()), explained)


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
