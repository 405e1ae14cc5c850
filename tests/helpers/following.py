"""Claims whose verdict follows from their effect, for records that `auditkit verify` accepts."""

from __future__ import annotations

import msgspec

from auditkit.record.schema import Claim, Verdict

ENDS = {Verdict.PASS: (0.4, 0.6), Verdict.INCONCLUSIVE: (0.2, 0.6), Verdict.FAIL: (0.1, 0.2)}
"""Interval of an effect that is compared with ">= 0.3"."""


def coming_to(claim: Claim, verdict: Verdict) -> Claim:
    """The claim with an effect that makes this verdict."""
    if verdict not in ENDS:
        ended = "exception" if verdict is Verdict.ERROR else "not applicable"
        return msgspec.structs.replace(claim, verdict=verdict, effect=None, ended=ended)
    assert claim.effect is not None
    lower, upper = ENDS[verdict]
    effect = msgspec.structs.replace(claim.effect, lower=lower, upper=upper, estimate=(lower + upper) / 2)
    return msgspec.structs.replace(claim, verdict=verdict, effect=effect)
