"""The page of two runs: one sentence says what changed, then every claim with its differences, the worst first."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
from markupsafe import Markup

from auditkit.claims.changed import BECAME
from auditkit.record import escaping
from auditkit.record.canonical import canonical
from auditkit.record.schema import Run, Struct
from auditkit.report import wording
from auditkit.report.compare import ClaimInBoth, Pair, counted, needing_baseline, not_compared, rows, sentences
from auditkit.report.figures import forest
from auditkit.report.html import environment, json_text, own, policy

_FOLDED = ("does not apply", "is not asked")
"""What became of claims that say nothing of a change."""


def render_comparison(was: Run, now: Run) -> str:
    """The page of both runs; the same two runs give the same text."""
    was, now = canonical(was), canonical(now)
    table = rows(was, now)
    style = own("style.css") + own("compare.css")
    page = (
        environment()
        .get_template("compare.html.j2")
        .render(
            was=was,
            now=now,
            sentences=sentences(was, now, table),
            groups=_groups(table),
            apart=not_compared(table),
            folded=_FOLDED,
            needing=needing_baseline(table),
            asked_again=_with_baseline(now),
            counted=counted,
            identity=_side_by_side(was, now),
            packages=_differing(was.environment.packages, now.environment.packages),
            drawn_change=_drawn,
            became_of=_became,
            policy=policy(style),
            # Safe: the style sheets are files of this package and hold no "</style".
            style=Markup(style),
            # Safe: `json_text` leaves no character that could end the element or open another.
            data=Markup(json_text(_embedded(now))),
            baseline_data=Markup(json_text(_embedded(was))),
        )
    )
    return escaping.document(page)


def _drawn(pair: Pair) -> forest.Drawn | None:
    """The difference from its margin where the claim judges it, else from no change."""
    assert pair.change is not None
    if pair.change.relation is not None:
        return forest.drawn(pair.change)
    return forest.drawn_change(pair.change, pair.now or pair.was)


def _became(pair: Pair) -> str:
    """How an effect moved, and for a claim that compares it whether that is worse or better: "worse: lower"."""
    assert pair.change is not None
    judged = pair.change if pair.change.relation is not None else None
    got = forest.got(pair.change, pair.now or pair.was or judged)
    moved = wording.moved(pair.change)
    return f"{got}: {moved}" if got in ("worse", "better") else moved


def _with_baseline(now: Run) -> str:
    """The command of the candidate, with the other run as its baseline; empty where the record holds no command."""
    assert now.baseline is not None
    return escaping.shell_join((*now.command, "--baseline", now.baseline.run)) if now.command else ""


def _groups(table: Sequence[ClaimInBoth]) -> dict[str, list[ClaimInBoth]]:
    """What became of claims -> the claims, the worst first; those that are not comparable stand by their reasons."""
    kinds = [kind for kind in BECAME if kind != "is not comparable"]
    found = {kind: [row for row in table if row.kind == kind] for kind in kinds}
    return {kind: some for kind, some in found.items() if some}


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
