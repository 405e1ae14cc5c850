"""Simulated experiments: how often the interval covers the truth, and how often a claim is decided wrongly.

Everything goes through `Estimate`, so that what is simulated is what a suite does.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from auditkit.record.schema import Verdict
from auditkit.stats.effects.mean import Estimate
from auditkit.stats.intervals import critical, fieller, moments
from auditkit.stats.measurement import Measurement

pytestmark = pytest.mark.unit

ROUNDS = 1500


def rates(columns: list[np.ndarray], clusters: pd.DataFrame, truth: float) -> tuple[float, float, float]:
    """Shares of experiments whose interval covers `truth`, and which wrongly PASS and FAIL at it."""
    covered = passed = failed = 0
    for table in columns:
        lower, upper = fieller(moments(table, clusters)) or (-np.inf, np.inf)
        covered += lower <= truth <= upper
        passed += lower > truth
        failed += upper < truth
    return covered / len(columns), passed / len(columns), failed / len(columns)


def with_ones(values: np.ndarray) -> np.ndarray:
    return np.column_stack([values, np.ones(len(values))])


def crossed_effects(
    rng: np.random.Generator, first: np.ndarray, second: np.ndarray, spread: tuple[float, float]
) -> np.ndarray:
    a, b = rng.normal(size=first.max() + 1), rng.normal(size=second.max() + 1)
    return spread[0] * a[first] + spread[1] * b[second] + rng.normal(size=len(first))


@pytest.mark.parametrize("count", [8, 30])
@pytest.mark.parametrize("correlation", [0.0, 0.5])
def test_one_factor_interval_covers_95_percent(count, correlation):
    """All experiments at once: cluster means of `size` items, t interval, checked against the library on one."""
    rng = np.random.default_rng(count)
    size, rounds = 10, 40_000
    items = np.sqrt(correlation) * rng.normal(size=(rounds, count, 1))
    items = items + np.sqrt(1 - correlation) * rng.normal(size=(rounds, count, size))
    means = items.mean(axis=2)
    half = critical(count - 1) * means.std(axis=1, ddof=1) / np.sqrt(count)
    centre = means.mean(axis=1)
    labels = pd.DataFrame({"topic": np.repeat(np.arange(count), size)})
    for i in range(20):
        bounds = fieller(moments(with_ones(items[i].ravel()), labels))
        assert bounds == pytest.approx((centre[i] - half[i], centre[i] + half[i]))
    assert 0.94 <= np.mean(np.abs(centre) <= half) <= 0.96
    assert np.mean(centre > half) <= 0.035
    assert np.mean(centre < -half) <= 0.035


@pytest.mark.slow
@pytest.mark.parametrize("spread", [(1.0, 0.0), (1.0, 1.0), (0.3, 1.0)])
@pytest.mark.parametrize("shape", [(8, 16), (17, 16)])
def test_crossed_interval_covers_at_least_93_percent(shape, spread):
    rng = np.random.default_rng(sum(shape))
    first, second = (g.ravel() for g in np.meshgrid(*map(np.arange, shape), indexing="ij"))
    clusters = pd.DataFrame({"topic": first, "pair": second})
    tables = [with_ones(crossed_effects(rng, first, second, spread)) for _ in range(ROUNDS)]
    covered, passed, failed = rates(tables, clusters, 0.0)
    assert covered >= 0.93
    assert passed <= 0.04  # 0.035 and the noise of 1,500 experiments
    assert failed <= 0.04


def test_recovery_over_crossed_factors_covers_at_least_93_percent():
    rng = np.random.default_rng(5)
    first, second = (g.ravel() for g in np.meshgrid(np.arange(10), np.arange(12), indexing="ij"))
    clusters = pd.DataFrame({"topic": first, "pair": second})
    tables = []
    for _ in range(ROUNDS):
        total = 3 + crossed_effects(rng, first, second, (0.7, 0.7))
        restored = 0.6 * total + 0.5 * crossed_effects(rng, first, second, (0.7, 0.7))
        tables.append(np.column_stack([restored, total]))
    covered, passed, failed = rates(tables, clusters, 0.6)
    assert covered >= 0.93
    assert passed <= 0.04
    assert failed <= 0.04


@pytest.mark.slow
def test_a_claim_exactly_at_its_threshold_is_rarely_decided():
    rng = np.random.default_rng(9)
    labels = np.repeat(np.arange(8), 4)
    clusters = pd.DataFrame({"topic": labels})
    verdicts = []
    for _ in range(600):
        values = 0.3 + rng.normal(size=8)[labels] + rng.normal(size=32)
        table = Measurement("m", "logit", pd.DataFrame({"x": values}), clusters)
        estimate = Estimate("effect", "logit", table, values)
        verdicts.append(estimate._verdict(estimate.describe(">=", 0.3))[0])
    assert verdicts.count(Verdict.PASS) / 600 <= 0.035 + 2 * np.sqrt(0.025 / 600)
    assert verdicts.count(Verdict.FAIL) / 600 <= 0.035 + 2 * np.sqrt(0.025 / 600)
