"""Annotations for GitHub Actions: what blocks, beside the lines of the tests, and nothing else.

A warning on every undecided claim of a run that blocks nothing teaches readers to skip annotations; the job summary has
those claims. GitHub shows the first ten errors of a step and drops the rest without a word, so where there is more the
tenth line says how much was left out.
"""

from __future__ import annotations

from auditkit.claims.verdicts import blocks, exit_code
from auditkit.record.canonical import canonical
from auditkit.record.escaping import command_property, command_value
from auditkit.record.schema import Claim, Run
from auditkit.report import wording

SHOWN = 10
"""Errors that GitHub shows for a step."""

_LENGTH = 2000
"""Most characters of one message."""


def render_annotations(run: Run) -> list[str]:
    """Workflow commands, one per line to print: an error for each claim that blocks, and for a run that ends with
    another exit code than 0 for another reason."""
    run = canonical(run)
    errors = [_of_claim(claim) for claim in wording.needing_attention(run) if blocks(claim, run.profile)]
    if exit_code(run.summary, run.profile) and (not errors or wording.distrust(run.cross_check)):
        summary = f"{wording.WORDS[run.summary.verdict]}: {run.summary.reason}"
        errors.insert(0, _command(f"audit of {run.model.name}", summary))
    if len(errors) <= SHOWN:
        return errors
    more = len(errors) - SHOWN + 1
    return [*errors[: SHOWN - 1], _command("and more", f"{more} more are in the summary and in audit.html")]


def _of_claim(claim: Claim) -> str:
    said = [f"{wording.WORDS[claim.verdict]}: {claim.statement}", claim.reason]
    if claim.effect is not None:
        said.insert(1, wording.line(claim.effect))
    said += wording.remarks(claim)
    if claim.rerun:
        said.append(f"measure it again: {claim.rerun}")
    return _command(claim.id, "\n".join(said), claim.location)


def _command(title: str, message: str, location: str = "") -> str:
    file, _, line = location.rpartition(":")
    places = {"file": file, "line": line} if file else {}
    values = ",".join(
        f"{name}={command_property(value)}" for name, value in {**places, "title": title[:200]}.items()
    )
    return f"::error {values}::{command_value(message[:_LENGTH])}"
