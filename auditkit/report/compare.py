"""Two runs compared: every claim with both verdicts and its paired differences, what got worse first, in words.

The candidate comes with its changes since the other run (`auditkit.gate.changes.compare`), the same that a run with
`--baseline` records, and what became of a claim is decided by the same rule (`auditkit.claims.changed`). Nothing is
subtracted here, and what is not comparable stands side by side with the reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from auditkit.claims.changed import BECAME, CODES, WORSE, Became, became, is_identical, judged_changes, judges_it
from auditkit.claims.verdicts import EXIT_INCONCLUSIVE, EXIT_INTEGRITY, WORST_FIRST
from auditkit.record.baseline import BASELINE_LABEL, NO_BASELINE
from auditkit.record.schema import Claim, Effect, Run, Verdict
from auditkit.report import wording

_MINUS = f" minus {BASELINE_LABEL}"
_PLURAL = {"is": "are", "fails": "fail", "holds": "hold", "does": "do"}
_NAMED = 3
"""Reasons why claims are not comparable that one sentence names."""


@dataclass(frozen=True)
class Pair:
    """One effect in both runs; `change` None: it could not be subtracted."""

    name: str
    was: Effect | None
    now: Effect | None
    change: Effect | None


@dataclass(frozen=True)
class ClaimInBoth:
    """One claim in both runs."""

    kind: Became
    id: str
    statement: str
    was: Claim | None
    now: Claim | None
    reason: str
    """Why nothing, or not everything, was subtracted."""
    pairs: tuple[Pair, ...]

    @property
    def about_change(self) -> bool:
        """Whether the claim is about the change, so that what the baseline's run came to says nothing."""
        return self.now is not None and judges_it(self.now)

    @property
    def counts(self) -> bool:
        """Whether what became of the claim counts: not where it is waived, and not where only the baseline names it,
        without a value."""
        return self.now is not None and self.now.waiver is None


def rows(was: Run, now: Run) -> list[ClaimInBoth]:
    """Every claim of the two runs; claims that got worse come first.

    Args:
        was: the baseline.
        now: the candidate with its changes since `was`.
    """
    before = {claim.id: claim for claim in was.claims}
    here = {claim.id for claim in now.claims}
    found = [_row(before.get(claim.id), claim) for claim in now.claims]
    for claim in was.claims:
        if claim.id not in here:
            reason = "the candidate does not hold the claim, and the baseline has no value of it"
            pairs = tuple(Pair(effect.name, effect, None, None) for effect in _effects(claim))
            found.append(ClaimInBoth("is not asked", claim.id, claim.statement, claim, None, reason, pairs))
    return sorted(found, key=lambda row: BECAME.index(row.kind))


def comparison_code(was: Run, now: Run, table: Sequence[ClaimInBoth]) -> int:
    """0 nothing got worse, 1 a claim fails now, 10 something can no longer be said or compared, 11 no trust.

    How far an effect moved does not count: over many effects some interval leaves zero by chance. A claim can make
    the change its own question. Waived claims do not count either, nor does a claim that is gone and of which the
    baseline had no value; the gate of a run with `--baseline` has the same rule.
    """
    if wording.distrust(was.cross_check) or wording.distrust(now.cross_check):
        return EXIT_INTEGRITY
    codes = {CODES.get(row.kind, 0) for row in table if row.counts}
    if not any(_says_something(row) for row in table):
        codes.add(EXIT_INCONCLUSIVE)
    return next(code for code in WORST_FIRST if code in codes or code == 0)


def counted(kind: Became, count: int) -> str:
    """ "1 fails now", "2 fail now"."""
    words = kind.split()
    return " ".join([str(count), *(words if count == 1 else [_PLURAL.get(word, word) for word in words])])


def in_one_line(table: Sequence[ClaimInBoth]) -> str:
    """ "1 fails now, 2 are not comparable, 40 still hold"."""
    counts = Counter(row.kind for row in table)
    return ", ".join(counted(kind, counts[kind]) for kind in BECAME if counts[kind])


def sentences(was: Run, now: Run, table: Sequence[ClaimInBoth]) -> list[str]:
    """What changed, in words: the first sentence answers, what got worse comes first."""
    distrust = [text for text in (wording.distrust(run.cross_check) for run in (was, now)) if text]
    if distrust:
        return ["No number can be compared, because the adapters of one run do not agree.", *distrust]
    if not table:
        return ["Nothing was compared: neither run holds a claim."]
    said = [_first(table), f"Of {_claims(len(table))} {in_one_line(table)}."]
    waived = sum(row.now is not None and row.now.waiver is not None and row.kind in CODES for row in table)
    if waived:
        said.append(f"{_claims(waived)} got worse and {'is' if waived == 1 else 'are'} waived.")
    return said


