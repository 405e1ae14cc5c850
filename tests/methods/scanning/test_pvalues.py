"""Empirical p-values and scores: by hand, against a plain loop, and calibrated on noise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from auditkit.methods.scanning.pvalues import Ranked, constant_units, empirical_pvalues
from auditkit.methods.scanning.scores import berk_jones, higher_criticism, kolmogorov_smirnov, score_named

pytestmark = pytest.mark.unit

# Few distinct values, so that ties are common.
tables = arrays.arrays(
    np.float64, st.tuples(st.integers(5, 12), st.integers(1, 4)), elements=st.integers(-2, 2).map(float)
)


def plainly(test: np.ndarray, background: np.ndarray, tail: str) -> np.ndarray:
    n = len(background)
    values = np.empty(test.shape)
    for i, j in np.ndindex(test.shape):
        b, x = background[:, j], test[i, j]
        right, left = (1 + sum(b >= x)) / (n + 1), (1 + sum(b <= x)) / (n + 1)
        values[i, j] = {
            "right": right, "left": left, "two-sided": min(1, 2 * min(left, right)), "released": sum(b < x) / (n + 1),
        }[tail]  # fmt: skip
    return values


@pytest.mark.parametrize("tail", ["right", "left", "two-sided", "released"])
@given(table=tables, data=st.data())
def test_pvalues_are_those_of_a_plain_loop(tail, table: np.ndarray, data: st.DataObject) -> None:
    n = data.draw(st.integers(2, len(table) - 1))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    background = rng.permutation(np.arange(len(table)) < n)
    expected = plainly(table[~background], table[background], tail)
    np.testing.assert_array_equal(Ranked(table).against(background, tail), expected)
    np.testing.assert_array_equal(empirical_pvalues(table[~background], table[background], tail), expected)


@given(table=tables)
def test_among_others_every_background_row_is_left_out_of_its_own_reference(table: np.ndarray) -> None:
    background = np.arange(len(table)) < len(table) - 2
    values = Ranked(table).against_others(background, "right")
    n = background.sum()
    expected = plainly(table[~background], table[background], "right") * (n + 1) / n
    np.testing.assert_allclose(values[~background], np.minimum(1, expected))
    for i in np.flatnonzero(background):
        others = background & (np.arange(len(table)) != i)
        np.testing.assert_array_equal(values[[i]], plainly(table[[i]], table[others], "right"))


def test_among_others_both_kinds_of_rows_reach_a_level_alike() -> None:
    """At 0.1 and 29 background rows 3 / 30 reaches it and 3 / 29 does not: ranks must be put on one scale."""
    rng = np.random.default_rng(0)
    background = np.arange(58) < 29
    small = np.array([Ranked(rng.normal(size=(58, 40))).against_others(background) <= 0.1 for _ in range(50)])
    assert small[:, ~background].mean() == pytest.approx(small[:, background].mean(), rel=0.1)
    assert small.mean() <= 0.1


def test_the_released_variant_by_the_published_numbers() -> None:
    """With 250 background rows its share at 0.01 is 3 of 251, and it can be 0.

    docs/protocols/persona_localization.md, Empirical p-values.
    """
    background, test = np.arange(250.0)[:, None] + 0.5, np.arange(251.0)[:, None]
    values = empirical_pvalues(test, background, "released")
    assert values.min() == 0
    assert (values <= 0.01).mean() == pytest.approx(3 / 251)
    assert (empirical_pvalues(test, background, "left") <= 0.01).mean() == pytest.approx(2 / 251)


@pytest.mark.parametrize("tail", ["right", "left", "two-sided"])
def test_on_noise_five_percent_are_below_five_percent(tail) -> None:
    rng = np.random.default_rng(0)
    tables = [rng.standard_t(2, size=(239, 50)) for _ in range(20)]
    share = np.mean([empirical_pvalues(table[:40], table[40:], tail) <= 0.05 for table in tables])
    assert share == pytest.approx(0.05, abs=0.01)


def test_among_few_background_rows_the_released_pvalues_are_small_too_often() -> None:
    """Of negative statements ranked among 39 others, as a persona of the suite has them."""
    rng = np.random.default_rng(1)
    tables = [rng.standard_t(4, size=(60, 200)) for _ in range(40)]
    own, released = (
        np.mean([empirical_pvalues(table[39:], table[:39], tail) <= 0.05 + 1e-9 for table in tables])
        for tail in ("two-sided", "released")
    )
    assert own == pytest.approx(0.05, abs=0.005)
    assert released > 0.065


def test_a_constant_unit_shows_nothing_but_in_the_released_variant() -> None:
    table = np.column_stack([np.ones(9), np.arange(9.0)])
    np.testing.assert_array_equal(constant_units(table), [0])
    for tail in ("right", "left", "two-sided"):
        assert (empirical_pvalues(table[:3], table[3:], tail)[:, 0] == 1).all()
    assert (empirical_pvalues(table[:3], table[3:], "released")[:, 0] == 0).all()


def test_bad_activations_are_named_in_one_line() -> None:
    table = np.zeros((6, 3))
    table[4, 1] = np.nan
    with pytest.raises(ValueError, match=r"^1 activations are NaN or infinite \(first: row 4, unit 1\).*$"):
        Ranked(table)
    with pytest.raises(ValueError, match="2 units in the test rows, 3 in the background"):
        empirical_pvalues(np.zeros((2, 2)), np.zeros((4, 3)))
    with pytest.raises(ValueError, match="table of rows by units"):
        empirical_pvalues(np.zeros(3), np.zeros((4, 3)))
    with pytest.raises(ValueError, match="1 of 3 rows are background; at least two must be"):
        empirical_pvalues(np.zeros((2, 3)), np.zeros((1, 3)))
    with pytest.raises(ValueError, match="unknown tail 'both'"):
        empirical_pvalues(np.zeros((2, 3)), np.zeros((4, 3)), "both")


# Scores


def test_scores_by_hand() -> None:
    # 30 of 100 p-values at most 0.1.
    assert higher_criticism(30, 100, 0.1) == pytest.approx(20 / 3)
    divergence = 0.3 * math.log(3) + 0.7 * math.log(0.7 / 0.9)
    assert berk_jones(30, 100, 0.1) == pytest.approx(100 * divergence)
    assert kolmogorov_smirnov(30, 100, 0.1) == pytest.approx(2.0)
    assert berk_jones(5, 5, 0.1) == pytest.approx(5 * math.log(10))  # all of them small


@pytest.mark.parametrize("score", [higher_criticism, berk_jones, kolmogorov_smirnov])
def test_no_more_than_expected_scores_nothing(score) -> None:
    assert score(10, 100, 0.1) == 0
    assert score(0, 100, 0.1) == 0
    assert score(0, 0, 0.1) == 0


def test_higher_criticism_of_the_released_log_is_a_count() -> None:
    """The published clean control: 17 rows x 1144 nodes at α = 0.01 score 89.6185, which N_α = 1438 gives."""
    assert higher_criticism(1438, 17 * 1144, 0.01) == pytest.approx(89.6185, abs=5e-5)


def test_an_unknown_score_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown score 'hc'; there are higher criticism"):
        score_named("hc")
