"""Quantiles and chances are those of scipy.stats, to the last digit."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from auditkit.stats.families import cautious
from auditkit.stats.quantiles import chance_below, quantile

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


def test_the_modules_of_verify_do_not_import_scipy_stats() -> None:
    """It takes most of a second, for which every command would wait."""
    code = "import sys, auditkit.gate.verified; sys.exit('scipy.stats' in sys.modules or 'statsmodels' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
