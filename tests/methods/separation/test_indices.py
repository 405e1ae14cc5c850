"""Indices of separability on true labels, and the detectors beside the scan."""

from __future__ import annotations

from dataclasses import astuple

import numpy as np
import pytest
from sklearn.metrics import calinski_harabasz_score, davies_bouldin_score, silhouette_score

from auditkit.methods.scanning.detection import Scanner
from auditkit.methods.separation.detectors import Detector, beside_scan, detector_table, detectors
from auditkit.methods.separation.indices import indices, labelled_indices, principal_points, separability
from auditkit.methods.separation.permutation import permuted
from auditkit.record.figures import drawing_of

pytestmark = pytest.mark.unit


def clouds(rows: int, units: int, shift: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    values, positive = rng.normal(size=(rows, units)), np.arange(rows) % 2 == 0
    values[positive, : units // 4] += shift
    return values, positive


def test_indices_by_hand() -> None:
    """Two unit squares, three apart; a point inside one of them is no corner of its hull."""
    square = np.array([[0.0, 0], [0, 1], [1, 0], [1, 1]])
    points = np.concatenate([square, [[0.9, 0.9]], square + np.array([3, 0])])
    positive = np.arange(9) < 5
    found = indices(points, positive)
    assert found.hull_distance == pytest.approx(3)
    assert found.silhouette == pytest.approx(silhouette_score(points, positive))
    assert found.calinski_harabasz == pytest.approx(calinski_harabasz_score(points, positive))
    assert found.davies_bouldin == pytest.approx(davies_bouldin_score(points, positive))
    assert indices(np.array([[0.0], [2], [1.5], [5], [9]]), np.array([1, 1, 1, 0, 0])).hull_distance == 6


def test_only_the_hull_distance_grows_with_the_norm() -> None:
    values, positive = clouds(80, 20, 1.0)
    small, large = (separability(values * factor, positive) for factor in (1, 50))
    assert large.mean.hull_distance == pytest.approx(50 * small.mean.hull_distance)
    for scale in ("unit norm", "whitened"):
        a, b = (separability(values * factor, positive, scale=scale) for factor in (1, 50))
        assert b.mean.hull_distance == pytest.approx(a.mean.hull_distance)
    assert large.mean.silhouette == pytest.approx(small.mean.silhouette)


def test_one_massive_point_makes_a_silhouette_that_unit_norms_do_not_have() -> None:
    values, positive = clouds(80, 20, 0.0)
    assert abs(separability(values, positive).mean.silhouette) < 0.1
    values[positive] *= 30
    assert separability(values, positive).mean.hull_distance > 0
    assert abs(separability(values, positive, scale="unit norm").mean.silhouette) < 0.1


def test_further_apart_is_more_separable_by_every_index() -> None:
    near, far = (separability(*clouds(120, 20, shift)).mean for shift in (0.3, 2.0))
    assert far.silhouette > near.silhouette
    assert far.calinski_harabasz > near.calinski_harabasz
    assert far.davies_bouldin < near.davies_bouldin
    assert far.hull_distance > near.hull_distance


def test_many_labelings_at_once_are_scikit_learns_one_by_one() -> None:
    values, positive = clouds(50, 12, 1.0)
    points, _ = principal_points(values)
    rng = np.random.default_rng(0)
    labels = np.array([positive, *(rng.permutation(positive) for _ in range(6)), *[positive] * 3])
    among = np.ones(labels.shape, dtype=bool)
    among[-3:] = rng.random((3, 50)) < 0.8
    found = labelled_indices(points, labels, among)
    for one, flags, rows in zip(found, labels, among, strict=True):
        np.testing.assert_allclose(one, astuple(indices(points[rows], flags[rows])))
    with pytest.raises(ValueError, match="at least two rows of each kind"):
        labelled_indices(points, np.arange(50)[None] < 1)


def test_labels_dealt_at_random_are_the_null() -> None:
    values, positive = clouds(40, 12, 2.0)
    points, _ = principal_points(values)
    found = permuted(lambda rows, flags: indices(rows, flags).silhouette, points, positive, permutations=39)
    assert found.p == pytest.approx(1 / 40)
    noise, _ = principal_points(clouds(40, 12, 0.0)[0])
    assert permuted(lambda rows, flags: indices(rows, flags).silhouette, noise, positive, permutations=39).p > 0.05


def test_draws_are_of_equal_numbers_and_independent_of_the_order() -> None:
    values, positive = clouds(300, 10, 1.0)
    once = separability(values, positive, draws=3, per_kind=40)
    assert once.sd.silhouette > 0
    order = np.random.default_rng(0).permutation(300)
    assert separability(values[order], positive[order], draws=3, per_kind=40) == once
    assert separability(values, positive, draws=3, per_kind=999).sd.silhouette == pytest.approx(0, abs=1e-12)


def test_components_hold_the_variance_and_whitening_makes_it_one() -> None:
    values = np.random.default_rng(0).normal(size=(60, 6)) * [9, 5, 3, 1, 1, 1]
    points, explained = principal_points(values, components=3)
    assert explained == pytest.approx(points.var(axis=0).sum() / values.var(axis=0).sum())
    whitened, _ = principal_points(values, components=3, scale="whitened")
    np.testing.assert_allclose(whitened.var(axis=0, ddof=1), 1)


def test_rows_that_do_not_vary_are_refused() -> None:
    """At the embedding of a template's token, all statements look the same."""
    positive = np.arange(8) < 4
    with pytest.raises(ValueError, match="vary in 0 directions, 4 components were asked for"):
        separability(np.ones((8, 30)), positive)
    with pytest.raises(ValueError, match="4 points of one kind do not span 4 dimensions"):
        separability(np.random.default_rng(0).normal(size=(8, 30)), positive)
    with pytest.raises(ValueError, match="positive is True for all 8 rows"):
        separability(np.ones((8, 30)), np.ones(8))
    with pytest.raises(ValueError, match="unknown scale 'log'"):
        principal_points(np.ones((8, 30)), scale="log")


# Detectors


def test_each_detector_finds_what_it_is_made_for() -> None:
    train, labels = clouds(160, 20, 3.0)
    test, positive = clouds(100, 20, 3.0, seed=1)
    found = {one.name: one for one in detectors(train, labels, test, positive)}
    assert list(found) == [
        "ridge probe", "difference of means probe", "logistic probe", "local outlier factor", "isolation forest",
        "k-means",
    ]  # fmt: skip
    for one in found.values():
        assert one.auc > 0.85, one.name
    for name in ("ridge probe", "difference of means probe", "logistic probe", "k-means"):
        assert min(found[name].precision, found[name].recall) > 0.85


def test_detectors_of_noise_are_at_chance() -> None:
    aucs = []
    for seed in range(6):
        train, labels = clouds(80, 20, 0.0, seed)
        test, positive = clouds(80, 20, 0.0, seed + 100)
        aucs.append([one.auc for one in detectors(train, labels, test, positive)])
    np.testing.assert_allclose(np.mean(aucs, axis=0), 0.5, atol=0.1)


def test_detectors_do_not_depend_on_the_order_of_rows() -> None:
    train, labels = clouds(60, 10, 1.0)
    test, positive = clouds(40, 10, 1.0, seed=1)
    first, second = np.random.default_rng(0).permutation(60), np.random.default_rng(1).permutation(40)
    once = detectors(train, labels, test, positive)
    again = detectors(train[first], labels[first], test[second], positive[second])
    for a, b in zip(once, again, strict=True):
        np.testing.assert_array_equal(a.scores[second], b.scores)
        np.testing.assert_array_equal(a.found[second], b.found)


def test_the_table_puts_the_scan_beside_the_others_on_the_same_statements() -> None:
    values, positive = clouds(240, 60, 1.5)
    held = Scanner("right").held_out(values, positive, [f"s{i}" for i in range(240)], permutations=9)
    found = beside_scan(held, values)
    assert found[0].name == "subset scan"
    assert all(len(one.scores) == 120 for one in found)
    for one in found:
        np.testing.assert_array_equal(one.positive, held.truth)
    assert (found[0].auc, found[0].precision) == (held.auc, held.precision)
    table = detector_table(found)
    assert drawing_of(table.titled("Detectors"))
    assert table.rows[0][0] == "subset scan"
    assert "120" in table.caption


def test_a_detector_that_finds_nothing_has_no_precision() -> None:
    nothing = Detector("x", np.arange(4.0), np.zeros(4, bool), np.array([1, 0, 1, 0], bool))
    assert detector_table([nothing]).rows[0][2] is None
    assert nothing.recall == 0


def test_detectors_say_what_they_lack() -> None:
    values, labels = clouds(6, 4, 1.0)
    with pytest.raises(ValueError, match="positive among the rows to learn from is False for all 6 rows"):
        detectors(values, np.zeros(6), values, labels)
    with pytest.raises(ValueError, match="2 negative rows to learn from; at least three"):
        detectors(values[:4], labels[:4], values, labels)
