"""Quantiles and chances are those of scipy.stats, to the last digit."""

from __future__ import annotations

import math
import subprocess
import sys
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from auditkit.stats.families import cautious
from auditkit.stats.quantiles import chance_below, chances_of_skewness, quantile, skewnesses

pytestmark = pytest.mark.unit

DEGREES = st.none() | st.floats(0.5, 1e6)


@given(st.floats(1e-12, 1 - 1e-12), DEGREES)
def test_quantiles_are_those_of_scipy_stats(chance: float, df: float | None) -> None:
    distribution = stats.norm() if df is None else stats.t(df)
    assert quantile(chance, df) == float(distribution.ppf(chance))


@given(st.floats(0, 1e-12), DEGREES)
def test_the_smallest_chances_have_the_lowest_quantiles(chance: float, df: float | None) -> None:
    """Where scipy.stats gives +inf, an overwhelming FAIL would count as no evidence at all."""
    assert -math.inf <= quantile(chance, df) <= quantile(1e-12, df) < 0


@pytest.mark.parametrize("p", [0.0, 5e-324, 1e-300, 1e-20])
@pytest.mark.parametrize("df", [4.0, 11.0, 200.0])
def test_an_overwhelming_p_value_stays_small_when_it_is_made_cautious(p: float, df: float) -> None:
    assert 0 <= cautious(p, df) < 1e-3


@given(st.floats(-50, 50), DEGREES)
def test_chances_are_those_of_scipy_stats(value: float, df: float | None) -> None:
    distribution = stats.norm() if df is None else stats.t(df)
    assert chance_below(value, df) == float(distribution.cdf(value))


@given(
    arrays(np.float64, st.tuples(st.integers(1, 3), st.integers(8, 40)), elements=st.floats(-1e6, 1e6, width=32))
)
def test_skewness_and_its_chances_are_those_of_scipy_stats(rows: np.ndarray) -> None:
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of constant rows
        expected = stats.skew(rows, axis=1)
        chances = stats.skewtest(rows, axis=1).pvalue
    found = skewnesses(rows)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)
    mine = chances_of_skewness(found, rows.shape[1])
    told = np.abs(found) > 1e-6  # scipy.stats takes another value where the skewness is exactly zero
    np.testing.assert_allclose(mine[told], chances[told], rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("module", ["auditkit.gate.verified", "auditkit.stats.families"])
def test_what_every_run_needs_does_not_import_scipy_stats(module: str) -> None:
    """It takes most of a second, for which every command would wait."""
    code = f"""
import sys, numpy, pandas, {module}
from auditkit.stats.intervals import cautions
clusters = pandas.DataFrame({{"topic": list(map(str, range(40)))}})
assert any(one.startswith("skewed") for one in cautions(numpy.exp(numpy.arange(40.0) / 5), clusters))
sys.exit("scipy.stats" in sys.modules or "statsmodels" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
