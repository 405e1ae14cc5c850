"""What all drawings share: the sheet they stand on, its settings, and how numbers and names are written on it.

matplotlib draws, and texts are written as SVG beside it: the page's own font sets them, so nothing that matplotlib
measures of them would hold, and measuring is most of the time that a figure takes. Margins are set from the lengths of
the labels.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from auditkit.record import escaping
from auditkit.report.figures.svg import INK, Style
from auditkit.report.wording import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Line = tuple[tuple[float, float], tuple[float, float]]

WIDTH = 7.5
"""Of every drawing, in inches; the page scales it."""
_FONT = 9.5
SMALL = 8.5
"""Size of names and keys, in points."""
REFERENCE: dict[str, Any] = {"color": INK, "linewidth": 0.8, "linestyle": (0, (4, 3)), "alpha": 0.75}
"""How a line to compare with is drawn."""
NOTHING = float("nan")
"""matplotlib's word for "draw nothing here"; it never reaches the page."""

_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "auditkit",
    "axes.edgecolor": INK,
    "axes.linewidth": 0.6,
    "axes.unicode_minus": True,
}


@contextmanager
def settings() -> Iterator[None]:
    """A context in which matplotlib draws the same on every machine."""
    import matplotlib

    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()  # the reader's own matplotlibrc must not change the report
        matplotlib.rcParams.update(_SETTINGS)
        warnings.simplefilter("ignore")  # a glyph that matplotlib's font lacks is the browser's to find
        yield


