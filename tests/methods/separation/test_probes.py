"""Probes, folds, AUC and what they are held against."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score

from auditkit.methods.separation.auc import auc, auc_parts, many_aucs, precision_recall
from auditkit.methods.separation.probes import (
    PENALTY,
    auc_measurement,
    cross_validated,
    fitted_scores,
    grouped_folds,
    label_null,
    norms,
    unit_norm,
)
from auditkit.methods.separation.text_baselines import bag_of_words, similar_statements
from auditkit.stats.effects.mean import Estimate, mean_difference

pytestmark = pytest.mark.unit

PROBES = ("ridge", "difference of means", "logistic")


def shifted(rows: int, units: int, shift: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of which every second is positive and moved along a random direction, and their ids."""
    rng = np.random.default_rng(seed)
    values, positive = rng.normal(size=(rows, units)), np.arange(rows) % 2 == 0
    direction = rng.normal(size=units)
    values[positive] += shift * direction / np.linalg.norm(direction)
    return values, positive, np.array([f"s{i:03}" for i in range(rows)])


# AUC


@given(
    scores=st.lists(st.integers(0, 5), min_size=4, max_size=30),
    data=st.data(),
)
def test_auc_is_that_of_scikit_learn_ties_included(scores: list[int], data: st.DataObject) -> None:
    flags = np.array(
        data.draw(
            st.permutations(
                [
                    True,
                    False,
                    *data.draw(st.lists(st.booleans(), min_size=len(scores) - 2, max_size=len(scores) - 2)),
                ]
            )
        )
    )
    expected = roc_auc_score(flags, scores)
    assert auc(np.array(scores), flags) == pytest.approx(expected)
    assert many_aucs(np.array(scores, dtype=float)[:, None], flags[:, None])[0] == pytest.approx(expected)


@given(
    scores=st.lists(st.sampled_from([0.0, 0.5, 1.0, 1e-9, float("inf"), float("nan")]), min_size=3, max_size=20)
)
def test_the_parts_are_differences_of_ranks(scores: list[float]) -> None:
    values, positive = np.array(scores), np.arange(len(scores)) % 3 == 0
    yes, no = values[positive], values[~positive]
    ranks = rankdata(values)
    above = (ranks[positive] - rankdata(yes)) / len(no)
    below = (len(yes) - (ranks[~positive] - rankdata(no))) / len(yes)
    got, mean = auc_parts(values, positive), above.mean()
    np.testing.assert_array_equal(got[positive], mean + len(values) / len(yes) * (above - mean))
    np.testing.assert_array_equal(got[~positive], mean + len(values) / len(no) * (below - mean))


def test_the_spread_of_the_parts_is_that_of_the_auc() -> None:
    """DeLong's variance, against the spread over many samples."""
    rng = np.random.default_rng(0)
    positive = np.arange(90) < 30
    aucs, variances = [], []
    for _ in range(1500):
        parts = auc_parts(rng.normal(size=90) + positive, positive)
        aucs.append(parts.mean())
        variances.append(parts.var(ddof=1) / 90)
    assert np.mean(variances) == pytest.approx(np.var(aucs), rel=0.1)


def test_folds_are_not_compared_with_each_other() -> None:
    scores, positive = np.array([1.0, 0, 11, 10]), np.array([1, 0, 1, 0], bool)
    assert auc(scores, positive) == 0.75
    assert auc(scores, positive, np.array([0, 0, 1, 1])) == 1
    with pytest.raises(ValueError, match="fold 0 has rows of one kind only"):
        auc(scores, positive, np.array([0, 1, 1, 1]))


def test_precision_and_recall_by_hand() -> None:
    assert precision_recall(np.array([1, 1, 1, 0, 0]), np.array([1, 0, 1, 1, 1])) == (2 / 3, 0.5)
    precision, recall = precision_recall(np.zeros(3), np.array([1, 0, 0]))
    assert np.isnan(precision)
    assert recall == 0


