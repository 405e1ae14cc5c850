"""Split halves: look for a site on one half of the clusters, confirm it on the other.

A site that was chosen because it came out well on some items will come out too well on them again. Whole clusters go
to one half or the other, so that the halves share neither an item nor anything that items share.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from auditkit.record.evidence import note
from auditkit.stats.measurement import Measurement, MeasurementError
from auditkit.stats.streams import stream


@dataclass(frozen=True)
class Halves:
    """Item ids of the two halves, in the order of the table, and of what belongs to neither."""

    discovery: tuple[str, ...]
    confirmation: tuple[str, ...]
    left_out: tuple[str, ...]
    """Items of a crossed design whose two clusters went to different halves."""


def halves(items: Measurement | pd.DataFrame, seed: int, name: str) -> Halves:
    """Split items by cluster into two halves; the same seed, name and clusters give the same split.

    Clusters are split, not items, and the numbers of clusters differ by at most one. With two crossed factors both
    are split, and only items whose clusters are in the same half are used: about half of a complete crossing.

    Args:
        items: a measurement, or its table of cluster labels: (item x factor), one or two factors.
        seed: the run's seed (`audit.seed`).
        name: of what is split, usually the claim's; another name gives an independent split.

    Raises:
        MeasurementError: fewer than two clusters of a factor, so that one half would be empty.
    """
    clusters = items.clusters if isinstance(items, Measurement) else items
    sides = np.column_stack([_sides(clusters[factor], seed, name) for factor in clusters.columns])
    votes = sides.sum(axis=1)
    ids = [tuple(clusters.index[np.flatnonzero(votes == n)]) for n in (len(clusters.columns), 0)]
    if not all(ids):
        raise MeasurementError(f"'{name}': the clusters leave one half without an item")
    used = {*ids[0], *ids[1]}
    split = Halves(ids[0], ids[1], tuple(item for item in clusters.index if item not in used))
    out = f"; {len(split.left_out)} items whose clusters went to different halves are left out"
    note(
        f"split half '{name}' by {' and '.join(map(str, clusters.columns))}: {len(split.discovery)} items to "
        f"discover, {len(split.confirmation)} other items to confirm{out if split.left_out else ''}"
    )
    return split


def _sides(labels: pd.Series, seed: int, name: str) -> NDArray[np.bool_]:
    """(items,) whether an item's cluster is in the first half. Which it is does not depend on the items' order."""
    known = sorted(labels.astype(str).unique())
    if len(known) < 2:
        raise MeasurementError(f"'{name}': {labels.name} has one cluster; two are needed to split it in half")
    order = stream(seed, "halves", name, str(labels.name)).permutation(len(known))
    chosen = {known[i] for i in order[: (len(known) + 1) // 2]}
    return np.asarray(labels.astype(str).isin(chosen), dtype=bool)
