"""The scorecard of several runs: one row for each claim, one cell for each run, and which cells answer one question.

A claim is compared by what it asks, so runs may differ in model, tokenizer and seed. Where the claim's code, its data,
its number of items, its threshold or the baseline that it judges is another, the cell is kept apart and says why. Only
a claim that passed, failed or is undecided has a number here. What does not apply, could not be read, was not asked or
is not in a run at all has a word instead, and never counts as a claim that holds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from auditkit.claims.changed import judged_changes
from auditkit.record.differences import asked_otherwise, other_threshold
from auditkit.record.naming import apart
from auditkit.record.schema import Claim, Effect, Run, Verdict
from auditkit.report import wording

State = Literal[
    "holds", "does not hold", "undecided", "does not apply", "not readable", "not asked", "not in this run"
]
STATES: dict[State, Verdict | None] = {
    "holds": Verdict.PASS,
    "does not hold": Verdict.FAIL,
    "undecided": Verdict.INCONCLUSIVE,
    "does not apply": Verdict.NOT_APPLICABLE,
    "not readable": Verdict.ERROR,
    "not asked": None,
    "not in this run": None,
}
"""What a run says of a claim -> the verdict with its sign; None where the run has no verdict to show."""
SEVERAL: dict[State, str] = {
    "holds": "hold",
    "does not hold": "do not hold",
    "does not apply": "do not apply",
}
"""The same of several claims, where the words are others."""
DECIDED: tuple[State, ...] = ("holds", "does not hold")
MEASURED: tuple[State, ...] = (*DECIDED, "undecided")


@dataclass(frozen=True)
class ClaimInRun:
    """One claim in one run."""

    run: int
    """Place of the run in the order that was given, from 0."""
    claim: Claim | None
    state: State
    effect: Effect | None
    """The row's effect; None where the run has no number of it that may be read."""
    otherwise: str
    """Why the cell answers another question than the others of its row; empty where it answers the same."""
    why: str
    """Why there is no verdict; empty where there is one."""

    @property
    def joined(self) -> bool:
        """Whether the cell counts together with the others of its row."""
        return not self.otherwise


@dataclass(frozen=True)
class ClaimInRuns:
    """One claim in all runs."""

    id: str
    suite: str
    statement: str
    effect: str
    """The name of the effect whose numbers the row shows; empty where no run has one."""
    several: int
    """So many comparisons decide the claim."""
    cells: tuple[ClaimInRun, ...]

    @property
    def silent(self) -> State | None:
        """What all runs say where it is one and the same and no answer; None elsewhere."""
        states = {cell.state for cell in self.cells}
        return next(iter(states)) if len(states) == 1 and not states & set(MEASURED) else None

    def states(self) -> list[State]:
        """What the runs say that were asked the same."""
        return [cell.state for cell in self.cells if cell.joined]


@dataclass(frozen=True)
class Scorecard:
    """All claims of several runs."""

    runs: tuple[Run, ...]
    labels: tuple[str, ...]
    rows: tuple[ClaimInRuns, ...]

    def suites(self) -> dict[str, list[ClaimInRuns]]:
        """Suite -> its rows, in the order in which they first stand in a run."""
        found: dict[str, list[ClaimInRuns]] = {}
        for row in self.rows:
            found.setdefault(row.suite, []).append(row)
        return found


def scorecard(runs: Sequence[Run]) -> Scorecard:
    """The scorecard of runs in the order that was given."""
    held = [{claim.id: claim for claim in run.claims} for run in runs]
    names = dict.fromkeys(name for claims in held for name in claims)
    rows = [_row(runs, [claims.get(name) for claims in held]) for name in names]
    return Scorecard(tuple(runs), labels(runs), tuple(rows))


def labels(runs: Sequence[Run]) -> tuple[str, ...]:
    """A short name for each run: its model, and the seed, the date or the place where several have one name. The model
    is left out where it is that of all runs."""
    alike = len({run.model.name for run in apart(*runs)}) == 1
    named = [run.model.name for run in apart(*runs)]
    for more in (
        [f"seed {run.seed}" for run in runs],
        [run.created for run in runs],
        [f"run {place}" for place in range(1, len(runs) + 1)],
    ):
        counts = Counter(named)
        named = [f"{name}, {word}" if counts[name] > 1 else name for name, word in zip(named, more, strict=True)]
    return tuple(name.removeprefix(f"{runs[0].model.name}, ") for name in named) if alike else tuple(named)


