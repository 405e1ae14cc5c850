"""A run in the terminal: the sentence that answers, a table of suites, what needs a human, and all of one claim.

A terminal obeys what it is sent, and a build server obeys what a terminal shows, so every text of a record passes
`auditkit.record.escaping`. Colour is given to verdicts only, and only where somebody looks at it. Sentences and tables
fit the terminal's width, 100 columns at most; a command is one line at any width, so that it can be copied.
"""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterable, Iterator

import msgspec

from auditkit.record.canonical import canonical
from auditkit.record.escaping import line, plain
from auditkit.record.schema import Claim, Control, Effect, Run, Verdict
from auditkit.report import brief, wording
from auditkit.report.answers.headline import answer
from auditkit.report.answers.kinds import needs_base

MOST_NEEDED = 10
"""What needs a human and is shown with its command in a summary; the rest is named."""

_MOST_NAMES = 100
_WIDTH, _NARROWEST = 100, 40
_INDENT = 6
_NAMES = 20
"""Column at which the name of a claim begins behind its verdict."""
_LONGEST_REASON = 4
"""Lines of a reason in a summary; `--claim` has all of it."""
_COLOURS = {Verdict.PASS: 32, Verdict.FAIL: 31, Verdict.ERROR: 31}


def width() -> int:
    """Columns that a line may take: those of the terminal, where there is one, and 100 at most."""
    return max(_NARROWEST, min(_WIDTH, shutil.get_terminal_size((_WIDTH, 24)).columns))


def verdict(value: Verdict, colour: bool) -> str:
    """A verdict as glyph and word, padded to one width."""
    return _coloured(f"{wording.GLYPHS[value]} {wording.WORDS[value]:<15}", value, colour)


def sentences(run: Run) -> Iterator[str]:
    """The sentence that answers, and those beside it."""
    said = answer(run)
    for text in (said.sentence, *said.more):
        yield from wrapped(text)


