"""The audit page: one HTML file that needs no network, no script and no server.

Everything in a run but its numbers may come from a model, a data set or a stranger's suite, so it is treated
as hostile: the templates escape always, and the page's own Content-Security-Policy allows no script and no
style but the files of this package that it names by digest. The script adds filters, sorting and copying; the
page says everything without it.
"""

from __future__ import annotations

import base64
import re
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec
from markupsafe import Markup

from auditkit.record import escaping
from auditkit.record.canonical import canonical
from auditkit.record.schema import Claim, Figure, Run, Verdict
from auditkit.report import changes, effects, wording
from auditkit.report.answers.headline import answer
from auditkit.report.answers.kinds import is_finding, word
from auditkit.report.comparisons import Comparisons, comparisons
from auditkit.report.figures.drawing import colour_scales
from auditkit.report.figures.sharing import shared
from auditkit.report.groups import in_order
from auditkit.report.html import ShownFigure, environment, json_text, own, policy, shown_figure
from auditkit.report.sections import Shelf, SuiteSection, sections, shelf_of
from auditkit.report.shortening import shortened, tight, without_remarks

_READABLE = 250_000
"""Longest record, in characters, that stands in the page whole and as plain JSON."""
_DIGITS = 4
"""Significant digits of numbers in a packed record: ten times finer than what the page prints."""
_THOUSANDS = 1000
"""Claims from which on parts of the page are laid out only when they come near the screen."""


def render_html(run: Run) -> str:
    """The audit page of `run`; the same run gives the same text."""
    run = canonical(run)
    anchors = _anchors(run)
    methods = _methods(run)
    suites = sections(run, anchors)
    shelf = shelf_of(suites)
    drawings, looks = _drawings(suites, shelf)
    style, script = tight(own("style.css") + own("audit.css")) + looks, without_remarks(own("page.js"))
    data, packed = _embedded(run)
    page = (
        environment()
        .get_template("audit.html.j2")
        .render(
            run=run,
            answer=answer(run),
            sections=suites,
            shelf=shelf,
            shown=lambda figure: drawings[shelf.name(figure)],
            gallery=_gallery(suites, shelf),
            anchor=lambda claim: anchors[id(claim)],
            word=lambda claim: word(run, claim),
            is_finding=is_finding,
            compared=lambda claim: _compared(claim, methods),
            methods=methods,
            units=effects.units_of(effect for claim in run.claims for effect in wording.effects_of(claim)),
            in_words=lambda claim: effects.in_words(claim.effect, claim.suite),
            apart=changes.apart(run.claims),
            moved=changes.moved(run.claims, lambda claim: anchors[id(claim)]),
            axes_defined=True,
            # Safe: paths and colours of this package.
            scales=Markup(colour_scales(figure for claim in run.claims for figure in claim.figures)),
            thousands=len(run.claims) > _THOUSANDS,
            words=_words(run),
            planned_only={
                name: run.plan.claims[name] for name in run.plan.claims.keys() - {c.id for c in run.claims}
            },
            command=escaping.shell_join(run.command),
            policy=policy(style, script),
            # Safe: files and looks of this package, which hold no "</style" and no "</script".
            style=Markup(style),
            script=Markup(script),
            # Safe: `json_text` leaves no character that could end the element or open another, and base64 has none.
            data=Markup(data),
            packed=packed,
        )
    )
    return escaping.document(shortened(page))


def _drawings(suites: Iterable[SuiteSection], shelf: Shelf) -> tuple[dict[str, ShownFigure], str]:
    """Each figure by its fragment, drawn once in the order of the page, and the style sheet of what drawings share."""
    drawings: dict[str, ShownFigure] = {}
    for section in suites:
        key = () if section.row.figure is None else (section.row.figure,)
        for figure in (*key, *(figure for claim in section.row.claims for figure in claim.figures)):
            name = shelf.name(figure)
            if name not in drawings:
                drawings[name] = shown_figure(figure, name)
    svg, looks = shared({name: str(one.svg) for name, one in drawings.items()})
    # Safe: the same drawings, in other words of our own.
    return {name: replace(one, svg=Markup(svg[name])) for name, one in drawings.items()}, looks


