"""Clusters within fixed strata: the variance within them, degrees of freedom, and what a record keeps of them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from auditkit.claims.evidence import gathering
from auditkit.stats.effects.kept import read_effects
from auditkit.stats.effects.mean import Estimate
from auditkit.stats.intervals import moments as plain
from auditkit.stats.measurement import Measurement, MeasurementError
from auditkit.stats.strata import MIN_PER_STRATUM, moments, without_strata

pytestmark = pytest.mark.unit


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(19)


def measured(
    values: np.ndarray, kinds: list[str], cases: list[str] | None = None, **more: list[str]
) -> Measurement:
    """One item per value, its case a cluster within its kind."""
    index = pd.Index([f"i{k}" for k in range(len(values))])
    clusters = pd.DataFrame({"case": cases or [f"c{k}" for k in range(len(values))], **more}, index)
    strata = pd.Series(kinds, index, name="kind")
    return Measurement("decisions", "logit", pd.DataFrame({"odds": values}, index), clusters, strata=strata)


def mean(measurement: Measurement) -> Estimate:
    return Estimate("mean", "logit", measurement, measurement.condition("odds"))


def kinds_of(each: int, strata: int = 5) -> list[str]:
    return [f"k{s}" for s in range(strata) for _ in range(each)]


def test_the_variance_is_that_within_strata_written_out(rng) -> None:
    kinds = [*"aaaa", *"bbbbb", *"ccc"]
    values = rng.normal(size=12) + np.repeat([0.0, 5.0, -3.0], [4, 5, 3])
    effect = mean(measured(values, kinds)).describe()
    groups = [values[:4], values[4:9], values[9:]]
    parts = [len(g) ** 2 / 144 * g.var(ddof=1) / len(g) for g in groups]
    df = int(sum(parts) ** 2 / sum(p * p / (len(g) - 1) for p, g in zip(parts, groups, strict=True)))
    half = stats.t.ppf(0.975, df) * np.sqrt(sum(parts))
    assert effect.estimate == pytest.approx(values.mean())
    assert (effect.lower, effect.upper) == pytest.approx((values.mean() - half, values.mean() + half))
    assert (effect.df, effect.clusters) == (df, 12)
    assert "case, within strata of kind" in effect.method


def test_items_of_a_case_are_averaged_first(rng) -> None:
    values, kinds = rng.normal(size=15), kinds_of(3)
    whole = mean(measured(values, kinds)).describe()
    twice = np.concatenate([values + 0.5, values - 0.5, values[:4]])
    cases = [f"c{k}" for k in (*range(15), *range(15), *range(4))]
    again = mean(measured(twice, [*kinds, *kinds, *kinds[:4]], cases)).describe()
    assert (again.lower, again.upper, again.df) == pytest.approx((whole.lower, whole.upper, whole.df))


def test_what_strata_differ_by_does_not_widen_the_interval_and_what_cases_differ_by_does(rng) -> None:
    noise, kinds = rng.normal(size=25), kinds_of(5)
    apart = np.repeat(rng.normal(size=5) * 10, 5)
    near, far = (mean(measured(noise + shift, kinds)).describe() for shift in (0.0, apart))
    assert far.upper - far.lower == pytest.approx(near.upper - near.lower)
    wide = mean(measured(2 * noise + apart, kinds)).describe()
    assert wide.upper - wide.lower == pytest.approx(2 * (near.upper - near.lower))


def test_one_stratum_that_holds_all_the_variance_has_its_own_degrees_of_freedom(rng) -> None:
    values = np.concatenate([rng.normal(size=5), rng.normal(size=20) * 1e-6])
    assert mean(measured(values, kinds_of(5))).describe().df == 4
    alike = np.tile([-2.0, -1.0, 0.0, 1.0, 2.0], 5)
    assert mean(measured(alike, kinds_of(5))).describe().df == 20


@pytest.mark.parametrize("kinds", [kinds_of(MIN_PER_STRATUM - 1), [*kinds_of(5, 2), "alone"], ["one"] * 9])
def test_with_too_few_cases_of_a_kind_or_one_kind_the_interval_is_over_all_cases(rng, kinds) -> None:
    values = rng.normal(size=len(kinds))
    measurement = measured(values, kinds)
    here = moments(values[:, None], measurement.clusters, measurement.strata)
    there = plain(values[:, None], measurement.clusters)
    assert (here.mean, here.parts, here.own) == (there.mean, there.parts, there.own)
    assert "strata" not in mean(measurement).describe().method


def test_with_a_second_factor_across_strata_its_variance_stays(rng) -> None:
    """Names that are asked in cases of every kind: what kinds differ by goes, what names differ by stays."""
    case, name = np.repeat(np.arange(25), 2), np.tile(np.arange(5), 10)
    kind = np.repeat(np.arange(5), 10)
    by_name, by_kind = rng.normal(size=5) * 3, rng.normal(size=5) * 10

    def interval(names: float, kinds: float) -> tuple[float, int]:
        values = rng.normal(size=50) * 0.01 + names * by_name[name] + kinds * by_kind[kind]
        labels = [[f"{label}{k}" for k in codes] for label, codes in (("k", kind), ("c", case), ("n", name))]
        effect = mean(measured(values, labels[0], labels[1], name=labels[2])).describe()
        return effect.upper - effect.lower, effect.df

    neither, only_kinds, both = interval(0, 0), interval(0, 1), interval(1, 1)
    assert only_kinds[0] < 3 * neither[0]
    assert both[0] > 2 * stats.t.ppf(0.975, 4) * by_name.std(ddof=1) / np.sqrt(5)
    assert both[1] == 4


def test_how_many_items_a_case_has_does_not_pass_for_a_spread_of_cases(rng) -> None:
    """With a second factor cases weigh by their items; only what lies around the mean of the kind counts."""
    case = np.concatenate([np.arange(15), np.arange(0, 15, 3)])  # the first case of each kind is asked twice
    name = np.concatenate([np.arange(15) % 4, (np.arange(0, 15, 3) + 2) % 4])
    values = rng.normal(size=15)[case] * np.repeat([5.0, 0.01, 0.01, 0.01, 0.01], 3)[case]
    labels = [[f"{label}{k}" for k in codes] for label, codes in (("k", case // 3), ("c", case), ("n", name))]
    near, far = (measured(values + level, labels[0], labels[1], name=labels[2]) for level in (0.0, 100.0))
    for one in (near, far):
        dfs = moments(one.condition("odds")[:, None], one.clusters, one.strata).dfs
        assert dfs[0] == 2, "one kind holds all the variance"


def test_the_mean_is_kept_and_so_is_every_shape(rng) -> None:
    columns = rng.normal(size=(12, 2))
    measurement = measured(columns[:, 0], kinds_of(4, 3))
    adjusted = without_strata(columns, measurement.clusters, measurement.strata)
    np.testing.assert_allclose(adjusted.mean(0), columns.mean(0))
    np.testing.assert_allclose(
        without_strata(columns[:, 1], measurement.clusters, measurement.strata), adjusted[:, 1]
    )


def test_a_change_is_judged_within_the_same_strata(rng) -> None:
    kinds, apart = kinds_of(5), np.repeat(rng.normal(size=5), 5)
    before, now = rng.normal(size=25), rng.normal(size=25)
    change = mean(measured(now + 3 * apart, kinds)).change_from(mean(measured(before - 4 * apart, kinds)))
    plainly = mean(measured(now - before, kinds))
    assert change.describe().upper - change.describe().lower == pytest.approx(
        plainly.describe().upper - plainly.describe().lower
    )
    elsewhere = [*kinds[5:], *kinds[:5]]
    refused = mean(measured(now, kinds)).change_from(mean(measured(before, elsewhere)))
    assert "unmatched_clusters" in refused.refused


def test_a_record_keeps_strata_so_that_a_later_run_is_compared_within_them(rng) -> None:
    estimate = mean(measured(rng.normal(size=25) + np.repeat(rng.normal(size=5), 5), kinds_of(5)))
    with gathering() as evidence:
        estimate.keep_effect()
    rows = pd.DataFrame([{f: getattr(row, f) for f in row.__struct_fields__} for row in evidence.items.values()])
    again = read_effects(rows)["mean"].estimate
    assert again.describe() == estimate.describe()
    assert list(again.measurement.clusters.columns) == ["case"]
    assert again.measurement.strata.tolist() == estimate.measurement.strata.tolist()


def test_strata_that_cut_through_clusters_are_refused() -> None:
    with pytest.raises(
        MeasurementError, match="every cluster of one factor must lie in one stratum; those of case"
    ):
        measured(np.zeros(4), ["a", "b", "a", "b"], ["c", "c", "d", "d"])
    index = pd.Index(["i", "j"])
    values, clusters = pd.DataFrame({"v": [0.0, 1.0]}, index), pd.DataFrame({"case": ["c", "d"]}, index)
    with pytest.raises(MeasurementError, match="values and strata must list the same items"):
        Measurement("m", "1", values, clusters, strata=pd.Series(["a", "b"], name="kind"))
    with pytest.raises(MeasurementError, match="needs the label of a stratum"):
        Measurement("m", "1", values, clusters, strata=pd.Series(["a", None], index, name="kind"))
    with pytest.raises(MeasurementError, match="must not begin with 'stratum:'"):
        Measurement("m", "1", values, clusters.rename(columns={"case": "stratum:case"}))
