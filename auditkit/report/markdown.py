"""The Markdown summary: what a reviewer reads beside a change, before opening the page.

Written for GitHub's job summaries, which drop a text above 1024 KiB whole: the summary stays below that,
keeps the verdict and what needs attention first, and says how many claims it had to leave out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from auditkit.record.canonical import canonical
from auditkit.record.schema import Claim, Run, Verdict
from auditkit.report import wording

LIMIT = 900 * 1024
"""Most bytes that a summary takes."""

_NOTE = 60
"""Bytes kept free for saying how many claims were left out."""

_STATEMENT = 300
"""Most characters of one text; the page holds all of it."""


def render_markdown(run: Run) -> str:
    """The summary of `run`: a verdict line, what needs attention, and a table of all claims."""
    run = canonical(run)
    summary = run.summary
    counts = [
        (Verdict.PASS, summary.passed),
        (Verdict.FAIL, summary.failed),
        (Verdict.INCONCLUSIVE, summary.inconclusive),
        (Verdict.NOT_APPLICABLE, summary.not_applicable),
        (Verdict.ERROR, summary.error),
    ]
    model = run.model
    lines = [
        f"## {_verdict(summary.verdict)}: {_text(model.name)}",
        "",
        _text(summary.reason),
        "",
        " · ".join(
            [
                *(f"{number} {wording.WORDS[verdict]}" for verdict, number in counts),
                f"{summary.waived} waived",
            ]
        ),
        "",
        f"Weights `{_digest(model.weights_sha256)}` from {_text(model.source)}, {_text(model.dtype)}, "
        f"adapter {_text(model.adapter)}, profile {run.profile}, seed {run.seed}, "
        f"plan `{_digest(run.plan_sha256)}`, auditkit {_text(run.tool.version)}, {_text(run.created)}.",
    ]
    if run.cross_check is not None:
        lines += ["", f"Cross-check: {_text(wording.cross_check(run.cross_check))}."]
    if run.baseline is not None:
        lines += ["", f"Compared with {_text(wording.changes(run))}."]
        lines += [f"- the plan differs: {_text(line)}" for line in run.baseline.plan_differences[:20]]
    if run.waivers:
        lines += ["", "### Waivers", "", *(f"- {_text(wording.waiver(waiver))}" for waiver in run.waivers)]
    if model.trust_remote_code:
        lines += ["", "**trust\\_remote\\_code is on.**"]
    body = "\n".join(lines) + "\n"
    body += _within(
        "\n### Needs attention\n\n", map(_bullet, wording.needing_attention(run)), LIMIT // 2 - _size(body)
    )
    changed = "\n### Changes since baseline\n\n| Claim | Baseline | Here | Change |\n| --- | --- | --- | --- |\n"
    body += _within(changed, (row for claim in run.claims for row in _changes(claim)), LIMIT // 2 - _size(body))
    head = "\n### All claims\n\n| Verdict | Claim | Effect | Threshold |\n| --- | --- | --- | --- |\n"
    body += _within(head, map(_row, run.claims), LIMIT - _size(body))
    return body


def _bullet(claim: Claim) -> str:
    parts = [f"- **{_verdict(claim.verdict)}** {_text(claim.statement)}"]
    if claim.effect is not None:
        parts.append(
            f"{_text(wording.effect_text(claim.effect))}, threshold {_text(wording.threshold(claim.effect))}"
        )
        if claim.effect.items_needed is not None:
            parts.append(wording.items_needed(claim.effect))
    if claim.waiver is not None:
        parts.append(f"**{_text(wording.waiver(claim.waiver))}**")
    return " — ".join([*parts, _text(claim.reason)]) + "\n"


def _row(claim: Claim) -> str:
    limit = wording.MISSING if claim.effect is None else wording.threshold(claim.effect)
    cells = (
        _verdict(claim.verdict) + (" (waived)" if claim.waiver is not None else ""),
        _text(claim.statement),
        _text(wording.effect_text(claim.effect)),
        _text(limit),
    )
    return "| " + " | ".join(cells) + " |\n"


def _changes(claim: Claim) -> list[str]:
    """Rows of the table of changes for one claim; none where the run has no baseline."""
    change = claim.change
    if change is None:
        return []
    said = [f"{wording.moved(e)}: {wording.effect_text(e)} ({e.name})" for e in change.effects]
    if change.reason:
        said.append(change.reason if change.comparable else f"not comparable: {change.reason}")
    was = wording.MISSING if change.verdict is None else _verdict(change.verdict)
    cells = [_text(claim.statement), was, _verdict(claim.verdict)]
    return ["| " + " | ".join([*cells, _text(text)]) + " |\n" for text in said or [wording.MISSING]]


def _within(head: str, lines: Iterable[str], budget: int) -> str:
    """`head` and as many `lines` as the budget of bytes holds; nothing where there are no lines."""
    kept, left_out = head, 0
    budget -= _NOTE
    for line in lines:
        if left_out or _size(kept) + _size(line) > budget:
            left_out += 1
        else:
            kept += line
    note = f"\n{left_out} more are in audit.html.\n" if left_out else ""
    return "" if kept == head and not left_out else kept + note


def _size(text: str) -> int:
    return len(text.encode())


def _verdict(verdict: Verdict) -> str:
    return f"{wording.GLYPHS[verdict]} {wording.WORDS[verdict]}"


def _digest(text: str) -> str:
    """The first characters of a digest; it is hexadecimal, so nothing else may pass into a code span."""
    return re.sub(r"[^0-9A-Za-z]", "", text)[:12] or "none"


def _text(text: str) -> str:
    """`text` on one line, as text: no markup, no link, no image, no cell boundary in it has an effect."""
    line = " ".join(wording.clean(text).split())
    line = line if len(line) <= _STATEMENT else line[: _STATEMENT - 1] + "…"
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~#$])", r"\\\1", line)
