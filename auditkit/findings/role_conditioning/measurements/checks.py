"""Checks of the attention pattern: its rows sum to 1, so its mean magnitude differs between heads by rounding only.

Every row of a pattern of T keys sums to 1, so the mean of |A| over all T x T cells is 1 / T whatever the heads do. A
map of that mean shows a constant plus rounding errors, and a difference between two categories reflects their lengths.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from auditkit.engine.attention import probabilities
from auditkit.findings.role_conditioning.measurements.conditioning import MeasuredFormat, RoleConditioning
from auditkit.findings.role_conditioning.measurements.entropy import MAGNITUDE, MEASURES, Array
from auditkit.findings.role_conditioning.prompts.sets import CONFOUNDER, NEUTRAL, SELF
from auditkit.record.figures import Figure, Table
from auditkit.stats.effects.exact import Exact, exactly
from auditkit.stats.effects.mean import Estimate
from auditkit.stats.measurement import Measurement

ROWS = 8
"""Prompts whose rows are summed."""


def excess(role: RoleConditioning) -> Exact:
    """By how much the rows of this model's own attention exceed a sum of 1, at most, for a few prompts."""
    prompts = role.arm().matched.prompts[SELF][:ROWS]
    sums = [float((p.sum(-1) - 1).max()) for p in probabilities(role.adapter, prompts, "all")]
    name, items = "sum of a row of attention, above 1", [prompt.text for prompt in prompts]
    index = pd.Index(items, name="item")
    table = Measurement(
        name, "of attention", pd.DataFrame({name: sums}, index=index), pd.DataFrame({"item": items}, index=index)
    )
    estimate = Estimate(name, "of attention", table, np.array(sums), shown_conditions=(name,))
    return exactly(estimate, population="what this run measured", size=len(items))


def magnitudes(role: RoleConditioning) -> Figure:
    """Numbers of the published map: mean |A|, self minus another category; it equals that of 1 / T in every head."""
    arm = role.arm()
    rows: list[list[str | float | None]] = []
    for other in (NEUTRAL, CONFOUNDER):
        measured = _magnitudes(arm, SELF) - _magnitudes(arm, other)
        expected = _inverse(arm, SELF) - _inverse(arm, other)
        rows.append([f"self minus {other}", float(measured.mean()), float(np.ptp(measured)), expected])
    return Table(
        "Mean |attention| over all queries and keys, self minus another category. It is the same number in every "
        "head, the difference of the mean of 1 / T, so the differences between heads in a map of it are rounding.",
        ["difference", "mean over heads", "range over heads", "expected from lengths alone"],
        rows,
    ).titled("Why mean attention shows nothing")


def _magnitudes(arm: MeasuredFormat, category: str) -> Array:
    """(layer, head) mean over prompts of mean |A|."""
    means: Array = arm.values[category][:, MEASURES.index(MAGNITUDE)].mean(0)
    return means


def _inverse(arm: MeasuredFormat, category: str) -> float:
    return float(np.mean([1 / len(prompt) for prompt in arm.matched.prompts[category]]))
