"""The search: exact where it says so, never above the true maximum, independent of the order of rows."""

from __future__ import annotations

from itertools import chain, combinations
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from auditkit.methods.scanning import scan as scan_module
from auditkit.methods.scanning.pvalues import empirical_pvalues
from auditkit.methods.scanning.scan import (
    FoundSubset,
    Levels,
    Search,
    alpha_grid,
    row_scores,
    scan,
    scan_each,
    scan_rows,
    scan_units,
)
from auditkit.methods.scanning.scores import SCORES

pytestmark = pytest.mark.unit

GRID = (0.1, 0.2, 0.4)
names = st.sampled_from(sorted(SCORES))


def small(rows: int, units: int) -> st.SearchStrategy[np.ndarray]:
    return arrays.arrays(np.float64, (rows, units), elements=st.integers(1, 10).map(lambda k: k / 10))


def subsets(size: int) -> list[list[int]]:
    return [list(s) for s in chain.from_iterable(combinations(range(size), k) for k in range(1, size + 1))]


def value(pvalues: np.ndarray, rows: list[int], units: list[int], score: str) -> float:
    inside = pvalues[np.ix_(rows, units)]
    return max(float(SCORES[score]((inside <= a + 1e-9).sum(), inside.size, a)) for a in GRID)


def same(a: FoundSubset, b: FoundSubset) -> bool:
    return (a.score, a.alpha) == (b.score, b.alpha) and (
        np.array_equal(a.rows, b.rows) and np.array_equal(a.units, b.units)
    )


@given(pvalues=small(4, 8), score=names)
@settings(max_examples=60)
def test_the_best_units_of_given_rows_are_the_best_of_all_subsets(pvalues: np.ndarray, score: str) -> None:
    """The linear-time property: no subset of units beats the best prefix."""
    search = Search(score, GRID)
    rows = [0, 1, 3]
    best = max(value(pvalues, rows, units, score) for units in subsets(8))
    assert scan_units(pvalues, rows, search).score == pytest.approx(best)
    assert scan_rows(pvalues.T, rows, search).score == pytest.approx(best)


@given(pvalues=small(5, 6), score=names)
@settings(max_examples=40)
def test_a_scan_reports_the_score_of_its_subset_and_stops_at_an_optimum(pvalues: np.ndarray, score: str) -> None:
    search = Search(score, GRID)
    found = scan(pvalues, search)
    if not len(found.rows):
        assert found.score == 0
        assert (pvalues > max(GRID)).all() or score != "kolmogorov-smirnov"
        return
    assert found.score == pytest.approx(value(pvalues, list(found.rows), list(found.units), score))
    assert scan_units(pvalues, found.rows, search).score <= found.score * (1 + 1e-9)
    assert scan_rows(pvalues, found.units, search).score <= found.score * (1 + 1e-9)


@pytest.mark.parametrize("score", sorted(SCORES))
def test_restarts_reach_the_best_of_all_subsets_of_rows_and_units(score: str) -> None:
    rng = np.random.default_rng(3)
    reached = []
    for _ in range(10):
        pvalues = rng.integers(1, 11, size=(5, 7)) / 10
        best = max(value(pvalues, rows, units, score) for rows in subsets(5) for units in subsets(7))
        found = scan(pvalues, Search(score, GRID, restarts=60)).score
        assert found <= best * (1 + 1e-9)
        reached.append(found == pytest.approx(best))
    assert np.mean(reached) >= 0.9


def test_more_restarts_never_find_less() -> None:
    pvalues = np.random.default_rng(0).random((12, 30))
    scores = [scan(pvalues, Search(restarts=n)).score for n in (1, 2, 5, 20, 80)]
    assert scores == sorted(scores)
    assert scores[0] < scores[-1]


@given(seed=st.integers(0, 2**16), score=names)
@settings(max_examples=25)
def test_the_order_of_rows_has_no_influence(seed: int, score: str) -> None:
    rng = np.random.default_rng(seed)
    pvalues = rng.integers(1, 40, size=(15, 25)) / 40
    order = rng.permutation(15)
    plain, moved = scan(pvalues, Search(score)), scan(pvalues[order], Search(score))
    assert same(plain, FoundSubset(moved.score, moved.alpha, np.sort(order[moved.rows]), moved.units))
    units = plain.units if len(plain.units) else [0]
    np.testing.assert_array_equal(row_scores(pvalues, units)[order], row_scores(pvalues[order], units))


@given(pvalues=small(3, 7), score=names)
@settings(max_examples=40)
def test_each_row_by_itself_is_searched_exactly(pvalues: np.ndarray, score: str) -> None:
    for i, found in enumerate(scan_each(pvalues, Search(score, GRID))):
        best = max(value(pvalues, [i], units, score) for units in subsets(7))
        assert found.score == pytest.approx(best)
        if found.score:
            assert value(pvalues, [i], list(found.units), score) == pytest.approx(best)
    every = tuple(a / 10 for a in range(1, 6))  # all distinct p-values up to the largest
    for exact, found in zip(
        scan_each(pvalues, Search(score, every)), scan_each(pvalues, Search(score), largest=0.5), strict=True
    ):
        assert found.score == pytest.approx(exact.score)


