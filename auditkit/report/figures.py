"""Figures of a claim as inline SVG, drawn by matplotlib without a display.

The page forbids inline styles, follows the reader's light or dark setting and may hold many figures. So the
drawing is rewritten: `style` attributes and the style sheet become presentation attributes, black becomes
`currentColor`, identifiers that nothing refers to are dropped and the others get a prefix of their own. Text
stays text, so that it can be searched, copied and read aloud. The same data gives the same bytes.
"""

from __future__ import annotations

import io
import re
import textwrap
import warnings
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING, Any

from auditkit.record.figures import Curves, Series, drawing_of
from auditkit.record.schema import Figure
from auditkit.report.wording import clean

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_INK = "#000000"
# Distinguishable with colour-vision deficiency and at least 3:1 against both page backgrounds; the dash
# pattern carries the same information in black and white.
_COLOURS = ("#0b7bc1", "#c2570c", "#2e8b57", "#9a63d9", "#8a7a1c", "#c44a7f")
_DASHES: tuple[str | tuple[int, tuple[float, ...]], ...] = (
    "-",
    (0, (5, 2)),
    (0, (1, 1.5)),
    (0, (6, 2, 1, 2)),
)
_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "auditkit",
    "font.size": 9.5,
    "text.color": _INK,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "axes.linewidth": 0.6,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": True,
    "text.parse_math": False,  # a "$" in a model's or suite's name is a "$"
    "legend.frameon": False,
}
_SVG = "{http://www.w3.org/2000/svg}"
_HREF = "{http://www.w3.org/1999/xlink}href"
_REFERENCE = re.compile(r"url\(#([^)]+)\)|^#(.+)$")


def render_svg(figure: Figure, prefix: str) -> str:
    """Draw `figure`; `prefix` makes its identifiers unique within the page.

    Raises:
        ValueError: the figure's data do not fit its kind.
    """
    curves = drawing_of(figure)
    if not isinstance(curves, Curves):
        raise ValueError(f"this version draws no {figure.kind}")
    drawn = _draw(curves)
    return _inline(drawn, prefix, title=clean(figure.title), description=clean(curves.reading))


def _draw(curves: Curves) -> bytes:
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure as Canvas

    stream = io.BytesIO()
    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()  # the reader's own matplotlibrc must not change the report
        matplotlib.rcParams.update(_SETTINGS)
        warnings.simplefilter("ignore")  # a glyph that matplotlib's font lacks is the browser's to find
        canvas = Canvas(figsize=(7.4, 3.1), layout="constrained")
        FigureCanvasSVG(canvas)
        canvas.patch.set_visible(False)
        _plot(canvas.subplots(), curves)
        canvas.savefig(
            stream, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
        )
    return stream.getvalue()


def _plot(axes: Axes, curves: Curves) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.patch.set_visible(False)
    for band in curves.bands:
        axes.axvspan(band.start - 0.5, band.stop + 0.5, color=_INK, alpha=0.09, linewidth=0)
        axes.annotate(
            _short(band.name, 30),
            ((band.start + band.stop) / 2, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(0, 3),
            textcoords="offset points",
            ha="center",
            fontsize=8.5,
            annotation_clip=False,
        )
    if curves.reference is not None:
        axes.axhline(curves.reference, color=_INK, linewidth=0.8, linestyle=(0, (4, 3)), alpha=0.75)
    for index, series in enumerate(curves.series):
        _plot_series(axes, series, _COLOURS[index % len(_COLOURS)], _DASHES[index % len(_DASHES)])
    axes.grid(axis="y", color=_INK, alpha=0.12, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.margins(x=0.015)
    axes.set_xlabel(_short(curves.x_label, 90))
    axes.set_ylabel("\n".join(textwrap.wrap(_short(curves.y_label, 76), 38)))
    if curves.log:
        axes.set_yscale("log", nonpositive="mask")
    if curves.whole:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    if len(curves.series) > 1:
        axes.legend(loc="best", fontsize=8.5)


def _plot_series(axes: Axes, series: Series, colour: str, dash: str | tuple[int, tuple[float, ...]]) -> None:
    missing = float("nan")  # matplotlib's word for "draw nothing here"; it never reaches the page
    x, y, lower, upper = (
        [missing if value is None else value for value in column]
        for column in (series.x, series.y, series.lower, series.upper)
    )
    axes.fill_between(x, lower, upper, color=colour, alpha=0.2, linewidth=0)
    axes.plot(
        x,
        y,
        color=colour,
        linestyle=dash,
        linewidth=1.6,
        marker="o",
        markersize=3,
        label=_short(series.name, 60),
    )


def _short(text: str, length: int) -> str:
    """One line of at most `length` characters; the page prints the whole text beside the figure."""
    line = " ".join(clean(text).split())
    return line if len(line) <= length else line[: length - 1] + "…"


def _inline(document: bytes, prefix: str, *, title: str, description: str) -> str:
    """Rewrite matplotlib's SVG document so that it can stand inside a page with a strict policy."""
    root = ET.fromstring(document)
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{_SVG}style", f"{_SVG}metadata"):
                parent.remove(child)
    used = {match for element in root.iter() for value in element.attrib.values() for match in _references(value)}
    for element in root.iter():
        element.tag = element.tag.removeprefix(_SVG)
        _present(element)
        _rename(element, used, prefix)
        if element.tag != "text":
            element.text = None  # line breaks that matplotlib puts between elements
        element.tail = None
    # Attributes of the root are inherited: the joins of matplotlib's style sheet, the page's text colour.
    root.attrib = {
        "xmlns": _SVG.strip("{}"),
        "viewBox": root.attrib["viewBox"],
        "class": "plot",
        "role": "img",
        "aria-labelledby": f"{prefix}-title {prefix}-desc",
        "fill": "currentColor",
        "stroke-linejoin": "round",
        "stroke-linecap": "butt",
    }
    for position, (tag, text) in enumerate((("title", title), ("desc", description))):
        element = ET.Element(tag, id=f"{prefix}-{tag}")
        element.text = text
        root.insert(position, element)
    return ET.tostring(root, encoding="unicode")


def _present(element: ET.Element) -> None:
    """Turn the element's inline style into presentation attributes."""
    for declaration in element.attrib.pop("style", "").split(";"):
        name, _, value = (part.strip() for part in declaration.partition(":"))
        if name == "font":  # a shorthand has no attribute of its own; the family is the page's
            size = re.search(r"([\d.]+)px", value)
            name, value = "font-size", size.group(1) if size else "10"
        if name:
            element.set(name, value)
    for name in ("fill", "stroke"):
        if element.get(name) == _INK:
            element.set(name, "currentColor")


def _rename(element: ET.Element, used: set[str], prefix: str) -> None:
    if _HREF in element.attrib:
        element.set("href", element.attrib.pop(_HREF))
    for name, value in list(element.attrib.items()):
        if name == "id" and value not in used:
            del element.attrib[name]
        elif name == "id":
            element.set(name, f"{prefix}-{value}")
        else:
            for reference in _references(value):
                element.set(name, value.replace(f"#{reference}", f"#{prefix}-{reference}"))


def _references(value: str) -> list[str]:
    return [first or second for first, second in _REFERENCE.findall(value) if not _is_colour(second)]


def _is_colour(text: str) -> bool:
    return re.fullmatch(r"[0-9a-f]{6}", text) is not None
