"""The comparison page of two runs: every claim with both effects, their paired difference, and both verdicts.

The candidate comes with its changes since the other run (`auditkit.gate.changes.compare`), the same that a run with
`--baseline` records. Nothing is subtracted here, and what is not comparable stands side by side with the reason.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import msgspec
from markupsafe import Markup

from auditkit.claims.verdicts import EXIT_INCONCLUSIVE, EXIT_INTEGRITY
from auditkit.record import escaping
from auditkit.record.canonical import canonical
from auditkit.record.schema import Change, Claim, Effect, Run, Struct, Verdict
from auditkit.report import wording
from auditkit.report.figures import forest
from auditkit.report.html import environment, json_text, own, policy

Kind = Literal[
    "fails now", "broken now", "no longer decided", "not comparable", "gone", "new", "no longer fails", "as before"
]
KINDS: tuple[Kind, ...] = get_args(Kind)
_CODES: dict[Kind, int] = {
    "fails now": 1,
    "broken now": EXIT_INTEGRITY,
    "no longer decided": EXIT_INCONCLUSIVE,
    "not comparable": EXIT_INCONCLUSIVE,
    "gone": EXIT_INCONCLUSIVE,
}


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

    kind: Kind
    id: str
    statement: str
    was: Claim | None
    now: Claim | None
    reason: str
    """Why nothing, or not everything, was subtracted."""
    pairs: tuple[Pair, ...]


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
            reason = "the candidate holds no such claim"
            pairs = tuple(Pair(effect.name, effect, None, None) for effect in _effects(claim))
            found.append(ClaimInBoth("gone", claim.id, claim.statement, claim, None, reason, pairs))
    return sorted(found, key=lambda row: KINDS.index(row.kind))


def comparison_code(was: Run, now: Run, table: Sequence[ClaimInBoth]) -> int:
    """0 nothing got worse, 1 a claim fails now, 10 something can no longer be said or compared, 11 no trust.

    How far an effect moved does not count: over many effects some interval leaves zero by chance. A claim can make
    the change its own question. Waived claims do not count either, nor does a claim that is gone and of which the
    baseline had no value; the gate of a run with `--baseline` has the same rule.
    """
    if wording.distrust(was.cross_check) or wording.distrust(now.cross_check):
        return EXIT_INTEGRITY
    codes = {_CODES.get(row.kind, 0) for row in table if row.now is not None and row.now.waiver is None}
    if not any(row.was and row.now and row.kind != "not comparable" and _decided(row.now) for row in table):
        codes.add(EXIT_INCONCLUSIVE)  # nothing was compared that says anything
    return next((code for code in (1, EXIT_INTEGRITY, EXIT_INCONCLUSIVE) if code in codes), 0)


def in_one_line(table: Sequence[ClaimInBoth]) -> str:
    """ "1 claim fails now, 2 are not comparable, 40 are as before"."""
    counts = Counter(row.kind for row in table)
    return ", ".join(f"{counts[kind]} {kind}" for kind in KINDS if counts[kind]) or "neither run holds a claim"


def render_comparison(was: Run, now: Run) -> str:
    """The page of both runs; the same two runs give the same text."""
    was, now = canonical(was), canonical(now)
    table = rows(was, now)
    style = own("style.css")
    page = (
        environment()
        .get_template("compare.html.j2")
        .render(
            was=was,
            now=now,
            rows=table,
            kinds={kind: [row for row in table if row.kind == kind] for kind in KINDS},
            lead=in_one_line(table),
            distrust=[text for text in (wording.distrust(run.cross_check) for run in (was, now)) if text],
            identity=_side_by_side(was, now),
            packages=_differing(was.environment.packages, now.environment.packages),
            drawing=forest.drawn,
            drawn_change=forest.drawn_change,
            policy=policy(style),
            # Safe: the style sheet is a file of this package and holds no "</style".
            style=Markup(style),
            # Safe: `json_text` leaves no character that could end the element or open another.
            data=Markup(json_text(_embedded(now))),
            baseline_data=Markup(json_text(_embedded(was))),
        )
    )
    return escaping.document(page)


def _row(was: Claim | None, now: Claim) -> ClaimInBoth:
    change = now.change
    assert change is not None
    before = {effect.name: effect for effect in _effects(was)}
    names = dict.fromkeys([*(effect.name for effect in _effects(now)), *before])
    here = {effect.name: effect for effect in _effects(now)}
    pairs = tuple(Pair(n, before.get(n), here.get(n), wording.change_of(now, here.get(n))) for n in names)
    shown = {id(pair.change) for pair in pairs}
    # An effect that no comparison of the claim used is subtracted all the same.
    pairs += tuple(Pair(effect.name, None, None, effect) for effect in change.effects if id(effect) not in shown)
    return ClaimInBoth(_kind(was, now, change), now.id, now.statement, was, now, change.reason, pairs)


def _kind(was: Claim | None, now: Claim, change: Change) -> Kind:
    if was is None:
        return "new"
    if now.lack == "not measured":
        return "gone"
    if not change.comparable:
        return "not comparable"
    if now.verdict is Verdict.ERROR:
        return "broken now"
    if now.verdict is Verdict.FAIL:
        return "as before" if was.verdict is Verdict.FAIL else "fails now"
    if wording.lost(now):
        return "no longer decided"
    return "no longer fails" if was.verdict in (Verdict.FAIL, Verdict.ERROR) else "as before"


def _decided(claim: Claim) -> bool:
    return claim.verdict in (Verdict.PASS, Verdict.FAIL)


def _effects(claim: Claim | None) -> list[Effect]:
    """The effects that a claim compared; of several comparisons of one effect, the first."""
    if claim is None:
        return []
    every = claim.compared
    return list({effect.name: effect for effect in reversed(every)}.values())[::-1]


def _side_by_side(was: Run, now: Run) -> list[tuple[str, str, str]]:
    """Rows that describe both runs: name, baseline, candidate."""
    facts = []
    for run in (was, now):
        facts.append(
            {
                "verdict": f"{wording.WORDS[run.summary.verdict]}: {run.summary.reason}",
                "created": run.created,
                "profile": run.profile,
                "seed": str(run.seed),
                "plan SHA-256": run.plan_sha256,
                "model identity SHA-256": wording.identity(run.model) or wording.MISSING,
                **_texts("model", run.model, ("identity",)),
                **_texts("auditkit", run.tool),
                "python": run.environment.python,
                "cpu": run.environment.cpu,
                "gpu": run.environment.gpu or wording.MISSING,
            }
        )
    return [(name, facts[0][name], facts[1][name]) for name in facts[0]]


def _texts(prefix: str, record: Struct, without: tuple[str, ...] = ()) -> dict[str, str]:
    values = {name: value for name, value in msgspec.structs.asdict(record).items() if name not in without}
    return {
        f"{prefix} {name.replace('_', ' ')}": wording.number(value)
        if isinstance(value, float) and math.isfinite(value)
        else wording.MISSING
        if value is None
        else str(value)
        for name, value in values.items()
    }


def _differing(was: dict[str, str], now: dict[str, str]) -> list[tuple[str, str, str]]:
    return [
        (name, was.get(name, wording.MISSING), now.get(name, wording.MISSING))
        for name in sorted({*was, *now})
        if was.get(name) != now.get(name)
    ]


def _embedded(run: Run) -> Run:
    """The record without figures, items and grids, which its own page holds."""
    claims = tuple(msgspec.structs.replace(claim, figures=(), examples=(), grids=()) for claim in run.claims)
    return msgspec.structs.replace(run, claims=claims)
