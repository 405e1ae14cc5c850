"""Does a record say what follows from its items? Every effect, verdict and summary is derived again, without the model.

What is derived: each effect from the values in items.parquet (`auditkit.stats.effects.recomputed`); each control's and
claim's verdict from its effects, and each alternative's; the corrections within claims and families; waivers; the
summary; the digests of plan and items. What is not: that the items are what a model gave, which only measuring again
can tell, and effects of which the record keeps no recipe (they are counted).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from auditkit.claims.evidence import Decision, Evidence
from auditkit.claims.outcomes import Inconclusive
from auditkit.claims.verdicts import decided, judge, summarize
from auditkit.gate.waivers import WAIVABLE
from auditkit.record.differences import plan_digest
from auditkit.record.plan import LOOKS, OTHER_SHARDS, STEPWISE
from auditkit.record.schema import Alternative, Claim, Control, Effect, Run, Verdict
from auditkit.stats.alternatives import held_to, mark
from auditkit.stats.effects.base import BESIDE
from auditkit.stats.effects.recomputed import ClaimItems, recomputed
from auditkit.stats.families import adjusted_by_holm, alone, claim_p, fail_within_claim, placed
from auditkit.stats.intervals import ALPHA, spending
from auditkit.stats.sensitivity import SENSITIVITY

if TYPE_CHECKING:
    import pandas as pd

NUMBERS = ("estimate", "lower", "upper", "standardized", "mde", "p_fail", "df", "least", "greatest")
COUNTS = ("n", "clusters", "items_needed", "items_range", "exact")
TOLERANCE = 1e-9
"""Relative; sums in another order differ in the last bits."""


@dataclass(frozen=True)
class Verified:
    """What came of deriving a record again.

    Attributes:
        problems: one sentence for each thing that does not follow, with the claim's id.
        effects: how many effects were computed again.
        not_computed: names of effects that cannot be, by claim.
    """

    problems: tuple[str, ...]
    effects: int
    not_computed: tuple[tuple[str, str], ...]


def verify(run: Run, items: pd.DataFrame) -> Verified:
    """Derive a run's record again from its items.

    Args:
        items: columns of `ItemRow`.
    """
    items = items.astype(object)  # every text is looked up many times, which is slow in Arrow's memory
    rows, empty = dict(tuple(items.groupby("claim", sort=False))), items.iloc[:0]
    problems = list(_whole(run, set(map(str, rows))))
    computed, missing = 0, list[tuple[str, str]]()
    for claim in run.claims:
        found = verify_claim(claim, rows.get(claim.id, empty), paired=run.baseline is not None)
        problems += found.problems
        computed += found.effects
        missing += found.not_computed
    problems += [*_family_problems(run), *_summary_problems(run)]
    return Verified(tuple(problems), computed, tuple(missing))


def verify_claim(claim: Claim, items: pd.DataFrame, *, paired: bool) -> Verified:
    """Derive one claim again from its items.

    Args:
        items: the claim's rows, columns of `ItemRow`.
        paired: the run has a baseline.
    """
    found: list[str] = []
    kept = ClaimItems(items)
    again = {id(effect): _again(effect, kept, beside, found) for effect, beside in _effects(claim)}
    missing = [(claim.id, effect.name) for effect, _ in _effects(claim) if not again[id(effect)].computed]
    found += _claim_problems(claim, again)
    found += _left_over(claim, kept, paired=paired)
    problems = tuple(f"{claim.id}: {problem}" for problem in found)
    return Verified(problems, len(again) - len(missing), tuple(missing))


# -- the whole -----------------------------------------------------------------------------------------------------


def _whole(run: Run, measured: set[str]) -> Iterator[str]:
    """What does not hold of the record as a whole: claims planned, missing, doubled; digests."""
    if plan_digest(run.plan) != run.plan_sha256:
        yield "the plan is not the one that plan_sha256 was made of"
    ids = [claim.id for claim in run.claims]
    for name in dict.fromkeys(name for name in ids if ids.count(name) > 1):
        yield f"{name}: the record holds the claim {ids.count(name)} times"
    for claim in run.claims:
        if (
            claim.id not in run.plan.claims and claim.lack != "not measured"
        ):  # those stand by the baseline's record
            yield f"{claim.id}: the claim was not planned"
    yield from _levels(run)
    untested = {entry.what for entry in run.untested}
    if OTHER_SHARDS not in untested:
        for name in run.plan.claims:
            if name not in ids and name not in untested:
                yield f"{name}: the claim was planned, and is neither in the record nor named as untested"
    for name in sorted(measured - set(ids)):
        yield f"{name}: the items hold values of a claim that is not in the record"


def _levels(run: Run) -> Iterator[str]:
    """Effects that spend more of the error than the plan declares."""
    looks = {look.spends for look in LOOKS} if run.plan.settings.get("effort") == STEPWISE else set()
    for claim in run.claims:
        for effect, _ in _effects(claim):
            if effect.spent not in {1.0, *looks} or effect.alpha > ALPHA * effect.spent * (1 + TOLERANCE):
                share = f"{effect.alpha:g} of the error, and its look a share of {effect.spent:g}"
                yield f"{claim.id}: '{effect.name}' spends {share}, which the plan does not declare"


def _left_over(claim: Claim, items: ClaimItems, *, paired: bool) -> Iterator[str]:
    """Effects that the items hold values of and the record does not: a comparison or control that was taken out.

    Args:
        paired: the run has a baseline; then claims keep values that they compare with it and show as changes.
    """
    known = {(effect.recipe.rows, beside) for effect, beside in _effects(claim) if effect.recipe is not None}
    kept = {(name, part.startswith(BESIDE)) for name, part in items.parts}
    if paired or claim.ended not in ("", "undecided", "failed assertion"):
        kept = {(name, beside) for name, beside in kept if beside}
    for name, _ in sorted(kept - known):
        yield f"the items hold values of '{name}', which the record does not name"


# -- effects -------------------------------------------------------------------------------------------------------


def _effects(claim: Claim) -> Iterator[tuple[Effect, bool]]:
    """Effects of a claim, and whether they stand beside it."""
    for effect in claim.compared:
        yield effect, False
    for control in (*claim.controls, *(control for one in claim.alternatives for control in one.controls)):
        if control.effect is not None:
            yield control.effect, True
    for alternative in claim.alternatives:
        for effect in alternative.effects:
            yield effect, True


@dataclass(frozen=True)
class _Again:
    """A recorded effect derived again: what its comparison comes to, and the reason where it was computed."""

    computed: bool
    verdict: Verdict
    reason: str = ""


def _again(effect: Effect, items: ClaimItems, beside: bool, problems: list[str]) -> _Again:
    """The effect from its items; why it is another one there goes to `problems`."""
    by_interval = _Again(False, decided(effect))
    try:
        with spending(effect.spent):
            estimate = recomputed(effect, items, beside=beside)
            if estimate is None:
                return by_interval
            again = estimate.describe(effect.relation, effect.threshold)
        compared = effect.relation is not None and effect.threshold is not None
        verdict, reason = estimate._verdict(again) if compared else (Verdict.INCONCLUSIVE, "")
    except (ValueError, KeyError, IndexError) as error:
        problems.append(f"'{effect.name}' cannot be computed from the items: {' '.join(str(error).split())}")
        return by_interval
    for name in (*NUMBERS, *COUNTS):
        was, now = getattr(effect, name), getattr(again, name)
        if not _same(was, now):
            problems.append(
                f"{name} of '{effect.name}' is {_text(was)} in the record, and {_text(now)} by its items"
            )
            break
    return _Again(True, verdict, reason)


def _same(was: object, now: object) -> bool:
    if isinstance(was, float) and isinstance(now, float | int):
        return math.isclose(was, now, rel_tol=TOLERANCE, abs_tol=1e-300) or abs(was - now) <= TOLERANCE * 1e-3
    return was == now


def _text(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


# -- verdicts ------------------------------------------------------------------------------------------------------


def _claim_problems(claim: Claim, again: Mapping[int, _Again]) -> Iterator[str]:
    """What of a claim does not follow from its effects and controls."""
    yield from _control_problems(claim.controls, again)
    for alternative in claim.alternatives:
        yield from _alternative_problems(alternative, claim, again)
    if claim.waiver is not None and claim.verdict not in WAIVABLE:
        yield f"a waiver is applied to a claim that is {claim.verdict}"
    before = alone(claim)
    if claim.lack is not None and claim.verdict in (Verdict.FAIL, Verdict.INCONCLUSIVE):
        return  # judged by what the baseline showed, which is not in this record
    expected = derived(before, again)
    if expected is not before.verdict:
        yield f"the verdict is {before.verdict}, and its effects and controls say {expected}"


def _control_problems(controls: Sequence[Control], again: Mapping[int, _Again]) -> Iterator[str]:
    for control in controls:
        if control.effect is not None and control.verdict is not None:
            verdict = again[id(control.effect)].verdict
            reference = control.name.startswith(SENSITIVITY) and Verdict.PASS not in (verdict, control.verdict)
            if verdict is not control.verdict and not reference:
                yield f"control '{control.name}' is {control.verdict}, and its effect says {verdict}"


def _alternative_problems(alternative: Alternative, claim: Claim, again: Mapping[int, _Again]) -> Iterator[str]:
    """What of an alternative does not follow from its effects and controls, as of a claim that compares them."""
    name = f"the alternative '{alternative.choice}: {alternative.other}'"
    for problem in _control_problems(alternative.controls, again):
        yield f"{name}: {problem}"
    behind = mark(alternative.choice, alternative.other)
    for effect in alternative.effects:
        if effect.recipe is not None and not effect.recipe.rows.endswith(behind):
            yield f"{name} shows '{effect.name}' of the items of something else"
    parts = {"controls": alternative.controls, "ended": alternative.ended}
    asked = msgspec.structs.replace(claim, effect=None, also=alternative.effects, **parts)
    judged = msgspec.structs.replace(alternative, verdict=derived(asked, again))
    expected = held_to(judged, claim.compared).verdict
    if expected is not alternative.verdict:
        yield f"{name} is {alternative.verdict}, and its effects and controls say {expected}"


def derived(claim: Claim, again: Mapping[int, _Again]) -> Verdict:
    """The verdict of a claim, without its family, from its effects, its controls and what ended its test."""
    if claim.ended in ("not applicable", "skipped"):
        return Verdict.NOT_APPLICABLE
    if claim.ended in ("not readable", "exception"):
        return Verdict.ERROR
    decisions = [
        Decision(again[id(effect)].verdict, again[id(effect)].reason, effect, "") for effect in claim.compared
    ]
    evidence = Evidence(decisions=list(fail_within_claim(decisions)), controls=list(claim.controls))
    verdict, _ = judge(evidence, Inconclusive("undecided") if claim.ended == "undecided" else None)
    return Verdict.ERROR if claim.ended == "failed assertion" and verdict is Verdict.PASS else verdict


def _family_problems(run: Run) -> Iterator[str]:
    """Places in families that Holm's procedure does not give."""
    members: dict[tuple[str, bool], list[Claim]] = {}
    for claim in run.claims:
        if claim.family is not None:
            members.setdefault((claim.family.name, claim.family.of_baseline), []).append(claim)
    for (name, _), claims in members.items():
        sizes = {claim.family.size for claim in claims if claim.family is not None}
        size = max(sizes)
        if len(sizes) != 1 or size < len(claims):
            yield f"family '{name}' has {len(claims)} claims in the record, which say that it has {sorted(sizes)}"
            continue
        p = [claim_p(alone(claim)) for claim in claims]
        adjusted = adjusted_by_holm([*p, *[1.0] * (size - len(p))])
        for claim, mine, among in zip(claims, p, adjusted, strict=False):
            yield from _place_problems(claim, placed(claim, size, mine, among))