def test_as_a_measurement_layers_are_compared_row_by_row() -> None:
    values, positive, ids = shifted(80, 20, 2.0)
    noise = np.random.default_rng(1).normal(size=(80, 20))
    folds = grouped_folds(positive, ids)
    scores = {"late": cross_validated(values, positive, folds), "early": cross_validated(noise, positive, folds)}
    measured = auc_measurement("separability", scores, positive, list(ids), ids, folds)
    late = Estimate("late", "AUC", measured, measured.condition("late")).describe()
    assert late.estimate == pytest.approx(auc(scores["late"], positive, folds))
    assert (late.n, late.clusters) == (80, 80)
    growth = mean_difference(measured, "late", "early", name="growth").describe()
    assert growth.estimate == pytest.approx(late.estimate - auc(scores["early"], positive, folds))
    assert growth.lower > 0


# Folds


@given(seed=st.integers(0, 999), data=st.data())
@settings(max_examples=30, deadline=None)
def test_folds_keep_groups_whole_and_hold_both_kinds(seed: int, data: st.DataObject) -> None:
    rng = np.random.default_rng(seed)
    groups = np.array([f"g{i}" for i in range(20)]).repeat(rng.integers(1, 4, size=20))
    positive = np.array([int(name[1:]) % 2 == 0 for name in groups])
    folds = grouped_folds(positive, groups, folds=4, seed=seed)
    for name in set(groups):
        assert len(set(folds[groups == name])) == 1
    for fold in range(4):
        assert 0 < positive[folds == fold].mean() < 1
    order = rng.permutation(len(groups))
    np.testing.assert_array_equal(grouped_folds(positive[order], groups[order], folds=4, seed=seed), folds[order])


def test_bad_folds_are_named() -> None:
    positive = np.array([1, 1, 0, 0, 0], bool)
    with pytest.raises(ValueError, match="2 groups of positive statements cannot fill 3 folds"):
        grouped_folds(positive, list("abcde"), folds=3)
    with pytest.raises(ValueError, match="1 groups of positive statements cannot fill 2 folds"):
        grouped_folds(positive, list("aacde"), folds=2)
    with pytest.raises(ValueError, match="positive is True for all 4 rows"):
        grouped_folds(np.ones(4), list("abcd"))
    with pytest.raises(ValueError, match="at least two folds"):
        grouped_folds(positive, list("abcde"), folds=1)
    texts = ["I like tea", "x", "y", "i  LIKE tea", "z"]
    with pytest.raises(ValueError, match="rows 0 and 3 are the same statement in two groups"):
        grouped_folds(positive, list("abcde"), folds=2, texts=texts)
    grouped_folds(np.array([1, 1, 0, 1, 0]), list("abcae"), folds=2, texts=texts)


def test_similar_statements_are_one_group() -> None:
    texts = [
        "More immigrants should be allowed into our country",
        "I enjoy the quiet of my room",
        "more immigrants should be allowed  into our country.",
        "Fewer taxes for the rich",
    ]
    groups = similar_statements(texts)
    assert groups[0] == groups[2]
    assert len(set(groups)) == 3
    shuffled = similar_statements(texts[::-1])
    np.testing.assert_array_equal(shuffled[::-1], groups)
    with pytest.raises(ValueError, match="statement 1 is empty"):
        similar_statements(["a", " "])


def test_pairs_are_one_group_and_so_is_what_is_alike_to_either() -> None:
    texts = ["I sing in the bath", "Silence suits me", "i sing in the  bath", "Tea", "Coffee"]
    groups = similar_statements(texts, pairs=["1", "1", "2", "", ""])
    assert groups[0] == groups[1] == groups[2]
    assert len(set(groups)) == 3
    with pytest.raises(ValueError, match="5 statements need as many names of pairs, got 1"):
        similar_statements(texts, pairs=["1"])


# Probes


