"""A cluster bootstrap of what is no mean: like t where it is one, honest where it cannot say."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from auditkit.claims.evidence import gathering
from auditkit.claims.outcomes import Inconclusive
from auditkit.stats.effects.mean import Estimate
from auditkit.stats.effects.resampled import Resampled
from auditkit.stats.measurement import Measurement, MeasurementError

pytestmark = pytest.mark.unit


def measured(values: np.ndarray, clusters: int) -> Measurement:
    index = pd.Index([f"i{n}" for n in range(len(values))], name="item")
    labels = pd.DataFrame({"frame": [f"f{n % clusters}" for n in range(len(values))]}, index=index)
    return Measurement("m", "1", pd.DataFrame({"v": values}, index=index), labels)


def test_of_a_mean_it_is_nearly_the_t_interval() -> None:
    values = np.random.default_rng(0).normal(1.0, 1.0, size=60)
    table = measured(values, 20)
    plain = Estimate("mean", "1", table, values).describe()
    drawn = Resampled("mean", "1", table, lambda w: w @ values, draws=8000).describe()
    assert drawn.estimate == pytest.approx(plain.estimate)
    assert drawn.lower == pytest.approx(plain.lower, abs=0.02)
    assert drawn.upper == pytest.approx(plain.upper, abs=0.02)
    assert drawn.df == 19


def test_clusters_of_unequal_size_weigh_the_same() -> None:
    values = np.array([1.0] * 10 + [2.0, 3.0, 4.0, 5.0])
    index = pd.Index(range(14), name="item").astype(str)
    labels = pd.DataFrame({"frame": ["a"] * 10 + list("bcde")}, index=index)
    table = Measurement("m", "1", pd.DataFrame({"v": values}, index=index), labels)
    assert Resampled("mean", "1", table, lambda w: w @ values).estimate == pytest.approx(3.0)


def test_it_holds_the_truth_as_often_as_stated_for_a_median_over_layers() -> None:
    draw, hits = np.random.default_rng(4), 0
    for n in range(150):
        layers = draw.normal(size=(10, 18, 1)).repeat(3, 2).reshape(10, 54) + draw.normal(size=(10, 54))
        layers += np.linspace(-1, 1, 10)[:, None]
        statistic = lambda w, layers=layers: np.median(w @ layers.T, axis=1)  # noqa: E731
        labels = measured(np.zeros(54), 54)
        frames = pd.DataFrame({"frame": [f"f{i // 3}" for i in range(54)]}, index=labels.values.index)
        table = Measurement("m", "1", labels.values, frames)
        effect = Resampled("median", "1", table, statistic, seed=n, draws=300).describe()
        hits += effect.lower <= 0.0 <= effect.upper
    assert hits / 150 > 0.88


def test_comparisons_decide_enter_the_evidence_and_can_be_paired() -> None:
    values = np.random.default_rng(0).normal(1.0, 0.2, size=40)
    table = measured(values, 20)
    one = Resampled("one", "1", table, lambda w: w @ values)
    two = Resampled("two", "1", table, lambda w: w @ values**2)
    with gathering() as evidence:
        assert one > 0.5
        assert not one < 0.5
        assert (one - 1.0).equals(0.0, within=0.3)
        assert two - one > -0.5
        with pytest.raises(Inconclusive):
            assert one > float(values.mean())
    assert len(evidence.decisions) == 5
    assert evidence.decisions[0].effect.p_fail is not None


def test_nothing_is_decided_without_spread_clusters_or_a_value() -> None:
    values = np.random.default_rng(0).normal(size=40)
    for table, statistic, reason in (
        (measured(values, 4), lambda w: w @ values, "too_few_clusters"),
        (measured(values, 20), lambda w: np.ones(len(w)), "constant"),
        (measured(values, 20), lambda w: np.full(len(w), np.nan), "non_finite"),
    ):
        with pytest.raises(Inconclusive, match=reason):
            assert Resampled("x", "1", table, statistic) > 0
    crossed = Measurement("m", "1", measured(values, 20).values, measured(values, 20).clusters.assign(other="a"))
    with pytest.raises(MeasurementError, match="one cluster factor"):
        Resampled("x", "1", crossed, lambda w: w @ values)
