"""Heat maps: one path per colour, so that a map of a thousand cells stays small and stays vector.

Colours fall into levels; neighbours of one level become one rectangle, and all rectangles of a level one path. What
colour says is said without it too: a cell below 0 on the centred scale is struck through, a cell without a value is
crossed, and small maps carry their numbers. The linear scale runs from dark to bright without turning, so it keeps
its order in black and white.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from auditkit.record.figures import Heatmap, Number
from auditkit.report.figures.sheet import SMALL, WIDTH, Sheet, label_axis, logarithmic, room, short
from auditkit.report.figures.svg import CRISP, INK, Style
from auditkit.report.wording import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.patches import PathPatch

LEVELS = 25
"""Colours of a scale; odd, so that a centred one has its own colour around 0."""
_WRITTEN = 130
"""Maps of at most so many cells, and twelve columns, carry their numbers."""
_FRAME = "left right top bottom"
_LIGHT, _DARK = "#ffffff", "#101010"

Rectangle = tuple[float, float, float, float]
"""Left, top, right, bottom, in columns and rows."""


@dataclass(frozen=True)
class _Scale:
    """From values to levels of colour."""

    low: float
    high: float
    log: bool
    colours: tuple[str, ...]

    def level(self, value: Number) -> int | None:
        """Index of the value's colour; None where it has none."""
        if value is None or (self.log and value <= 0):
            return None
        low, high, at = (self.on(x) for x in (self.low, self.high, value))
        share = (at - low) / (high - low) if high > low else 0.5
        return min(LEVELS - 1, max(0, int(share * LEVELS)))

    def on(self, value: float) -> float:
        return math.log10(value) if self.log else value

    def edges(self) -> list[float]:
        """The values between which each colour stands, one more than colours."""
        low, high = self.on(self.low), self.on(self.high)
        steps = [low + (high - low) * step / LEVELS for step in range(LEVELS + 1)]
        return [10**step for step in steps] if self.log else steps

    def ink(self, level: int) -> str:
        """Black or white, whichever is legible on the colour."""
        red, green, blue = (int(self.colours[level][i : i + 2], 16) for i in (1, 3, 5))
        return _LIGHT if 0.299 * red + 0.587 * green + 0.114 * blue < 120 else _DARK


