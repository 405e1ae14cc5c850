"""Geometric means and ratios: decided on the log scale, shown in the original unit."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditkit.claims.evidence import gathering
from auditkit.claims.outcomes import Inconclusive
from auditkit.record.schema import Verdict
from auditkit.stats.effects.base import Comparable
from auditkit.stats.effects.geometric import geometric_mean, geometric_ratio
from auditkit.stats.effects.mean import Estimate
from auditkit.stats.measurement import MeasurementError

pytestmark = pytest.mark.unit

values = st.lists(st.floats(0.01, 100), min_size=6, max_size=14)


def drawn(seed: int, n: int = 20, spread: float = 0.8) -> np.ndarray:
    return np.exp(np.random.default_rng(seed).normal(0, spread, n))


@given(values)
def test_a_geometric_mean_is_exp_of_the_mean_logarithm_with_its_interval(table, found):
    measured = table({"kl": found}, range(len(found)))
    effect = geometric_mean(measured, "kl", name="kl").describe(">=", 0.5)
    logs = Estimate("kl", "ln", measured, np.log(found)).describe(">=", math.log(0.5))
    assert effect.estimate == pytest.approx(math.exp(logs.estimate))
    assert (effect.unit, effect.threshold, effect.n) == ("logit", 0.5, len(found))
    assert (effect.p_fail, effect.df) == (logs.p_fail, logs.df)
    if logs.lower is not None:
        assert (effect.lower, effect.upper) == pytest.approx((math.exp(logs.lower), math.exp(logs.upper)))
        assert effect.mde == pytest.approx(0.5 * (math.exp(logs.mde) - 1))


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_a_decision_does_not_depend_on_the_unit(table, scale):
    measured = table({"kl": scale * drawn(0), "host": scale * 3 * drawn(0)}, range(20))
    kl, host = (geometric_mean(measured, name, name=name) for name in ("kl", "host"))
    assert kl <= 3 * scale
    assert not kl >= 3 * scale
    with pytest.raises(Inconclusive):
        _ = kl >= scale
    with pytest.raises(Inconclusive, match="constant"):
        _ = host / kl >= 2  # exactly three times as much for every item: no spread to judge by


def test_a_ratio_is_paired_and_the_same_whichever_way_it_is_made(table):
    noise = drawn(1, spread=0.1)
    measured = table({"kl": drawn(0), "host": 3 * drawn(0) * noise}, range(20))
    kl, host = (geometric_mean(measured, name, name=name) for name in ("kl", "host"))
    ratio = geometric_ratio(measured, "host", "kl", name="host / kl")
    assert ratio.describe().estimate == pytest.approx(3 * math.exp(np.log(noise).mean()))
    assert (host / kl).describe().lower == pytest.approx(ratio.describe().lower)
    assert ratio >= 2
    assert not ratio >= 4
    decision = host > kl
    assert decision.verdict is Verdict.PASS
    assert (decision.effect.threshold, decision.effect.unit) == (1.0, "times")
    assert decision.threshold_source == "paired with kl"
    assert (kl / 2 <= 1).effect.estimate == pytest.approx(kl.describe().estimate / 2)


@pytest.mark.parametrize("bad", [0.0, -1e-3])
def test_what_has_no_logarithm_decides_nothing_and_says_so(table, bad):
    measured = table({"kl": [bad, *drawn(0)[1:]], "host": drawn(1)}, range(20))
    for effect in (
        geometric_mean(measured, "kl", name="kl"),
        geometric_ratio(measured, "host", "kl", name="r"),
        geometric_ratio(measured, "kl", "host", name="r"),
        geometric_mean(measured, "kl", name="kl") / geometric_mean(measured, "host", name="host"),
        geometric_mean(measured, "kl", name="kl", resolution=1e-9)
        if bad
        else geometric_mean(measured, "kl", name="k"),
    ):
        with pytest.raises(Inconclusive, match="not_positive: 1 of 20 values of 'kl' are zero or below"):
            _ = effect >= 1e-9


def test_values_within_the_resolution_count_as_the_resolution(table):
    measured = table({"kl": [0.0, -1e-12, 1e-10, *drawn(0)[3:]]}, range(20))
    logs = geometric_mean(measured, "kl", name="kl", resolution=1e-9).logs.numerator
    np.testing.assert_allclose(logs[:3], math.log(1e-9))
    with pytest.raises(ValueError, match="a resolution is a finite number"):
        geometric_mean(measured, "kl", name="kl", resolution=-1.0)


@pytest.mark.parametrize("threshold", [0.0, -1.0, math.inf, math.nan])
def test_a_threshold_without_a_logarithm_is_refused(table, threshold):
    effect = geometric_mean(table({"kl": drawn(0)}, range(20)), "kl", name="kl")
    with pytest.raises(ValueError, match="positive, finite number"):
        _ = effect <= threshold
    with pytest.raises(ValueError, match="positive, finite number"):
        _ = effect / threshold


def test_a_geometric_mean_is_not_subtracted(table):
    effect = geometric_mean(table({"kl": drawn(0)}, range(20)), "kl", name="kl")
    for ask in (lambda: effect - 1.0, lambda: effect.equals(1.0, within=0.1)):
        with pytest.raises(MeasurementError, match=r"divide it by another .* \(\.logs\)"):
            ask()
    assert effect.logs.equals(0.0, within=math.log(3))


def test_what_was_decided_is_kept_so_that_a_run_can_be_a_baseline(table):
    effect = geometric_mean(table({"kl": drawn(0)}, range(20)), "kl", name="typical kl")
    with gathering() as evidence:
        assert effect <= 5
    kept = [row for row in evidence.items.values() if row.effect]
    assert {(row.effect, row.unit, row.condition) for row in kept} == {("typical kl", "ln logit", "numerator")}
    np.testing.assert_allclose([row.value for row in kept], np.log(drawn(0)))
    assert evidence.decisions[0].effect.method.startswith(
        "geometric mean, decided on the log scale; mean; cluster"
    )
    assert evidence.decisions[0].examples[0].values["kl"] == pytest.approx(drawn(0).max())


def test_few_and_skewed_clusters_are_said_of_the_logarithms(table):
    def said(found):
        with gathering() as evidence:
            _ = geometric_mean(table({"kl": found}, range(len(found))), "kl", name="kl") <= 1e3
        return [text.split(":")[0] for text in evidence.notes]

    assert said(drawn(0, 8)) == ["few clusters"]
    assert said(drawn(2, 40)) == []
    assert said(np.exp(drawn(0, 40, 1.0))) == ["skewed clusters"]


@pytest.mark.slow
def test_on_log_normal_values_the_geometric_mean_errs_as_often_as_stated_and_the_mean_does_not(table):
    def misses(make) -> float:
        wrong = 0
        for seed in range(600):
            measured = table({"kl": drawn(seed, 8)}, range(8))
            effect: Comparable
            effect, truth = make(measured)
            wrong += effect.describe().upper < truth
        return wrong / 600

    assert misses(lambda m: (geometric_mean(m, "kl", name="kl"), 1.0)) < 0.045
    assert misses(lambda m: (Estimate("kl", "logit", m, m.condition("kl")), math.exp(0.32))) > 0.08
