"""Claims over several groups: every comparison is made, also after one that failed or was undecided.

If a claim about ten groups stopped at the first undecided one, it would hide a failure of the second, and a run without
a baseline would record only the first group. A claim passes where every comparison passes, which needs no correction.
It fails where one comparison fails by Holm's procedure over all of them: without it, one in four claims with thirteen
differences exactly at their margins would fail by chance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

from auditkit.claims.evidence import Decision
from auditkit.claims.outcomes import Inconclusive, NotApplicable
from auditkit.record.schema import Verdict
from auditkit.stats.effects.base import Comparable
from auditkit.stats.effects.mean import Estimate
from auditkit.stats.families import fail_within_claim

Baseline = Callable[[Estimate], Estimate]
"""The plugin's fixture `baseline`: the same estimate on the baseline."""


def every(effects: Iterable[Any], decide: Callable[[Any], Decision | bool]) -> bool:
    """Whether all comparisons hold; all are made first.

    Raises:
        Inconclusive, NotApplicable: none failed, by Holm's procedure over all of them, and one could not be decided.
    """
    made: list[Decision] = []
    failed = False
    ended: Inconclusive | NotApplicable | None = None
    for effect in effects:
        try:
            outcome = decide(effect)
        except Inconclusive as error:
            ended = error if not isinstance(ended, Inconclusive) else ended
            made += [error.decision] if error.decision is not None else []
        except NotApplicable as error:
            ended = ended or error
        else:
            made += [outcome] if isinstance(outcome, Decision) else []
            failed |= not isinstance(outcome, Decision) and not outcome
    judged = fail_within_claim(made)
    if failed or any(one.verdict is Verdict.FAIL for one in judged):
        return False
    chance = next((one for one, was in zip(judged, made, strict=True) if one.verdict is not was.verdict), None)
    if chance is not None:
        raise Inconclusive(chance.reason, chance)
    if ended is not None:
        raise ended
    return True


def alike(effects: Iterable[Comparable], within: float) -> bool:
    """Whether every effect is 0 within a margin."""
    return every(effects, lambda effect: effect.equals(0.0, within=within))


def unchanged(baseline: Baseline, effects: Iterable[Estimate], within: float) -> bool:
    """Whether every effect is that of the baseline within a margin, items paired."""
    return every(effects, lambda now: now.change_from(baseline(now)).equals(0.0, within=within))


def no_worse(
    baseline: Baseline, effects: Iterable[Estimate], by: float, better: Literal["higher", "lower"]
) -> bool:
    """Whether no effect is worse than on the baseline by as much as the margin, items paired."""
    return every(effects, lambda now: now.no_worse_than(baseline(now), by=by, better=better))
