"""Cross-fitting: each half finds for the other, and one estimate over all items holds its stated error."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from auditkit.stats.effects.mean import Estimate
from auditkit.stats.halves import CrossFitted, Halves, cross_fit, halves, joined
from auditkit.stats.measurement import Measurement, MeasurementError

pytestmark = pytest.mark.unit


def an_estimate(values: np.ndarray, clusters: pd.DataFrame, bottom: np.ndarray | None = None) -> Estimate:
    table = pd.DataFrame({"value": values}, index=clusters.index)
    return Estimate("x", "1", Measurement("m", "1", table, clusters), values, bottom, shown_conditions=("value",))


def one_factor(names: str) -> pd.DataFrame:
    index = [f"{name}{n}" for name in names for n in range(3)]
    return pd.DataFrame({"frame": [name[0] for name in index]}, index=index)


def crossed(rows: int = 8, columns: int = 6) -> pd.DataFrame:
    cells = [(f"r{i}", f"c{j}") for i in range(rows) for j in range(columns)]
    return pd.DataFrame(cells, columns=["row", "column"], index=[f"{i}|{j}" for i, j in cells])


def width(estimate: Estimate) -> float:
    effect = estimate.describe()
    assert effect.lower is not None
    assert effect.upper is not None
    return effect.upper - effect.lower


@pytest.mark.parametrize("clusters", [one_factor("abcdefgh"), crossed()], ids=["one factor", "two factors"])
def test_the_variance_of_items_judged_by_other_items_is_doubled(clusters: pd.DataFrame) -> None:
    draw = np.random.default_rng(0)
    values = 3 + draw.normal(size=len(clusters)) + pd.factorize(clusters.iloc[:, 0])[0] / 4
    plain = an_estimate(values, clusters)
    fitted = CrossFitted.of(plain)
    assert width(fitted) == pytest.approx(np.sqrt(2) * width(plain))
    assert fitted.describe().estimate == pytest.approx(plain.describe().estimate)
    assert fitted.describe().alpha == plain.describe().alpha == 0.05
    assert fitted.describe().mde == pytest.approx(np.sqrt(2) * plain.describe().mde)
    # The p-values of a comparison follow the interval, and so do shares and differences made of it.
    lower = fitted.describe().lower
    assert fitted.tail(lower) == pytest.approx(0.975)
    assert "variance is doubled" in (fitted - 1.0).describe().method
    assert width(fitted - 1.0) == pytest.approx(width(fitted))
    share = an_estimate(values, clusters, 50 + draw.normal(size=len(clusters)))
    assert width(CrossFitted.of(share)) == pytest.approx(np.sqrt(2) * width(share), rel=0.01)


def test_each_half_is_judged_by_what_the_other_found() -> None:
    clusters = one_factor("abcdefghij")
    draw = np.random.default_rng(1)
    candidates = draw.normal(size=(len(clusters), 4))
    split = halves(clusters, 0, "claim")
    chosen = {}

    def judge(way: Halves) -> Estimate:
        rows, held = (clusters.index.get_indexer(list(ids)) for ids in (way.discovery, way.confirmation))
        best = int(candidates[rows].mean(0).argmax())
        chosen.update(dict.fromkeys(way.confirmation, best))
        return an_estimate(candidates[held, best], clusters.iloc[held])

    fitted = cross_fit("best of four", split, judge)
    assert sorted(fitted.measurement.values.index) == sorted(clusters.index)
    for item, value in zip(fitted.measurement.values.index, fitted.numerator, strict=True):
        assert value == candidates[clusters.index.get_loc(item), chosen[item]]
    assert fitted.describe().clusters == 10
    assert fitted.name == "best of four"


def test_halves_that_share_a_cluster_or_a_scale_are_not_joined() -> None:
    one, other = an_estimate(np.arange(9.0), one_factor("abc")), an_estimate(np.arange(9.0), one_factor("def"))
    assert len(joined("x", one, other).numerator) == 18
    with pytest.raises(MeasurementError, match="frame 'c' is in both halves"):
        joined("x", one, an_estimate(np.arange(9.0), one_factor("cde")))
    with pytest.raises(MeasurementError, match="in one unit under the same conditions"):
        joined("x", one, an_estimate(np.arange(9.0), one_factor("def"), np.ones(9)))
    with pytest.raises(MeasurementError, match="the same cluster factors"):
        joined("x", one, an_estimate(np.arange(48.0), crossed()))


def test_what_either_half_may_not_decide_the_join_may_not() -> None:
    one, other = an_estimate(np.arange(9.0), one_factor("abc")), an_estimate(np.arange(9.0), one_factor("def"))
    assert joined("x", one, replace(other, refused="no_head_confirmed: none")).refused.startswith("no_head")


@pytest.mark.slow
def test_a_direction_learnt_on_either_half_is_held_as_often_as_stated() -> None:
    """Nothing to find: the plain interval of the joined halves misses far too often, the cross-fitted one does not."""
    draw, misses = np.random.default_rng(2), {"plain": 0, "cross-fitted": 0}
    clusters = pd.DataFrame({"item": [f"i{n}" for n in range(40)]}, index=[f"i{n}" for n in range(40)])
    split = halves(clusters, 0, "claim")
    for _ in range(200):
        points = draw.normal(size=(40, 60))

        def judge(way: Halves, points: np.ndarray = points) -> Estimate:
            rows, held = (clusters.index.get_indexer(list(ids)) for ids in (way.discovery, way.confirmation))
            direction = points[rows].mean(0)
            return an_estimate(points[held] @ direction / np.linalg.norm(direction), clusters.iloc[held])

        fitted = cross_fit("learnt direction", split, judge)
        plain = an_estimate(fitted.numerator, clusters.loc[fitted.measurement.values.index])
        for name, estimate in (("plain", plain), ("cross-fitted", fitted)):
            misses[name] += bool(estimate.describe().lower > 0)  # the truth is the direction's mean, which is zero
    assert misses["plain"] > 0.05 * 200
    assert misses["cross-fitted"] <= 0.035 * 200
