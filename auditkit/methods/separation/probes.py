"""Probes: can a linear function of the activations tell positive statements from the others?

A probe is fitted on some statements and scores others, so that what it learnt by heart does not count. Statements that
belong together (duplicates, paraphrases, a statement and its negation) are in one fold. Whatever the AUC is, it has to
be held against three things: what the same probe gives for labels dealt at random, for the norms alone, and for the
words of the statements without any model (`text_baselines.bag_of_words`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from auditkit.methods.scanning.pvalues import checked
from auditkit.methods.separation.auc import auc_parts, many_aucs
from auditkit.methods.separation.permutation import Groups, Significance, both_kinds, canonical, dealt, group_codes
from auditkit.methods.separation.text_baselines import no_text_in_two_groups
from auditkit.stats.measurement import Measurement
from auditkit.stats.streams import stream

Probe = Literal["ridge", "difference of means", "logistic"]
Array = NDArray[np.float64]
Folds = NDArray[np.intp]

PENALTY = 0.1
"""Of the ridge, as a multiple of the mean squared length of a row."""


def grouped_folds(
    positive: NDArray[Any], groups: Groups, *, folds: int = 5, seed: int = 0, name: str = "folds",
    texts: Sequence[str] | None = None,
) -> Folds:  # fmt: skip
    """(rows,) the fold of each row: whole groups, both kinds in every fold in like shares.

    The order of rows has no influence. Use the same folds for every layer, so that layers are compared row by row.

    Args:
        positive: (rows,) flags.
        groups: (rows,) item ids, or what must not be torn apart (`text_baselines.similar_statements`).
        texts: statements, to make sure that none is in two folds.

    Raises:
        ValueError: one kind of row only, fewer groups of a kind than folds, or a statement that would be in two folds.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    rows = len(positive)
    flags = both_kinds(positive, rows, "positive")
    codes = group_codes(groups, np.zeros((rows, 1)))
    if folds < 2:
        raise ValueError(f"at least two folds are needed, got {folds}")
    for kind, which in (("positive", flags), ("other", ~flags)):
        there = len(np.unique(codes[which]))
        if there < folds:
            raise ValueError(
                f"{there} groups of {kind} statements cannot fill {folds} folds; use fewer folds or more"
            )
    if texts is not None:
        no_text_in_two_groups(texts, codes)
    order = np.lexsort([flags, codes])
    number = int(stream(seed, "folds", name).integers(2**31))
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=number)
    of_row = np.empty(rows, dtype=np.intp)
    for fold, (_, test) in enumerate(splitter.split(np.zeros(rows), flags[order], codes[order])):
        of_row[order[test]] = fold
        if flags[order[test]].all() or not flags[order[test]].any():
            raise ValueError(f"groups are too unequal for {folds} folds with both kinds of statements in each")
    return of_row


def cross_validated(
    features: NDArray[Any],
    positive: NDArray[Any],
    folds: Folds,
    probe: Probe = "ridge",
    *,
    standardise: bool = True,
) -> Array:
    """(rows,) score of each row by the probe that was fitted on the other folds; `auc(scores, positive, folds)`.

    Args:
        features: (rows, features), finite.
        probe: "ridge" (least squares on the labels with a penalty, a regularised linear discriminant), "difference of
            means", or "logistic".
        standardise: centre every feature and divide it by its spread in the rows that are fitted on; constant ones
            become 0. Otherwise features are only centred.

    Raises:
        ValueError: features that are not finite, one kind of row only, or an unknown probe.
    """
    values = checked(features).astype(np.float64)
    flags = both_kinds(positive, len(values), "positive")
    order = canonical(values, np.full(len(values), ""))
    scores = np.empty(len(values))
    for test, train in _splits(folds[order]):
        rows, others = order[test], order[train]
        scores[rows] = fitted_scores(values[others], flags[others], values[rows], probe, standardise=standardise)
    return scores


def fitted_scores(
    train: Array, positive: NDArray[np.bool_], test: Array, probe: Probe, *, standardise: bool = True
) -> Array:
    """(test rows,) scores by the probe that was fitted on `train`; above 0 means positive."""
    train, test = _scaled(train, test, standardise)
    if probe == "logistic":
        from sklearn.linear_model import LogisticRegression

        model = LogisticRegression(max_iter=2000, class_weight="balanced").fit(train, positive)
        scores: Array = model.decision_function(test)
        return scores
    inner, code = train @ train.T, _coded(positive[:, None])
    # The threshold is half-way between the means of the two kinds among the rows that were fitted on.
    own = (inner @ _solved(inner, code, probe))[:, 0]
    middle = (own[positive].mean() + own[~positive].mean()) / 2
    linear = _solved(inner, (test @ train.T).T, probe).T
    return np.asarray((linear @ code)[:, 0] - middle, dtype=np.float64)


