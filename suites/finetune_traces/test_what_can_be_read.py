"""Narrow fine-tuning leaves traces that can be read in activations (Minder et al. 2025, arXiv:2510.13900)."""

import pytest

from auditkit import any_effect, beside, figure, note
from auditkit.findings.finetune_traces.measurements.steering import Steering
from auditkit.findings.finetune_traces.measurements.traces import AS_FREQUENT, DOMAIN

LOGITS = 0.25
"""The least rise that counts: odds change by a factor of 1.3."""


@pytest.mark.causal(edits=False)
def test_the_domain_can_be_read_from_unrelated_texts(traces, baseline):
    """The activations on unrelated texts have changed since the base model. The change, read by the logit lens after
    the last block, names words of the fine-tune's domain more than words of other domains, of all and of each, and more
    than words as frequent: in more than half of all pairs."""
    note(*traces.notes())
    traces.keep()
    figure(traces.read_tokens(baseline))
    for layer in traces.layers[:-1]:
        beside(f"after block {layer}", traces.trace(baseline, layer=layer))
    assert traces.trace(baseline) > any_effect(0.05)
    for name in (AS_FREQUENT, *traces.lists):
        if name != DOMAIN:
            assert traces.trace(baseline, name) > any_effect(0.05)


@pytest.mark.causal(control="the same numbers in another order of the units")
def test_adding_the_change_raises_words_of_the_domain(traces, audit, baseline):
    """The activations on unrelated texts have changed since the base model. When that change is added once more, at
    every token after the middle block, the logits of words of the fine-tune's domain rise against those of other
    domains. They rise further than by any of four vectors with the same numbers in another order."""
    note(*traces.notes())
    traces.keep()
    steering = Steering(traces, baseline, seed=audit.seed)
    figure(steering.figure())
    assert steering.rise() > any_effect(LOGITS)
    for null in steering.nulls:
        beside(null, steering.rise(null))
        assert steering.beyond(null) > any_effect(LOGITS)
