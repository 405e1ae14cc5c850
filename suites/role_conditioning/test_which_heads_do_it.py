"""Heads that look differently on questions about the model (mduffster/self-referent-test, 2025; planned ablations)."""

import pytest

from auditkit import shown
from auditkit.analyses.role_ablation import ABLATIONS, MEAN
from auditkit.data.role_prompts import NEUTRAL


def test_some_heads_tell_the_model_from_no_person(heads):
    """Some heads' attention differs in focus between questions about the model and the same about no person: found on
    one half of the frames, and the same on the other."""
    heads.draw()
    assert heads.singled_out() > 0


@pytest.mark.causal(control="random heads of the same depth")
def test_removing_those_heads_moves_answers_about_the_model(ablation):
    """Mean ablation of those heads moves the log odds of "I" in answers about the model further than that of any of 20
    random sets of as many heads of the same depth."""
    ablation.show()
    shown("log odds of I against you", ablation.answers())
    for name in ABLATIONS:
        shown(name, ablation.moved(name))
    shown("mean ablation, neutral answers", ablation.moved(MEAN, NEUTRAL))
    strongest = ablation.strongest_random()
    shown("strongest of 20 random sets", strongest)
    assert ablation.moved(MEAN) > strongest
