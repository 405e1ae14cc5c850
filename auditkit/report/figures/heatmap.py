"""Heat maps: one path per colour, so that a map of a thousand cells stays small and stays vector.

Colours fall into levels; neighbours of one level are one stroke as broad as a row, and all strokes of a level one path
in units of a cell. What colour says is said without it too: a cell below 0 on the centred scale is struck through, a
cell without a value is crossed, and small maps carry their numbers. The linear scale runs from dark to bright without
turning, so it keeps its order in black and white.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from auditkit.record.figures import Heatmap, Number
from auditkit.report.figures.numbers import number
from auditkit.report.figures.scales import Span, covering, known
from auditkit.report.figures.sheet import SMALL, WIDTH, Axes, Sheet, Spine, boxes, label_axis, room, short
from auditkit.report.figures.svg import Pen, Place, Style

PALETTES = {
    "centred": (
        "#15508d #1f63a8 #2c75b4 #3885bc #4695c4 #65a9cf #81bad8 #9dcbe1 #b3d6e8 #cae1ee #dbeaf2 #e9f0f4 #f6f7f7 "
        "#f9ede5 #fbe3d4 #fcd5bf #f9c2a7 #f6af8e #ee9677 #e37e64 #d7634f #cb4942 #be3036 #ae172a #930e26"
    ),
    "linear": (
        "#00224e #002a5f #003170 #1a386f #2a3f6d #38476c #434e6c #4d556c #575d6d #61656f #6a6c71 #737475 #7d7c78 "
        "#868379 #918b78 #9b9476 #a59c74 #b0a571 #bcae6c #c6b667 #d2c060 #dec958 #e9d34e #f6dd3f #fee838"
    ),
}
"""ColorBrewer's RdBu (Harrower & Brewer 2003), turned round and without its ends, which are too dark to carry a mark;
and cividis (Nuñez, Anderton & Renslow 2018, doi:10.1371/journal.pone.0199239)."""
LEVELS = 25
"""Colours of a palette; odd, so that 0 has a colour of its own on the centred scale."""
_WRITTEN = 130
"""Maps of at most so many cells, and twelve columns, carry their numbers."""
_FRAME: tuple[Spine, ...] = ("left", "right", "top", "bottom")
_LIGHT, _DARK = _INKS = ("#ffffff", "#101010")


@dataclass(frozen=True)
class _Colours:
    """From values to levels of colour."""

    scale: Span
    colours: Sequence[str]

    def level(self, value: Number) -> int | None:
        """Index of the value's colour; None where it has none."""
        if not known(value) or (self.scale.log and value <= 0):
            return None
        return min(LEVELS - 1, int(self.scale.share(value) * LEVELS))

    def ink(self, level: int) -> str:
        """Black or white, whichever is legible on the colour."""
        red, green, blue = (int(self.colours[level][i : i + 2], 16) for i in (1, 3, 5))
        return _LIGHT if 0.299 * red + 0.587 * green + 0.114 * blue < 120 else _DARK


def palette(heatmap: Heatmap) -> str:
    """The name of a map's colours."""
    return "centred" if heatmap.scale == "centred" else "linear"


def bar(name: str, identifier: str) -> str:
    """The colours of a palette one above the other, as a shape one wide and one high."""
    rows = "".join(
        f'<path d="M0 {LEVELS - 1 - level}h1v1H0z" fill="{colour}"/>'
        for level, colour in enumerate(PALETTES[name].split())
    )
    return f'<g id="{identifier}" shape-rendering="crispEdges">{rows}</g>'


def plot_heatmap(heatmap: Heatmap, bar_of: str) -> Sheet:
    """Cells in colours with their scale; rows run downward, as in the table.

    Args:
        bar_of: identifier of the shape that shows the map's colours (`bar`).
    """
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
    top, right = sheet.height - height - foot, WIDTH - left - width
    across, down = Span(0, max(columns, 1)), Span(max(rows, 1), 0)
    axes = sheet.axes(across, down, left=left, right=right, top=top, bottom=foot, spines=_FRAME)
    colours = _colours(heatmap)
    if colours is not None:
        _fill(sheet, axes, heatmap, colours)
    _marks(sheet, axes, heatmap)
    if colours is not None:
        start = left + width + 0.1
        beside = sheet.axes(
            Span(0, 1), colours.scale, left=start, right=WIDTH - start - 0.15, top=top, bottom=foot, spines=_FRAME
        )
        each = (beside.bottom - beside.top) / LEVELS
        sheet.copy(bar_of, (beside.left, beside.top, beside.right - beside.left, each))
        value_label = "\n".join(textwrap.wrap(short(heatmap.value_label, 44), 26))
        label_axis(sheet, beside, "right", value_label, size=SMALL)
    at_columns = {every_column * i + 0.5: name for i, name in enumerate(column_names)}
    label_axis(sheet, axes, "bottom", short(heatmap.x_label, 80), at_columns, turned=turned, size=SMALL)
    at_rows = {every_row * i + 0.5: name for i, name in enumerate(row_names)}
    label_axis(sheet, axes, "left", "\n".join(label), at_rows, size=SMALL)
    sheet.write(axes.left, 14, key, Style(SMALL, "start"))
    return sheet


