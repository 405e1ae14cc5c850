"""Attention on questions about the model itself (mduffster/self-referent-test, 2025: RFC and RSI, repaired)."""

import pytest

from auditkit import any_effect, beside, control, figure, present
from auditkit.findings.role_conditioning.measurements.checks import excess
from auditkit.findings.role_conditioning.measurements.conditioning import RFC, RSI
from auditkit.findings.role_conditioning.prompts.matching import CHAT, PLAIN
from auditkit.findings.role_conditioning.prompts.sets import SELF, THIRD
from auditkit.stats.effects.exact import exactly

pytestmark = pytest.mark.causal(edits=False)


EVEN = "attention that is spread evenly over the same tokens gives none"
PERMUTED = "with labels permuted among prompts of one length the interval leaves zero in at most 10 % of cases"


def without_attention(role, name, format=PLAIN):
    """The index of even attention, over exactly these prompts."""
    even = role.arm(format).even_index(name)
    return exactly(even, population="the items of this claim", size=len(even.numerator))


def test_questions_about_the_model_change_the_focus(role, plots):
    """The length-corrected Role-Focus Coefficient (RFC) differs from zero in either direction. (RFC is how much lower
    the entropy of attention is on questions about the model, "you", than on the same questions about no person.)"""
    figure(plots.side_by_side())
    present(plots.indices(RFC))
    figure(*plots.entropy(), plots.gaps(), plots.layers(RFC))
    beside("repaired RFC, all items", role.arm().index(RFC))
    beside("published RFC, per prompt", role.published(RFC, "per prompt"))
    beside("published RFC, per head", role.published(RFC, "per head"))
    with control("no row of this model's attention sums to more than 1"):
        assert excess(role) <= 1e-5
    with control(EVEN):
        assert without_attention(role, RFC).equals(0.0, within=1e-6)
    with control(PERMUTED):
        assert role.false_alarms(role.arm().index(RFC)) <= 0.10
    assert role.either_way(RFC) > any_effect(0.02)


def test_the_model_is_told_from_the_user(role, plots):
    """The length-corrected Role-Separation Index (RSI) differs from zero in either direction. (RSI is how much lower
    the entropy of attention is on questions about the model, "you", than on the same questions about the user, "I".)"""
    present(plots.indices(RSI))
    figure(plots.separation(role.formats), *plots.first_keys(), plots.ends(), plots.layers(RSI))
    beside("repaired RSI, all items", role.arm().index(RSI))
    if THIRD in role.arm().values:
        beside("third person minus self", role.arm().gap(THIRD, SELF))
    with control(EVEN):
        assert without_attention(role, RSI).equals(0.0, within=1e-6)
    with control(PERMUTED):
        assert role.false_alarms(role.arm().index(RSI)) <= 0.10
    assert role.either_way(RSI) > any_effect(0.02)


def test_questions_in_the_chat_template_change_the_focus(role):
    """In the model's chat template, the length-corrected Role-Focus Coefficient (RFC) differs from zero in either
    direction. (RFC is how much lower the entropy of attention is on questions about "you" than on questions about no
    person.)"""
    beside("repaired RFC, all items", role.arm(CHAT).index(RFC))
    with control(EVEN):
        assert without_attention(role, RFC, CHAT).equals(0.0, within=1e-6)
    assert role.either_way(RFC, CHAT) > any_effect(0.02)


def test_the_model_is_told_from_the_user_in_the_chat_template(role):
    """In the model's chat template, the length-corrected Role-Separation Index (RSI) differs from zero in either
    direction. (RSI is how much lower the entropy of attention is on questions about "you" than on questions about
    "I".)"""
    beside("repaired RSI, all items", role.arm(CHAT).index(RSI))
    with control(EVEN):
        assert without_attention(role, RSI, CHAT).equals(0.0, within=1e-6)
    assert role.either_way(RSI, CHAT) > any_effect(0.02)
