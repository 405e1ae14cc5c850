"""Detectors of positive statements, side by side: what does a scan add to simpler ones?

All learn from the same statements and are judged on the same others, whose labels they do not see. The probes learn
from both kinds. Local outlier factor (Breunig et al. 2000, doi:10.1145/342009.335388) and isolation forest (Liu et al.
2008, doi:10.1109/ICDM.2008.17) learn only what negative statements look like. k-means splits the statements that it
judges in two, and calls positive the part that is farther from the negative statements it has seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from auditkit.methods.scanning.detection import HeldOut
from auditkit.methods.scanning.pvalues import checked
from auditkit.methods.separation.auc import auc, precision_recall
from auditkit.methods.separation.permutation import both_kinds, canonical
from auditkit.methods.separation.probes import Probe, fitted_scores
from auditkit.record.figures import Table
from auditkit.stats.streams import stream

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Detector:
    """What a detector says about the rows that it was judged on.

    Attributes:
        name: of the method.
        scores: (rows,) higher means positive.
        found: (rows,) which rows it calls positive.
        positive: (rows,) the truth.
    """

    name: str
    scores: Array
    found: Flags
    positive: Flags

    @property
    def auc(self) -> float:
        return auc(self.scores, self.positive)

    @property
    def precision(self) -> float:
        """NaN where it calls nothing positive."""
        return precision_recall(self.found, self.positive)[0]

    @property
    def recall(self) -> float:
        return precision_recall(self.found, self.positive)[1]


def detectors(
    train: NDArray[Any], train_positive: NDArray[Any], test: NDArray[Any], positive: NDArray[Any], *,
    seed: int = 0, name: str = "detectors",
) -> tuple[Detector, ...]:  # fmt: skip
    """Difference-of-means, ridge and logistic probes, local outlier factor, isolation forest and k-means.

    Features are standardised by the rows that are learnt from. The order of rows has no influence.

    Args:
        train, train_positive: (rows, units) and (rows,) to learn from.
        test, positive: to be judged on.

    Raises:
        ValueError: activations that are not finite, or rows of one kind only.
    """
    known, unknown = checked(train).astype(np.float64), checked(test).astype(np.float64)
    labels = both_kinds(train_positive, len(known), "positive among the rows to learn from")
    truth = both_kinds(positive, len(unknown), "positive among the rows to judge on")
    there, here = (canonical(rows, np.full(len(rows), "")) for rows in (known, unknown))
    known, labels, unknown = known[there], labels[there], unknown[here]
    judged = [(probe, fitted_scores(known, labels, unknown, probe)) for probe in get_args(Probe)]
    said = [(f"{probe} probe", scores, scores > 0) for probe, scores in judged]
    spread = known.std(axis=0)
    known, unknown = ((rows - known.mean(axis=0)) / np.where(spread > 0, spread, 1.0) for rows in (known, unknown))
    said += _unsupervised(known[~labels], unknown, int(stream(seed, name).integers(2**31)))
    back = np.argsort(here)
    return tuple(Detector(label, scores[back], found[back], truth) for label, scores, found in said)


def beside_scan(
    held: HeldOut, activations: NDArray[Any], *, seed: int = 0, name: str = "detectors"
) -> tuple[Detector, ...]:
    """The scan first, then the others, which learn from and are judged on the same statements.

    Args:
        held: of a scan of the same rows.
        activations: (rows, units), without the negated copies of `both_directions`.
    """
    values = np.asarray(activations)
    first, second = held.discovery.scanned, held.confirmation.scanned
    scan = Detector("subset scan", held.confirmation.row_scores, held.confirmation.found, held.truth)
    learnt = values[first], held.positive[first]
    return (scan, *detectors(*learnt, values[second], held.truth, seed=seed, name=name))


def detector_table(found: Sequence[Detector]) -> Table:
    """AUC, precision and recall of each; precision is empty where nothing was called positive."""
    rows = [
        (one.name, one.auc, None if np.isnan(one.precision) else one.precision, one.recall, int(one.found.sum()))
        for one in found
    ]
    judged = len(found[0].positive) if found else 0
    share = float(found[0].positive.mean()) if found else 0.0
    return Table(
        f"How well each detector tells positive statements among {judged} that it has not learnt from, of which "
        f"{share:.0%} are positive: an AUC of 0.5 and a precision of {share:.2f} are what guessing gives.",
        ("detector", "AUC", "precision", "recall", "called positive"),
        rows,
    )


def _unsupervised(negative: Array, test: Array, number: int) -> list[tuple[str, Array, Flags]]:
    from sklearn.cluster import KMeans
    from sklearn.ensemble import IsolationForest
    from sklearn.neighbors import LocalOutlierFactor

    if len(negative) < 3:
        raise ValueError(f"{len(negative)} negative rows to learn from; at least three are needed")
    outlier = LocalOutlierFactor(n_neighbors=min(20, len(negative) - 1), novelty=True).fit(negative)
    forest = IsolationForest(random_state=number).fit(negative)
    means = KMeans(2, n_init=10, random_state=number).fit(test)
    away = np.linalg.norm(means.cluster_centers_ - negative.mean(axis=0), axis=1)
    distance = means.transform(test)
    far = int(away.argmax())
    return [
        ("local outlier factor", -outlier.decision_function(test), outlier.predict(test) == -1),
        ("isolation forest", -forest.decision_function(test), forest.predict(test) == -1),
        ("k-means", distance[:, 1 - far] - distance[:, far], means.labels_ == far),
    ]
