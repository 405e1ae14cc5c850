"""What all drawings share: the sheet they stand on, its settings, and how numbers and names are written on it.

Margins are set in inches from the lengths of the labels: a layout that measures its texts draws every figure twice.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from auditkit.report.svg import INK
from auditkit.report.wording import clean, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

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
    "font.size": _FONT,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": True,
    "text.parse_math": False,  # a "$" in a model's or suite's name is a "$"
    "legend.frameon": False,
}


@contextmanager
def settings() -> Iterator[None]:
    """Within it, matplotlib draws the same on every machine."""
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

        self.height = height = math.ceil(height * 72) / 72
        self.figure = Figure(figsize=(WIDTH, height))
        FigureCanvasSVG(self.figure)
        self.figure.patch.set_visible(False)

    def axes(self, left: float, right: float, top: float, bottom: float) -> Axes:
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
        axes.set_axisbelow(True)
        return axes

    def svg(self) -> bytes:
        """matplotlib's SVG document."""
        stream = io.BytesIO()
        metadata: dict[str, Any] = {"Date": None, "Creator": None, "Format": None, "Type": None}
        self.figure.savefig(stream, format="svg", metadata=metadata)
        return stream.getvalue()


def short(text: str, length: int) -> str:
    """One line of at most `length` characters; the page prints the whole text beside the figure."""
    line = " ".join(clean(text).split())
    return line if len(line) <= length else line[: length - 1] + "…"


def room(texts: Iterable[str], size: float = _FONT) -> float:
    """Inches that the longest of `texts` takes, at most: a letter is about 0.6 of the font's size wide."""
    return max(map(len, texts), default=0) * 0.6 * size / 72


def logarithmic(axis: Axis) -> None:
    """Put an axis on a logarithmic scale, its numbers written as everywhere in the report."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis._set_axes_scale("log", nonpositive="mask")  # type: ignore[attr-defined]  # set_xscale and set_yscale in one
    axis.set_major_locator(LogLocator(numticks=8))
    axis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    axis.set_minor_formatter(NullFormatter())