def runs(levels: Sequence[Number | int]) -> Iterable[tuple[int, int, int]]:
    """(level, start, stop) of each run of neighbours in a row; None is part of none."""
    start = 0
    for stop in range(1, len(levels) + 1):
        if stop == len(levels) or levels[stop] != levels[start]:
            level = levels[start]
            if level is not None:
                yield int(level), start, stop
            start = stop


def _names(names: Sequence[str], most: int) -> tuple[list[str], int]:
    """The axis names to write, and their step (1, 2, 5, 10, ...) where not all fit."""
    every = next(step for step in (1, 2, 5, 10, 20, 50, 100, len(names) + 1) if len(names) <= most * step)
    return [short(name, 24) for name in names[::every]], every


def _colours(heatmap: Heatmap) -> _Colours | None:
    """The map's colours; None where no cell has one."""
    log = heatmap.scale == "log"
    values = [v for row in heatmap.values for v in row if known(v) and not (log and v <= 0)]
    if not values:
        return None
    if heatmap.scale == "centred":
        most = max(map(abs, values)) or 1.0
        scale = covering([-most, most], margin=0)
    else:
        scale = covering(values, margin=0, log=log)
    return _Colours(scale, PALETTES[palette(heatmap)].split())


def _fill(sheet: Sheet, axes: Axes, heatmap: Heatmap, colours: _Colours) -> None:
    """Colour the cells; strike what is below 0, or write the numbers."""
    found: dict[int, list[tuple[int, int, int]]] = {}
    for row, values in enumerate(heatmap.values):
        for level, start, stop in runs([colours.level(value) for value in values]):
            found.setdefault(level, []).append((start, row, stop - start))
    size = (
        (axes.right - axes.left) / max(len(heatmap.columns), 1),
        (axes.bottom - axes.top) / max(len(heatmap.rows), 1),
    )
    sheet.cells((axes.left, axes.top), size, {colours.colours[level]: found[level] for level in sorted(found)})
    struck: dict[str, list[tuple[int, int, int]]] = {}
    for row, values in enumerate(heatmap.values):
        levels = [colours.level(value) for value in values]
        if _written(heatmap):
            _numbers(sheet, axes, row, values, [None if level is None else colours.ink(level) for level in levels])
        elif heatmap.scale == "centred":
            below = [
                None if level is None or value is None or value >= 0 else _INKS.index(colours.ink(level))
                for level, value in zip(levels, values, strict=True)
            ]
            for ink, start, stop in runs(below):
                struck.setdefault(_INKS[ink], []).append((start, row, stop - start))
    if struck:
        sheet.strikes((axes.left, axes.top), size, struck)


def _numbers(sheet: Sheet, axes: Axes, row: int, values: Sequence[Number], inks: Sequence[str | None]) -> None:
    """Write the numbers of a row into its cells, each in a colour that is legible there."""
    for column, (value, ink) in enumerate(zip(values, inks, strict=True)):
        if ink is not None:
            x, y = axes.at(column + 0.5, row + 0.5)
            sheet.write(x, y + 2.7, number(value), Style(7.5, colour=ink))


def _marks(sheet: Sheet, axes: Axes, heatmap: Heatmap) -> None:
    """Draw the marks that are no colours: cells without a value, values off a logarithmic scale, frames."""
    crossed = [(column, row) for row, column, value in _cells(heatmap) if not known(value)]
    _strokes(sheet, axes, crossed, [((0.25, 0.25), (0.75, 0.75)), ((0.25, 0.75), (0.75, 0.25))], Pen())
    if heatmap.scale == "log":
        barred = [(column, row) for row, column, value in _cells(heatmap) if known(value) and value <= 0]
        _strokes(sheet, axes, barred, [((0.25, 0.5), (0.75, 0.5))], Pen(width=0.9))
    frames = [(*axes.at(column, row), *axes.at(column + 1, row + 1)) for row, column in sorted(heatmap.outlined)]
    sheet.frame(boxes(frames), Pen(_LIGHT, 3.0), Pen(_DARK, 1.4))


def _key(heatmap: Heatmap) -> str:
    """What the marks mean, as far as the map has them."""
    values = [value for row in heatmap.values for value in row]
    measured = [value for value in values if known(value)]
    said = [
        ("× not measured", len(measured) < len(values)),
        ("⁄ below 0", heatmap.scale == "centred" and not _written(heatmap) and min(measured, default=0) < 0),
        ("– not above 0, so not on this scale", heatmap.scale == "log" and min(measured, default=1) <= 0),
        ("□ outlined", bool(heatmap.outlined)),
    ]
    return " · ".join(text for text, there in said if there)


def _written(heatmap: Heatmap) -> bool:
    return len(heatmap.columns) <= 12 and len(heatmap.rows) * len(heatmap.columns) <= _WRITTEN


def _cells(heatmap: Heatmap) -> Iterable[tuple[int, int, Number]]:
    return ((i, j, value) for i, row in enumerate(heatmap.values) for j, value in enumerate(row))


def _strokes(
    sheet: Sheet, axes: Axes, places: Sequence[Place], lines: Sequence[tuple[Place, Place]], pen: Pen
) -> None:
    """Draw the same lines in each of the cells (column, row)."""
    sheet.draw([[axes.at(x + dx, y + dy) for dx, dy in line] for x, y in places for line in lines], pen)