def _compared(claim: Claim, methods: Mapping[str, _Method]) -> Comparisons:
    return comparisons(in_order(claim), {text: method.number for text, method in methods.items()})


def _embedded(run: Run) -> tuple[str, bool]:
    """The record as the page embeds it, and whether it is packed (deflate, in base64).

    A small record stays whole and readable. A large one would be half of the page, so it is compressed and `bare`.
    """
    text = json_text(run)
    if len(text) <= _READABLE:
        return text, False
    return base64.b64encode(zlib.compress(msgspec.json.encode(bare(run)), 9)).decode(), True


def bare(run: Run) -> Run:
    """The run without what the page prints and nothing else is made of: digests of the plan, data of figures, cells of
    grids, items, notes and other choices; and without recipes, by which numbers are computed from the items."""
    kept = msgspec.structs.replace(
        run,
        plan=msgspec.structs.replace(run.plan, claims={}, data={}, code={}),
        claims=tuple(
            msgspec.structs.replace(
                claim,
                figures=tuple(msgspec.structs.replace(figure, data={}) for figure in claim.figures),
                grids=tuple(msgspec.structs.replace(grid, cells=()) for grid in claim.grids),
                examples=(),
                notes=(),
                alternatives=(),
            )
            for claim in run.claims
        ),
    )
    return msgspec.convert(_rounded(msgspec.to_builtins(kept)), Run)


def _rounded(value: Any) -> Any:
    """The same without recipes, and with every float to `_DIGITS` significant digits."""
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}")
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in value.items() if key != "recipe"}
    return [_rounded(part) for part in value] if isinstance(value, list | tuple) else value


def _anchors(run: Run) -> dict[int, str]:
    """Fragment per claim, by object identity: readable, stable between runs, unique, of safe characters."""
    anchors: dict[int, str] = {}
    taken: set[str] = set()
    for position, claim in enumerate(run.claims, start=1):
        anchor = "claim-" + re.sub(r"[^A-Za-z0-9_]+", "-", claim.id)[:80].strip("-")
        anchors[id(claim)] = f"{anchor}-{position}" if anchor in taken else anchor
        taken.add(anchors[id(claim)])
    return anchors


@dataclass(frozen=True)
class _Method:
    number: int
    claims: list[Claim]


def _methods(run: Run) -> dict[str, _Method]:
    """Distinct methods in order of appearance, each with the claims that rest on it."""
    methods: dict[str, _Method] = {}
    for claim in run.claims:
        for method in dict.fromkeys(effect.method for effect in wording.effects_of(claim)):
            methods.setdefault(method, _Method(len(methods) + 1, [])).claims.append(claim)
    return methods


def _words(run: Run) -> dict[Verdict, str]:
    """The words that stand for each verdict in this run, for the filter: "does not hold, blocks"."""
    found: dict[Verdict, dict[str, None]] = {verdict: {} for verdict in Verdict}
    for claim in run.claims:
        found[claim.verdict][word(run, claim)] = None
    return {verdict: ", ".join(words) for verdict, words in found.items() if words}


def _gallery(suites: Iterable[SuiteSection], shelf: Shelf) -> list[tuple[SuiteSection, list[Figure]]]:
    """Every figure once, under the suite that shows it first."""
    found: dict[int, dict[str, Figure]] = {}
    seen: set[str] = set()
    listed = list(suites)
    for section in listed:
        figures = [figure for claim in section.row.claims for figure in claim.figures]
        if section.row.figure is not None:
            figures.insert(0, section.row.figure)
        new = {name: figure for figure in figures if (name := shelf.name(figure)) not in seen}
        found[section.number] = new
        seen.update(new)
    return [(section, list(found[section.number].values())) for section in listed if found[section.number]]