def needing_baseline(table: Sequence[ClaimInBoth]) -> list[ClaimInBoth]:
    """Claims that judge the change itself, which the candidate was not asked for want of a baseline."""
    return [row for row in table if row.now is not None and NO_BASELINE in row.now.reason]


def not_compared(table: Sequence[ClaimInBoth]) -> dict[str, list[ClaimInBoth]]:
    """Reason -> the claims that are not comparable for it, the most frequent reason first."""
    found: dict[str, list[ClaimInBoth]] = {}
    for row in table:
        if row.kind == "is not comparable":
            found.setdefault(row.reason, []).append(row)
    return dict(sorted(found.items(), key=lambda entry: -len(entry[1])))


def _first(table: Sequence[ClaimInBoth]) -> str:
    """The sentence that answers whether something got worse."""
    worse = [row for row in table if row.kind in WORSE and row.counts]
    apart = not_compared(table)
    without = sum(map(len, apart.values()))
    if worse:
        rest = f", and {_claims(without)} cannot be compared" if without else ""
        return f"{_claims(len(worse))} got worse: {in_one_line(worse)}{rest}."
    if without and without == sum(
        row.now is not None and row.kind not in ("is new", "is not asked") for row in table
    ):
        return f"No claim can be compared: {_reasons(apart)}."
    if without:
        return f"No claim is shown to be worse, but {_claims(without)} cannot be compared: {_reasons(apart)}."
    changes = [pair.change for row in table for pair in row.pairs if pair.change is not None]
    if changes and all(map(is_identical, changes)):
        return f"Nothing changed: {wording.directions(changes)}, item by item."
    if not any(_says_something(row) for row in table):
        return "Nothing can be said: no claim that was asked of both runs is decided."
    still = sum(row.kind == "is still open" for row in table)
    return f"No claim got worse, and {counted('is still open', still)}." if still else "No claim got worse."


def _reasons(apart: dict[str, list[ClaimInBoth]]) -> str:
    named = list(apart)[:_NAMED]
    more = f"; and {len(apart) - _NAMED} further reasons" if len(apart) > _NAMED else ""
    return "; or ".join(named) + more


def _claims(count: int) -> str:
    return "1 claim" if count == 1 else f"{count} claims"


def _says_something(row: ClaimInBoth) -> bool:
    """Whether the claim was asked the same of both runs, and is decided on the candidate."""
    asked = row.was is not None and row.kind not in ("is not comparable", "is gone")
    return asked and row.now is not None and row.now.verdict in (Verdict.PASS, Verdict.FAIL)


def _row(was: Claim | None, now: Claim) -> ClaimInBoth:
    kind, change = became(now), now.change
    assert kind is not None
    assert change is not None
    return ClaimInBoth(
        kind, now.id, now.statement, was, now, change.reason, tuple(_pairs(was, now, change.effects))
    )


def _pairs(was: Claim | None, now: Claim, changes: Sequence[Effect]) -> Iterator[Pair]:
    """The effects of both runs with their differences, each difference once."""
    own = judges_it(now)
    before = {effect.name: effect for effect in _effects(was, without_changes=own)}
    here = {effect.name: effect for effect in _effects(now, without_changes=own)}
    differences = {effect.name.removesuffix(_MINUS): effect for effect in changes}
    for name in dict.fromkeys([*here, *before]):
        yield Pair(name, before.get(name), here.get(name), differences.pop(name, None))
    for (
        name,
        effect,
    ) in differences.items():  # what no comparison of the claim used, or what the claim judges itself
        yield Pair(name, None, None, effect)


def _effects(claim: Claim | None, *, without_changes: bool = False) -> list[Effect]:
    """The effects that a claim compared; of one name, the first.

    Args:
        without_changes: leave out differences from a baseline, which stand as differences.
    """
    if claim is None:
        return []
    changes = {id(effect) for effect in judged_changes(claim)} if without_changes else set[int]()
    every = [effect for effect in claim.compared if id(effect) not in changes]
    return list({effect.name: effect for effect in reversed(every)}.values())[::-1]
