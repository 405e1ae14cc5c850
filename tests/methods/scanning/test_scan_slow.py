"""Error rates and power of scans, at the size at which they are stated."""

from __future__ import annotations

import numpy as np
import pytest

from auditkit.methods.scanning.detection import Scanner, both_directions, units_of
from auditkit.methods.scanning.pvalues import empirical_pvalues
from auditkit.methods.scanning.scan import Search, scan
from auditkit.methods.scanning.scores import SCORES
from auditkit.methods.separation.auc import precision_recall

pytestmark = pytest.mark.slow

DATA_SETS = 400


def noise(rng: np.random.Generator, kind: str, rows: int, units: int) -> np.ndarray:
    match kind:
        case "independent":
            return rng.normal(size=(rows, units))
        case "a common factor":
            return rng.normal(size=(rows, units)) + rng.normal(size=(rows, 1)) * rng.normal(size=units)
        case _:  # heavy tails, rounded so that values tie, a constant and a massive unit
            values = np.round(rng.standard_t(2, size=(rows, units)), 1)
            values[:, 0], values[:, 1] = 3.0, 1e4 * values[:, 1]
            return values


@pytest.mark.parametrize("scan_background", [False, True], ids=["set aside", "among others"])
@pytest.mark.parametrize("kind", ["independent", "a common factor", "heavy tails and ties"])
def test_scans_of_noise_are_significant_as_often_as_they_say(
    kind: str, scan_background: bool, record_property
) -> None:
    scanner = Scanner("two-sided", Search(alphas=(0.05, 0.1, 0.2, 0.3, 0.5), restarts=3), scan_background)
    p = []
    for seed in range(DATA_SETS):
        values = noise(np.random.default_rng(seed), kind, 40, 20)
        p.append(scanner.significance(values, np.arange(40) < 20, permutations=99, seed=seed).p)
    share = float(np.mean(np.array(p) <= 0.05))
    record_property("share of significant scans", share)
    print(kind, scan_background, share)
    assert share == pytest.approx(0.05, abs=0.02)


@pytest.mark.parametrize("tail", ["right", "left", "two-sided"])
def test_p_values_of_noise_are_small_as_often_as_they_say(tail, record_property) -> None:
    rng = np.random.default_rng(0)
    tables = (rng.normal(size=(350, 500)) for _ in range(40))
    share = float(np.mean([empirical_pvalues(table[:100], table[100:], tail) <= 0.05 for table in tables]))
    record_property("share of p <= 0.05", share)
    assert share == pytest.approx(0.05, abs=0.01)


@pytest.mark.parametrize("directions", [False, True], ids=["upwards", "either direction"])
@pytest.mark.parametrize("score", sorted(SCORES))
def test_a_planted_subset_is_found(score: str, directions: bool, record_property) -> None:
    """5 % of 1000 units and 40 % of the rows moved by one standard deviation, among 500 background rows.

    200 rows are enough where units move upwards. Where each may move either way there are twice as many columns to
    be right about, and 300 rows are.
    """
    rows, units = (300 if directions else 200), 1000
    moved_rows, moved_units = np.arange(rows) < 0.4 * rows, np.arange(units) < 0.05 * units
    quality = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        background, test = rng.normal(size=(500, units)), rng.normal(size=(rows, units))
        sign = rng.choice([-1.0, 1.0], int(moved_units.sum())) if directions else 1.0
        test[np.ix_(moved_rows, moved_units)] += sign
        if directions:
            test, background = both_directions(test), both_directions(background)
        found = scan(empirical_pvalues(test, background, "right"), Search(score))
        of_rows = precision_recall(np.isin(np.arange(rows), found.rows), moved_rows)
        of_units = precision_recall(np.isin(np.arange(units), units_of(found.units, units)), moved_units)
        quality.append((*of_rows, *of_units))
    means = np.mean(quality, axis=0)
    record_property("precision and recall of rows, then of units", means.tolist())
    print(score, directions, means.round(3))
    assert means.min() >= 0.9
