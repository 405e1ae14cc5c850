"""At which layers activations of statements for and against a persona separate (Cintas et al. 2025, arXiv:2505.24539,
Q1)."""

import pytest

from auditkit import any_effect, beside, control, figure, present
from auditkit.findings.identity_bias.measurements.verdicts import every
from auditkit.findings.persona_localization.figures import pictures
from auditkit.findings.persona_localization.measurements.layers import NORM, RAW, UNIT

pytestmark = pytest.mark.causal(edits=False)


def test_separability_grows_with_depth(layers, indices, threshold):
    """A linear probe tells statements for a persona from those against it. Its AUC is higher in the last third of the
    layers than after the first block (W2.a)."""
    layers.require()
    present(layers)
    present(indices)
    figure(indices.by_scale())
    figure(indices.by_persona())
    beside("after the first block", layers.after(0))
    beside("in the last third", layers.late())
    with control("labels dealt at random are told apart by chance, 0.5 within 0.02"):
        assert layers.labels_at_random().equals(0.5, within=0.02)
    any_lead = threshold(0.0, "protocol W2.a: lower end of the interval above 0", counts_from=0.02)
    assert layers.late() - layers.after(0) > any_lead


def test_separability_peaks_in_the_last_third(layers, activations):
    """A probe at the best layer of the last third tells statements for a persona from those against it. Its AUC is
    higher than that of a probe at each earlier layer. The best layer is chosen on one half of the statements and
    compared on the other half, both ways (W2.a)."""
    layers.require()
    figure(*pictures(activations))
    late, over_earlier = layers.peaks()
    beside("best layer of the last third", late)
    assert every(over_earlier, lambda difference: difference > any_effect(0.02))


def test_growth_is_not_that_of_the_norm(layers, threshold):
    """With every activation divided by its norm, a linear probe still has a higher AUC in the last third of the layers
    than after the first block. The norm alone tells statements apart with an AUC of at most 0.6 (W2.b)."""
    layers.require()
    beside("in the last third, unit norm", layers.late(UNIT))
    assert layers.late(UNIT) - layers.after(0, UNIT) > any_effect(0.02)
    assert layers.late(NORM) <= threshold(0.6, "protocol W2.b")


def test_layers_tell_more_than_words(layers):
    """A linear probe in the last third of the layers tells statements for a persona from those against it. Its AUC is
    higher than that of a probe on the bag of their words (W2.a, lexical comparison)."""
    layers.require()
    figure(layers.by_persona())
    beside("bag of words", layers.words())
    beside("in the last third", layers.late(RAW))
    assert layers.late(RAW) - layers.words() > any_effect(0.02)