def test_the_ridge_probe_is_ridge_regression_on_balanced_labels() -> None:
    values, positive, _ = shifted(40, 12, 1.0)
    train, test, labels = values[:30], values[30:], positive[:30].copy()
    labels[:4] = False  # unequal numbers
    scaled = (train - train.mean(axis=0)) / train.std(axis=0)
    code = np.where(labels, 1 / labels.sum(), -1 / (~labels).sum())
    level = PENALTY * (scaled**2).sum(axis=1).mean()
    model = Ridge(alpha=level, fit_intercept=False).fit(scaled, code)
    expected = model.predict((test - train.mean(axis=0)) / train.std(axis=0))
    got = fitted_scores(train, labels, test, "ridge")
    np.testing.assert_allclose(got - got[0], expected - expected[0], atol=1e-12)
    own = model.predict(scaled)
    middle = (own[labels].mean() + own[~labels].mean()) / 2
    np.testing.assert_allclose(got, expected - middle, atol=1e-12)


def test_the_difference_of_means_is_a_projection_on_it() -> None:
    values, positive, _ = shifted(40, 12, 1.0)
    train, test, labels = values[:30], values[30:], positive[:30]
    towards = train[labels].mean(axis=0) - train[~labels].mean(axis=0)
    middle = (train[labels].mean(axis=0) + train[~labels].mean(axis=0)) / 2
    got = fitted_scores(train, labels, test, "difference of means", standardise=False)
    np.testing.assert_allclose(got, (test - middle) @ towards, atol=1e-12)


@pytest.mark.parametrize("probe", PROBES)
def test_probes_reach_what_the_best_linear_rule_reaches(probe) -> None:
    values, positive, ids = shifted(400, 10, 1.5)
    folds = grouped_folds(positive, ids)
    scores = cross_validated(values, positive, folds, probe)
    peer = np.empty(400)
    for fold in range(5):
        train = folds != fold
        model = LinearDiscriminantAnalysis().fit(values[train], positive[train])
        peer[~train] = model.decision_function(values[~train])
    assert auc(scores, positive, folds) == pytest.approx(auc(peer, positive, folds), abs=0.02)


@pytest.mark.parametrize("probe", PROBES)
def test_the_order_of_rows_has_no_influence(probe) -> None:
    values, positive, ids = shifted(40, 15, 0.7)
    order = np.random.default_rng(0).permutation(40)
    folds = grouped_folds(positive, ids)
    once = cross_validated(values, positive, folds, probe)
    again = cross_validated(values[order], positive[order], folds[order], probe)
    np.testing.assert_array_equal(once[order], again)
    null = label_null(values, positive, folds, ids, probe, permutations=5)
    other = label_null(values[order], positive[order], folds[order], ids[order], probe, permutations=5)
    assert null.score == other.score
    np.testing.assert_array_equal(null.null, other.null)


@pytest.mark.parametrize("probe", PROBES)
def test_the_null_is_the_same_probe_on_dealt_labels(probe) -> None:
    values, positive, ids = shifted(40, 15, 2.0)
    folds = grouped_folds(positive, ids)
    values[positive] += 1
    found = label_null(values, positive, folds, ids, probe, permutations=39)
    assert found.score == pytest.approx(auc(cross_validated(values, positive, folds, probe), positive, folds))
    assert found.p == pytest.approx(1 / 40)
    assert found.null.mean() == pytest.approx(0.5, abs=0.07)


def test_labels_that_say_nothing_are_significant_as_often_as_stated() -> None:
    p = []
    for seed in range(150):
        values, positive, ids = shifted(30, 10, 0.0, seed)
        folds = grouped_folds(positive, ids, folds=3)
        p.append(label_null(values, positive, folds, ids, permutations=39, seed=seed).p)
    assert np.mean(np.array(p) <= 0.1) == pytest.approx(0.1, abs=0.06)
    assert np.mean(p) == pytest.approx(0.51, abs=0.08)


