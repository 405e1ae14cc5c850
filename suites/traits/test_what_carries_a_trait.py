"""A trait of the answers is carried by one direction in the residual stream (persona vectors, arXiv:2507.21509)."""

import pytest

from auditkit import any_effect, beside, control, present
from auditkit.findings.identity_bias.measurements.verdicts import every
from auditkit.methods.contrast.nulls import COVARIANCE, SHUFFLED

COUNTS = 0.02
"""Nats per token; the least difference that counts: the odds of an answer of ten tokens change by a factor of 1.2."""


@pytest.mark.causal(edits=False)
def test_projection_ranks_held_out_prompts(traits, trait, threshold):
    """At its last token, a prompt that asks for the trait lies further along the direction than one that asks for the
    opposite. The means are at least 1.8 standard deviations apart. Neither the questions nor the system prompts took
    part in finding the direction."""
    scores, found = traits.scores[trait], traits.directions[trait]
    present(scores)
    scores.require()
    least = threshold(1.8, "suite default: ranks nine of ten pairs right")
    present(found)
    own = found.chosen
    beside("chance that a prompt for the trait lies above an opposed one", found.auc(own))
    beside("instruction in the user turn", found.in_the_user_turn)
    beside("direction from shuffled pairs", found.gap(found.null[f"{SHUFFLED} 1"]))
    with control("a random direction with the covariance of the states separates the prompts less"):
        assert found.gap(own) - found.gap(found.null[f"{COVARIANCE} 1"]) > 0
    assert found.gap(own) >= least


@pytest.mark.causal(control="random directions of the same place and length")
def test_steering_moves_the_score(traits, trait, threshold):
    """Adding the direction raises the score of the trait, and subtracting it lowers the score. One length of the
    direction moves it by at least a quarter of what opposed system prompts do, and more than random directions do."""
    scores, steering = traits.scores[trait], traits.steering[trait]
    scores.require()
    present(steering)
    least = threshold(0.25, "suite default: a quarter of what opposed system prompts move")
    nulls = steering.nulls(others=False)
    for name, (null, _) in nulls.items():
        beside(name, null)
    assert steering.share() >= least
    assert every(
        [*steering.ways(), *(beyond for _, beyond in nulls.values())], lambda rise: rise > any_effect(COUNTS)
    )


@pytest.mark.causal(control="the other traits' directions, with the same place and length")
def test_the_direction_is_specific(traits, trait):
    """Adding the direction of the trait raises its score more than adding the direction of each other trait does, with
    the same length at the same layer."""
    scores, steering = traits.scores[trait], traits.steering[trait]
    scores.require()
    present(steering)
    nulls = steering.nulls(others=True)
    for name, (null, _) in nulls.items():
        beside(name, null)
    assert every((beyond for _, beyond in nulls.values()), lambda rise: rise > any_effect(COUNTS))
