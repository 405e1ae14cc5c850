"""Effects computed again from what a claim kept: of one name, each comes out as it was, or neither does."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from auditkit.claims.evidence import gathering
from auditkit.record.schema import Effect
from auditkit.record.store import item_table
from auditkit.stats.effects.mean import Estimate
from auditkit.stats.effects.recomputed import ClaimItems, recomputed
from auditkit.stats.measurement import Measurement

pytestmark = pytest.mark.unit


def estimate(*, share: bool = False, items: range = range(60), seed: int = 0) -> Estimate:
    index = pd.Index([f"item{i}" for i in items], name="item")
    labels = pd.DataFrame({"topic": [f"t{i % 12}" for i in items]}, index=index)
    draw = np.random.default_rng(seed)
    values = pd.DataFrame({"p": draw.normal(1, 0.4, len(items)), "q": draw.normal(2, 0.1, len(items))}, index)
    table = Measurement("m", "logit", values, labels)
    below = table.condition("q") if share else None
    return Estimate("effect", "logit", table, table.condition("p"), below, ("p",))


def again(*estimates: Estimate) -> list[tuple[Effect, Effect | None]]:
    """Each effect as it is recorded, and as it is computed from what all of them kept."""
    with gathering() as evidence:
        for one in estimates:
            one.keep_beside()
    kept = ClaimItems(item_table(evidence.items.values()))
    recorded = [one.recorded() for one in estimates]
    found = [recomputed(effect, kept, beside=True) for effect in recorded]
    return [(was, None if now is None else now.recorded()) for was, now in zip(recorded, found, strict=True)]


@pytest.mark.parametrize("first", [False, True])
def test_a_mean_and_a_share_of_one_name_are_told_apart(first: bool) -> None:
    """Their numerators are the same rows, and the recipe of the mean leaves the denominator to the share."""
    both = again(estimate(share=first), estimate(share=not first))
    assert both[0][0].estimate != both[1][0].estimate
    assert all(was == now for was, now in both)


@pytest.mark.parametrize("other", [range(60, 120), range(30), range(20, 90), range(90)])
def test_of_two_effects_of_one_name_over_other_items_neither_is_made_up(other: range) -> None:
    assert [now for _, now in again(estimate(), estimate(items=other))] == [None, None]
    assert [now for _, now in again(estimate(items=other), estimate())] == [None, None]


def test_of_two_effects_of_one_name_with_other_values_neither_is_made_up() -> None:
    assert [now for _, now in again(estimate(), estimate(seed=1))] == [None, None]


def test_an_effect_that_is_kept_twice_is_one() -> None:
    assert all(was == now for was, now in again(estimate(), estimate()))
