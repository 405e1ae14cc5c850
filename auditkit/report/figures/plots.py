"""Drawings of a claim's numbers by matplotlib, without a display: curves, dots by name, points, overlapping sets.

A reader may have no colour, so what a colour says is said by a dash pattern, a marker or a word as well.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from auditkit.record.figures import Curves, Dot, Dots, Intersection, Number, Points, Series, Sets
from auditkit.report.figures.sheet import (
    NOTHING,
    REFERENCE,
    SMALL,
    WIDTH,
    Sheet,
    label_axis,
    logarithmic,
    room,
    short,
)
from auditkit.report.figures.svg import INK, Style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Dash = Literal["-"] | tuple[int, tuple[float, ...]]

# Distinguishable with colour-vision deficiency and at least 3:1 against both page backgrounds; the dash
# pattern carries the same information in black and white.
_COLOURS = ("#0b7bc1", "#c2570c", "#2e8b57", "#9a63d9", "#8a7a1c", "#c44a7f")
_DASHES: tuple[Dash, ...] = (
    "-",
    (0, (5, 2)),
    (0, (1, 1.5)),
    (0, (6, 2, 1, 2)),
)
_MARKERS = ("o", "x", "^", "+")
_FAINT = "#9098a0"
MOST_INTERSECTIONS = 24
"""So many intersections of sets are drawn, the largest; the table holds all."""


def plot_curves(curves: Curves) -> Sheet:
    """Lines with their intervals as bands."""
    from matplotlib.ticker import MaxNLocator

    label = textwrap.wrap(short(curves.y_label, 76), 38)
    names = [short(series.name, 40) for series in curves.series]
    keys = _key_rows(names) if len(names) > 1 else []
    head = 8 + 13 * bool(curves.bands) + 14 * len(keys)
    sheet = Sheet(2.9 + head / 72)
    axes = sheet.axes(left=0.62 + 0.17 * len(label), right=0.1, top=head / 72, bottom=0.52)
    for band in curves.bands:
        axes.axvspan(band.start - 0.5, band.stop + 0.5, color=INK, alpha=0.09, linewidth=0)
    if curves.reference is not None:
        axes.axhline(curves.reference, **REFERENCE)
    for index, series in enumerate(curves.series):
        _line(axes, series, _COLOURS[index % len(_COLOURS)], _DASHES[index % len(_DASHES)])
    axes.margins(x=0.015)
    if curves.log:
        logarithmic(axes)
    if curves.whole:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    label_axis(sheet, axes, "bottom", short(curves.x_label, 90))
    label_axis(sheet, axes, "left", "\n".join(label), grid=True)
    left, top, _, _ = sheet.box(axes)
    for band in curves.bands:
        x, _ = sheet.place(axes, (band.start + band.stop) / 2, axes.get_ylim()[0])
        sheet.write(x, top - 4, short(band.name, 30), Style(SMALL))
    for row, keyed in enumerate(keys):
        for index, start in keyed:
            _sample(sheet, left + start, 10 + 14 * row, names[index], index)
    return sheet


def _key_rows(names: list[str]) -> list[list[tuple[int, float]]]:
    """Rows of the key: (index of the series, where its sample starts), as many as fit."""
    rows: list[list[tuple[int, float]]] = [[]]
    start = 0.0
    for index, name in enumerate(names):
        takes = 40 + 72 * room([name], SMALL)
        if rows[-1] and start + takes > 72 * (WIDTH - 0.9):
            rows.append([])
            start = 0.0
        rows[-1].append((index, start))
        start += takes
    return rows


def _sample(sheet: Sheet, x: float, y: float, name: str, index: int) -> None:
    from matplotlib.lines import Line2D

    colour, dash = _COLOURS[index % len(_COLOURS)], _DASHES[index % len(_DASHES)]
    line = Line2D([x, x + 24], [y, y], color=colour, linestyle=dash, linewidth=1.6, transform=sheet.points)
    sheet.figure.add_artist(line)
    sheet.write(x + 28, y + 0.35 * SMALL, name, Style(SMALL, "start"))


def _line(axes: Axes, series: Series, colour: str, dash: Dash) -> None:
    x, y, lower, upper = (
        [NOTHING if value is None else value for value in column]
        for column in (series.x, series.y, series.lower, series.upper)
    )
    axes.fill_between(x, lower, upper, color=colour, alpha=0.2, linewidth=0)
    axes.plot(x, y, color=colour, linestyle=dash, linewidth=1.6)
    _points(axes, zip(series.x, series.y, strict=True), colour, 4)


def _points(axes: Axes, places: Iterable[tuple[float, Number]], colour: str, size: float) -> None:
    """Discs of `size` points as one path: lines of no length with round ends."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    ends = [end for x, y in places if y is not None for end in ((x, y), (x, y))]
    if ends:
        path = Path(ends, [Path.MOVETO, Path.LINETO] * (len(ends) // 2))
        looks: dict[str, Any] = {"facecolor": "none", "edgecolor": colour, "linewidth": size, "capstyle": "round"}
        axes.add_artist(PathPatch(path, zorder=3, **looks))


def plot_dots(dots: Dots) -> Sheet:
    """One row per estimate: a dot with a whisker, group by group under its heading."""
    rows: list[tuple[str, Dot | None]] = []
    for group in dots.groups:
        rows += [(short(group.name, 40), None)] if group.name else []
        rows += [(short(dot.name, 40), dot) for dot in group.dots]
    names = [name for name, _ in rows] or ["nothing to draw"]
    sheet = Sheet(0.62 + 0.21 * len(names))
    axes = sheet.axes(left=0.15 + room(names, SMALL), right=0.2, top=0.05, bottom=0.52, spines="bottom")
    shown = [(place, dot) for place, (_, dot) in enumerate(rows) if dot is not None]
    _spreads(axes, [(place, dot.spread) for place, dot in shown if dot.spread])
    with_interval = [(y, d.lower, d.upper) for y, d in shown if d.lower is not None and d.upper is not None]
    if with_interval:
        places, lower, upper = zip(*with_interval, strict=True)
        axes.hlines(places, lower, upper, color=_COLOURS[0], linewidth=1.6)
        axes.plot([*lower, *upper], [*places, *places], "|", color=_COLOURS[0], markersize=6)
    measured = [(d.estimate, y) for y, d in shown if d.estimate is not None]
    axes.update_datalim(measured or [(0, 0)])
    axes.autoscale_view()
    _points(axes, measured, _COLOURS[0], 6)
    if dots.reference is not None:
        axes.axvline(dots.reference, **REFERENCE)
    axes.set_ylim(len(names) - 0.5, -0.5)
    headings = [place for place, (_, dot) in enumerate(rows) if dot is None]
    label_axis(sheet, axes, "left", "", dict(enumerate(names)), grid=True, bold=headings, size=SMALL)
    label_axis(sheet, axes, "bottom", short(dots.x_label, 90), grid=True)
    for place, dot in shown:
        if dot.estimate is None:
            x, y = sheet.place(axes, axes.get_xlim()[0], place)
            sheet.write(x + 4, y + 0.35 * SMALL, "not measured", Style(SMALL, "start"))
    return sheet


def _spreads(axes: Axes, spreads: Sequence[tuple[int, Sequence[float]]]) -> None:
    """Distributions behind dots: a broad band holds the middle half of the values, a narrow one four fifths."""
    if not spreads:
        return
    places, quantiles = zip(*spreads, strict=True)
    lowest, lower, middle, upper, highest = zip(*quantiles, strict=True)
    axes.hlines(places, lowest, highest, color=_COLOURS[0], linewidth=4, alpha=0.3)
    axes.hlines(places, lower, upper, color=_COLOURS[0], linewidth=11, alpha=0.3)
    axes.plot(middle, places, "|", color=INK, markersize=11)


def plot_points(points: Points) -> Sheet:
    """A mark per item; kinds differ in shape as well as in colour."""
    from matplotlib.lines import Line2D

    names = [short(cloud.name, 40) for cloud in points.clouds]
    keys = _key_rows(names)
    head = 8 + 14 * len(keys)
    sheet = Sheet(3.4 + head / 72)
    axes = sheet.axes(left=0.79, right=0.1, top=head / 72, bottom=0.52)
    looks: list[dict[str, Any]] = [
        {"marker": _MARKERS[i % len(_MARKERS)], "color": _COLOURS[i % len(_COLOURS)], "linestyle": "none"}
        for i in range(len(names))
    ]
    for cloud, look in zip(points.clouds, looks, strict=True):
        axes.plot(cloud.x, cloud.y, markersize=4, **look)
    label_axis(sheet, axes, "bottom", short(points.x_label, 90))
    label_axis(sheet, axes, "left", short(points.y_label, 38))
    left, _, _, _ = sheet.box(axes)
    for row, keyed in enumerate(keys):
        for index, start in keyed:
            x, y = left + start, 10 + 14 * row
            sheet.figure.add_artist(Line2D([x + 18], [y], markersize=5, transform=sheet.points, **looks[index]))
            sheet.write(x + 28, y + 0.35 * SMALL, names[index], Style(SMALL, "start"))
    return sheet


def plot_sets(sets: Sets) -> Sheet:
    """An UpSet plot: a column per intersection, its size above, the sets that share it below; left the whole sets."""
    parts = sorted(sets.intersections, key=lambda part: (-part.size, list(part.members)))[:MOST_INTERSECTIONS]
    names = [short(name, 32) for name in sets.names]
    below = 0.1 + 0.24 * max(len(names), 1)
    bars, left = 0.5, 1.65 + room(names, SMALL)
    sheet = Sheet(2.25 + below + bars)
    above = sheet.axes(left=left, right=0.1, top=0.3, bottom=below + bars)
    places = range(len(parts))
    above.bar(places, [part.size for part in parts], width=0.62, color=_COLOURS[0])
    expected = [
        (place, part.expected) for place, part in zip(places, parts, strict=True) if part.expected is not None
    ]
    if expected:
        above.plot(*zip(*expected, strict=True), "_", color=INK, markersize=15, markeredgewidth=2)
        sheet.strokes([((WIDTH * 72 - 112, 10), (WIDTH * 72 - 98, 10))], width=2)
        sheet.write(WIDTH * 72 - 94, 13, "expected by chance", Style(SMALL, "start"))
    above.set_ylim(bottom=0)
    above.set_xlim(-0.6, max(len(parts), 1) - 0.4)
    label_axis(sheet, above, "left", short(sets.element, 28))
    for place, part in zip(places, parts, strict=True):
        x, y = sheet.place(above, place, part.size)
        sheet.write(x, y - 3, f"{part.size}", Style(SMALL))
    matrix = sheet.axes(left=left, right=0.1, top=sheet.height - below - bars, bottom=bars, spines="")
    _memberships(matrix, len(names), parts)
    label_axis(sheet, matrix, "left", "", dict(enumerate(names)), size=SMALL)

    whole = sheet.axes(
        left=0.15, right=WIDTH - 1.45, top=sheet.height - below - bars, bottom=bars, spines="bottom"
    )
    whole.barh(range(len(names)), sets.sizes, height=0.6, color=_COLOURS[0])
    whole.set_ylim(len(names) - 0.5, -0.5)
    whole.invert_xaxis()
    whole.locator_params(axis="x", nbins=3)
    label_axis(sheet, whole, "bottom", f"{short(sets.element, 14)} in all", size=SMALL)
    return sheet


def _memberships(axes: Axes, sets: int, parts: list[Intersection]) -> None:
    """A column per intersection: black dots for the sets that it lies in, grey for the others."""
    inside = {(x, y) for x, part in enumerate(parts) for y in part.members}
    outside = {(x, y) for x in range(len(parts)) for y in range(sets)} - inside
    _points(axes, sorted(outside), _FAINT, 7)
    _points(axes, sorted(inside), INK, 7)
    linked = [(x, min(part.members), max(part.members)) for x, part in enumerate(parts) if part.members]
    if linked:
        axes.vlines(*zip(*linked, strict=True), color=INK, linewidth=1.5)
    axes.set_xlim(-0.6, max(len(parts), 1) - 0.4)
    axes.set_ylim(max(sets, 1) - 0.5, -0.5)