def label_null(
    features: NDArray[Any], positive: NDArray[Any], folds: Folds, groups: Groups, probe: Probe = "ridge", *,
    permutations: int = 1000, seed: int = 0, name: str = "probe", standardise: bool = True,
) -> Significance:  # fmt: skip
    """The cross-validated AUC among those with the labels dealt anew.

    Null hypothesis: labels say nothing about activations. Labels are exchanged among whole groups of the same size
    within their fold, so every fold keeps its numbers of both kinds and the folds stay as they were. The linear probes
    are linear in the labels, so that all permutations are one matrix product; the logistic one is fitted anew.
    """
    values = checked(features).astype(np.float64)
    flags = both_kinds(positive, len(values), "positive")
    codes = group_codes(groups, values)
    order = canonical(values, codes)
    values, flags, codes, folds = values[order], flags[order], codes[order], folds[order]
    drawn = dealt(flags, codes, permutations, stream(seed, "label null", name), folds).T
    every = np.column_stack([flags, drawn])
    aucs = np.zeros(every.shape[1])
    for test, train in _splits(folds):
        if probe == "logistic":
            columns = [
                fitted_scores(values[train], column, values[test], probe, standardise=standardise)
                for column in every[train].T
            ]
            scores = np.column_stack(columns)
        else:
            known, unknown = _scaled(values[train], values[test], standardise)
            linear = _solved(known @ known.T, (unknown @ known.T).T, probe).T
            scores = linear @ _coded(every[train])
        aucs += many_aucs(scores, every[test]) * len(test) / len(values)
    return Significance(float(aucs[0]), aucs[1:])


def norms(activations: NDArray[Any]) -> Array:
    """(rows, 1) Euclidean length of each row: all that a norm-only probe sees."""
    lengths: Array = np.linalg.norm(checked(activations).astype(np.float64), axis=1, keepdims=True)
    return lengths


def unit_norm(activations: NDArray[Any]) -> Array:
    """Every row divided by its length, so that growth of the norm with depth tells nothing.

    Raises:
        ValueError: a row of zeros.
    """
    lengths = norms(activations)
    if not lengths.all():
        raise ValueError(f"row {int((lengths == 0).argmax())} is all zeros and has no direction")
    scaled: Array = np.asarray(activations, dtype=np.float64) / lengths
    return scaled


def auc_measurement(
    name: str, scores: Mapping[str, NDArray[Any]], positive: NDArray[Any], items: Sequence[str], groups: Groups,
    folds: Folds | None = None,
) -> Measurement:  # fmt: skip
    """AUCs as a measurement: one condition per layer, detector or baseline, one value per statement (`auc_parts`).

    The mean of a condition is its AUC, and `mean_difference` of two is the paired difference of their AUCs, with an
    interval by groups. An AUC of exactly 1 has no spread and so no interval.
    """
    codes = group_codes(groups, np.zeros((len(items), 1)))
    columns = {condition: auc_parts(one, positive, folds) for condition, one in scores.items()}
    index = pd.Index(list(items))
    return Measurement(
        name, "AUC", pd.DataFrame(columns, index=index), pd.DataFrame({"statement": codes}, index=index)
    )


def _splits(folds: Folds) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    return [(np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)) for fold in np.unique(folds)]


def _scaled(train: Array, test: Array, standardise: bool) -> tuple[Array, Array]:
    centre = train.mean(axis=0)
    train, test = train - centre, test - centre
    if standardise:
        spread = train.std(axis=0)
        spread = np.where(spread > 1e-9 * np.abs(centre), spread, np.inf)  # what does not vary becomes 0
        train, test = train / spread, test / spread
    return train, test


def _solved(inner: Array, right: Array, probe: Probe) -> Array:
    """(train rows, columns): the right side as the probe weighs it, by the products of the train rows with each other.

    The scores of test rows are their products with the train rows, times the coded labels of the train rows solved. As
    the products of the train rows are symmetric, either factor may be the one that is solved: the narrower is quicker.
    """
    if probe not in get_args(Probe):
        raise ValueError(f"unknown probe {probe!r}; there are {', '.join(get_args(Probe))}")
    level = float(np.trace(inner)) / len(inner)
    if probe == "difference of means" or level == 0:  # where nothing varies, nothing can be told
        return right
    return np.asarray(np.linalg.solve(inner + PENALTY * level * np.eye(len(inner)), right), dtype=np.float64)


def _coded(positive: NDArray[np.bool_]) -> Array:
    """(rows, columns) labels as weights that sum to 1 over the positive rows and to -1 over the others."""
    m = positive.sum(axis=0)
    n = len(positive) - m
    return np.asarray(np.where(positive, 1 / m, -1 / n), dtype=np.float64)
