"""Where persona words act in the network (findings A and B of Poonia & Jain 2025, arXiv:2507.20936)."""

import pytest

from auditkit import Choice, alternatives, any_effect, beside, control, figure, mlp, note, sensitivity
from auditkit.engine.sites import embeddings
from auditkit.findings.persona_patching.measurements.patching import EARLY, EARLY_FROM_ONE, MIDDLE, MIDDLE_FROM_ONE
from auditkit.methods.patching import LOGITS, PROBABILITY, Held
from auditkit.stats.effects.exact import exactly

pytestmark = pytest.mark.causal

SOME, FEW = 1 / 6, 1 / 8
"""Shares of the questions for claims that compare effects item by item, in logits. With so few items the interval of
the persona effect may touch zero, so that a share of it is undefined."""


def test_early_mlps_carry_the_persona(patching, layers, threshold):
    """The MLP outputs at depth 0.06-0.19 are patched from the clean run (positive persona) into the corrupt run
    (negative persona). This recovers at least 30 % of the persona effect on the answer, and more than patching bands of
    the same width elsewhere does."""
    _, elsewhere = patching.recoveries(EARLY, patching.random_bands(EARLY))
    figure(layers.by_layer(), layers.by_pair())
    note(layers.standing(EARLY))
    beside("bands of the same width elsewhere", elsewhere)
    least = threshold(0.30)

    def compare(band=EARLY, scale=LOGITS):
        recovered, elsewhere = patching.recoveries(band, patching.random_bands(EARLY), scale=scale)
        assert recovered >= least
        assert recovered - elsewhere > any_effect(0.05)

    alternatives(compare, *_choices(EARLY_FROM_ONE))
    compare()


def test_middle_attention_carries_the_persona(patching, layers, threshold):
    """The attention outputs at depth 0.56-0.69 are patched from the clean run (positive persona) into the corrupt run
    (negative persona). This recovers at least 10 % of the persona effect on the answer, and more than patching bands of
    the same width elsewhere does."""
    _, elsewhere = patching.recoveries(MIDDLE, patching.random_bands(MIDDLE))
    figure(layers.cumulated(), layers.direct())
    beside("bands of the same width elsewhere", elsewhere)
    least = threshold(0.10, "suite default: the paper calls the band consistent, without a number")

    def compare(band=MIDDLE, scale=LOGITS):
        recovered, elsewhere = patching.recoveries(band, patching.random_bands(MIDDLE), scale=scale)
        assert recovered >= least
        assert recovered - elsewhere > any_effect(0.05)

    alternatives(compare, *_choices(MIDDLE_FROM_ONE))
    compare()


def test_first_mlp_acts_at_the_identity_word(patching, layers, threshold):
    """Patching the first MLP at the identity word alone moves the answer by as many logits, within 0.05, as patching it
    at every position does. (This is nearly a tautology: compare the same share for nonsense words, shown beside it.)"""
    first = mlp.layer(0)
    sites = first["identity"], first, first["elsewhere"], embeddings["identity"], embeddings["elsewhere"]
    at_the_word, everywhere, elsewhere, *_ = patching.effects(*sites, share=SOME)
    word = patching.recoveries(*sites[3:], share=SOME)
    figure(layers.at_the_word())
    note(layers.leaving_the_word())
    beside("nonsense words: share of the first MLP's effect at the word", layers.agreement("nonsense words"))
    beside("synonyms: share of the first MLP's effect at the word", layers.agreement("synonyms"))
    beside("at the word", at_the_word)
    own, other = (exactly(e, population="the items of this claim", size=len(e.numerator)) for e in word)
    same = threshold(0.05, "suite default: the protocol's least effect of an item that counts")
    with control("the word's own embedding brings back at least 99 %"):
        assert own >= 0.99
    with control("the embedding at another position brings back at most 5 %"):
        assert other <= 0.05
    with control("the same patch at another position does not"):
        assert elsewhere.equals(0.0, within=same)
    with sensitivity("one persona from another by its first MLP", patching.moved(first, share=SOME), by=same):
        assert at_the_word.equals(everywhere, within=same)


def test_early_mlps_act_through_the_middle_attention(patching):
    """Patching the early MLPs (depth 0.06-0.19) at the identity word recovers fewer logits of the persona effect where
    the attention at depth 0.56-0.69 is held at its value in the corrupt run. The loss is larger than the loss from
    holding a band of later attention elsewhere."""
    sender = EARLY["identity"]
    elsewhere = patching.random_bands(MIDDLE, after=EARLY)
    free, held, other = patching.effects(sender, Held(sender, MIDDLE), Held(sender, elsewhere), share=FEW)
    with control("the early MLPs at the identity word bring something back at all"):
        assert free > 0
    assert held < free
    assert held < other


def test_the_early_mlps_of_the_right_run_count(patching):
    """Patching the early MLPs (depth 0.06-0.19) from the clean run recovers logits of the persona effect. Patching them
    from a run with another negative persona recovers fewer. So does patching them from a run with the clean persona
    before another question."""
    right, other_persona, other_question = patching.from_donors(EARLY, share=FEW)
    beside("from another negative persona", other_persona)
    beside("before another question", other_question)
    assert right > other_persona
    assert right > other_question


def _choices(from_one):
    """What could have been chosen otherwise; bands elsewhere stay those of the claim, and may overlap another band."""
    return (
        Choice("layers of the band", "counted from zero", {"layers counted from one": {"band": from_one}}),
        Choice("scale of the answer", "logit difference", {"probabilities of the answer": {"scale": PROBABILITY}}),
    )
