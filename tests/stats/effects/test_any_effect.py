"""Claims that there is an effect: the least that counts changes no verdict, and says where no more items matter."""

from __future__ import annotations

import math
from contextlib import suppress

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditkit.claims.evidence import Decision, gathering
from auditkit.claims.outcomes import Inconclusive, any_effect
from auditkit.record.needed import NOTHING_MORE, needed
from auditkit.record.schema import Verdict
from auditkit.report import wording
from auditkit.stats.effects.mean import Estimate

pytestmark = pytest.mark.unit

AROUND_ZERO = (0.1, -0.1, 0.05, -0.02, 0.03, -0.04)


def ask(estimate: Estimate, relation: str, threshold: float) -> Decision:
    with gathering() as evidence, suppress(Inconclusive):
        _ = estimate > threshold if relation == ">" else estimate < threshold
    (decision,) = evidence.decisions
    return decision


@given(
    st.lists(st.floats(-1, 1).map(lambda x: round(x, 3)), min_size=4, max_size=12),
    st.floats(-2, 2),
    st.sampled_from([">", "<"]),
    st.floats(1e-3, 10),
)
def test_the_least_effect_that_counts_changes_no_verdict(estimate, values, centre, relation, counts_from):
    made = estimate(np.array(values) + centre)
    plain, told = ask(made, relation, 0.0), ask(made, relation, any_effect(counts_from))
    assert told.verdict is plain.verdict
    assert told.effect.counts_from == counts_from
    assert msgspec.structs.replace(told.effect, counts_from=0.0) == plain.effect
    lower, upper = told.effect.lower, told.effect.upper
    near = lower is not None and upper is not None and max(-lower, upper) <= counts_from
    sits = told.verdict is Verdict.INCONCLUSIVE and near
    assert told.reason.startswith("at_threshold") == sits
    if not sits:
        assert told.reason == plain.reason


def test_at_its_threshold_no_more_items_are_asked_for(estimate):
    made = estimate(np.array(AROUND_ZERO))
    assert needed(ask(made, ">", 0.0).effect).startswith(("needs", "out of reach"))
    sitting = ask(made, ">", any_effect(0.25))
    assert sitting.reason.startswith("at_threshold: the interval [")
    assert sitting.reason.endswith("] lies within 0.25 of 0, and less counts as no effect")
    assert needed(sitting.effect) == NOTHING_MORE
    assert "does not decide > 0" in ask(made, ">", any_effect(0.01)).reason
    assert wording.threshold(sitting.effect) == "> 0, counts from 0.25"


@pytest.mark.parametrize("least", [0.0, -1.0, math.nan, math.inf])
def test_a_least_effect_must_be_one(least):
    with pytest.raises(ValueError, match="must be positive and finite"):
        any_effect(least)
