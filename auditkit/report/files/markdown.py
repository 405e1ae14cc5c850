"""Markdown: what a reviewer reads beside a change, before opening the page.

The summary is written for GitHub's job summaries, which drop a text above 1024 KiB whole; the comment for a pull
request, where a text ends at 65,536 characters. Both keep the verdict and what blocks first, and say how much they had
to leave out. Their text comes from models and strangers' suites, so none of it is markup, a link or a mention.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from auditkit.record.canonical import canonical
from auditkit.record.escaping import markdown as text
from auditkit.record.schema import Claim, Run, Verdict
from auditkit.report import wording

LIMIT = 900 * 1024
"""Most bytes that a summary takes."""

COMMENT_LIMIT = 60_000
"""Most bytes that a comment takes."""

COMMENT_MARK = "<!-- auditkit -->"
"""First line of a comment: by it, a later run finds the comment that it is to replace."""

_NOTE = 60
"""Bytes kept free for saying how many lines were left out."""


def render_markdown(run: Run) -> str:
    """The job summary of `run`: a verdict line, what needs attention, changes, and a table of all claims."""
    run = canonical(run)
    body = _head(run)
    body += _attention(run, LIMIT // 2 - _size(body))
    body += _changed(run.claims, LIMIT * 3 // 4 - _size(body))
    head = "\n### All claims\n\n| Verdict | Claim | Effect | Threshold |\n| --- | --- | --- | --- |\n"
    return body + _within(head, map(_row, run.claims), LIMIT - _size(body))


def render_comment(run: Run, record_sha256: str = "") -> str:
    """The comment on a pull request: the verdict line, what needs attention, and the claims that changed.

    Args:
        record_sha256: digest of the run's audit.json, so that a later edit of it shows.
    """
    run = canonical(run)
    body = f"{COMMENT_MARK}\n{_head(run)}"
    if record_sha256:
        body += f"\nRecord: SHA-256 `{re.sub('[^0-9a-f]', '', record_sha256)}`.\n"
    most = COMMENT_LIMIT if run.baseline is None else COMMENT_LIMIT * 2 // 3
    body += _attention(run, most - _size(body))
    return body + _changed(filter(_has_changed, run.claims), COMMENT_LIMIT - _size(body))


def verdict(value: Verdict) -> str:
    """A verdict as glyph and word."""
    return f"{wording.GLYPHS[value]} {wording.WORDS[value]}"


def _head(run: Run) -> str:
    summary, model = run.summary, run.model
    counts = [
        (Verdict.PASS, summary.passed),
        (Verdict.FAIL, summary.failed),
        (Verdict.INCONCLUSIVE, summary.inconclusive),
        (Verdict.NOT_APPLICABLE, summary.not_applicable),
        (Verdict.ERROR, summary.error),
    ]
    counted = [f"{number} {wording.WORDS[verdict]}" for verdict, number in counts]
    lines = [
        f"## {verdict(summary.verdict)}: {text(model.name)}",
        "",
        text(summary.reason),
        "",
        " · ".join([*counted, f"{summary.waived} waived"]),
        "",
        f"Weights `{_digest(model.weights_sha256)}` from {text(model.source)}, {text(model.dtype)}, "
        f"adapter {text(model.adapter)}, profile {run.profile}, seed {run.seed}, "
        f"plan `{_digest(run.plan_sha256)}`, auditkit {text(run.tool.version)}, {text(run.created)}.",
    ]
    if run.cross_check is not None:
        lines += ["", f"Cross-check: {text(wording.cross_check(run.cross_check))}."]
    if run.baseline is not None:
        lines += ["", f"Compared with {text(wording.changes(run))}."]
        lines += [f"- **{text(line)}**" for line in wording.looser(run)[:20]]
        lines += [f"- the plan differs: {text(line)}" for line in run.baseline.plan_differences[:20]]
    if model.trust_remote_code:
        lines += ["", "**trust\\_remote\\_code is on.**"]
    if model.text_of:
        lines += ["", f"The text model of a checkpoint that takes images or sound too ({text(model.text_of)})."]
    waivers = (f"- {text(wording.waiver(waiver))}\n" for waiver in run.waivers)
    return "\n".join(lines) + "\n" + _within("\n### Waivers\n\n", waivers, COMMENT_LIMIT // 4)


def _attention(run: Run, budget: int) -> str:
    return _within("\n### Needs attention\n\n", map(_bullet, wording.needing_attention(run)), budget)


def _changed(claims: Iterable[Claim], budget: int) -> str:
    head = "\n### Changes since baseline\n\n| Claim | Baseline | Here | Change |\n| --- | --- | --- | --- |\n"
    return _within(head, (row for claim in claims for row in _changes(claim)), budget)


def _has_changed(claim: Claim) -> bool:
    """Whether its verdict or an effect is another than on the baseline, or whether that cannot be said."""
    change = claim.change
    if change is None:
        return False
    moved = any(wording.moved(effect) in ("higher", "lower") for effect in change.effects)
    return change.verdict is not claim.verdict or not change.comparable or moved


def _bullet(claim: Claim) -> str:
    name = f" ({text(claim.id)})" if claim.lack == "not measured" else ""
    parts = [f"- **{verdict(claim.verdict)}** {text(claim.statement)}{name}"]
    if claim.effect is not None:
        parts.append(
            f"{text(wording.effect_text(claim.effect))}, threshold {text(wording.threshold(claim.effect))}"
        )
        if claim.effect.items_range is not None:
            parts.append(text(wording.items_needed(claim.effect)))
    if claim.waiver is not None:
        parts.append(f"**{text(wording.waiver(claim.waiver))}**")
    return " — ".join([*parts, text(claim.reason)]) + "\n"


def _row(claim: Claim) -> str:
    limit = wording.MISSING if claim.effect is None else wording.threshold(claim.effect)
    cells = (
        verdict(claim.verdict) + (" (waived)" if claim.waiver is not None else ""),
        text(claim.statement),
        text(wording.effect_text(claim.effect)),
        text(limit),
    )
    return "| " + " | ".join(cells) + " |\n"


def _changes(claim: Claim) -> list[str]:
    """Rows of the table of changes for one claim; none where the run has no baseline."""
    change = claim.change
    if change is None:
        return []
    said = [f"{wording.moved(e)}: {wording.effect_text(e)} ({e.name})" for e in change.effects[: wording.AT_ONCE]]
    if more := change.effects[wording.AT_ONCE :]:
        said.append(wording.further(more))
    if change.reason:
        said.append(change.reason if change.comparable else f"not comparable: {change.reason}")
    was = wording.MISSING if change.verdict is None else verdict(change.verdict)
    cells = [text(claim.statement), was, verdict(claim.verdict)]
    return ["| " + " | ".join([*cells, text(line)]) + " |\n" for line in said or [wording.MISSING]]


def _within(head: str, lines: Iterable[str], budget: int) -> str:
    """`head` and as many `lines` as the budget of bytes holds; nothing where there are no lines."""
    kept: list[str] = []
    left_out = 0
    budget -= _NOTE + _size(head)
    for line in lines:
        budget -= _size(line)
        if left_out or budget < 0:
            left_out += 1
        else:
            kept.append(line)
    note = f"\n{left_out} more are in audit.html.\n" if left_out else ""
    return head + "".join(kept) + note if kept or left_out else ""


def _size(value: str) -> int:
    return len(value.encode())


def _digest(value: str) -> str:
    """The first characters of a digest; it is hexadecimal, so nothing else may pass into a code span."""
    return re.sub(r"[^0-9A-Za-z]", "", value)[:12] or "none"
