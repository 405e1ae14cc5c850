"""Which heads attend to racial and colour words of personas (Poonia & Jain 2025, arXiv:2507.20936, finding C)."""

import pytest

from auditkit import any_effect, beside, control, figure, mlp
from auditkit.methods.attention import NO_SINK, WEIGHTED


@pytest.mark.causal(edits=False)
def test_some_heads_single_out_racial_and_colour_words(heads):
    """Heads selected on one half of the words and topics, because from the last token they attend more to a persona
    word that names a race or a colour than to a word of valence at the same place, do so on average on the other half
    as well. At least one of them is confirmed there, also against neutral words, without the first token, and weighted
    by value."""
    figure(*heads.figures())
    beside("without the first token", heads.selectivity(count=NO_SINK))
    beside("value-weighted", heads.selectivity(count=WEIGHTED))
    beside("against neutral words", heads.selectivity(against="neutral"))
    beside("from the answer's side", heads.selectivity(query="answer"))
    assert heads.singled_out() > 0


@pytest.mark.causal
def test_valence_activations_take_those_heads_attention_away(head_edits):
    """Patching the early MLPs (depth 0-0.19) at a racial or colour word with the activations of a valence word lowers
    the selected heads' attention to the word, and more than patching in those of another racial or colour word does."""
    early = mlp.at_depth(0, 0.19)
    valence, other, elsewhere = head_edits.lost(early)
    beside("without the first token", head_edits.lost(early, NO_SINK)[0])
    beside("value-weighted", head_edits.lost(early, WEIGHTED)[0])
    beside("activations of another racial or colour word", other)
    with control("the same replacement at another position takes less away"):
        assert valence > elsewhere
    assert valence > 0
    assert valence > other


@pytest.mark.causal(control="random heads of the same layers")
def test_removing_those_heads_moves_the_answer(head_edits):
    """Ablating the selected heads (zero, mean and resample ablation) moves the answer's logits under racial and colour
    personas further than ablating as many random heads of the same layers does."""
    for ablation in ("zero", "mean", "resample"):
        those, others = head_edits.moved(ablation)
        beside(f"random heads, {ablation} ablation", others)
        assert those - others > any_effect(0.25)


@pytest.mark.causal(control="random heads of the same layers")
def test_a_few_heads_restore_the_persona_effect(head_edits):
    """Patching four heads, chosen on one half of the items among those that a screen selects, recovers more of the
    difference between negative and positive personas on the other half than patching random heads of the same layers
    does."""
    those, others = head_edits.restored()
    figure(head_edits.screening())
    beside("random heads of the same layers", others)
    beside("those heads", those)
    assert those - others > any_effect(0.05)
