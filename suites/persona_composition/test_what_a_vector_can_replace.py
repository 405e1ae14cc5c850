"""Whether a persona can be removed, or replaced by a vector (Xu 2026, arXiv:2605.23147)."""

import pytest

from auditkit import any_effect, beside, control, figure, present, sensitivity
from auditkit.claims.outcomes import NotApplicable
from auditkit.findings.persona_composition.measurements.behaviour import ADDITIVE, BARE, CLEAN, REMOVED
from auditkit.findings.persona_composition.measurements.patches import NEAR
from auditkit.findings.persona_composition.measurements.vectors import (
    AFTER,
    CACHED,
    LAYERS,
    ORACLE,
    PERSONA,
    PERSONA_LATE,
    POSITIONS,
    PREFIX,
)
from auditkit.findings.persona_composition.references import persona_distance
from auditkit.stats.effects.exact import exactly


@pytest.mark.causal(control="clean against bare")
def test_the_additive_prediction_speaks_as_the_persona(behaviour, threshold):
    """The additive prediction is patched in at the prompt's last token. The texts that follow show their own persona as
    often as unedited texts do, within 0.15. (They show it by its marker words, minus those of other personas.)"""
    present(behaviour)
    for condition in (CLEAN, ADDITIVE, BARE):
        beside(condition, behaviour.level(condition))
    margin = threshold(0.15, "protocol W3.e")
    with sensitivity("texts of a persona from those without any", behaviour.against(CLEAN, BARE), by=margin):
        assert behaviour.against(ADDITIVE, CLEAN).equals(0.0, within=margin)


@pytest.mark.causal(control="clean against bare")
def test_removing_the_vector_removes_the_persona(behaviour):
    """With the persona's vector subtracted at the prompt's last token, generated texts show their own persona less
    often than unedited texts do. (A FAIL says that the persona does not act through that state.)"""
    figure(*behaviour.steered().figures("The persona's direction", effect="own minus other personas"))
    beside("removed", behaviour.level(REMOVED))
    beside("removed against additive", behaviour.against(REMOVED, ADDITIVE))
    with control("clean texts show their persona more than those without any"):
        assert behaviour.against(CLEAN, BARE) > 0
    assert behaviour.against(REMOVED, CLEAN) < any_effect(0.10)


@pytest.mark.causal(control="keys and values of the whole prefix")
def test_one_state_does_not_replace_the_words(vectors, threshold):
    """The state of the run with the persona is patched into a run without it, at the prompt's last token at depth 0.55.
    This leaves at least 0.65 of the KL divergence between the two runs, in the geometric mean over cells."""
    present(vectors)
    for what in (CACHED, ORACLE + LAYERS, ORACLE + LAYERS + POSITIONS):
        beside(what, vectors.closure(what))
    try:
        for what in (PERSONA, PERSONA_LATE, AFTER):
            beside(what, vectors.closure(what))
    except NotApplicable:  # noted where it was asked
        pass
    whole = vectors.closure(PREFIX)
    with control("keys and values of the whole prefix close at least 0.95"):
        assert exactly(whole, population="the cells of this claim", size=len(whole.numerator)) >= 0.95
    beside(f"closure: {ORACLE}, ratio of means", vectors.closure(ORACLE))
    least = threshold(0.65, "protocol W3.f: the paper's oracle closes 0.22, so it leaves 0.78")
    with sensitivity("a run with the persona from one without it", persona_distance(vectors), by=NEAR):
        assert vectors.left(ORACLE) >= least
