"""Attention sinks (Xiao et al. 2023, arXiv:2309.17453; Gu et al. 2024, arXiv:2410.10781): heads rest on the first token
of a sequence, whatever it says."""

import pytest

from auditkit import any_effect, beside, figure
from auditkit.findings.identity_bias.measurements.verdicts import every
from auditkit.findings.induction.measurements.sinks import FORMATS

pytestmark = pytest.mark.causal(edits=False)


@pytest.mark.parametrize("format", FORMATS)
def test_heads_rest_on_the_first_token(sinks, format):
    """More heads and queries give above 0.3 of their attention to the first token than to each of the seven tokens
    after it. (A query counts for a token that is at least four tokens before it.)"""
    figure(sinks.rates([format]), sinks.by_head(format))
    beside(f"sink rate, {format}", sinks.rate(format))
    assert every(sinks.over_others(format), lambda difference: difference > any_effect(0.05))
