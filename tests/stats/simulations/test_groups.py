"""What is simulated of strata and of groups is what the methods of a suite compute."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from auditkit.stats.effects.mean import Estimate
from auditkit.stats.effects.rate import rate
from auditkit.stats.measurement import Measurement
from auditkit.stats.simulations.groups import every_pair, four_fifths
from auditkit.stats.simulations.strata import CASE, KIND, NAME, between, crossed, two_way, within

pytestmark = pytest.mark.unit


def test_the_simulated_interval_within_strata_is_the_estimate_s() -> None:
    values = np.random.default_rng(2).normal(size=(4, 5, 4)) + np.arange(5)[:, None]
    for k, one in enumerate(values):
        index = pd.Index([f"c{n}" for n in range(20)])
        clusters = pd.DataFrame({"case": index}, index)
        kinds = pd.Series(np.repeat(list("abcde"), 4), index, name="kind")
        for strata, method in ((kinds, within), (None, between)):
            table = pd.DataFrame({"v": one.reshape(-1)}, index)
            effect = Estimate(
                "v", "1", Measurement("m", "1", table, clusters, strata=strata), table["v"].to_numpy()
            ).describe()
            mean, half = (part[k] for part in method(values))
            assert (effect.lower, effect.upper) == pytest.approx((mean - half, mean + half))


def test_the_simulated_crossing_with_names_is_the_estimate_s() -> None:
    values = np.random.default_rng(6).normal(size=(3, 40)) + np.random.default_rng(7).normal(size=5)[NAME]
    index = pd.Index([f"i{n}" for n in range(40)])
    clusters = pd.DataFrame({"case": [f"c{n}" for n in CASE], "names": [f"n{n}" for n in NAME]}, index)
    kinds = pd.Series([f"k{n}" for n in KIND], index, name="kind")
    for k, one in enumerate(values):
        for strata in (kinds, None):
            measured = Measurement("m", "1", pd.DataFrame({"v": one}, index), clusters, strata=strata)
            effect = Estimate("v", "1", measured, one).describe()
            mean, half = (part[k] for part in two_way(values, strata is not None))
            assert (effect.lower, effect.upper) == pytest.approx((mean - half, mean + half))


def test_a_simulated_claim_on_four_fifths_passes_where_the_suite_s_does() -> None:
    hits = (np.random.default_rng(4).random((6, 3, 40)) < 0.95).astype(float)
    for one, passed in zip(hits, every_pair(hits), strict=True):
        index = [f"{group}{case}" for group in "abc" for case in range(40)]
        # every answer a case of its own, as where groups share nothing
        clusters = pd.DataFrame({"case": index}, index)
        measured = Measurement("m", "1", pd.DataFrame({"yes": one.reshape(-1)}, index), clusters)
        rates = [rate(measured, "yes", name=g, among=[i for i in index if i[0] == g]) for g in "abc"]
        lows = [(a / b).describe().lower for a in rates for b in rates if a is not b]
        assert bool(passed) <= (min(lows) >= 0.8), "t over cases is a little stricter than the normal"


def test_tables_are_made() -> None:
    assert four_fifths(50).splitlines()[2].startswith("| 25 | one of 3 at the line |")
    assert len(crossed(2).splitlines()) == 2 + 6