def test_a_planted_subset_is_found() -> None:
    """5 % of units and 40 % of rows, one standard deviation. One data set; the slow tier has many."""
    rng = np.random.default_rng(1)
    background, test = rng.normal(size=(500, 1000)), rng.normal(size=(200, 1000))
    test[:80, :50] += 1
    for score in SCORES:
        found = scan(empirical_pvalues(test, background, "right"), Search(score))
        assert quality(found.rows, 80) >= 0.9
        assert quality(found.units, 50) >= 0.9


def quality(found: np.ndarray, planted: int) -> float:
    """The smaller of precision and recall where the first `planted` are planted."""
    right = (found < planted).sum()
    return min(right / len(found), right / planted)


def test_nothing_small_is_nothing_found() -> None:
    found = scan(np.ones((4, 5)))
    assert (found.score, found.alpha, len(found.rows), len(found.units)) == (0, 0, 0, 0)
    assert all(not len(one.units) for one in scan_each(np.ones((4, 5)), largest=0.5))


def test_units_with_p_of_one_are_never_found() -> None:
    pvalues = np.random.default_rng(0).random((10, 20))
    pvalues[:, :15] = 1
    assert scan(pvalues).units.min() >= 15


def test_a_p_value_on_a_level_reaches_it() -> None:
    """k / (n + 1) and the levels are rounded differently; 15 / 100 is at most 0.15."""
    for k in range(1, 51):
        found = scan(np.array([[k / 100, 1.0]]))
        assert found.alpha == pytest.approx(k / 100)


def test_the_grid_is_the_published_one() -> None:
    np.testing.assert_allclose(alpha_grid(), np.linspace(0.01, 0.5, 50))


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="between 0 and 1, got 0 to 2"):
        scan(np.array([[0.0, 2.0]]))
    with pytest.raises(ValueError, match="increasing numbers between 0 and 1"):
        Search(alphas=(0.2, 0.1))
    with pytest.raises(ValueError, match="at least one start"):
        Search(restarts=0)
    with pytest.raises(ValueError, match="between 0 and 4"):
        scan_rows(np.full((2, 5), 0.1), [5])
    with pytest.raises(ValueError, match="NaN"):
        scan(np.array([[0.1, np.nan]]))


@given(
    levels=st.lists(st.integers(1, 2**14 - 1), min_size=1, max_size=60, unique=True),
    values=st.lists(st.integers(0, 2**14), min_size=1, max_size=60),
)
def test_a_pvalue_lies_at_the_lowest_level_that_it_reaches(levels: list[int], values: list[int]) -> None:
    """Also where several levels lie within one cell of the table by which they are found, and on their borders."""
    alphas, pvalues = np.sort(levels) / 2**14, np.array(values) / 2**14
    table = Levels(pvalues[None], Search(alphas=alphas.tolist()))
    counts = table.per_unit(np.ones(1, dtype=bool))
    laid_out = np.searchsorted(table.alphas[:, 0], alphas, side="right")  # how many levels up to each
    np.testing.assert_array_equal(
        np.vstack([np.zeros_like(counts[:1]), counts])[laid_out], pvalues[None] <= alphas[:, None] * (1 + 1e-9)
    )


@given(pvalues=small(6, 12), score=names, kept=st.sets(st.integers(1, 10)))
@settings(max_examples=60)
def test_levels_that_no_pvalue_is_the_first_to_reach_are_never_missed(
    pvalues: np.ndarray, score: str, kept: set[int]
) -> None:
    """With every level of the grid laid out, the very same subset and score are found."""
    pvalues[~np.isin(np.rint(pvalues * 10), list(kept))] = 1.0
    search = Search(score, alpha_grid(), restarts=3)
    levels = Levels(pvalues, search)
    with mock.patch.object(scan_module, "_told_apart", lambda level, count: (np.arange(count), level)):
        whole = Levels(pvalues, search)
    assert len(levels.alphas) <= len(kept) + 1 < len(whole.alphas) == 50
    assert same(scan(levels, search), scan(whole, search))
    np.testing.assert_array_equal(row_scores(levels, range(12), search), row_scores(whole, range(12), search))


def test_pvalues_that_were_laid_out_give_what_they_give_by_themselves() -> None:
    pvalues = np.random.default_rng(3).integers(1, 21, (12, 400)) / 20
    laid_out = Levels(pvalues, Search())
    found = scan(pvalues)
    assert same(scan(laid_out), found)
    assert same(scan_rows(laid_out, found.units), scan_rows(pvalues, found.units))
    np.testing.assert_array_equal(row_scores(laid_out, found.units), row_scores(pvalues, found.units))
