"""Significance by permutation, units judged on other statements, and repeated runs."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auditkit.methods.scanning.detection import Detection, Scanner, both_directions, units_of
from auditkit.methods.scanning.scan import Search
from auditkit.methods.separation.auc import precision_recall
from auditkit.methods.separation.permutation import Significance, dealt, group_codes

pytestmark = pytest.mark.unit

QUICK = Search(alphas=(0.1, 0.2, 0.3, 0.5), restarts=3)


def planted(rows: int, units: int, shift: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Half of the rows positive, with a tenth of the units shifted."""
    rng = np.random.default_rng(seed)
    values, positive = rng.normal(size=(rows, units)), np.arange(rows) % 2 == 0
    values[np.ix_(positive, np.arange(units // 10))] += shift
    return values, positive


def ids(rows: int) -> list[str]:
    return [f"statement {i}" for i in range(rows)]


# What is exchanged


@given(seed=st.integers(0, 999), sizes=st.lists(st.integers(1, 3), min_size=2, max_size=8))
@settings(max_examples=40)
def test_whole_groups_of_equal_size_change_places(seed: int, sizes: list[int]) -> None:
    rng = np.random.default_rng(seed)
    names = np.repeat([f"g{i}" for i in range(len(sizes))], sizes)
    flags = np.repeat(rng.random(len(sizes)) < 0.5, sizes)
    within = np.repeat(rng.integers(0, 2, len(sizes)), sizes)
    for drawn in dealt(flags, names, 5, rng, within):
        for name in set(names):
            assert len(set(drawn[names == name])) == 1
        by_size = {(w, s): Counter() for w, s in zip(within, np.repeat(sizes, sizes), strict=True)}
        for stratum, size, before, after in zip(within, np.repeat(sizes, sizes), flags, drawn, strict=True):
            by_size[stratum, size].update(before=int(before), after=int(after))
        assert all(count["before"] == count["after"] for count in by_size.values())


def test_every_dealing_is_equally_likely() -> None:
    flags, names = np.array([1, 1, 0, 0], bool), np.array(list("abcd"))
    drawn = dealt(flags, names, 6000, np.random.default_rng(0))
    counts = Counter(map(tuple, drawn.astype(int).tolist()))
    assert len(counts) == 6
    assert max(abs(count - 1000) for count in counts.values()) < 120


def test_a_group_of_both_kinds_deals_within_itself() -> None:
    flags, names = np.array([1, 0, 1, 1, 0], bool), np.array(list("aabcd"))
    drawn = dealt(flags, names, 200, np.random.default_rng(0))
    assert (drawn[:, :2].sum(axis=1) == 1).all()
    assert 50 < drawn[:, 0].sum() < 150


def test_equal_rows_are_one_group_unless_told_otherwise() -> None:
    rows = np.array([[1.0, 2], [3, 4], [1, 2]])
    codes = group_codes(None, rows)
    assert codes[0] == codes[2] != codes[1]
    with pytest.raises(ValueError, match="3 rows need as many groups"):
        group_codes(["a"], rows)


# Significance


@pytest.mark.parametrize("scan_background", [False, True])
def test_significant_where_planted(scan_background: bool) -> None:
    values, positive = planted(60, 50, 1.5)
    scanner = Scanner("right", QUICK, scan_background)
    assert scanner.significance(values, ~positive, permutations=99).p == pytest.approx(0.01)


@pytest.mark.parametrize("scan_background", [False, True])
def test_as_often_significant_in_noise_as_it_says(scan_background: bool) -> None:
    """60 noise data sets; the slow tier has 400. Units share a common factor, as activations do."""
    scanner = Scanner("two-sided", Search(alphas=(0.1, 0.3), restarts=2), scan_background)
    p = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        values = rng.normal(size=(24, 12)) + rng.normal(size=(24, 1))
        p.append(scanner.significance(values, np.arange(24) < 12, permutations=19).p)
    assert np.mean(p) == pytest.approx(0.52, abs=0.12)
    assert np.mean(np.array(p) <= 0.25) == pytest.approx(0.25, abs=0.15)


def test_p_counts_the_score_itself() -> None:
    assert Significance(2.0, np.array([1.0, 2.0, 3.0])).p == pytest.approx(3 / 4)
    assert Significance(9.0, np.zeros(199)).p == pytest.approx(1 / 200)


@given(seed=st.integers(0, 99))
@settings(max_examples=8, deadline=None)
def test_the_order_of_rows_has_no_influence(seed: int) -> None:
    values, positive = planted(40, 30, 0.8, seed)
    order = np.random.default_rng(seed).permutation(40)
    names = np.array(ids(40))
    scanner = Scanner("two-sided", QUICK)
    once = scanner.significance(values, ~positive, permutations=9)
    again = scanner.significance(values[order], ~positive[order], permutations=9)
    assert once.score == again.score
    np.testing.assert_array_equal(once.null, again.null)
    here = scanner.held_out(values, positive, names, permutations=9)
    there = scanner.held_out(values[order], positive[order], names[order], permutations=9)
    np.testing.assert_array_equal(here.discovery.units, there.discovery.units)
    np.testing.assert_array_equal(here.confirmation.rows, np.sort(order[there.confirmation.rows]))
    assert (here.precision, here.recall, here.significance.p) == (
        there.precision,
        there.recall,
        there.significance.p,
    )
    assert here.auc == pytest.approx(there.auc)
    sizes = {"runs": 2, "background": 10, "clean": 5, "planted": 6}
    for a, b in zip(
        scanner.repeated(values, positive, **sizes),
        scanner.repeated(values[order], positive[order], **sizes),
        strict=True,
    ):
        np.testing.assert_array_equal(a.units, b.units)
        np.testing.assert_array_equal(a.rows, np.sort(order[b.rows]))


# Other statements


def test_units_hold_on_statements_that_they_were_not_found_on() -> None:
    values, positive = planted(240, 200, 1.2)
    held = Scanner("right", Search()).held_out(values, positive, ids(240), permutations=99)
    assert not set(held.discovery.scanned) & set(held.confirmation.scanned)
    assert (held.discovery.units < 20).mean() >= 0.8
    assert min(held.precision, held.recall) >= 0.85
    assert held.auc >= 0.95
    assert held.significance.p == pytest.approx(0.01)


def test_what_a_scan_finds_in_noise_does_not_hold_on_other_statements() -> None:
    values, positive = planted(240, 200, 0)
    held = Scanner("right", Search()).held_out(values, positive, ids(240), permutations=99)
    assert len(held.discovery.units)
    assert held.auc == pytest.approx(0.5, abs=0.12)
    assert held.significance.p > 0.05


def test_groups_stay_in_one_half() -> None:
    values, positive = planted(80, 30, 2)
    groups = [f"pair {i // 2}" for i in range(80)]
    held = Scanner("right", QUICK).held_out(values, positive, groups, permutations=9)
    assert len(held.discovery.scanned) == 40
    assert (held.discovery.scanned // 2 == np.repeat(held.discovery.scanned[::2] // 2, 2)).all()


def test_a_direction_for_each_unit_finds_what_two_sided_misses() -> None:
    rng = np.random.default_rng(0)
    values, positive = rng.normal(size=(400, 200)), np.arange(400) < 200
    values[:200, :20] += np.where(np.arange(20) % 2, 1.0, -1.0)
    signed = Scanner("right", Search()).detect(both_directions(values), ~positive)
    mixed = Scanner("two-sided", Search()).detect(values, ~positive)
    assert min(precision_recall(np.isin(np.arange(200), units_of(signed.units, 200)), np.arange(200) < 20)) >= 0.9
    assert min(precision_recall(np.isin(np.arange(200), mixed.units), np.arange(200) < 20)) < 0.9
    high = signed.units[signed.units < 20]
    assert (high % 2 == 1).all()  # the first half of the columns is "unusually high"


# Runs


def test_runs_draw_disjoint_rows_and_find_the_planted_units() -> None:
    values, positive = planted(160, 100, 2.0)
    runs = Scanner("right", Search()).repeated(values, positive, runs=5, background=50, clean=20, planted=20)
    for run in runs:
        assert len(run.scanned) == 40
        assert positive[run.scanned].sum() == 20
        assert (run.units < 10).sum() >= 8
    assert len({tuple(run.scanned) for run in runs}) == 5


def test_detections_are_in_the_indices_of_the_table() -> None:
    values, positive = planted(60, 50, 3)
    order = np.random.default_rng(1).permutation(60)
    found: Detection = Scanner("right", Search()).detect(values[order], ~positive[order])
    assert positive[order][found.scanned].all()
    assert positive[order][found.rows].all()
    assert found.found.sum() == len(found.rows)


def test_bad_input_is_named() -> None:
    values, positive = planted(20, 10, 1)
    scanner = Scanner("right", QUICK)
    with pytest.raises(ValueError, match="positive is True for all 20 rows; both kinds are needed"):
        scanner.held_out(values, np.ones(20), ids(20))
    with pytest.raises(ValueError, match="must be true or false for each of 20 rows"):
        scanner.detect(values, positive[:5])
    with pytest.raises(ValueError, match="no units to look at"):
        scanner.detect(values, ~positive, units=[])
    with pytest.raises(ValueError, match="a run draws 300 negative and 50 positive rows, there are 10 and 10"):
        scanner.repeated(values, positive)
    with pytest.raises(ValueError, match="one cluster"):
        scanner.held_out(values, positive, ["same"] * 20)
