"""Sensitivity references: a finding of "no difference" counts only where a difference would have been seen.

A model that does not react to its prompt treats everybody alike within any margin, and so does one with random
weights. A claim that something is equal, unchanged or no larger than a margin therefore measures a *sensitivity
reference* at the same place: the same measurement, for a difference that should matter (a strong against a weak
application). Equivalence trials call it assay sensitivity (ICH E10, section 1.5): without it, two treatments that are
alike may both be without effect.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import msgspec

from auditkit.claims.evidence import Decision, Evidence, current
from auditkit.claims.outcomes import Inconclusive, NotApplicable
from auditkit.record.schema import Claim, Control, Effect, Verdict
from auditkit.stats.effects.base import Comparable
from auditkit.stats.effects.mean import Estimate

SENSITIVITY = "sensitivity: tells "
"""How the name of every reference begins in a claim's controls."""
ON_BASELINE = " on the baseline"
"""How it ends where the reference is the baseline's."""


def short_on_baseline(claim: Claim) -> bool:
    """Whether a reference of the claim falls short on the baseline itself, which so has nothing to lose."""
    return any(
        control.verdict is Verdict.NOT_APPLICABLE
        for control in claim.controls
        if control.name.startswith(SENSITIVITY) and control.name.endswith(ON_BASELINE)
    )


@dataclass(frozen=True)
class _Reference:
    """The outcome of a reference: PASS, NOT_APPLICABLE where it does not reach the amount, INCONCLUSIVE where
    it has no interval.

    Attributes:
        undecided: whether it does not reach the amount because its interval holds it.
    """

    name: str
    effect: Effect
    verdict: Verdict
    reason: str
    undecided: bool = False


@contextmanager
def sensitivity(
    what: str,
    reference: Comparable | Sequence[Comparable],
    *,
    by: float,
    baseline: Callable[[Estimate], Estimate] | None = None,
) -> Iterator[None]:
    """The equality claimed inside the block counts only where `reference` reaches `by` with its whole interval.

    Where it does not, the claim is NOT APPLICABLE and says so with the number: also where the interval holds `by`,
    since a measurement that was not shown to move cannot vouch for "no difference". A claim that FAILs keeps its FAIL:
    it found a difference, so the measurement moves. A reference without an interval (too few clusters, no spread)
    leaves the claim INCONCLUSIVE. The reference is shown beside the claim in any case.

    Args:
        what: what the measurement must tell apart, to be read after "tells": "a strong application from a weak one".
        reference: the same measurement for that difference, signed so that a larger value tells them apart better; one
            for each place where the claim is about several, all of which must reach the amount.
        by: the amount that it must reach, in its own unit. The claim's own margin, unless there is a reason for more:
            a measurement that cannot move by the margin where it should is within the margin of everything.
        baseline: the fixture `baseline`, for claims against one. The baseline must then have told the same apart; where
            it did, and the interval here holds `by`, it is undecided whether the candidate lost it: INCONCLUSIVE.

    Raises:
        ValueError: `by` is no finite number.
        NotApplicable: the reference does not reach `by`, here or on the baseline.
        Inconclusive: it has no interval, or reaches `by` on the baseline and is undecided here.
    """
    if not math.isfinite(by):
        raise ValueError(f"the amount that a sensitivity reference must reach must be finite, got {by}")
    evidence, judge = current(), partial(_judged, what, reference, by, baseline)
    ended: Inconclusive | NotApplicable | None = None
    try:
        yield
    except AssertionError:
        _enter(evidence, judge(), stands=True)
        raise
    except (Inconclusive, NotApplicable) as error:
        ended = error
    references = judge()
    stands = evidence is not None and _has_failed(evidence, ended)
    _enter(evidence, references, stands)
    if not stands:
        absent = [one.reason for one in references if one.verdict is Verdict.NOT_APPLICABLE]
        unknown = [one.reason for one in references if one.verdict is Verdict.INCONCLUSIVE]
        if absent:
            raise NotApplicable(
                f"{absent[0]}; {ended}" if isinstance(ended, NotApplicable) else absent[0]
            ) from ended
        if unknown and ended is None:
            raise Inconclusive(unknown[0])
    if ended is not None:
        raise ended


def _has_failed(evidence: Evidence, ended: Exception | None) -> bool:
    """Whether a comparison or a control failed: the claim's FAIL or ERROR stands then, whatever the reference says.

    Not a comparison whose failure may be chance among those of the claim ("holm").
    """
    chance = str(ended).startswith("holm:")
    verdicts = [one.verdict for one in (*(() if chance else evidence.decisions), *evidence.controls)]
    return Verdict.FAIL in verdicts or Verdict.ERROR in verdicts


def _enter(evidence: Evidence | None, references: Sequence[_Reference], stands: bool) -> None:
    """Show the references beside the claim; one that falls short has no say where the claim's failure stands."""
    if evidence is None:
        return
    for one in references:
        verdict: Verdict | None = one.verdict
        reason = one.reason
        if stands and verdict is not Verdict.PASS:
            verdict = None
            reason += "; the claim failed, so a difference was seen, and the failure stands"
        evidence.controls.append(Control(name=one.name, effect=one.effect, verdict=verdict, reason=reason))


def _judged(
    what: str,
    references: Comparable | Sequence[Comparable],
    by: float,
    baseline: Callable[[Estimate], Estimate] | None,
) -> list[_Reference]:
    """Each reference here and, where there is a baseline, the same there."""
    judged: list[_Reference] = []
    for reference in [references] if isinstance(references, Comparable) else references:
        reference.keep_beside()
        judged.append(_told(what, "", reference._decision(">=", by)))
        if baseline is None or not isinstance(reference, Estimate):
            continue
        try:
            then = baseline(reference)
        except NotApplicable:  # the run has none; what was measured is recorded, so that it can be one
            continue
        there = _told(what, ON_BASELINE, then._decision(">=", by))
        # by a recipe it would be computed from this run's items, and its own lie in the baseline's record
        there = replace(there, effect=msgspec.structs.replace(there.effect, recipe=None))
        here = judged.pop()
        if there.verdict is Verdict.PASS and here.undecided:
            reason = f"{here.reason}; the baseline does, so whether the candidate has lost it is undecided"
            here = replace(here, verdict=Verdict.INCONCLUSIVE, reason=reason)
        judged += [here, there]
    return judged


def _told(what: str, where: str, decision: Decision) -> _Reference:
    """The sentence that reports a reference with its number."""
    effect, name = decision.effect, f"{SENSITIVITY}{what}{where}"
    if decision.verdict is Verdict.PASS:
        return _Reference(name, effect, Verdict.PASS, decision.reason)
    if effect.estimate is None or effect.lower is None or effect.upper is None:
        absent = decision.verdict is Verdict.NOT_APPLICABLE
        verdict = Verdict.NOT_APPLICABLE if absent else Verdict.INCONCLUSIVE
        return _Reference(name, effect, verdict, f"whether the model tells {what}{where}: {decision.reason}")
    does_not = "does not tell" if decision.verdict is Verdict.FAIL else "is not shown to tell"
    unit = "" if effect.unit == "1" else f" {effect.unit}"
    reason = (
        f"the model {does_not} {what}{where}: {effect.name} is {effect.estimate:.3g} "
        f"[{effect.lower:.3g}, {effect.upper:.3g}]{unit}, at least {effect.threshold:.3g} needed; where a difference "
        "that should matter is not seen, no difference means nothing"
    )
    return _Reference(name, effect, Verdict.NOT_APPLICABLE, reason, decision.verdict is Verdict.INCONCLUSIVE)