def _place_problems(claim: Claim, again: Claim) -> Iterator[str]:
    """What differs between a claim and the same claim placed in its family anew."""
    assert claim.family is not None
    assert again.family is not None
    for name in ("p", "p_adjusted"):
        was, now = getattr(claim.family, name), getattr(again.family, name)
        if not _same(was, now):
            yield f"{claim.id}: {name} in its family is {_text(was)} in the record, and {_text(now)} by its effects"
            return
    if claim.verdict is not again.verdict:
        yield f"{claim.id}: the verdict is {claim.verdict}, and its family makes it {again.verdict}"


# -- the summary ---------------------------------------------------------------------------------------------------


def _summary_problems(run: Run) -> Iterator[str]:
    disagrees = run.cross_check is not None and run.cross_check.agrees is False
    again = summarize(run.claims, run.summary.reason if disagrees else "")
    for name, value in msgspec.structs.asdict(again).items():
        if getattr(run.summary, name) != value:
            yield f"the summary's {name} is {getattr(run.summary, name)!s}, and its claims make it {value!s}"
            return
    applied = {claim.waiver.claim for claim in run.claims if claim.waiver is not None}
    listed = {waiver.claim for waiver in run.waivers if waiver.state == "applied"}
    for name in sorted(applied ^ listed):
        yield f"{name}: the record's list of waivers and the claim do not agree on whether it is waived"
