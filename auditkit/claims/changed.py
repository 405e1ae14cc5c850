"""What became of a claim since its baseline: the one rule for gates, pages and `auditkit diff`.

A verdict counts only where both runs asked the same in the same way. A claim that judges a change (no worse than the
baseline, unchanged within a margin) is read by its own verdict: what the baseline's run came to there is about another
difference, or about none. Missing evidence is never an improvement: a claim that failed and is not asked any more has
not recovered.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, get_args

import msgspec

from auditkit.claims.verdicts import EXIT_INCONCLUSIVE, EXIT_INTEGRITY
from auditkit.record.schema import Claim, Effect, Verdict

Became = Literal[
    "fails now",
    "is broken now",
    "is no longer decided",
    "is gone",
    "is not comparable",
    "still fails",
    "is still open",
    "is new",
    "no longer fails",
    "holds now",
    "still holds",
    "does not apply",
    "is not asked",
]
BECAME: tuple[Became, ...] = get_args(Became)
"""The worst first."""
CODES: dict[Became, int] = {
    "fails now": 1,
    "is broken now": EXIT_INTEGRITY,
    "is no longer decided": EXIT_INCONCLUSIVE,
    "is gone": EXIT_INCONCLUSIVE,
    "is not comparable": EXIT_INCONCLUSIVE,
}
"""What became of a claim -> the exit code that it asks for; 0 for what is not named."""
WORSE: tuple[Became, ...] = ("fails now", "is broken now", "is no longer decided", "is gone")

IDENTICAL = "identical"
"""Code of the reason why a difference has no interval: both runs have the same value on every item."""
_ZERO = " minus 0"
"""Ends the name of a difference that is compared with a margin around zero."""


def became(claim: Claim) -> Became | None:
    """What became of a claim since the baseline of its run; None where the run has no baseline."""
    change = claim.change
    if change is None:
        return None
    if claim.lack == "not measured":
        return "is gone"
    if change.verdict is None:
        return "is new"
    if claim.verdict is Verdict.NOT_APPLICABLE and claim.lack == "not asked":
        return "is not asked"
    if not change.comparable:
        return "is not comparable"
    was = Verdict.NOT_APPLICABLE if judges_it(claim) else change.verdict
    match (was, claim.verdict):
        case (_, Verdict.ERROR):
            return "is broken now"
        case (_, Verdict.FAIL):
            return "still fails" if was is Verdict.FAIL else "fails now"
        case (Verdict.PASS, Verdict.PASS):
            return "still holds"
        case (_, Verdict.PASS):
            return "no longer fails" if was is Verdict.FAIL else "holds now"
        case (Verdict.PASS | Verdict.FAIL, _):
            return "is no longer decided"
        case (_, Verdict.INCONCLUSIVE):
            return "is still open"
    return "does not apply"


def is_identical(change: Effect) -> bool:
    """Whether a difference from a baseline is zero on every item."""
    return change.recipe is not None and change.recipe.refused.startswith(IDENTICAL)


def judged_changes(claim: Claim) -> tuple[Effect, ...]:
    """The comparisons of a claim that are about the difference from a baseline, and not about the model by itself."""
    return tuple(
        effect for effect in claim.compared if effect.recipe is not None and effect.recipe.kind == "change"
    )


def judges_it(claim: Claim) -> bool:
    """Whether the claim judges the change that it is shown with, and not that since another baseline."""
    shown = claim.change.effects if claim.change is not None else ()
    return bool(judged_changes(claim)) and (not shown or any(effect.threshold is not None for effect in shown))


def one_interval(effects: Iterable[Effect], claim: Claim) -> tuple[Effect, ...]:
    """Differences from a baseline, each as the claim judges it where it does.

    A margin is tested with a stricter critical value than a difference that is only shown, so the same difference would
    else have two intervals.
    """
    judged = {difference(effect): effect for effect in reversed(judged_changes(claim))}
    return tuple(_as_judged(effect, judged.get(effect.name)) for effect in effects)


def _as_judged(shown: Effect, judged: Effect | None) -> Effect:
    if judged is None:
        return shown
    alike = is_identical(shown) and judged.lower is None
    return msgspec.structs.replace(judged, name=shown.name, recipe=shown.recipe if alike else judged.recipe)


def difference(effect: Effect) -> str:
    """The name of the difference that a comparison is about: a margin around zero leaves it what it is."""
    return effect.name.removesuffix(_ZERO)
