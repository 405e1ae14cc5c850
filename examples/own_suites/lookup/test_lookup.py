"""Some heads attend to what followed the current token before (Olsson et al. 2022, arXiv:2209.11895)."""

from auditkit import present


def test_a_head_looks_up_what_followed(lookup, threshold):
    """On random tokens that come a second time, the head that was chosen on other sequences gives at least 0.2 more of
    its attention to the token that followed the last time than to the token as far back in another order."""
    present(lookup)
    assert lookup.gain() >= threshold(0.2, "chosen before any model was measured")
