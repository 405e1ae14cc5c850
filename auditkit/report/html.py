"""Parts that every HTML page uses: the template environment, the security policy, and JSON inside HTML."""

from __future__ import annotations

import base64
import functools
import hashlib
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from importlib import resources
from typing import Any

import msgspec
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from auditkit.record.escaping import CONTROLS, DIRECTIONS
from auditkit.record.figures import Image, drawing_of
from auditkit.record.identity import parts_of
from auditkit.record.schema import Figure, Run, Verdict
from auditkit.report import effects, examples, strip, wording
from auditkit.report.answers.kinds import short
from auditkit.report.comparisons import controls_apart, further_reason, measured_on
from auditkit.report.figures import drawing as figures
from auditkit.report.figures import forest
from auditkit.report.groups import groups

_TURNS = {"R", "AL", "AN", "LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
"""Classes of characters that turn the writing direction, or that take it back."""
_BATCH = 50
"""Claims, or rows of a forest plot, that a large page lays out together when they come near the screen."""
_DIGITS = 16
"""Hexadecimal digits of a SHA-256 that stand where another digest covers it in full. No two of a plan share 64 bits."""
_ESCAPED = f"[<>&\u2028\u2029{CONTROLS}{DIRECTIONS}]"
_SHA256 = re.compile("[0-9a-f]{64}")


@functools.cache
def environment() -> Environment:
    """Templates of this package; everything that they show is escaped unless it says that it is HTML."""
    made = Environment(
        loader=PackageLoader("auditkit.report"),
        autoescape=True,  # always, never by file name
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters |= _filters()
    made.globals |= {
        "Verdict": Verdict,
        "WORDS": wording.WORDS,
        "MEANINGS": wording.MEANINGS,
        "MISSING": wording.MISSING,
        "AT_ONCE": wording.AT_ONCE,
        "BATCH": _BATCH,
        "DIGITS": _DIGITS,
        "PLOT_WIDTH": forest.WIDTH,
        "PLOT_HEIGHT": forest.HEIGHT,
        "PLOT_AXIS": forest.axis(),
        "PLOT_LINE": forest.place(0.0),
        "PLOT_GROUNDS": forest.GROUNDS,
        "strip_of": strip.strip_of,
        "groups": groups,
        "STRIP_SIZE": (int(strip.WIDTH), int(strip.HEIGHT)),
    }
    return made


def _filters() -> dict[str, Callable[..., Any]]:
    """What templates do with the values of a run."""
    return {
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
        "identity": wording.identity,
        "no_identity": wording.no_identity,
        "weights": wording.weights,
        "parts": parts_of,
        "moved": wording.moved,
        "further": wording.further,
        "looser": wording.looser,
        "transitions": wording.transitions,
        "waiver": wording.waiver,
        "cell": figures.text_of,
        "as_columns": figures.as_columns,
        "cells_of": figures.cells_of,
        "drawn": forest.drawn,
        "undrawn": forest.undrawn,
        "foreign": foreign,
        "coded": coded,
        "short": short,
        "controls_apart": controls_apart,
        "measured_on": measured_on,
        "further_reason": further_reason,
        "change_size": forest.change_size,
        "in_words": effects.in_words,
        "side_by_side": examples.shown,
        "explained": effects.explained,
        "digest": digest,
        "by_folder": by_folder,
    }


def foreign(text: object) -> Markup:
    """Text that came from a model, a data set or a suite: escaped like everything, and isolated where its writing
    direction could spill over into ours."""
    said = str(text)
    if said.isascii() or not any(unicodedata.bidirectional(char) in _TURNS for char in said):
        return escape(said)
    return Markup("<bdi>{}</bdi>").format(said)


def digest(text: str) -> str:
    """A SHA-256 by its first digits; any other text as it is."""
    return text[:_DIGITS] if _SHA256.fullmatch(text) else text


def by_folder(paths: Iterable[str], whole: Collection[str]) -> str:
    """Paths with each folder said once: "a/b: c.py, d.py; a/e: f.py".

    Args:
        whole: paths that stand elsewhere in full; the others are not taken apart.
    """
    found: dict[str, list[str]] = {}
    for path in sorted(paths):
        folder, _, name = path.rpartition("/") if path in whole else ("", "", path)
        found.setdefault(folder, []).append(name)
    return "; ".join(
        f"{folder}: {', '.join(names)}" if folder else ", ".join(names) for folder, names in found.items()
    )


def coded(text: str) -> Markup:
    """A sentence in which what stands between backticks is code."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        return escape(text)
    return Markup("").join(Markup("<code>{}</code>").format(p) if i % 2 else p for i, p in enumerate(parts))


def own(name: str) -> str:
    """The text of a file of this package."""
    return resources.files(__package__).joinpath("templates", name).read_text("utf-8")


def policy(style: str, script: str = "") -> str:
    """Content-Security-Policy of the page: nothing is loaded, and only what is named by digest applies."""

    def named(text: str) -> str:
        return (
            f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" if text else "'none'"
        )

    return (
        f"default-src 'none'; img-src data:; style-src {named(style)}; script-src {named(script)}; "
        "base-uri 'none'; form-action 'none'"
    )


def json_text(run: Run) -> str:
    """The whole run as JSON that may stand inside a script element.

    "<", ">" and "&" could end the element or start a comment, U+2028 and U+2029 end a line in older scripts,
    and what `escaping.document` would replace must survive: all become JSON escapes, which every reader undoes.
    """
    text = msgspec.json.encode(run).decode()
    return re.sub(_ESCAPED, lambda match: f"\\u{ord(match.group()):04x}", text)


@dataclass(frozen=True)
class ShownFigure:
    """A figure as the page shows it."""

    svg: Markup
    """The drawing, or an image; empty: not drawn, for `problem` or because it is a table."""
    problem: str
    caption: str
    numbers: list[figures.Numbers]

    @property
    def box(self) -> str:
        """Size of the drawing, for a small copy of it; empty where there is none to copy."""
        found = re.search(r'<svg[^>]* viewBox="([\d. ]+)"', self.svg)
        return found[1] if found else ""


def shown_figure(figure: Figure, prefix: str) -> ShownFigure:
    """One malformed figure must not cost the whole report, and one that cannot be drawn still has its numbers.

    Args:
        prefix: fragment of the figure. The page puts its title into an element of that name with "-title", and its
            caption into one with "-desc".
    """
    try:
        drawing = drawing_of(figure)
    except ValueError as error:
        return ShownFigure(Markup(), str(error), "", [])
    if isinstance(drawing, Image):
        source = f"data:{drawing.media_type};base64,{drawing.content}"
        return ShownFigure(Markup('<img src="{}" alt="{}">').format(source, drawing.alt), "", drawing.caption, [])
    svg, problem = "", ""
    try:
        svg = figures.render_svg(figure, prefix, apart=True)
    except (ValueError, ArithmeticError) as error:
        problem = str(error)
    # Safe: an XML writer escaped all text in it, and `svg` rebuilt every attribute.
    return ShownFigure(Markup(svg), problem, drawing.caption, figures.numbers_of(drawing))
