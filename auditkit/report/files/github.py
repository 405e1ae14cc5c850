"""Annotations for GitHub Actions: the claims that need attention, beside the lines of their tests.

GitHub shows the first ten errors and the first ten warnings of a step and drops the rest without a word. So what blocks
comes first, and where there is more the tenth line says how much was left out.
"""

from __future__ import annotations

from collections.abc import Sequence

from auditkit.claims.verdicts import blocks, exit_code
from auditkit.record.canonical import canonical
from auditkit.record.escaping import command_property, command_value
from auditkit.record.schema import Claim, Run
from auditkit.report import wording

SHOWN = 10
"""Annotations of one kind that GitHub shows for a step."""

_LENGTH = 2000
"""Most characters of one message."""


def render_annotations(run: Run) -> list[str]:
    """Workflow commands, one per line to print: errors for what blocks, warnings for what else needs attention."""
    run = canonical(run)
    attention = wording.needing_attention(run)
    errors = [_of_claim("error", claim) for claim in attention if blocks(claim, run.profile)]
    if exit_code(run.summary, run.profile) and (not errors or wording.distrust(run.cross_check)):
        summary = f"{wording.WORDS[run.summary.verdict]}: {run.summary.reason}"
        errors.insert(0, _command("error", f"audit of {run.model.name}", summary))
    warnings = [_of_claim("warning", claim) for claim in attention if not blocks(claim, run.profile)]
    if run.baseline is not None:
        gone = [claim for claim in run.claims if wording.lost(claim) and claim.verdict not in wording.ATTENTION]
        warnings += [_of_claim("warning", claim) for claim in gone]
    warnings += [
        _command("warning", "waiver", wording.waiver(waiver))
        for waiver in run.waivers
        if waiver.state == "expired"
    ]
    return [*_first("error", errors), *_first("warning", warnings)]


def _of_claim(kind: str, claim: Claim) -> str:
    said = [f"{wording.WORDS[claim.verdict]}: {claim.statement}", claim.reason]
    if claim.effect is not None:
        said.insert(1, wording.line(claim.effect))
    return _command(kind, claim.id, "\n".join([*said, *wording.remarks(claim)]), claim.location)


def _command(kind: str, title: str, message: str, location: str = "") -> str:
    file, _, line = location.rpartition(":")
    places = {"file": file, "line": line} if file else {}
    values = ",".join(
        f"{name}={command_property(value)}" for name, value in {**places, "title": title[:200]}.items()
    )
    return f"::{kind} {values}::{command_value(message[:_LENGTH])}"


def _first(kind: str, commands: Sequence[str]) -> list[str]:
    if len(commands) <= SHOWN:
        return list(commands)
    more = len(commands) - SHOWN + 1
    return [
        *commands[: SHOWN - 1],
        _command(kind, "and more", f"{more} more are in the summary and in audit.html"),
    ]
