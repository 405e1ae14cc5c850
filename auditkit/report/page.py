"""The audit page: one HTML file that needs no network, no script and no server.

Everything in a run but its numbers may come from a model, a data set or a stranger's suite, so it is treated
as hostile: the templates escape always, and the page's own Content-Security-Policy allows no script and no
style but the two files of this package that it names by digest. The script adds filters, sorting and copying; the
page says everything without it.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import re
import shlex
import zlib
from dataclasses import dataclass
from importlib import resources

import msgspec
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from auditkit.record.canonical import canonical
from auditkit.record.figures import drawing_of
from auditkit.record.schema import Claim, Figure, FigureKind, Run, Verdict
from auditkit.report import figures, forest, wording

_OPENED = 30
"""So many claims that need attention are open from the start, the worst."""
_READABLE = 250_000
"""Longest record, in characters, that stands in the page as plain JSON."""
_KINDS: dict[str, tuple[FigureKind, ...]] = {
    "Maps of heads, layers and pairs": ("heatmap",),
    "Curves": ("curves",),
    "Groups": ("dots", "table"),
    "Overlaps": ("sets",),
    "Embeddings": ("points",),
}


def render_html(run: Run) -> str:
    """The audit page of `run`; the same run gives the same text."""
    run = canonical(run)
    style, script = _own("style.css"), _own("page.js")
    effects = [effect for claim in run.claims for effect in wording.effects_of(claim)]
    scales = forest.scales(effects)
    # Changes are small beside what changed, so they have scales of their own.
    changes = forest.scales(effect for claim in run.claims if claim.change for effect in claim.change.effects)
    anchors = _anchors(run)
    attention = wording.needing_attention(run)
    suites = wording.suites(run)
    data, packed = _embedded(run)
    page = (
        _environment()
        .get_template("audit.html.j2")
        .render(
            run=run,
            suites=suites,
            attention=attention,
            opened={anchors[id(claim)] for claim in attention[:_OPENED]},
            pictures=_pictures(suites),
            anchor=lambda claim: anchors[id(claim)],
            methods=_methods(run),
            scales=scales,
            change_scales=changes,
            drawn_change=lambda effect: forest.drawing(effect, changes[effect.unit]),
            drawing=lambda effect: forest.drawing(effect, scales[effect.unit]),
            command=shlex.join(run.command),
            policy=_policy(style, script),
            # Safe: files of this package, which hold no "</style" and no "</script".
            style=Markup(style),
            script=Markup(script),
            # Safe: `_data` leaves no character that could end the element or open another, and base64 has none.
            data=Markup(data),
            packed=packed,
        )
    )
    # Lines between elements would be nodes of their own, a third of all; no text has one, since "<" is escaped in it.
    return wording.clean(re.sub(r">\n+<", "><", page))


def _own(name: str) -> str:
    """A file of this package."""
    return resources.files(__package__).joinpath("templates", name).read_text("utf-8")


def _policy(style: str, script: str = "") -> str:
    """Content-Security-Policy of the page: nothing is loaded, and only what is named by digest applies."""

    def named(text: str) -> str:
        return (
            f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" if text else "'none'"
        )

    return (
        f"default-src 'none'; img-src data:; style-src {named(style)}; script-src {named(script)}; "
        "base-uri 'none'; form-action 'none'"
    )


def _embedded(run: Run) -> tuple[str, bool]:
    """The record as it stands in the page, and whether it is packed: deflated, in base64.

    A record is mostly repetition, and a large one would be a third of the page. A small one stays readable.
    """
    text = _data(run)
    if len(text) <= _READABLE:
        return text, False
    return base64.b64encode(zlib.compress(msgspec.json.encode(run), 9)).decode(), True


def _data(run: Run) -> str:
    """The whole run as JSON that may stand inside a script element.

    "<", ">" and "&" could end the element or start a comment, U+2028 and U+2029 end a line in older scripts,
    and what `wording.clean` would replace must survive: all become JSON escapes, which every reader undoes.
    """
    text = msgspec.json.encode(run).decode()
    return re.sub("[<>&\x7f-\x9f\u2028\u2029\ufffe\uffff]", lambda match: f"\\u{ord(match.group()):04x}", text)


def _anchors(run: Run) -> dict[int, str]:
    """Fragment per claim, by object identity: readable, stable between runs, unique, of safe characters."""
    anchors: dict[int, str] = {}
    for position, claim in enumerate(run.claims, start=1):
        anchor = "claim-" + re.sub(r"[^A-Za-z0-9_]+", "-", claim.id)[:80].strip("-")
        anchors[id(claim)] = f"{anchor}-{position}" if anchor in anchors.values() else anchor
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


def _pictures(suites: dict[str, list[Claim]]) -> dict[str, list[tuple[Figure, str, Claim]]]:
    """Every figure with its fragment and its claim, by what it shows; empty where no claim has one."""
    found = [
        (figure, f"f-{suite}-{place}-{number}", claim)
        for suite, claims in enumerate(suites.values(), start=1)
        for place, claim in enumerate(claims, start=1)
        for number, figure in enumerate(claim.figures, start=1)
    ]
    kinds = {name: [entry for entry in found if entry[0].kind in of] for name, of in _KINDS.items()}
    return kinds if found else {}


@dataclass(frozen=True)
class _Shown:
    """A figure as the page shows it."""

    svg: Markup
    """Empty: not drawn, for `problem` or because it is a table."""
    problem: str
    reading: str
    numbers: list[figures.Numbers]


def _shown(figure: Figure, prefix: str) -> _Shown:
    """One malformed figure must not cost the whole report, and one that cannot be drawn still has its numbers."""
    try:
        drawing = drawing_of(figure)
    except ValueError as error:
        return _Shown(Markup(), str(error), "", [])
    svg, problem = "", ""
    try:
        svg = figures.render_svg(figure, prefix)
    except (ValueError, ArithmeticError) as error:
        problem = str(error)
    # Safe: an XML writer escaped all text in it, and `svg` rebuilt every attribute.
    return _Shown(Markup(svg), problem, drawing.reading, figures.numbers_of(drawing))


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("auditkit.report"),
        autoescape=True,  # always, never by file name
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "number": wording.number,
        "interval": wording.interval,
        "distance": wording.distance,
        "threshold": wording.threshold,
        "unit": wording.unit,
        "level": wording.level,
        "family": wording.family,
        "items_text": wording.items_needed,
        "cross_check": wording.cross_check,
        "changes": wording.changes,
        "moved": wording.moved,
        "transitions": wording.transitions,
        "waiver": wording.waiver,
        "cell": figures.text_of,
    }
    environment.globals |= {
        "Verdict": Verdict,
        "WORDS": wording.WORDS,
        "GLYPHS": wording.GLYPHS,
        "MEANINGS": wording.MEANINGS,
        "MISSING": wording.MISSING,
        "PLOT_WIDTH": int(forest.WIDTH),
        "shown": _shown,
    }
    return environment
