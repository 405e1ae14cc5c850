"""Claims of many comparisons: a planted effect fails them, and chance among true ones does not."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from auditkit.claims.evidence import Decision, gathering
from auditkit.claims.outcomes import Inconclusive
from auditkit.findings.identity_bias.measurements.verdicts import alike, every, no_worse, unchanged
from auditkit.stats.effects.mean import Estimate
from auditkit.stats.measurement import Measurement

pytestmark = pytest.mark.unit

CASES, MANY, MARGIN = 17, 13, 0.25
INDEX = pd.Index([f"i{k}" for k in range(CASES)])
CLUSTERS = pd.DataFrame({"topic": INDEX}, index=INDEX)


def effects(values: np.ndarray) -> list[Estimate]:
    """One effect per column of (cases, effects) values."""
    table = pd.DataFrame(values, INDEX, [f"e{k}" for k in range(values.shape[1])])
    measured = Measurement("answers", "logit", table, CLUSTERS)
    return [Estimate(name, "logit", measured, measured.condition(name)) for name in table]


def baseline_of(then: list[Estimate]):
    known = {effect.name: effect for effect in then}
    return lambda now: known[now.name]


def sayings(truth: np.ndarray, rounds: int) -> dict[str, list[str]]:
    """What claims of thirteen effects say where `truth` is what each effect is, round by round."""
    rng = np.random.default_rng(3)
    said: dict[str, list[str]] = {"alike": [], "unchanged": [], "no worse": []}
    nothing = effects(np.zeros((CASES, MANY)))
    for _ in range(rounds):
        now = effects(truth + 0.2 * rng.normal(size=(CASES, MANY)))
        for name, claim in (
            ("alike", lambda now=now: alike(now, within=MARGIN)),
            ("unchanged", lambda now=now: unchanged(baseline_of(nothing), now, within=MARGIN)),
            ("no worse", lambda now=now: no_worse(baseline_of(nothing), now, MARGIN, "lower")),
        ):
            try:
                said[name].append("PASS" if claim() else "FAIL")
            except Inconclusive as error:
                said[name].append("holm" if str(error).startswith("holm") else "undecided")
    return said


@pytest.mark.slow
def test_thirteen_effects_at_their_margins_fail_no_more_often_than_one_would() -> None:
    rounds = 15
    said = sayings(np.full(MANY, MARGIN), rounds)
    for name, outcomes in said.items():
        assert "FAIL" not in outcomes, f"{name}: one in forty may"
        assert "holm" in outcomes, f"{name}: without the correction one in four would"


@pytest.mark.slow
def test_one_effect_beyond_the_margin_fails_the_claim_among_twelve_true_ones() -> None:
    truth = np.zeros(MANY)
    truth[4] = 3 * MARGIN
    for name, outcomes in sayings(truth, 3).items():
        assert set(outcomes) == {"FAIL"}, name


def test_what_a_failure_by_chance_is_called_and_that_one_comparison_is_not_corrected() -> None:
    spread = np.linspace(-1, 1, CASES)
    spread /= spread.std(ddof=1)
    error = spread.std(ddof=1) / np.sqrt(CASES)
    barely = MARGIN + 2.3 * error  # p = 0.018 among 13
    values = np.column_stack([spread + barely, *([0.01 * spread] * (MANY - 1))])
    with gathering() as evidence, pytest.raises(Inconclusive, match=r"holm: .*among 13 comparisons"):
        alike(effects(values), within=MARGIN)
    assert len(evidence.decisions) == MANY
    assert alike(effects(values[:, :1]), within=MARGIN) is False


def test_an_undecided_comparison_beside_a_failure_by_chance_leaves_the_claim_undecided() -> None:
    def decide(number: float) -> Decision | bool:
        return effects(np.random.default_rng(1).normal(size=(CASES, 1)) * 0.2 + number)[0] <= 0.0

    assert every([2.0, 0.0, -2.0], decide) is False
    with pytest.raises(Inconclusive):
        every([0.0, -2.0], decide)
    assert every([-2.0, -2.0], decide)
    assert every([-2.0], lambda number: number > 0) is False
