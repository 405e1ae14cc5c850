"""Narrow fine-tuning leaves traces that can be read in activations (Minder et al. 2025, arXiv:2510.13900)."""

import pytest

from auditkit import any_effect, beside, figure, note
from auditkit.findings.finetune_traces.measurements import AS_FREQUENT, DOMAIN

pytestmark = pytest.mark.causal(edits=False)


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
