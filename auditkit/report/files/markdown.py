"""Markdown: what a reviewer reads beside a change, before opening the page.

The summary is written for GitHub's job summaries, which drop a text above 1024 KiB whole; the comment for a pull
request, where a text ends at 65,536 characters. Both begin with the sentence that answers, keep what needs a human
before the rest, and say how much they had to leave out. Their text comes from models and strangers' suites, so none of
it is markup, a link or a mention.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from auditkit.record.canonical import canonical
from auditkit.record.escaping import markdown as text
from auditkit.record.escaping import plain
from auditkit.record.schema import Claim, ModelInfo, Run, Verdict
from auditkit.report import brief, wording
from auditkit.report.answers.headline import answer

LIMIT = 900 * 1024
"""Most bytes that a summary takes."""

COMMENT_LIMIT = 60_000
"""Most bytes that a comment takes."""

COMMENT_MARK = "<!-- auditkit -->"
"""First line of a comment: by it, a later run finds the comment that it is to replace."""

_LONGEST_COMMAND = 2000
"""Most characters of a command; a part of one would do something else."""

_END = "\n</details>\n"

_NOTE = 60
"""Bytes kept free for saying how many lines were left out."""


def render_markdown(run: Run) -> str:
    """The job summary of `run`: the sentence that answers, a row for each suite, what needs a human, changes since the
    baseline, and, folded, every claim."""
    run = canonical(run)
    body = _head(run)
    body += _attention(run, LIMIT // 2 - _size(body)) + _made(run)
    body += _changed(run.claims, LIMIT * 3 // 4 - _size(body))
    head = f"\n<details>\n<summary>All claims: {len(run.claims)}</summary>\n\n"
    head += "| Verdict | Claim | Effect | Threshold |\n| --- | --- | --- | --- |\n"
    listed = _within(head, map(_row, run.claims), LIMIT - _size(body) - _size(_END))
    return body + listed + (_END if listed else "")


def render_comment(run: Run, record_sha256: str = "") -> str:
    """The comment on a pull request: the sentence that answers, a row for each suite, what needs a human, and what has
    changed.

    Args:
        record_sha256: digest of the run's audit.json, so that a later edit of it shows.
    """
    run = canonical(run)
    body = f"{COMMENT_MARK}\n{_head(run)}"
    most = COMMENT_LIMIT if run.baseline is None else COMMENT_LIMIT * 2 // 3
    made = _made(run)
    if record_sha256:
        made += f"\nRecord: SHA-256 `{re.sub('[^0-9a-f]', '', record_sha256)}`.\n"
    body += _attention(run, most - _size(body) - _size(made)) + made
    return body + _changed(filter(_has_changed, run.claims), COMMENT_LIMIT - _size(body))


def verdict(value: Verdict) -> str:
    """A verdict as glyph and word."""
    return f"{wording.GLYPHS[value]} {wording.WORDS[value]}"


def _head(run: Run) -> str:
    """The verdict and the model as a title, the sentence that answers, and a row for each suite."""
    said = answer(run)
    lines = [f"## {verdict(run.summary.verdict)}: {text(run.model.name)}", "", f"**{_sentence(said.sentence)}**"]
    lines += [line for more in said.more for line in ("", _sentence(more))]
    rows = brief.table(run)
    if rows:
        aligned = "| " + " | ".join("--:" if column > 1 else "---" for column in range(len(rows[0]))) + " |"
        head, *others = ("| " + " | ".join(map(text, row)) + " |" for row in rows)
        lines += ["", head, aligned, *others]
    return "\n".join(lines) + "\n"


def _made(run: Run) -> str:
    """What the run came to by rule, what it was compared with, and how it was made."""
    summary, model = run.summary, run.model
    lines = [
        f"Verdict: {wording.WORDS[summary.verdict]} ({text(summary.reason)}). Weights "
        f"{_weights(model)} from {text(model.source)}, {text(model.dtype)}, "
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
    return "\n" + "\n".join(lines) + "\n" + _within("\n### Waivers\n\n", waivers, COMMENT_LIMIT // 4)


def _attention(run: Run, budget: int) -> str:
    """What needs a human and then what is missing, each with the command that goes on."""
    listed = map(_bullet, brief.actions(run))
    hints = "".join(f"\n{text(one.said)} {_code(one.command)}\n" for one in brief.hints(run))
    return _within("\n### Needs attention\n\n", listed, budget - _size(hints)) + hints


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


def _bullet(one: brief.Action) -> str:
    claim = one.claims[0]
    parts = [f"- **{verdict(one.verdict)}** {text(claim.statement)} ({text(brief.named(one.claims))})"]
    parts.append(text(one.why))
    if claim.effect is not None and claim.effect.items_range is not None:
        parts.append(text(wording.items_needed(claim.effect)))
    parts.append(_code(one.command))
    return " — ".join(filter(None, parts)) + "\n"


def _code(command: str) -> str:
    """A command as code, in a fence that is longer than any in it; none where it is too long to be shown whole."""
    said = plain(command)
    if not said or len(said) > _LONGEST_COMMAND:
        return ""
    fence = "`" * (max(map(len, re.findall("`+", said)), default=0) + 1)
    return f"{fence} {said} {fence}" if "`" in said else f"{fence}{said}{fence}"


def _sentence(said: str) -> str:
    """A sentence of ours as Markdown; its backticks stay, since options stand in them."""
    return text(said).replace("\\`", "`")


def _row(claim: Claim) -> str:
    limit = wording.MISSING if claim.effect is None else wording.threshold(claim.effect)
    measured = wording.effect_text(claim.effect)
    if claim.effect is not None and claim.effect.items_range is not None:
        measured += f"; {wording.items_needed(claim.effect)}"
    cells = (
        verdict(claim.verdict) + (" (waived)" if claim.waiver is not None else ""),
        text(claim.statement),
        text(measured),
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


def _weights(model: ModelInfo) -> str:
    digest = model.weights_sha256
    return f"`{_digest(digest)}`" if digest else text(wording.NO_DIGEST)


def _digest(value: str) -> str:
    """The first characters of a digest; it is hexadecimal, so nothing else may pass into a code span."""
    return re.sub(r"[^0-9A-Za-z]", "", value)[:12] or "none"
