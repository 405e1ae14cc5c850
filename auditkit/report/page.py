"""The audit page: one HTML file that needs no network, no script and no server.

Everything in a run but its numbers may come from a model, a data set or a stranger's suite, so it is treated
as hostile: the templates escape always, and the page's own Content-Security-Policy allows no script and no
style but the style sheet it names by digest.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import re
import shlex
from dataclasses import dataclass
from importlib import resources

import msgspec
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from auditkit.record.canonical import canonical
from auditkit.record.figures import drawing_of
from auditkit.record.schema import Claim, Figure, Run, Verdict
from auditkit.report import figures, forest, wording


def render_html(run: Run) -> str:
    """The audit page of `run`; the same run gives the same text."""
    run = canonical(run)
    style = resources.files(__package__).joinpath("templates", "style.css").read_text("utf-8")
    effects = [effect for claim in run.claims for effect in wording.effects_of(claim)]
    scales = forest.scales(effects)
    # Changes are small beside what changed, so they have scales of their own.
    changes = forest.scales(effect for claim in run.claims if claim.change for effect in claim.change.effects)
    anchors = _anchors(run)
    page = (
        _environment()
        .get_template("audit.html.j2")
        .render(
            run=run,
            suites=wording.suites(run),
            attention=wording.needing_attention(run),
            anchor=lambda claim: anchors[id(claim)],
            methods=_methods(run),
            scales=scales,
            change_scales=changes,
            drawn_change=lambda effect: forest.drawing(effect, changes[effect.unit]),
            drawing=lambda effect: forest.drawing(effect, scales[effect.unit]),
            command=shlex.join(run.command),
            policy=_policy(style),
            # Safe: the style sheet is a file of this package and holds no "</style".
            style=Markup(style),
            # Safe: `_data` leaves no character that could end the element or open another.
            data=Markup(_data(run)),
        )
    )
    return wording.clean(page)


def _policy(style: str) -> str:
    """Content-Security-Policy of the page: nothing is loaded, and only what is named by digest applies.

    A script, once the page has one, is named here by its digest in the same way as the style sheet.
    """
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return (
        f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; script-src 'none'; "
        "base-uri 'none'; form-action 'none'"
    )


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


def _methods(run: Run) -> dict[str, list[Claim]]:
    """Distinct methods in order of appearance, each with the claims that rest on it."""
    methods: dict[str, list[Claim]] = {}
    for claim in run.claims:
        for method in dict.fromkeys(effect.method for effect in wording.effects_of(claim)):
            methods.setdefault(method, []).append(claim)
    return methods


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