def suites(run: Run) -> Iterator[str]:
    """A row for each suite; where the terminal is too narrow for the columns, its counts stand under its name."""
    rows = [tuple(map(plain, row)) for row in brief.table(run)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    if sum(widths) + 2 * (len(widths) - 1) <= width():
        for row in rows:
            cells = [
                f"{cell:<{size}}" if i < 2 else f"{cell:>{size}}"
                for i, (cell, size) in enumerate(zip(row, widths, strict=True))
            ]
            yield line("  ".join(cells).rstrip())
        return
    for suite, word, *counts in rows[1:]:
        yield from wrapped(f"{suite}: {word}" if word else suite)
        said = [
            f"{count} {name}" for count, name in zip(counts, rows[0][2:], strict=True) if count not in ("0", "")
        ]
        yield from wrapped(", ".join(said), indent=2)


def attention(
    run: Run, folder: str = "", colour: bool = False, most: int | None = None, short: bool = False
) -> Iterator[str]:
    """What needs a human, each with the command that goes on, and then what is missing.

    Args:
        folder: the run's folder, for commands that read it.
        most: how many are shown; None for all.
        short: a line for each, and nothing that blocks nothing.
    """
    actions = brief.actions(run, folder)
    if actions:
        yield "Needs attention"
    for one in actions[:most]:
        word = _coloured(f"{wording.WORDS[one.verdict]:<{_INDENT - 2}}", one.verdict, colour)
        yield f"{word}  {plain(brief.named(one.claims))}"
        if not short:
            yield from wrapped(one.why, indent=_INDENT, most=_LONGEST_REASON)
            yield from _command(one.command)
    left = [claim for one in actions[len(actions) if most is None else most :] for claim in one.claims]
    if left:
        yield from wrapped(
            f"and {len(left)} more (-v shows each): {brief.named(left, _MOST_NAMES)}", indent=_INDENT
        )
    for number, hint in enumerate(() if short else brief.hints(run, folder)):
        if actions and not number:
            yield ""
        yield from wrapped(hint.said)
        yield from _command(hint.command)


def overview(run: Run, colour: bool = False, folder: str = "") -> Iterator[str]:
    """Lines with the run's verdict, the sentence that answers, a table of suites, what needs a human, how the run was
    made, every other claim, and what was not tested."""
    run = canonical(run)
    yield f"{verdict(run.summary.verdict, colour)} {plain(run.model.name)}"
    yield from sentences(run)
    yield from ("", *suites(run))
    for lines in (list(attention(run, folder, colour)), list(_made(run))):
        if lines:
            yield from ("", *lines)
    needing = {claim.id for one in brief.actions(run) for claim in one.claims}
    rest = [claim for claim in run.claims if claim.id not in needing and not needs_base(run, claim)]
    if rest:
        yield from ("", "Other claims")
    for claims in _alike(rest):
        yield from _other(claims, colour)
    if run.waivers:
        yield from ("", "Waivers")
        yield from (f"  {plain(wording.waiver(waiver))}" for waiver in run.waivers)
    if run.untested:
        yield from ("", "Not tested")
        yield from (f"  {plain(entry.what)}: {plain(entry.reason)}" for entry in run.untested)


def _alike(claims: Iterable[Claim]) -> list[list[Claim]]:
    """Claims that do not apply for one reason together; every other claim alone."""
    found: dict[tuple[str, str], list[Claim]] = {}
    for claim in claims:
        apart = "" if claim.verdict is Verdict.NOT_APPLICABLE else claim.id
        found.setdefault((apart, claim.reason), []).append(claim)
    return list(found.values())


def _other(claims: list[Claim], colour: bool) -> Iterator[str]:
    """A claim in a line or two: its effect, or why there is none."""
    claim, said = claims[0], claims[0].reason
    if claim.effect is not None and claim.verdict is not Verdict.NOT_APPLICABLE:
        said = f"{wording.effect_text(claim.effect)}, to be {wording.threshold(claim.effect)}"
    names = ", ".join(f"{one.id}{' (waived)' if one.waiver is not None else ''}" for one in claims)
    first, *more = wrapped(f"{names}: {said}", indent=_NAMES)
    yield f"  {verdict(claim.verdict, colour)} {first[_NAMES:]}"
    yield from more


def _made(run: Run) -> Iterator[str]:
    """What the run came to by rule, and how it was made."""
    model = run.model
    yield from _facts(
        {
            "verdict": f"{wording.WORDS[run.summary.verdict]} ({run.summary.reason})",
            "weights": f"{wording.weights(model)} from {model.source}",
            "run": f"{run.created}, profile {run.profile}, seed {run.seed}, plan {run.plan_sha256[:12]}",
            "made by": f"auditkit {run.tool.version}, {model.dtype}, adapter {model.adapter} on {model.device}",
            "baseline": wording.changes(run) if run.baseline is not None else "",
            "cross-check": wording.cross_check(run.cross_check) if run.cross_check is not None else "",
        }
    )
    yield from (f"  {plain(line)}" for line in wording.looser(run))


def details(run: Run, claim_id: str, colour: bool = False) -> Iterator[str]:
    """Lines with all that the record holds of one claim, except its figures.

    Raises:
        KeyError: the run holds no such claim.
    """
    claims = [claim for claim in canonical(run).claims if claim.id == claim_id]
    if not claims:
        raise KeyError(claim_id)
    for claim in claims:
        yield f"{verdict(claim.verdict, colour)} {plain(claim.id)}"
        yield from wrapped(claim.statement)
        yield ""
        yield from _facts(
            {
                "reason": claim.reason,
                "source": claim.source,
                "threshold": claim.threshold_source,
                "family": wording.family(claim),
                **{f"note {i}": note for i, note in enumerate(claim.notes, start=1)},
                "location": claim.location,
                "cost": f"{claim.cost.seconds:.1f} s, {claim.cost.token_layers:,} token-layers",
                "again": claim.rerun,
            }
        )
        for number, effect in enumerate(claim.compared):
            yield from ("", "Also compared" if number else "Deciding comparison")
            yield from _statistics(effect)
        for control in claim.controls:
            yield from ("", f"Control: {plain(control.name)}: {_outcome(control)}")
            yield from _facts({"reason": control.reason})
            yield from _statistics(control.effect)
        for grid in claim.grids:
            found = sum(cell.found for cell in grid.cells)
            yield from ("", f"Exploratory grid: {plain(grid.name)}: {found} of {len(grid.cells)} found")
        remarks = wording.remarks(claim)
        if remarks:
            yield ""
            yield from (f"  {plain(remark)}" for remark in remarks)
        for example in claim.examples:
            yield from ("", f"Item ({example.rank}): {plain(example.item)}")
            unit = wording.unit(example.unit)
            yield from _facts({name: f"{wording.number(value)} {unit}" for name, value in example.values.items()})
            yield from _facts({f"prompt, {name}": text for name, text in example.prompts.items()})


def _outcome(control: Control) -> str:
    return "shown" if control.verdict is None else wording.WORDS[control.verdict]


def _statistics(effect: Effect | None) -> Iterator[str]:
    """Every number of an effect, as it was measured."""
    if effect is not None:
        yield f"  {plain(wording.line(effect))}"
        yield from _facts(
            {
                name.replace("_", " "): str(value)
                for name, value in msgspec.structs.asdict(effect).items()
                if value not in (None, False) and name != "name"
            }
        )


def _facts(values: dict[str, str]) -> Iterator[str]:
    width = max(map(len, values), default=0)
    yield from (f"  {plain(name):<{width}}  {plain(value)}" for name, value in values.items() if value)


def wrapped(text: str, indent: int = 0, most: int | None = None) -> Iterable[str]:
    """A text in lines of the terminal's width; of more lines than `most`, the last ends with "…"."""
    wrapped = textwrap.wrap(
        plain(text),
        width(),
        initial_indent=" " * indent,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
        max_lines=most,
        placeholder=" …",
    )
    return map(line, wrapped)  # a break may have put a build server's mark at the start of a line


def _command(text: str) -> Iterator[str]:
    """A command in a line of its own, whole."""
    if text:
        yield line(f"{'':<{_INDENT}}{text}")


def _coloured(text: str, value: Verdict, colour: bool) -> str:
    return f"\x1b[{_COLOURS.get(value, 33)}m{text}\x1b[0m" if colour else text
