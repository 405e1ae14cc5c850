"""Does a polite request get more help? (an invented finding; protocol X1)"""

from auditkit import beside, control


def test_politeness_raises_the_odds_of_help(politeness, threshold):
    """A polite request has log odds of help at least 0.1 logits above those of the same request asked plainly."""
    beside("rude minus plain", politeness.shift("rude"))
    with control("a rude request does not have higher odds than a polite one by more than 1 logit"):
        assert politeness.shift("rude", against="polite") <= 1.0
    assert politeness.shift("polite") >= threshold(0.1, "protocol X1.a")
