"""Verdict rules: how comparisons make a claim's verdict, and claims a run's.

Missing evidence never reads as good news: a claim passes only if it compared something, every comparison
passed, and its controls came out the way theory says.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from auditkit.claims.evidence import Decision, Evidence, current
from auditkit.claims.outcomes import Inconclusive, NotApplicable, NotReadable, place, sides
from auditkit.record.needed import at_threshold
from auditkit.record.schema import Claim, Control, Effect, Ended, Summary, Verdict

EXIT_INCONCLUSIVE = 10
EXIT_INTEGRITY = 11
WORST_FIRST = (1, EXIT_INTEGRITY, EXIT_INCONCLUSIVE, 0)
"""Exit codes of runs, the worst first: a claim that failed is shown evidence, also beside one that cannot be read."""


@contextmanager
def control(name: str) -> Iterator[None]:
    """Comparisons inside the block are the claim's control `name`.

    A control that fails makes the claim ERROR ("not readable"). One that is undecided, or not to be asked of this
    model, leaves it INCONCLUSIVE, whether its own comparisons pass or fail. The block never ends the test, so that
    the claim itself is measured too; write controls above the assertion.
    Outside a claim (in a notebook) the exceptions pass through.
    """
    evidence = current()
    if evidence is None:
        yield
        return
    before, outer = len(evidence.decisions), evidence.in_control
    evidence.in_control = True
    outcome: Exception | None = None
    try:
        yield
    except (AssertionError, Inconclusive, NotApplicable) as error:
        outcome = error
    finally:
        evidence.in_control = outer
        decisions = evidence.decisions[before:]
        del evidence.decisions[before:]
    evidence.controls += [_judged(name, decision) for decision in decisions]
    if not decisions:
        reason = f"nothing could be compared: {outcome}" if outcome else "the block compared no effect"
        evidence.controls.append(Control(name=name, effect=None, verdict=Verdict.INCONCLUSIVE, reason=reason))
    elif outcome and all(decision.verdict is Verdict.PASS for decision in decisions):
        # The block ended early for something other than its comparisons: what was left is missing evidence.
        failed = isinstance(outcome, AssertionError)
        first = (str(outcome).splitlines() or ["assertion failed"])[0]
        reason = f"an assertion that compares no effect failed: {first}" if failed else first
        verdict = Verdict.FAIL if failed else Verdict.INCONCLUSIVE
        evidence.controls.append(Control(name=name, effect=None, verdict=verdict, reason=reason))


def judge(evidence: Evidence, ended: Inconclusive | None = None) -> tuple[Verdict, str]:
    """A claim's verdict from what it gathered, and the reason in words.

    A failed control comes first, since it takes the meaning out of everything else: ERROR. Where a control is
    undecided, or could not be asked of this model, it vouches for nothing, and what the claim's own comparisons
    came to is read neither as PASS nor as FAIL: INCONCLUSIVE. A claim that compared nothing is an ERROR: it asserts
    nothing, unless what it was to compare could not be measured.

    Args:
        ended: what ended the claim, where its evidence did not suffice to go on.
    """
    failed = [c for c in evidence.controls if c.verdict in (Verdict.FAIL, Verdict.ERROR)]
    if failed:
        return Verdict.ERROR, f"not readable: control '{failed[0].name}' did not hold ({failed[0].reason})"
    verdict, reason = _of_comparisons(evidence, ended)
    silent = unvouched(evidence.controls)
    if silent is None or verdict not in (Verdict.PASS, Verdict.FAIL):
        return verdict, reason
    why = f"control '{silent.name}' is undecided ({silent.reason})"
    if verdict is Verdict.FAIL:
        why += f", so a comparison that fails says nothing yet ({reason})"
    return Verdict.INCONCLUSIVE, why


def concluded(evidence: Evidence, error: BaseException | None) -> tuple[Verdict, str]:
    """The verdict of comparisons that came to their end, or that `error` ended, and the reason in words."""
    match error:
        case None:
            return judge(evidence)
        case NotApplicable():
            return Verdict.NOT_APPLICABLE, str(error)
        case NotReadable():
            return Verdict.ERROR, str(error)
        case Inconclusive():
            return judge(evidence, error)
    first = (str(error).splitlines() or [""])[0]
    if not isinstance(error, AssertionError):
        return Verdict.ERROR, f"{type(error).__name__}: {first}"
    verdict, reason = judge(evidence)
    if verdict is Verdict.PASS:
        return Verdict.ERROR, f"an assertion that compares no effect failed: {first or 'assertion failed'}"
    return verdict, reason


def ended_by(error: BaseException | None) -> Ended:
    """What ended comparisons, as the record says it."""
    match error:
        case None:
            return ""
        case NotApplicable():
            return "not applicable"
        case NotReadable():
            return "not readable"
        case Inconclusive():
            return "undecided"
        case AssertionError():
            return "failed assertion"
        case _:
            return "exception"


def unvouched(controls: Iterable[Control]) -> Control | None:
    """The first control that vouches for nothing: undecided, or not to be asked of this model."""
    silent = (Verdict.INCONCLUSIVE, Verdict.NOT_APPLICABLE)
    return next((control for control in controls if control.verdict in silent), None)


def _of_comparisons(evidence: Evidence, ended: Inconclusive | None) -> tuple[Verdict, str]:
    """What the comparisons came to, whatever the controls say."""
    if not evidence.decisions and ended is None:
        return Verdict.ERROR, "the claim compared no effect with a threshold, so it asserts nothing"
    for verdict in (Verdict.ERROR, Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.NOT_APPLICABLE):
        for decision in evidence.decisions:
            if decision.verdict is verdict:
                return verdict, decision.reason
    if ended is not None:
        return Verdict.INCONCLUSIVE, str(ended)
    return Verdict.PASS, "; ".join(_passing(evidence.decisions))


def _passing(decisions: Sequence[Decision]) -> Iterator[str]:
    """Why a claim passes: one sentence for all comparisons of one kind, with the interval nearest to its threshold."""
    kinds: dict[object, list[Decision]] = {}
    for number, decision in enumerate(decisions):
        effect = decision.effect
        alone = effect.exact or effect.lower is None or effect.upper is None
        kind = number if alone else (effect.relation, effect.threshold, effect.unit)
        kinds.setdefault(kind, []).append(decision)
    for same in kinds.values():
        effect = same[0].effect
        if len(same) == 1 or effect.relation is None or effect.threshold is None:
            yield same[0].reason
            continue
        all_of_them = "both" if len(same) == 2 else f"all {len(same)}"
        nearest = min((decision.effect for decision in same), key=_room)
        yield (
            f"{all_of_them} intervals lie {place(effect.relation, effect.threshold)} "
            f"(nearest: [{nearest.lower:.3g}, {nearest.upper:.3g}])"
        )


def _room(effect: Effect) -> float:
    """How far the interval of a passing comparison stays from its threshold."""
    lower, upper, threshold = effect.lower, effect.upper, effect.threshold
    assert lower is not None
    assert upper is not None
    assert threshold is not None
    if effect.relation == "within":
        return threshold - max(-lower, upper)
    return lower - threshold if effect.relation in (">=", ">") else threshold - upper


def decided(effect: Effect) -> Verdict:
    """What an effect says of its threshold, by its whole interval, or by its value where it is exact."""
    lower, upper = (effect.estimate, effect.estimate) if effect.exact else (effect.lower, effect.upper)
    if effect.relation is None or effect.threshold is None or lower is None or upper is None:
        return Verdict.INCONCLUSIVE
    holds, fails = sides(effect.relation, lower, upper, effect.threshold)
    return Verdict.PASS if holds else Verdict.FAIL if fails else Verdict.INCONCLUSIVE


def sits_at_threshold(claim: Claim) -> bool:
    """Whether only comparisons that sit at their threshold keep a claim undecided: more items would not matter."""
    undecided = [effect for effect in claim.compared if decided(effect) is Verdict.INCONCLUSIVE]
    return claim.verdict is Verdict.INCONCLUSIVE and bool(undecided) and all(map(at_threshold, undecided))


def deciding(decisions: Sequence[Decision], verdict: Verdict) -> Decision | None:
    """The comparison that the verdict rests on: the first with that verdict, else the first."""
    return next((d for d in decisions if d.verdict is verdict), decisions[0] if decisions else None)


def blocks(claim: Claim, profile: str) -> bool:
    """Whether this claim by itself keeps the run from ending with 0."""
    undecided = claim.verdict is Verdict.INCONCLUSIVE and profile == "release"
    return claim.waiver is None and (undecided or claim.verdict in (Verdict.FAIL, Verdict.ERROR))


def summarize(claims: Iterable[Claim], distrust: str = "") -> Summary:
    """Counts and overall verdict of a run: the worst there is, and PASS only when nothing is undecided.

    A waived claim is counted under its verdict and under `waived`, and does not decide; the reason names it.

    Args:
        distrust: why no number of the run may be read, whatever its claims came to; the run is then an ERROR.
    """
    claims = tuple(claims)
    count = {verdict: sum(claim.verdict is verdict for claim in claims) for verdict in Verdict}
    waived = [claim for claim in claims if claim.waiver is not None]
    blocking = {verdict: count[verdict] - sum(c.verdict is verdict for c in waived) for verdict in Verdict}
    if blocking[Verdict.FAIL]:
        verdict, reason = Verdict.FAIL, _naming(claims, Verdict.FAIL, "failed")
    elif count[Verdict.ERROR]:
        verdict, reason = Verdict.ERROR, _naming(claims, Verdict.ERROR, "could not be read")
    elif not count[Verdict.PASS]:
        verdict = Verdict.INCONCLUSIVE
        reason = "no claim could be decided" if claims else "no claim was measured"
    elif blocking[Verdict.INCONCLUSIVE]:
        verdict = Verdict.INCONCLUSIVE
        reason = f"{_naming(claims, Verdict.PASS, 'passed')}, {blocking[verdict]} undecided"
    else:
        verdict, reason = Verdict.PASS, _naming(claims, Verdict.PASS, "passed")
    for claim in waived:
        assert claim.waiver is not None
        reason += (
            f"; {claim.verdict.value} of {claim.id} waived by {claim.waiver.owner} until {claim.waiver.expires}"
        )
    return Summary(
        verdict=Verdict.ERROR if distrust else verdict,
        reason=distrust or reason,
        passed=count[Verdict.PASS],
        failed=count[Verdict.FAIL],
        inconclusive=count[Verdict.INCONCLUSIVE],
        not_applicable=count[Verdict.NOT_APPLICABLE],
        error=count[Verdict.ERROR],
        waived=len(waived),
    )


def exit_code(summary: Summary, profile: str) -> int:
    """0 pass, 1 fail, 10 undecided, 11 integrity (docs/contracts.md, Exit codes).

    Under the "pr" profile an undecided claim warns and does not block, as long as another one passed.
    """
    match summary.verdict:
        case Verdict.PASS:
            return 0
        case Verdict.FAIL:
            return 1
        case Verdict.ERROR:
            return EXIT_INTEGRITY
        case _:
            return 0 if profile == "pr" and summary.passed else EXIT_INCONCLUSIVE


def _judged(name: str, decision: Decision) -> Control:
    return Control(name=name, effect=decision.effect, verdict=decision.verdict, reason=decision.reason)


def _naming(claims: Sequence[Claim], verdict: Verdict, word: str) -> str:
    which = [claim for claim in claims if claim.verdict is verdict and claim.waiver is None]
    if verdict is Verdict.PASS or len(which) > 1:
        return f"{len(which)} of {len(claims)} claims {word}"
    return f"{which[0].id} {word}: {which[0].reason}"
