"""Forecasts: the power that the numbers of a recorded effect give, now and with other numbers of items."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from auditkit.gate.forecast import chance, towards
from auditkit.record.schema import Effect
from auditkit.stats.effects.mean import Estimate
from auditkit.stats.measurement import Measurement

pytestmark = pytest.mark.unit


def estimate_of(values: np.ndarray) -> Estimate:
    index = pd.Index([f"item {n}" for n in range(len(values))])
    clusters = pd.DataFrame({"topic": index}, index=index)
    table = pd.DataFrame({"value": values}, index=index)
    return Estimate("effect", "1", Measurement("m", "1", table, clusters), values, None, ("value",))


def effect_of(n: int = 20, seed: int = 0, centre: float = 1.0) -> Effect:
    return estimate_of(centre + np.random.default_rng(seed).normal(size=n)).describe(">=", 0.0)


def test_the_distance_that_is_detectable_is_decided_with_80_percent_power() -> None:
    effect = effect_of()
    _, half = towards(effect)
    assert chance(effect.mde, half, effect, 1.0) == pytest.approx(0.8)
    assert chance(0.0, half, effect, 1.0) == pytest.approx(0.025)


@given(st.floats(0, 3), st.floats(0.3, 8), st.integers(6, 60))
def test_more_items_and_larger_distances_decide_more(distance: float, times: float, n: int) -> None:
    effect = effect_of(n)
    _, half = towards(effect)
    assert chance(distance, half, effect, times) <= chance(distance + 0.1, half, effect, times)
    assert chance(distance + 0.1, half, effect, times) <= chance(distance + 0.1, half, effect, 2 * times) + 1e-9


@pytest.mark.parametrize("times", [1, 2, 4])
def test_the_chance_is_that_of_experiments_with_so_many_items(times: int) -> None:
    draw, n, distance, rounds = np.random.default_rng(times), 12, 0.5, 3000
    values = draw.normal(size=n)
    effect = estimate_of((values - values.mean()) / values.std(ddof=1)).describe(">=", -distance)
    away, half = towards(effect)
    assert away == pytest.approx(distance)
    drawn = draw.normal(size=(rounds, n * times)) + distance
    statistic = drawn.mean(axis=1) / drawn.std(axis=1, ddof=1) * math.sqrt(n * times)
    decided = np.mean(statistic >= stats.t.ppf(0.975, n * times - 1))
    assert chance(away, half, effect, float(times)) == pytest.approx(decided, abs=0.04)


def test_the_side_that_faces_the_threshold_counts() -> None:
    effect = effect_of()
    changed = {"estimate": 1.0, "lower": 0.7, "upper": 2.0, "threshold": 0.5}
    above = msgspec.structs.replace(effect, **changed)
    assert towards(above) == pytest.approx((0.5, 0.3))
    assert towards(msgspec.structs.replace(above, threshold=1.5)) == pytest.approx((0.5, 1.0))
    within = msgspec.structs.replace(
        effect, relation="within", threshold=0.5, estimate=-0.2, lower=-0.6, upper=0.1
    )
    assert towards(within) == pytest.approx((0.3, 0.4))
    assert towards(msgspec.structs.replace(effect, lower=None, upper=None)) is None
    assert towards(msgspec.structs.replace(effect, exact=True)) is None
