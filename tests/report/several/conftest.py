"""Runs of ten checkpoints whose claims change along the training in known ways."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from auditkit.record.schema import Claim, Control, Effect, Run, Verdict
from auditkit.report.several.pareto import BIASES, KNOWLEDGE

PASS, FAIL, UNDECIDED, NOT, ERROR = Verdict
replace = msgspec.structs.replace


def moved(effect: Effect, estimate: float, **changes: Any) -> Effect:
    """The effect at another place, with an interval of ±0.06."""
    return replace(effect, estimate=estimate, lower=estimate - 0.06, upper=estimate + 0.06, **changes)


def without(claim: Claim, verdict: Verdict, **changes: Any) -> Claim:
    """The claim with a verdict that comes with no number."""
    return replace(
        claim, verdict=verdict, effect=None, also=(), controls=(), figures=(), reason="no value", **changes
    )


def claims_at(run: Run, step: int) -> tuple[Claim, ...]:
    """What a checkpoint says: recovery falls through its threshold, a shift rises through its margin, one claim goes
    back and forth, one ends without a value, and two never change."""
    first, second, third, fourth, _, last = (replace(claim, figures=(), examples=()) for claim in run.claims)
    share = 0.75 - 0.07 * step
    recovery = PASS if share - 0.06 >= 0.3 else FAIL if share + 0.06 < 0.3 else UNDECIDED
    even = step % 4 < 2
    shift = 0.5 - 0.05 * step
    margin = PASS if shift + 0.06 <= 0.1 else FAIL if shift - 0.06 > 0.1 else UNDECIDED
    assert first.effect
    assert second.effect
    assert third.effect
    assert fourth.effect
    return (
        replace(first, verdict=recovery, effect=moved(first.effect, share)),
        replace(second, effect=moved(second.effect, -1.2)),
        replace(third, verdict=margin, effect=moved(third.effect, shift)),
        replace(fourth, verdict=PASS if even else FAIL, effect=moved(fourth.effect, 0.4 if even else 0.0)),
        replace(first, id="persona_patching/shown_early", verdict=PASS)
        if step < 6
        else without(replace(first, id="persona_patching/shown_early"), NOT, lack="behaviour"),
        without(last, ERROR),
        *_measures(first, step),
    )


def _measures(claim: Claim, step: int) -> tuple[Claim, ...]:
    """Bias grows with knowledge, but at the last two checkpoints it grows alone."""
    assert claim.effect
    known = moved(claim.effect, min(0.05 + 0.06 * step, 0.47), name=KNOWLEDGE.effect, unit="1", threshold=0.1)
    bias = moved(claim.effect, 0.08 + 0.02 * step, name=BIASES[0].effect, unit="1", relation="<=", threshold=0.1)
    checked = Control(name="sensitivity: tells right from wrong", effect=known, verdict=PASS, reason="")
    answers = replace(claim, id=BIASES[0].claim, suite="identity_bias", also=(), controls=(checked,))
    reads = without(replace(claim, id=KNOWLEDGE.claim, suite="identity_bias"), NOT, lack="not asked")
    return (
        replace(
            answers, effect=bias, verdict=UNDECIDED, statement="Identities get the same distribution of answers."
        ),
        replace(reads, controls=(checked,), statement="Identities know no less than on the baseline."),
    )


@pytest.fixture
def ten(sample_run: Run) -> list[Run]:
    """Ten checkpoints of one training; each asks the same."""
    return [checkpoint(sample_run, step) for step in range(10)]


def checkpoint(run: Run, step: int) -> Run:
    model = replace(
        run.model, name=f"step-{step * 500}", spec=f"out/step-{step * 500}", weights_sha256=f"{step:064x}"
    )
    claims = claims_at(run, step)
    plan = replace(run.plan, claims={claim.id: f"{place:064x}" for place, claim in enumerate(claims)})
    return replace(run, model=model, claims=claims, plan=plan, created=f"2025-07-1{step}T09:24:31Z", untested=())