def test_paraphrases_in_one_group_do_not_leak() -> None:
    """Random labels of pairs of near-copies: apart, the probe knows the copy; together, it knows nothing."""
    rng = np.random.default_rng(0)
    values = np.repeat(rng.normal(size=(60, 100)), 2, axis=0) + 0.05 * rng.normal(size=(120, 100))
    positive = np.repeat(rng.random(60) < 0.5, 2)
    apart, together = [f"s{i}" for i in range(120)], [f"s{i // 2}" for i in range(120)]
    leaked, honest = (grouped_folds(positive, groups) for groups in (apart, together))
    assert auc(cross_validated(values, positive, leaked), positive, leaked) > 0.9
    assert auc(cross_validated(values, positive, honest), positive, honest) < 0.7
    assert label_null(values, positive, honest, together, permutations=99).p > 0.05


def test_constant_units_are_no_obstacle() -> None:
    values, positive, ids = shifted(40, 15, 2.0)
    folds = grouped_folds(positive, ids)
    padded = np.column_stack([values, np.full(40, 0.1), np.zeros(40)])
    for probe in PROBES:
        np.testing.assert_allclose(
            auc(cross_validated(padded, positive, folds, probe), positive, folds),
            auc(cross_validated(values, positive, folds, probe), positive, folds),
        )
    assert auc(cross_validated(np.ones((40, 3)), positive, folds), positive, folds) == 0.5


def test_bad_features_are_named() -> None:
    values, positive, ids = shifted(20, 5, 1.0)
    folds = grouped_folds(positive, ids)
    with pytest.raises(ValueError, match="unknown probe 'svm'; there are ridge"):
        cross_validated(values, positive, folds, "svm")
    values[3, 2] = np.inf
    with pytest.raises(ValueError, match=r"first: row 3, unit 2"):
        cross_validated(values, positive, folds)


# Baselines


def test_growth_of_the_norm_alone_is_seen_by_norms_and_not_after_dividing() -> None:
    values, positive, ids = shifted(200, 30, 0.0)
    values[positive] *= 1.5
    folds = grouped_folds(positive, ids)
    assert auc(cross_validated(norms(values), positive, folds), positive, folds) > 0.95
    scaled = unit_norm(values)
    np.testing.assert_allclose(np.linalg.norm(scaled, axis=1), 1)
    assert auc(cross_validated(norms(scaled), positive, folds), positive, folds) < 0.65
    assert auc(cross_validated(scaled, positive, folds), positive, folds) < 0.65
    with pytest.raises(ValueError, match="row 1 is all zeros"):
        unit_norm(np.array([[1.0], [0]]))


def test_words_that_give_the_label_away_are_seen_by_counting_them() -> None:
    rng = np.random.default_rng(0)
    words = np.array(["people", "think", "that", "houses", "many", "others", "often", "find", "some", "ways"])
    positive = np.arange(80) % 2 == 0
    texts = [" ".join([*rng.choice(words, 6), "never" if flag else "always"]) for flag in positive]
    folds = grouped_folds(positive, [f"s{i}" for i in range(80)])
    given = bag_of_words(texts)
    np.testing.assert_allclose(np.linalg.norm(given, axis=1), 1)
    assert auc(cross_validated(given, positive, folds, standardise=False), positive, folds) > 0.95
    plain = bag_of_words([text.rsplit(" ", 1)[0] for text in texts])
    assert auc(cross_validated(plain, positive, folds, standardise=False), positive, folds) < 0.7


def test_a_measurement_lists_every_statement_once() -> None:
    measured = auc_measurement("a", {"x": np.arange(4.0)}, np.array([0, 1, 0, 1]), list("abcd"), list("ppqq"))
    assert isinstance(measured.values, pd.DataFrame)
    assert list(measured.values.index) == list("abcd")
    assert list(measured.clusters["statement"]) == list("ppqq")
