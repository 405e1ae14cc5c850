"""Which heads attend to racial and colour words of personas (Poonia & Jain 2025, arXiv:2507.20936, finding C)."""

import pytest

from auditkit import Choice, alternatives, any_effect, beside, control, figure, mlp
from auditkit.findings.persona_patching.measurements.head_edits import ABLATIONS
from auditkit.methods.attention import NO_SINK, RAW, WEIGHTED
from auditkit.methods.patching import LOGITS, PROBABILITY

COUNTED = Choice(
    "how attention is counted",
    "as it is",
    {"the first token left out": {"count": NO_SINK}, "attention weighted by value": {"count": WEIGHTED}},
)


@pytest.mark.causal(edits=False)
def test_some_heads_single_out_racial_and_colour_words(heads):
    """Heads are selected on one half of the words and topics. From the last token they attend more to a persona word
    that names a race or a colour than to a word of valence at the same place. They do so on average on the other half
    as well. At least one of them is confirmed there, also against neutral words, without the first token, and weighted
    by value."""
    figure(*heads.figures())

    def compare(**attention):
        assert heads.singled_out(**attention) > 0

    alternatives(
        compare,
        COUNTED,
        Choice("words that are compared with", "words of valence", {"neutral words": {"against": "neutral"}}),
        Choice("tokens that attend", "the prompt's last token", {"the answer's side": {"query": "answer"}}),
    )
    compare()


@pytest.mark.causal
def test_valence_activations_take_those_heads_attention_away(head_edits):
    """The early MLPs (depth 0-0.19) are patched at a racial or colour word with the activations of a valence word. This
    lowers the selected heads' attention to the word, and more than patching in those of another racial or colour word
    does."""
    early = mlp.at_depth(0, 0.19)
    beside("activations of another racial or colour word", head_edits.lost(early)[1])

    def compare(count=RAW):
        valence, other, elsewhere = head_edits.lost(early, count)
        with control("the same replacement at another position takes less away"):
            assert valence > elsewhere
        assert valence > 0
        assert valence > other

    alternatives(compare, COUNTED)
    compare()


@pytest.mark.causal(control="random heads of the same layers")
def test_removing_those_heads_moves_the_answer(head_edits):
    """The selected heads are ablated (zero, mean and resample ablation). This moves the answer's logits under racial
    and colour personas further than ablating as many random heads of the same layers does."""

    def compare(ablations=ABLATIONS):
        for ablation in ablations:
            those, others = head_edits.moved(ablation)
            beside(f"random heads, {ablation} ablation", others)
            assert those - others > any_effect(0.25)

    alone = {f"{ablation} ablation alone": {"ablations": [ablation]} for ablation in ABLATIONS}
    alternatives(compare, Choice("ablation", "zero, mean and resample ablation", alone))
    compare()


@pytest.mark.causal(control="random heads of the same layers")
def test_a_few_heads_restore_the_persona_effect(head_edits):
    """On one half of the items, four heads are chosen among those that a screen selects. On the other half, patching
    them recovers more of the difference between negative and positive personas than patching random heads of the same
    layers does."""
    those, others = head_edits.restored()
    figure(head_edits.screening())
    beside("random heads of the same layers", others)
    beside("those heads", those)

    def compare(scale=LOGITS):
        those, others = head_edits.restored(scale)
        assert those - others > any_effect(0.05)

    probability = {"probabilities of the answer": {"scale": PROBABILITY}}
    alternatives(compare, Choice("scale of the answer", "logit difference", probability))
    compare()
