"""Whether editing a persona's units or direction moves agreement: a causal test that Cintas et al. (2025,
arXiv:2505.24539) do not have."""

import pytest

from auditkit import any_effect, beside, figure


@pytest.mark.causal(control="as many random units, the same values with random signs")
def test_steering_along_the_units_moves_agreement(steering):
    """Steering along the units that a subset scan found shifts the logit difference of "agree" and "disagree" towards a
    persona's statements. The shift is larger than along as many random units."""
    figure(steering.edits())
    beside("agreement before any edit", steering.agreement())
    found, random = steering.steered("units")
    beside("random units", random)
    assert found > any_effect(0.25)
    assert found - random > any_effect(0.25)


@pytest.mark.causal(control="a random direction of the same length")
def test_steering_along_the_direction_moves_agreement(steering):
    """Steering along a persona's direction shifts the logit difference of "agree" and "disagree" towards the persona's
    statements. The shift is larger than along a random direction of the same length. (The persona's direction is the
    mean activation of statements for it minus that of statements against it.)"""
    found, random = steering.steered("direction")
    beside("random direction", random)
    assert found > any_effect(0.25)
    assert found - random > any_effect(0.25)


@pytest.mark.causal(control="as many random units, moved as far")
def test_ablating_the_units_moves_agreement(steering):
    """The units that a subset scan found are set to their mean. This moves the logit difference of "agree" and
    "disagree" further than changing as many random units by the same norm does."""
    found, random = steering.ablated("units")
    beside("random units", random)
    assert found - random > any_effect(0.25)


@pytest.mark.causal(control="a random direction, moved along as far")
def test_ablating_the_direction_moves_agreement(steering):
    """The persona's direction (the difference of means) is removed from the residual stream. This moves the logit
    difference of "agree" and "disagree" further than an edit of the same norm along a random direction does."""
    found, random = steering.ablated("direction")
    beside("random direction", random)
    assert found - random > any_effect(0.25)
