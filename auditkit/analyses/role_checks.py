"""What must hold before an entropy of attention is read: the formula is right, and magnitudes are no measurement.

Every row of a pattern of T keys sums to 1, so the mean of |A| over all T x T cells is 1 / T whatever the heads do. A
map of that mean shows one constant and rounding, and the difference of two categories that of their lengths.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch

from auditkit.analyses.role_conditioning import Arm, RoleConditioning
from auditkit.analyses.role_entropy import (
    MAGNITUDE,
    MEASURES,
    REPAIRED,
    UNITS,
    Array,
    repaired_entropies,
    uniform_pattern,
)
from auditkit.data.role_prompts import CONFOUNDER, NEUTRAL, SELF
from auditkit.engine.attention import entropy, probabilities
from auditkit.record.evidence import figure
from auditkit.record.figures import Table
from auditkit.stats.estimates import Estimate
from auditkit.stats.exact import Exact, exactly
from auditkit.stats.measurement import Measurement

ROWS = 8
"""Prompts whose rows are summed."""


def entropy_error(role: RoleConditioning) -> Exact:
    """Largest error, over queries, of H_q = ln(q + 1) on even causal attention of each length of these prompts."""
    lengths = sorted(set(role.arm().matched.lengths))
    errors = [
        float((entropy(uniform_pattern(n).double()) - torch.arange(1, n + 1).double().log()).abs().max())
        for n in lengths
    ]
    return _exact("error of the entropy of even attention", "nat", errors, [f"{n} tokens" for n in lengths])


def one_hot_entropy(role: RoleConditioning) -> Exact:
    """Largest repaired entropy of attention that goes to one key, for each length of these prompts."""
    lengths = sorted(set(role.arm().matched.lengths))
    values = [float(repaired_entropies(torch.eye(n)).nan_to_num().abs().max()) for n in lengths]
    return _exact(
        "entropy of attention to a single key", UNITS[REPAIRED], values, [f"{n} tokens" for n in lengths]
    )


def excess(role: RoleConditioning) -> Exact:
    """By how much the rows of this model's own attention exceed a sum of 1, at most, for a few prompts."""
    prompts = role.arm().matched.prompts[SELF][:ROWS]
    sums = [float((p.sum(-1) - 1).max()) for p in probabilities(role.adapter, prompts, "all")]
    return _exact("sum of a row of attention, above 1", "of attention", sums, [p.text for p in prompts])


def magnitude_error(arm: Arm) -> Exact:
    """Largest difference over heads between the mean of |A| and 1 / T, for each prompt about the model."""
    lengths = np.array(arm.matched.lengths, dtype=float)[:, None, None]
    errors = np.abs(arm.values[SELF][:, MEASURES.index(MAGNITUDE)] - 1 / lengths).max((1, 2))
    return _exact("mean |A| minus 1 / T", "of attention", list(errors), list(map(str, arm.matched.table.index)))


def show_magnitudes(role: RoleConditioning) -> None:
    """The published map's numbers: mean |A| self minus others, which is that of 1 / T, for every head."""
    arm = role.arm()
    rows: list[list[str | float | None]] = []
    for other in (NEUTRAL, CONFOUNDER):
        measured = _magnitudes(arm, SELF) - _magnitudes(arm, other)
        expected = _inverse(arm, SELF) - _inverse(arm, other)
        rows.append([f"self minus {other}", float(measured.mean()), float(np.ptp(measured)), expected])
    figure(
        Table(
            "Mean |attention| over all queries and keys, self minus another category: the same number in every head, "
            "namely the difference of the mean of 1 / T. What a map of it shows between heads is rounding.",
            ["difference", "mean over heads", "range over heads", "expected from lengths alone"],
            rows,
        ).titled("Why mean attention shows nothing")
    )


def _magnitudes(arm: Arm, category: str) -> Array:
    """(layer, head) mean over prompts of mean |A|."""
    means: Array = arm.values[category][:, MEASURES.index(MAGNITUDE)].mean(0)
    return means


def _inverse(arm: Arm, category: str) -> float:
    return float(np.mean([1 / len(prompt) for prompt in arm.matched.prompts[category]]))


def _exact(name: str, unit: str, values: list[float], items: list[str]) -> Exact:
    index = pd.Index(items, name="item")
    table = Measurement(
        name, unit, pd.DataFrame({name: values}, index=index), pd.DataFrame({"item": items}, index=index)
    )
    estimate = Estimate(name, unit, table, np.array(values), shown_conditions=(name,))
    return exactly(estimate, population="what this run measured", size=len(items))
