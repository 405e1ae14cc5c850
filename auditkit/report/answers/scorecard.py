"""The scorecard: one row for each suite of a run, with its question, its answer and one number."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from auditkit.claims.verdicts import summarize
from auditkit.record.schema import Claim, Effect, Figure, Run, Verdict
from auditkit.report import wording
from auditkit.report.answers.kinds import BY_DESIGN, NEEDS_BASE, asked, is_finding, needs_base, short

_NAMED = 2
"""Claims that an answer names of each verdict."""
_DRAWN = ("curves", "heatmap", "dots", "points", "sets", "image")
"""Kinds of figures that are pictures."""
_MOST_ROWS = 32
"""Rows of a figure of groups up to which it can stand for a suite."""


@dataclass(frozen=True)
class ScoreRow:
    """What one suite asked of the model, and what came out."""

    suite: str
    question: str
    """What the suite asks, in plain words."""
    answer: str
    """One sentence made from its claims."""
    verdict: Verdict
    word: str
    """The verdict in the word that a reader acts on."""
    key: Claim | None
    """The claim that the row shows: its figure is the thumbnail, its effect the number. None: nothing was measured."""
    figure: Figure | None
    """The thumbnail; of `key` where that has a picture."""
    number: Effect | None
    """The effect of `key`, where it was estimated."""
    claims: tuple[Claim, ...]


def scorecard(run: Run) -> list[ScoreRow]:
    """One row for each suite, in the order in which they ran."""
    return [_row(run, suite, claims) for suite, claims in wording.suites(run).items()]


def counted(run: Run) -> dict[str, str]:
    """Suite -> its answer without the names of claims."""
    suites = wording.suites(run).items()
    return {suite: _answer(run, claims, asked(run, claims), named=False) for suite, claims in suites}


def question(claims: Sequence[Claim]) -> str:
    """What a suite asks: by its own word, or by the first sentence of where its first claim comes from."""
    own = next((claim.question for claim in claims if claim.question), "")
    if own:
        return own
    first = re.match(r".*?(?<!\bal)[.?!](?=\s|$)", claims[0].source)
    said = (first[0] if first else claims[0].source).rstrip(".")
    return f"{said}." if said and said[-1] not in "?!" else said


def _row(run: Run, suite: str, claims: Sequence[Claim]) -> ScoreRow:
    here = asked(run, claims)
    verdict = summarize(here).verdict if here else Verdict.NOT_APPLICABLE
    if here and all(claim.verdict is Verdict.NOT_APPLICABLE for claim in here):
        verdict = Verdict.NOT_APPLICABLE
    key, figure = _key(here)
    number = key.effect if key is not None and key.effect is not None and key.effect.estimate is not None else None
    return ScoreRow(
        suite=suite,
        question=question(claims),
        answer=_answer(run, claims, here),
        verdict=verdict,
        word=_word(run, claims, here, verdict),
        key=key,
        figure=figure,
        number=number,
        claims=tuple(claims),
    )


def _word(run: Run, claims: Sequence[Claim], here: Sequence[Claim], verdict: Verdict) -> str:
    if not here:
        return NEEDS_BASE if any(needs_base(run, claim) for claim in claims) else BY_DESIGN
    verdicts = {claim.verdict for claim in here}
    blocking = [claim for claim in here if claim.verdict is Verdict.FAIL and claim.waiver is None]
    if any(not is_finding(claim) for claim in blocking):
        return "blocks"
    if verdict is Verdict.FAIL:
        return "holds in part" if Verdict.PASS in verdicts else "does not hold"
    if verdict is Verdict.INCONCLUSIVE:
        return "partly decided" if Verdict.PASS in verdicts else "undecided"
    if verdict is Verdict.PASS:
        return "holds" if any(map(is_finding, here)) else "passes"
    return {Verdict.ERROR: "not readable", Verdict.NOT_APPLICABLE: "does not apply"}[verdict]


def _answer(run: Run, claims: Sequence[Claim], here: Sequence[Claim], *, named: bool = True) -> str:
    """ "Of 13 findings 5 hold (...), 1 does not (...) and 7 are undecided. 3 more need a base." """
    needing = sum(needs_base(run, claim) for claim in claims)
    if not here:
        if needing:
            return "Nothing yet, because its claims compare this model with a base and the run was given none."
        return "Nothing in this run, which leaves its claims out by design."
    findings = all(map(is_finding, here))
    by = {verdict: [claim for claim in here if claim.verdict is verdict] for verdict in Verdict}
    published = any(map(is_finding, here))
    holds, fails = ("hold", "do not hold") if published else ("pass", "fail")
    parts = [
        _part(by[Verdict.ERROR], "could not be measured", "could not be measured", named=named),
        _part(by[Verdict.FAIL], "does not hold" if published else "fails", fails, named=named),
        _part(by[Verdict.PASS], "holds" if published else "passes", holds, named=named),
        _part(by[Verdict.INCONCLUSIVE], "is undecided", "are undecided", named=named and not by[Verdict.PASS]),
        _part(by[Verdict.NOT_APPLICABLE], "does not apply", "do not apply", named=False),
    ]
    *said, last = [part for part in parts if part]
    what = "finding" if findings else "claim" if published else "check"
    sentence = (
        f"Of {len(here)} {what}{'s' if len(here) != 1 else ''} {', '.join(said)}{' and ' if said else ''}{last}."
    )
    if needing:
        sentence += f" {needing} more {'needs' if needing == 1 else 'need'} a base to compare with."
    return sentence


def _part(claims: Sequence[Claim], one: str, many: str, *, named: bool) -> str:
    if not claims:
        return ""
    said = f"{len(claims)} {one if len(claims) == 1 else many}"
    return f"{said} ({_names(claims)})" if named else said


def _names(claims: Sequence[Claim]) -> str:
    """The first claims by name, one of each test, and how many more there are."""
    by_test: dict[str, Claim] = {}
    for claim in claims:
        by_test.setdefault(claim.id.partition("[")[0], claim)
    shown = list(by_test.values())[:_NAMED]
    more = len(claims) - len(shown)
    return "; ".join([*map(short, shown), *([f"{more} more"] if more else [])])


def _key(here: Iterable[Claim]) -> tuple[Claim | None, Figure | None]:
    """The claim that stands for a suite, and its picture.

    What a reader has to act on comes first among checks, the order of the suite among findings; a claim with a number
    and a picture goes before one that lacks either.
    """
    claims = [claim for claim in here if claim.verdict is not Verdict.ERROR]

    def rank(claim: Claim) -> tuple[bool, ...]:
        applies = claim.verdict is not Verdict.NOT_APPLICABLE
        decided = claim.verdict in (Verdict.PASS, Verdict.FAIL)
        blocking = not is_finding(claim) and claim.verdict is Verdict.FAIL and claim.waiver is None
        ranged = claim.effect is not None and claim.effect.lower is not None and claim.effect.upper is not None
        return (not blocking, not applies, not (ranged and picture(claim)), not ranged, not decided)

    key = min(claims, key=rank, default=None)
    if key is None:
        return None, None
    shown = [claim for claim in (key, *claims) if claim.verdict is not Verdict.NOT_APPLICABLE]
    return key, next((found for claim in shown if (found := picture(claim)) is not None), None)


def picture(claim: Claim) -> Figure | None:
    """The first figure of a claim that is a picture, and not so long that it would have to be scrolled."""
    return next((one for one in claim.figures if one.kind in _DRAWN and _rows(one) <= _MOST_ROWS), None)


def _rows(figure: Figure) -> int:
    """Rows that a figure draws one below the other."""
    groups = figure.data.get("groups", ())
    if figure.kind != "dots" or not isinstance(groups, list | tuple):
        return 1
    return sum(1 + len(group.get("dots", ())) for group in groups if isinstance(group, dict))
