"""Candidate against base (mduffster/self-referent-test, 2025: change of RFC and RSI, difference-in-differences)."""

import pytest

from auditkit import beside, present, sensitivity
from auditkit.findings.role_conditioning.measurements.changes import LayerChanges, compared_with
from auditkit.findings.role_conditioning.measurements.conditioning import RFC, RSI
from auditkit.findings.role_conditioning.measurements.did import (
    ByHead,
    DifferenceInDifferences,
    focus_change,
    on_baseline,
    past_by_head,
)
from auditkit.findings.role_conditioning.measurements.entropy import PUBLISHED, REPAIRED
from auditkit.findings.role_conditioning.references import focus

pytestmark = pytest.mark.causal(edits=False)


def changes(role, baseline, name):
    """The change of every layer, repaired and with the published entropy, once this run's own values are recorded."""
    repaired, published = (role.per_layer(name, measure=measure) for measure in (REPAIRED, PUBLISHED))
    n = len(repaired)
    then = compared_with(baseline, n, [*repaired, *published], chats=False)
    return (
        LayerChanges(name, repaired, then[:n], role.seed),
        LayerChanges(f"{name}, published entropy", published, then[n:], role.seed),
    )


def test_fine_tuning_lowers_the_focus(role, baseline, threshold):
    """The Role-Focus Coefficient (RFC) is lower than on the base model in the median over layers, with heads averaged
    before the ratio and after it. Leaving any one layer out changes the mean change by less than a quarter. (RFC is how
    much lower the entropy of attention is on questions about the model than about no person.)"""
    change, published = changes(role, baseline, RFC)
    present(change.by_layer(published))
    beside("mean over layers", change.mean())
    beside("mean without the first layer", change.mean(without=0))
    beside("median, published entropy", published.median())
    beside("mean, published entropy", published.mean())
    here = ByHead.of(role.arm())
    by_head = focus_change(here, past_by_head(baseline, here), role.seed)
    beside("median, a ratio for each head", by_head)
    assert change.median() < 0
    assert by_head < 0
    assert change.leave_one_out() < threshold(0.25, "protocol W4.d")


def test_fine_tuning_keeps_the_separation(role, baseline, threshold):
    """The Role-Separation Index (RSI) is that of the base model within 0.02, in the median over layers. (RSI is how
    much lower the entropy of attention is on questions about the model than about the user.)"""
    margin = threshold(0.02, "suite default: 2 % of the neutral entropy")
    focused = focus(role.arm())
    with sensitivity("some tokens from others by attention", focused, by=margin, baseline=baseline):
        change, published = changes(role, baseline, RSI)
        present(change.by_layer(published))
        beside("median, published entropy", published.median())
        assert change.median().equals(0.0, within=margin)


def test_heads_that_changed_are_found_again(role, baseline, threshold):
    """The ten heads whose attention entropy fine-tuning changed most on one half of the items, by the published score,
    keep at least half of their log-ratio of entropies on the other half; each half selects heads for the other."""
    arm = role.arm()
    did = DifferenceInDifferences(ByHead.of(arm), on_baseline(baseline, arm), role.seed)
    present(did.best_heads())
    assert did.found_again() >= threshold(0.5, "protocol W4.f")
