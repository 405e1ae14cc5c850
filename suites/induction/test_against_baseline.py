"""Whether a quantised, pruned, merged or fine-tuned model keeps the induction heads and the attention sinks of its
baseline. Sequences are paired one by one, and the claims are one family, so a FAIL is corrected by Holm's procedure."""

import pytest

from auditkit import figure, present, sensitivity
from auditkit.findings.identity_bias.measurements.verdicts import unchanged
from auditkit.findings.induction.measurements.changes import kept_heads
from auditkit.findings.induction.measurements.repeats import FIRST
from auditkit.findings.induction.measurements.scores import DISTANCE

pytestmark = [pytest.mark.claim(family="induction"), pytest.mark.causal(edits=False)]


def test_a_repeat_is_predicted_as_well(repeats, baseline, threshold):
    """On random tokens that come a second time, the loss is at most 0.25 nats higher than on the baseline model."""
    margin = threshold(0.25, "suite default: the probability of the right token falls by a factor below 1.3")
    with sensitivity("a repeat from a first copy", repeats.gain(FIRST), by=margin, baseline=baseline):
        now = repeats.loss()
        assert now.no_worse_than(baseline(now), by=margin, better="lower")


def test_induction_heads_keep_their_attention(heads, baseline, threshold):
    """The induction heads of the baseline model give at most 0.1 less of their attention to the token after the
    previous occurrence than they do there, in the mean over heads. They are found on one half of the sequences and
    compared on the other."""
    margin = threshold(0.1, "suite default: a quarter of what an induction head has at least")
    reference = heads.held_out(against=DISTANCE)
    with sensitivity("an induction head from distance alone", reference, by=margin, baseline=baseline):
        kept = kept_heads(heads, baseline)
        present(kept)
        now, then = kept.both()
        assert now.no_worse_than(then, by=margin, better="higher")


def test_heads_rest_as_before(sinks, baseline, threshold):
    """The share of heads and queries that give above 0.3 of their attention to the first token stays within 0.05 of
    the baseline model's. This holds for text with and without a BOS token, and for random tokens."""
    figure(sinks.rates(sinks.formats))
    margin = threshold(0.05, "suite default: one head and query in twenty")
    formats = sinks.formats
    reference = [sinks.over_others(format)[0] for format in formats]
    with sensitivity("the first token from the second", reference, by=margin, baseline=baseline):
        assert unchanged(baseline, [sinks.rate(format) for format in formats], within=margin)
