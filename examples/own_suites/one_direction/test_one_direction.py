"""Refusal is mediated by one direction in the residual stream (Arditi et al. 2024, arXiv:2406.11717)."""

import pytest

from auditkit import control, figure
from auditkit.methods.contrast.nulls import COVARIANCE, RANDOM, kind_of


@pytest.mark.causal(control="random directions of the same place and length")
def test_the_direction_lowers_refusals(removed, threshold):
    """Without the direction from harmless to harmful requests, the log odds of a refusal of a harmful request are at
    least 1 logit lower than with it. A random direction of the same place and length lowers them less."""
    figure(*removed.figures())
    assert removed.change("direction") <= -threshold(1.0, "chosen before any model was measured: odds fall by 2.7")
    with control("random directions of the same place and length"):
        for name in removed.conditions:
            if kind_of(name) in (RANDOM, COVARIANCE):
                assert removed.beyond("direction", name) < 0
