"""What every short output of a run has behind the sentence that answers: a row for each suite, and what needs a human.

The terminal, the job summary and the comment on a pull request show the same rows and the same commands
(`auditkit.report.answers` makes the sentence). A claim needs a human where it blocks, where it lost what the baseline
showed, or where pytest counted it as failed and its family does not. Each has one command that goes on from there. What
blocks nothing is counted.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from auditkit.claims.verdicts import blocks
from auditkit.record.escaping import shell
from auditkit.record.plan import LOOKS, STEPWISE, UNREACHED, share_of
from auditkit.record.schema import Claim, Run, Verdict
from auditkit.report import wording
from auditkit.report.answers.headline import answer
from auditkit.report.answers.kinds import is_left_out, needs_base
from auditkit.report.answers.scorecard import scorecard

BY_CHANCE = (
    "pytest showed it as F, and so does its own --junitxml: alone it failed, and whether that can be chance is known "
    "only at the end"
)
MOST_ROWS = 20
"""Suites that a table shows; the others are counted."""

_COLUMNS = ("pass", "fail", "error", "undecided", "not applicable", "without a base", "not asked", "waived")
_OF_VERDICT = {
    Verdict.PASS: "pass",
    Verdict.FAIL: "fail",
    Verdict.ERROR: "error",
    Verdict.INCONCLUSIVE: "undecided",
    Verdict.NOT_APPLICABLE: "not applicable",
}


@dataclass(frozen=True)
class Action:
    """Something that needs a human: a claim, or the claims that one fault has stopped."""

    verdict: Verdict
    claims: tuple[Claim, ...]
    why: str
    command: str
    """What to run next; empty where only a change of the suite or the model helps."""


@dataclass(frozen=True)
class Hint:
    """Something that a human may want to do: it blocks nothing."""

    said: str
    command: str


def needs_a_human(claim: Claim, profile: str) -> bool:
    """Whether somebody has to look at a claim."""
    return blocks(claim, profile) or wording.lost(claim) or wording.by_chance(claim)


def table(run: Run) -> list[tuple[str, ...]]:
    """Head and rows: each suite, its answer in a word, and its claims by what came of them; several suites are summed.

    A column in which no claim stands is left out.
    """
    counted = [(row.suite, row.word, [_column(run, claim) for claim in row.claims]) for row in scorecard(run)]
    if len(counted) > 1:
        counted.append(("all suites", "", [column for _, _, columns in counted for column in columns]))
    shown = [name for name in _COLUMNS if any(name in columns for _, _, columns in counted)]
    rows = [(suite, word, *(str(columns.count(name)) for name in shown)) for suite, word, columns in counted]
    if len(rows) > MOST_ROWS + 1:
        left = len(rows) - 1 - MOST_ROWS
        rows = [*rows[:MOST_ROWS], (f"{left} more suites", *("" for _ in rows[0][1:])), rows[-1]]
    return [("suite", "answer", *shown), *rows] if rows else []


def actions(run: Run, folder: str = "") -> list[Action]:
    """What needs a human, the worst first; claims that one fault has stopped stand together.

    Args:
        folder: the run's folder, for commands that read it; "" where it is not known, as in a file of the run.
    """
    attention = wording.needing_attention(run)
    others = [claim for claim in run.claims if claim.verdict not in wording.ATTENTION]
    groups: dict[tuple[str, ...], list[Claim]] = {}
    for claim in (*attention, *others):
        if needs_a_human(claim, run.profile):
            own = () if claim.verdict is Verdict.ERROR else (claim.id,)
            groups.setdefault((claim.verdict, why(claim), *own), []).append(claim)
    return [
        Action(claims[0].verdict, tuple(claims), why(claims[0]), _command(run, claims[0], folder))
        for claims in groups.values()
    ]


def hints(run: Run, folder: str = "") -> list[Hint]:
    """What is missing for want of a baseline or of items, in a line each."""
    said = answer(run)
    found = [Hint(said.base, said.base_command)] if said.base else []
    undecided = [
        claim
        for claim in run.claims
        if claim.verdict is Verdict.INCONCLUSIVE and not needs_a_human(claim, run.profile)
    ]
    if undecided and folder:
        count = "1 claim is" if len(undecided) == 1 else f"{len(undecided)} claims are"
        found.append(Hint(f"{count} undecided. What would decide them:", f"auditkit plan {shell(folder)}"))
    return found


def why(claim: Claim) -> str:
    """Why a claim needs a human, in a line: what was measured where it failed, and else the reason."""
    text = claim.reason
    if wording.by_chance(claim):
        text = BY_CHANCE
    elif claim.verdict is Verdict.FAIL and claim.effect is not None and claim.lack is None:
        text = f"{claim.effect.name}: {wording.effect_text(claim.effect)}, to be {wording.threshold(claim.effect)}"
    before = claim.change.verdict if claim.change is not None else None
    return text if before in (None, claim.verdict) else f"{text} ({wording.WORDS[before]} on the baseline)"


def named(claims: Sequence[Claim], most: int = 3) -> str:
    """The claims by their ids, of many the first: "suite/a, suite/b and 4 more"."""
    ids = [claim.id for claim in claims]
    if len(ids) <= most:
        return ", ".join(ids)
    return f"{', '.join(ids[: most - 1])} and {len(ids) - most + 1} more"


def _column(run: Run, claim: Claim) -> str:
    if needs_base(run, claim):
        return "without a base"
    if is_left_out(run, claim):
        return "not asked"
    if claim.waiver is not None and claim.waiver.state == "applied":
        return "waived"
    return _OF_VERDICT[claim.verdict]


def _command(run: Run, claim: Claim, folder: str) -> str:
    """The command that goes on from a claim: measure it with more items where they can decide it, or again where it
    broke; else all that is known of it, or where that is not at hand, the measurement again."""
    if claim.verdict is Verdict.INCONCLUSIVE and _decidable(run, claim):
        return re.sub(r" --effort \S+", "", claim.rerun) + f" --effort {STEPWISE}"
    if folder and claim.verdict is not Verdict.ERROR:
        return f"auditkit show {shell(folder)} --claim {shell(claim.id)}"
    return "" if claim.reason == UNREACHED else claim.rerun  # the session says how to go on


def _decidable(run: Run, claim: Claim) -> bool:
    """Whether a second look may decide a claim by its own numbers; a gate has one look for all its items."""
    settings, effect = run.plan.settings, claim.effect
    effort = settings.get("effort", "standard")
    if run.baseline is not None or settings.get("items", "None") != "None" or effort == STEPWISE or effect is None:
        return False
    times = LOOKS[-1].share / share_of(effort, claim.suite)
    return effect.items_range is not None and effect.items_range[0] <= times * effect.n
