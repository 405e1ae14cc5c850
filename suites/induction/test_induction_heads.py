"""Induction heads (Olsson et al. 2022, arXiv:2209.11895): which heads look up what followed a token before, what they
are needed for, and where their keys come from. All claims are about repeated tokens, and not about other kinds of
in-context learning."""

import pytest

from auditkit import Choice, alternatives, any_effect, beside, figure, present
from auditkit.findings.identity_bias.measurements.verdicts import every
from auditkit.findings.induction.figures import found, loss_by_token, map_of_heads
from auditkit.findings.induction.measurements.ablation import ABLATIONS
from auditkit.findings.induction.measurements.heads import INDUCTION, LEAST_ATTENTION, PREVIOUS_TOKEN
from auditkit.findings.induction.measurements.repeats import FIRST, ORDER


@pytest.mark.causal(edits=False)
def test_some_heads_attend_to_what_followed_before(heads, threshold):
    """On repeated random tokens some heads give at least 0.4 of their attention to the token after the previous
    occurrence of the current one. They give less to each of four other tokens: the one at the same distance where the
    order is another, the previous occurrence, the token before that, and the token before the current one. Heads are
    found on one half of the sequences and measured on the other."""
    present(found(heads))
    least = threshold(0.4, "protocol W5.b: the usual bound of an induction head")

    def compare(candidates=LEAST_ATTENTION):
        assert heads.held_out(least=candidates) >= least
        others = [heads.held_out(against=score, least=candidates) for score in INDUCTION.against]
        assert every(others, lambda difference: difference > any_effect(0.05))

    alternatives(
        compare,
        Choice(
            "heads that are looked for",
            "at least 0.4 of their attention",
            {"those with at least 0.3": {"candidates": 0.3}, "those with at least 0.5": {"candidates": 0.5}},
        ),
    )
    compare()


@pytest.mark.causal(edits=False)
def test_a_repeat_is_predicted(repeats, threshold):
    """Random tokens come twice in the same order. Their loss is at least 0.4 nats lower the second time than the first.
    It is also at least 0.4 nats lower than where the same tokens come again in another order."""
    figure(loss_by_token(repeats))
    least = threshold(0.4, "protocol W5.a: what later tokens of a context gain in models with induction heads")
    for where in (FIRST, ORDER):
        assert repeats.gain(where) >= least


@pytest.mark.causal(control="random heads of the same layers")
def test_removing_those_heads_raises_the_loss(ablation):
    """The outputs of the induction heads are replaced on the repeat, by their mean or by those of another sequence. The
    loss on the repeat then rises by more than under the same ablation of each of two sets of as many random heads of
    the same layers."""
    present(ablation)
    for name in ABLATIONS:
        beside(name, ablation.raised(name))
    differences = [difference for name in ABLATIONS for difference in ablation.over_random(name)]
    assert every(differences, lambda difference: difference > any_effect(0.1))


@pytest.mark.causal(control="random heads of the same layers")
def test_previous_token_heads_write_their_keys(heads, paths):
    """Heads in lower layers that attend to the previous token write into the keys of the induction heads. Where these
    keys get what the previous-token heads write about other tokens, by the direct path alone, the induction heads give
    less of their attention to the token after the previous occurrence. They lose more of it than with each of two sets
    of as many random heads of the same layers."""
    figure(map_of_heads(heads, PREVIOUS_TOKEN))
    present(paths)
    beside("attention lost", paths.cost())
    beside("share of prefix matching lost", paths.share())
    assert every(paths.over_random(), lambda difference: difference > any_effect(0.05))
