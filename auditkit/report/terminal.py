"""A run in the terminal: the verdict, what blocks, and all of one claim.

A terminal obeys what it is sent, and a build server obeys what a terminal shows, so every text of a record passes
`auditkit.record.escaping`. Colour is given to verdicts only, and only where somebody looks at it.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator

import msgspec

from auditkit.claims.verdicts import blocks
from auditkit.record.canonical import canonical
from auditkit.record.escaping import line, plain
from auditkit.record.schema import Claim, Control, Effect, Run, Verdict
from auditkit.report import wording

_WIDTH = 100
_COLOURS = {Verdict.PASS: 32, Verdict.FAIL: 31, Verdict.ERROR: 31}


def verdict(value: Verdict, colour: bool) -> str:
    """A verdict as glyph and word, padded to one width."""
    text = f"{wording.GLYPHS[value]} {wording.WORDS[value]:<15}"
    return f"\x1b[{_COLOURS.get(value, 33)}m{text}\x1b[0m" if colour else text


def overview(run: Run, colour: bool = False) -> Iterator[str]:
    """Lines with the run's verdict, the claims that need attention with their evidence, the other claims, and what
    was not tested."""
    run = canonical(run)
    summary, model = run.summary, run.model
    yield f"{verdict(summary.verdict, colour)} {plain(model.name)}"
    yield from _wrapped(summary.reason)
    counts = (summary.passed, summary.failed, summary.inconclusive, summary.not_applicable, summary.error)
    words = [f"{count} {wording.WORDS[verdict]}" for verdict, count in zip(Verdict, counts, strict=True)]
    yield f"{', '.join(words)}, {summary.waived} waived"
    yield ""
    yield from _facts(
        {
            "weights": f"{model.weights_sha256[:12]} from {model.source}",
            "run": f"{run.created}, profile {run.profile}, seed {run.seed}, plan {run.plan_sha256[:12]}",
            "made by": f"auditkit {run.tool.version}, {model.dtype}, adapter {model.adapter} on {model.device}",
            "baseline": wording.changes(run) if run.baseline is not None else "",
            "cross-check": wording.cross_check(run.cross_check) if run.cross_check is not None else "",
        }
    )
    yield from (f"  {plain(line)}" for line in wording.looser(run))
    attention = wording.needing_attention(run)
    for title, some in (
        ("Blocking", [claim for claim in attention if blocks(claim, run.profile)]),
        ("Undecided or waived", [claim for claim in attention if not blocks(claim, run.profile)]),
    ):
        if some:
            yield from ("", title)
        for claim in some:
            yield from _evidence(claim, colour)
    rest = [claim for claim in run.claims if claim.verdict not in wording.ATTENTION]
    if rest:
        yield from ("", "Other claims")
    for claim in rest:
        said = claim.reason
        if claim.effect is not None:
            said = f"{wording.effect_text(claim.effect)}, to be {wording.threshold(claim.effect)}"
        yield f"  {verdict(claim.verdict, colour)} {plain(claim.id)}: {plain(said)}"
    if run.waivers:
        yield from ("", "Waivers")
        yield from (f"  {plain(wording.waiver(waiver))}" for waiver in run.waivers)
    if run.untested:
        yield from ("", "Not tested")
        yield from (f"  {plain(entry.what)}: {plain(entry.reason)}" for entry in run.untested)


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
        yield from _wrapped(claim.statement)
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


def _evidence(claim: Claim, colour: bool) -> Iterator[str]:
    yield f"  {verdict(claim.verdict, colour)} {plain(claim.id)}"
    yield from _wrapped(claim.statement, indent=4)
    if claim.effect is not None:
        yield f"    {plain(wording.line(claim.effect))}"
    yield from _wrapped(claim.reason, indent=4)
    for control in claim.controls:
        effect = f", {wording.effect_text(control.effect)}" if control.effect is not None else ""
        yield f"    control {plain(control.name)}: {_outcome(control)}{plain(effect)}"
    yield from (f"    {plain(remark)}" for remark in wording.remarks(claim))


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


def _wrapped(text: str, indent: int = 0) -> Iterable[str]:
    wrapped = textwrap.wrap(plain(text), _WIDTH, initial_indent=" " * indent, subsequent_indent=" " * indent)
    return map(line, wrapped)  # a break may have put a build server's mark at the start of a line