class Sheet:
    """An empty drawing of `WIDTH` by `height` inches, to the next whole point, without a background."""

    def __init__(self, height: float) -> None:
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure
        from matplotlib.transforms import Affine2D

        self.height = height = math.ceil(height * 72) / 72
        self.figure = Figure(figsize=(WIDTH, height), dpi=72)
        FigureCanvasSVG(self.figure)
        self.figure.patch.set_visible(False)
        self.points = Affine2D().scale(1, -1).translate(0, height * 72)
        """From points, counted from the left and the top, to matplotlib's."""
        self.texts: dict[Style, list[tuple[float, float, str]]] = {}

    def axes(self, left: float, right: float, top: float, bottom: float, spines: str = "left bottom") -> Axes:
        """Axes with these margins, in inches; whole points, so that coordinates are short."""
        left, right, top, bottom = (round(margin * 72) / 72 for margin in (left, right, top, bottom))
        place = (
            left / WIDTH,
            bottom / self.height,
            (WIDTH - left - right) / WIDTH,
            (self.height - top - bottom) / self.height,
        )
        axes = self.figure.add_axes(place)
        axes.patch.set_visible(False)
        axes.xaxis.set_visible(False)
        axes.yaxis.set_visible(False)
        for name, spine in axes.spines.items():
            spine.set_visible(name in spines)
        return axes

    def write(self, x: float, y: float, text: str, style: Style | None = None) -> None:
        """Write one line with its baseline at (x, y), in points from the left and the top."""
        self.texts.setdefault(style or Style(_FONT), []).append((x, y, text))

    def strokes(self, lines: Iterable[Line], *, width: float = 0.6, alpha: float = 1.0) -> None:
        """Straight lines in points, as one path."""
        from matplotlib.patches import PathPatch
        from matplotlib.path import Path

        ends = [end for line in lines for end in line]
        if ends:
            path = Path(ends, [Path.MOVETO, Path.LINETO] * (len(ends) // 2))
            style: dict[str, Any] = {"facecolor": "none", "edgecolor": INK, "linewidth": width, "alpha": alpha}
            self.figure.add_artist(PathPatch(path, transform=self.points, zorder=0.5, **style))

    def place(self, axes: Axes, x: float, y: float) -> tuple[float, float]:
        """A point of the data, in points from the left and the top."""
        across, up = axes.transData.transform((x, y))
        return float(across), self.height * 72 - float(up)

    def box(self, axes: Axes) -> tuple[float, float, float, float]:
        """Left, top, right and bottom of axes, in points."""
        box = axes.bbox
        return float(box.x0), self.height * 72 - float(box.y1), float(box.x1), self.height * 72 - float(box.y0)

    def svg(self) -> bytes:
        """matplotlib's SVG document, without the texts."""
        stream = io.BytesIO()
        metadata: dict[str, Any] = {"Date": None, "Creator": None, "Format": None, "Type": None}
        self.figure.savefig(stream, format="svg", dpi=72, metadata=metadata)
        return stream.getvalue()


def label_axis(
    sheet: Sheet,
    axes: Axes,
    side: Literal["bottom", "left", "right"],
    label: str,
    names: Mapping[float, str] | None = None,
    *,
    grid: bool = False,
    turned: bool = False,
    bold: Collection[float] = (),
    size: float = _FONT,
) -> None:
    """Write an axis, once its data are drawn.

    matplotlib's own axes make ten objects for every tick and measure all texts, which is most of the time that a
    figure takes.

    Args:
        names: place -> what is written there; None: numbers, with marks.
        grid: a faint line at every place.
        turned: names stand at an angle.
        bold: places of headings.
    """
    level = side == "bottom"
    axis = axes.xaxis if level else axes.yaxis
    marked = names is None
    if names is None:
        low, high = sorted(axis.get_view_interval())
        places = [float(place) for place in axis.get_majorticklocs() if low <= place <= high]
        names = dict(zip(places, axis.get_major_formatter().format_ticks(places), strict=True))
        offset = axis.get_major_formatter().get_offset()
        label = f"{label} ({offset})" if offset else label
    left, top, right, bottom = sheet.box(axes)
    corner = (axes.get_xlim()[0], axes.get_ylim()[0])
    at = {place: sheet.place(axes, *((place, corner[1]) if level else (corner[0], place))) for place in names}
    edge = right if side == "right" else left
    outward = -1 if side == "left" else 1
    if marked and not grid:
        sheet.strokes(
            [
                ((x, bottom), (x, bottom + 3)) if level else ((edge, y), (edge + 3 * outward, y))
                for x, y in at.values()
            ]
        )
    if grid:
        sheet.strokes(
            [((x, top), (x, bottom)) if level else ((left, y), (right, y)) for x, y in at.values()], alpha=0.12
        )
    anchor: Literal["start", "middle", "end"] = "middle" if level else "end" if side == "left" else "start"
    for place, (x, y) in at.items():
        style = Style(size, "end" if turned else anchor, -45 if turned else 0, bold=place in bold)
        if level:
            sheet.write(x, bottom + 4 + 0.9 * size, names[place], style)
        else:
            sheet.write(edge + 5 * outward, y + 0.35 * size, names[place], style)
    wide = room(names.values(), size) * 72
    if level:
        beyond = 0.72 * wide if turned else 1.2 * size
        sheet.write((left + right) / 2, bottom + 6 + beyond + size, label, Style(size))
    else:
        _write_upwards(sheet, label, edge, (top + bottom) / 2, wide, size, to_the_right=side == "right")


def _write_upwards(
    sheet: Sheet, label: str, edge: float, middle: float, beyond: float, size: float, *, to_the_right: bool
) -> None:
    """Write the label of an upright axis, `beyond` points away from its edge, line by line."""
    lines = label.split("\n")
    for nth, line in enumerate(lines if to_the_right else reversed(lines)):
        # Written upwards: the baseline is the side away from the names on the left, and towards them on the right.
        away = 10 + beyond + 1.15 * size * nth + (0.8 * size if to_the_right else 0)
        sheet.write(edge + (away if to_the_right else -away), middle, line, Style(size, turn=-90))


def short(text: str, length: int) -> str:
    """One line of at most `length` characters; the page prints the whole text beside the figure."""
    line = " ".join(escaping.document(text).split())
    return line if len(line) <= length else line[: length - 1] + "…"


def room(texts: Iterable[str], size: float = _FONT) -> float:
    """Inches that the longest of `texts` takes, at most: a letter is about 0.6 of the font's size wide."""
    return max(map(len, texts), default=0) * 0.6 * size / 72


def logarithmic(axes: Axes) -> None:
    """Put y on a logarithmic scale, its numbers written as everywhere in the report."""
    from matplotlib.ticker import FuncFormatter, LogLocator

    axes.set_yscale("log", nonpositive="mask")
    axes.yaxis.set_major_locator(LogLocator(numticks=8))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
