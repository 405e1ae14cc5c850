"""The same simulations as in test_calibration, long enough to hold the stated rates without allowance."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from auditkit.stats.intervals import fieller, moments

pytestmark = pytest.mark.slow

ROUNDS = 12_000


@pytest.mark.parametrize("ratio", [False, True], ids=["mean", "ratio"])
@pytest.mark.parametrize("keep", [1.0, 0.7], ids=["complete", "incomplete"])
@pytest.mark.parametrize("spread", [(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.3, 1.0)])
@pytest.mark.parametrize("shape", [(5, 10), (8, 16), (17, 16), (30, 30)])
def test_crossed_intervals_hold_their_level(shape, spread, keep, ratio, record_property):
    rng = np.random.default_rng(20250711)
    first, second = (g.ravel() for g in np.meshgrid(*map(np.arange, shape), indexing="ij"))
    if keep < 1:
        order = rng.permutation(len(first))[: int(keep * len(first))]
        first, second = first[order], second[order]
    clusters = pd.DataFrame({"topic": first, "pair": second})

    def effects() -> np.ndarray:
        a, b = rng.normal(size=shape[0]), rng.normal(size=shape[1])
        return spread[0] * a[first] + spread[1] * b[second] + rng.normal(size=len(first))

    covered = passed = failed = 0
    for _ in range(ROUNDS):
        total = 6 + effects() if ratio else np.ones(len(first))
        lower, upper = fieller(moments(np.column_stack([0.6 * total + effects(), total]), clusters)) or (-9e9, 9e9)
        covered += lower <= 0.6 <= upper
        passed += lower > 0.6
        failed += upper < 0.6
    rates = np.array([covered, passed, failed]) / ROUNDS
    record_property("coverage, PASS and FAIL at the threshold", rates.tolist())
    print(shape, spread, keep, "ratio" if ratio else "mean", rates.round(4))
    assert rates[0] >= 0.93
    assert rates[1:].max() <= 0.035
