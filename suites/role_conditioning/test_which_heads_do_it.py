"""Heads whose attention differs on questions about the model (mduffster/self-referent-test, 2025, and its planned
ablations)."""

import pytest

from auditkit import any_effect, beside, figure, present
from auditkit.findings.identity_bias.measurements.verdicts import every
from auditkit.findings.role_conditioning.measurements.ablation import ABLATIONS, MEAN
from auditkit.findings.role_conditioning.measurements.checks import magnitudes
from auditkit.findings.role_conditioning.prompts.sets import NEUTRAL


@pytest.mark.causal(edits=False)
def test_some_heads_tell_the_model_from_no_person(role, heads):
    """Heads are selected on one half of the frames, because the entropy of their attention differs between questions
    about the model and the same questions about no person. On the other half they differ in the same direction on
    average, and at least one of them is confirmed there."""
    figure(*heads.figures(), magnitudes(role))
    assert heads.singled_out() > 0


@pytest.mark.causal(control="random heads of the same depth")
def test_removing_those_heads_moves_answers_about_the_model(ablation):
    """The outputs of the selected heads are replaced by their mean. This moves the log odds of "I" against "you" in
    answers about the model. They move further than for each of 20 random sets of as many heads of similar depth."""
    present(ablation)
    beside("log odds of I against you", ablation.answers())
    for name in ABLATIONS:
        beside(name, ablation.moved(name))
    beside("mean ablation, neutral answers", ablation.moved(MEAN, NEUTRAL))
    assert every(ablation.over_random(), lambda difference: difference > any_effect(0.25))