def _row(runs: Sequence[Run], claims: Sequence[Claim | None]) -> ClaimInRuns:
    first = next(claim for claim in claims if claim is not None)
    otherwise = _otherwise(runs, claims)
    states = [_state(run, claim) for run, claim in zip(runs, claims, strict=True)]
    name = _shown(
        [
            claim
            for claim, (state, _), other in zip(claims, states, otherwise, strict=True)
            if claim is not None and state in MEASURED and not other
        ]
    )
    cells = tuple(
        ClaimInRun(place, claim, state, _effect(claim, name) if state in MEASURED else None, otherwise[place], why)
        for place, (claim, (state, why)) in enumerate(zip(claims, states, strict=True))
    )
    most = max(len(claim.compared) for claim in claims if claim is not None)
    return ClaimInRuns(first.id, first.suite, first.statement, name, most, cells)


def _state(run: Run, claim: Claim | None) -> tuple[State, str]:
    """What a run says of a claim, and why it has no verdict."""
    if claim is None:
        return "not in this run", "the run does not hold this claim"
    if wording.distrust(run.cross_check):
        return "not readable", "the two adapters of the run do not agree, so no number of it can be trusted"
    if claim.lack == "not measured":
        return "not in this run", claim.reason
    match claim.verdict:
        case Verdict.PASS:
            return "holds", ""
        case Verdict.FAIL:
            return "does not hold", ""
        case Verdict.INCONCLUSIVE:
            return "undecided", claim.reason
        case Verdict.ERROR:
            return "not readable", claim.reason
    return ("not asked" if claim.lack == "not asked" else "does not apply"), claim.reason


def _otherwise(runs: Sequence[Run], claims: Sequence[Claim | None]) -> list[str]:
    """For each run why its claim asks something else than that of most runs; empty where it asks the same."""
    groups: list[list[int]] = []
    for place, claim in enumerate(claims):
        if claim is None:
            continue
        group = next((some for some in groups if not _why_apart(runs, claims, some[0], place)), None)
        if group is None:
            groups.append([place])
        else:
            group.append(place)
    most = max(groups, key=len)  # of equal groups, that of the earliest run
    said = [""] * len(claims)
    for group in groups:
        if group is not most:
            for place in group:
                said[place] = _why_apart(runs, claims, most[0], place)
    return said


def _why_apart(runs: Sequence[Run], claims: Sequence[Claim | None], one: int, other: int) -> str:
    """Why the claims of two runs are no answers to one question; "there" is the first of the two."""
    was, now = claims[one], claims[other]
    assert was is not None
    assert now is not None
    reasons = list(asked_otherwise(now.id, now.suite, runs[one].plan, runs[other].plan))
    threshold = other_threshold(was, now)
    reasons += [threshold] if threshold else []
    bases = [run.baseline for run in (runs[one], runs[other])]
    if judged_changes(was) and judged_changes(now):
        there, here = (base.audit_sha256 if base is not None else "" for base in bases)
        if there != here:
            names = [base.run if base is not None else "none" for base in bases]
            reasons.append(f"the change since another baseline: {names[0]} there, {names[1]} here")
    return "; ".join(reasons)


def _shown(claims: Sequence[Claim]) -> str:
    """The effect that most of the claims measured; of several, the one that decided most often."""
    measured = Counter(
        name for claim in claims for name in dict.fromkeys(effect.name for effect in claim.compared)
    )
    decided = Counter(claim.effect.name for claim in claims if claim.effect is not None)
    return max(measured, key=lambda name: (measured[name], decided[name]), default="")


def _effect(claim: Claim | None, name: str) -> Effect | None:
    found = (effect for effect in claim.compared if effect.name == name) if claim is not None else iter(())
    return next(found, None)