def plot_heatmap(heatmap: Heatmap) -> Sheet:
    """Cells in colours with their scale; rows run downward, as in the table."""
    rows, columns = len(heatmap.rows), len(heatmap.columns)
    row_names, every_row = _names(heatmap.rows, 44)
    column_names, every_column = _names(heatmap.columns, 24)
    turned = room(column_names, SMALL) * len(column_names) > 4.5
    label = textwrap.wrap(short(heatmap.y_label, 60), 32)
    left = 0.2 + room(row_names, SMALL) + 0.17 * len(label)
    foot = 0.45 + (0.75 * room(column_names, SMALL) if turned else 0.17)
    key = _key(heatmap)
    head = 0.08 + 0.2 * bool(key)
    # Cells of whole points have short coordinates.
    cell = 19 if rows <= 12 else 14 if rows <= 20 else max(4, min(11, 580 // rows))
    height = max(80, cell * rows) / 72
    width = max(1, int((WIDTH - left - 1.05) * 72 / max(columns, 1))) * max(columns, 1) / 72
    sheet = Sheet(head + height + foot)
    top = sheet.height - height - foot
    axes = sheet.axes(left=left, right=WIDTH - left - width, top=top, bottom=foot, spines=_FRAME)
    scale = _scale(heatmap)
    if scale is not None:
        _fill(axes, heatmap, scale)
        start = left + width + 0.1
        bar = sheet.axes(left=start, right=WIDTH - start - 0.15, top=top, bottom=foot, spines=_FRAME)
        _bar(sheet, bar, scale, short(heatmap.value_label, 44))
    _marks(axes, heatmap, scale)
    axes.set_xlim(0, max(columns, 1))
    axes.set_ylim(max(rows, 1), 0)
    at_columns = {every_column * i + 0.5: name for i, name in enumerate(column_names)}
    label_axis(sheet, axes, "bottom", short(heatmap.x_label, 80), at_columns, turned=turned, size=SMALL)
    at_rows = {every_row * i + 0.5: name for i, name in enumerate(row_names)}
    label_axis(sheet, axes, "left", "\n".join(label), at_rows, size=SMALL)
    if key:
        sheet.write(sheet.box(axes)[0], 14, key, Style(SMALL, "start"))
    if _written(heatmap) and scale is not None:
        for row, column, value in _cells(heatmap):
            level = scale.level(value)
            if level is not None:
                x, y = sheet.place(axes, column + 0.5, row + 0.5)
                sheet.write(x, y + 2.7, number(value), Style(7.5, colour=scale.ink(level)))
    return sheet


def merged(levels: Sequence[Sequence[int | None]]) -> dict[int, list[Rectangle]]:
    """Level -> rectangles that cover its cells: runs along rows, joined where rows repeat them.

    Args:
        levels: levels[row][column]; None is covered by nothing.
    """
    found: dict[int, list[Rectangle]] = {}
    since: dict[tuple[int, int, int], int] = {}
    for row in range(len(levels) + 1):
        runs = set(_runs(levels[row])) if row < len(levels) else set()
        for run in [run for run in since if run not in runs]:
            level, start, stop = run
            found.setdefault(level, []).append((start, since.pop(run), stop, row))
        for run in runs:
            since.setdefault(run, row)
    return {level: sorted(found[level]) for level in sorted(found)}


def _runs(row: Sequence[int | None]) -> Iterable[tuple[int, int, int]]:
    """(level, start, stop) of each run."""
    start = 0
    for stop in range(1, len(row) + 1):
        if stop == len(row) or row[stop] != row[start]:
            level = row[start]
            if level is not None:
                yield level, start, stop
            start = stop


def _names(names: Sequence[str], most: int) -> tuple[list[str], int]:
    """The axis names to write, and their step (1, 2, 5, 10, ...) where not all fit."""
    every = next(step for step in (1, 2, 5, 10, 20, 50, 100, len(names) + 1) if len(names) <= most * step)
    return [short(name, 24) for name in names[::every]], every


def _scale(heatmap: Heatmap) -> _Scale | None:
    """The map's scale; None where no cell has a place on it."""
    import matplotlib
    from matplotlib.colors import to_hex

    log = heatmap.scale == "log"
    values = [value for row in heatmap.values for value in row if value is not None and not (log and value <= 0)]
    if not values:
        return None
    low, high = min(values), max(values)
    if heatmap.scale == "centred":
        high = max(abs(low), abs(high)) or 1.0
        low = -high
    elif low == high and log:
        low, high = low / 10, high * 10
    elif low == high:
        low, high = low - (abs(low) or 1.0) / 2, high + (abs(high) or 1.0) / 2
    if not math.isfinite(high - low):
        raise ValueError("the values are too far apart to be drawn")
    colours = matplotlib.colormaps["RdBu_r" if heatmap.scale == "centred" else "cividis"]
    # The ends of RdBu are too dark to carry a mark.
    span = (0.06, 0.94) if heatmap.scale == "centred" else (0.0, 1.0)
    shares = [span[0] + (span[1] - span[0]) * step / (LEVELS - 1) for step in range(LEVELS)]
    return _Scale(low, high, log, tuple(to_hex(colours(share)) for share in shares))


def _fill(axes: Axes, heatmap: Heatmap, scale: _Scale) -> None:
    levels = [[scale.level(value) for value in row] for row in heatmap.values]
    for level, rectangles in merged(levels).items():
        axes.add_artist(_boxes(rectangles, facecolor=scale.colours[level], edgecolor="none", gid=CRISP))
    struck: dict[str, list[tuple[float, float]]] = {_LIGHT: [], _DARK: []}
    for row, column, value in _cells(heatmap):
        level_of = scale.level(value)
        if heatmap.scale == "centred" and value is not None and value < 0 and level_of is not None:
            struck[scale.ink(level_of)].append((column, row))
    if _written(heatmap):
        return
    for ink, places in struck.items():
        _strokes(axes, places, [((0.3, 0.75), (0.7, 0.25))], ink, 0.7)


def _marks(axes: Axes, heatmap: Heatmap, scale: _Scale | None) -> None:
    """Draw the marks that are no colours: cells without a value, values off a logarithmic scale, frames."""
    crossed = [(column, row) for row, column, value in _cells(heatmap) if value is None]
    _strokes(axes, crossed, [((0.25, 0.25), (0.75, 0.75)), ((0.25, 0.75), (0.75, 0.25))], INK, 0.6)
    if heatmap.scale == "log":
        barred = [(column, row) for row, column, value in _cells(heatmap) if value is not None and value <= 0]
        _strokes(axes, barred, [((0.25, 0.5), (0.75, 0.5))], INK, 0.9)
    frames = [(column, row, column + 1, row + 1) for row, column in heatmap.outlined]
    if frames:
        for colour, width in ((_LIGHT, 3.0), (_DARK, 1.4)):  # seen on dark and on light cells
            axes.add_artist(_boxes(frames, facecolor="none", edgecolor=colour, linewidth=width))


def _key(heatmap: Heatmap) -> str:
    """What the marks mean, as far as the map has them."""
    values = [value for row in heatmap.values for value in row]
    measured = [value for value in values if value is not None]
    said = [
        ("× not measured", len(measured) < len(values)),
        ("⁄ below 0", heatmap.scale == "centred" and not _written(heatmap) and min(measured, default=0) < 0),
        ("– not above 0, so not on this scale", heatmap.scale == "log" and min(measured, default=1) <= 0),
        ("□ outlined", bool(heatmap.outlined)),
    ]
    return " · ".join(text for text, there in said if there)


def _bar(sheet: Sheet, axes: Axes, scale: _Scale, label: str) -> None:
    edges = scale.edges()
    for level, colour in enumerate(scale.colours):
        box = (0.0, edges[level], 1.0, edges[level + 1])
        axes.add_artist(_boxes([box], facecolor=colour, edgecolor="none", gid=CRISP))
    if scale.log:
        logarithmic(axes)
    axes.set_xlim(0, 1)
    axes.set_ylim(edges[0], edges[-1])
    label_axis(sheet, axes, "right", "\n".join(textwrap.wrap(label, 26)), size=SMALL)


def _written(heatmap: Heatmap) -> bool:
    return len(heatmap.columns) <= 12 and len(heatmap.rows) * len(heatmap.columns) <= _WRITTEN


def _cells(heatmap: Heatmap) -> Iterable[tuple[int, int, Number]]:
    return ((i, j, value) for i, row in enumerate(heatmap.values) for j, value in enumerate(row))


def _boxes(rectangles: Sequence[Rectangle], **style: Any) -> PathPatch:
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    corners: list[tuple[float, float]] = []
    for left, top, right, bottom in rectangles:
        corners += [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
    codes = [Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY] * len(rectangles)
    return PathPatch(Path(corners, codes), **style)


def _strokes(
    axes: Axes,
    places: Sequence[tuple[float, float]],
    lines: Sequence[tuple[tuple[float, float], tuple[float, float]]],
    colour: str,
    width: float,
) -> None:
    """The same lines in each of the cells (column, row), as one path."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    if places:
        ends = [(x + dx, y + dy) for x, y in places for line in lines for dx, dy in line]
        codes = [Path.MOVETO, Path.LINETO] * (len(ends) // 2)
        axes.add_artist(PathPatch(Path(ends, codes), facecolor="none", edgecolor=colour, linewidth=width))
