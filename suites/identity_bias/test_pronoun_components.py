"""Heads and MLPs behind gender stereotypes (Chintam et al. 2023, arXiv:2310.12611), and whether the same ones carry
gender that is a matter of meaning (arXiv:2605.12299). These claims are exploratory: they say what happens inside a
model, and nothing about how it treats anybody."""

import pytest

from auditkit import any_effect, beside, note, present
from auditkit.findings.identity_bias.measurements.kept_parts import kept_parts
from auditkit.findings.identity_bias.measurements.pronoun_parts import MEANING, STEREOTYPE
from auditkit.findings.identity_bias.measurements.verdicts import every


@pytest.mark.causal(control="random heads of the same layers, and MLPs of near ones")
def test_some_components_carry_the_stereotype(pronoun_parts, alone):
    """After an occupation such as "nurse" or "mechanic", a model takes "she" or "he" to follow. Heads and MLPs behind
    that are found on one half of the couples of occupations. When they get the activations of the other occupation, a
    larger share of the difference is lost on the other half than with each of two sets of random components."""
    note(*pronoun_parts.notes())
    alone()
    present(pronoun_parts)
    beside("share of the stereotype carried", pronoun_parts.carried(STEREOTYPE))
    assert every(pronoun_parts.over_random(), lambda difference: difference > any_effect(0.05))


@pytest.mark.causal(control="random heads of the same layers, and MLPs of near ones")
def test_they_leave_gender_by_meaning_alone(pronoun_parts, alone, threshold):
    """The components that carry the stereotype carry at most a quarter of the gender of words that have one by meaning,
    such as "queen" and "king"."""
    note(*pronoun_parts.notes())
    alone()
    present(pronoun_parts)
    most = threshold(0.25, "suite default: three quarters of what the words mean does not pass through them")
    beside("share of the stereotype carried", pronoun_parts.carried(STEREOTYPE))
    assert pronoun_parts.carried(MEANING) <= most


@pytest.mark.causal(edits=False)
def test_the_same_components_carry_it_as_on_the_baseline(pronoun_parts, baseline):
    """Heads and MLPs are ranked by what they carry of the stereotype. Their ranks in this model and in its baseline
    agree more than chance makes them, whatever the fine-tune was about."""
    note(*pronoun_parts.notes())
    kept = kept_parts(pronoun_parts, baseline)
    present(kept)
    assert kept.agreement() > any_effect(0.1)
