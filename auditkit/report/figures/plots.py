"""Drawings of a claim's numbers: curves, dots by name, points, overlapping sets.

A reader may have no colour, so what a colour says is said by a dash pattern, a marker or a word as well.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from itertools import groupby

from auditkit.record.figures import Curves, Dot, Dots, Intersection, Number, Points, Series, Sets
from auditkit.report.figures.scales import Span, covering, known
from auditkit.report.figures.sheet import REFERENCE, SMALL, WIDTH, Axes, Sheet, boxes, label_axis, room, short
from auditkit.report.figures.svg import INK, Pen, Place, Style

# Distinguishable with colour-vision deficiency and at least 3:1 against both page backgrounds; the dash
# pattern carries the same information in black and white.
_COLOURS = ("#0b7bc1", "#c2570c", "#2e8b57", "#9a63d9", "#8a7a1c", "#c44a7f")
_DASHES: tuple[tuple[float, ...], ...] = ((), (8, 3), (1.5, 2.5), (9.5, 3, 1.5, 3))
_MARKERS = ("o", "x", "^", "+")
_FAINT = "#9098a0"
_LINE = 1.6
"""Width of a line that shows values, in points."""
_DOTTED = 16
"""Values up to which each place of a line has a dot: more of them run together, and are bytes that show nothing."""
_TOP, _ROW, _FOOT = 4, 15, 37
"""Points above rows of dots, of a row, and below."""
MOST_INTERSECTIONS = 24
"""So many intersections of sets are drawn, the largest; the table holds all."""


def plot_curves(curves: Curves) -> Sheet:
    """Lines with their intervals as bands."""
    label = textwrap.wrap(short(curves.y_label, 76), 38)
    names = [short(series.name, 40) for series in curves.series]
    keys = _key_rows(names) if len(names) > 1 else []
    head = 8 + 13 * bool(curves.bands) + 14 * len(keys)
    spans = [(band.start - 0.5, band.stop + 0.5) for band in curves.bands]
    x = covering((v for some in (*(s.x for s in curves.series), *spans) for v in some), margin=0.015)
    columns = [column for series in curves.series for column in (series.y, series.lower, series.upper)]
    y = covering([*(v for column in columns for v in column), curves.reference], log=curves.log)
    sheet = Sheet(2.9 + head / 72)
    axes = sheet.axes(x, y, left=0.62 + 0.17 * len(label), right=0.1, top=head / 72, bottom=0.52)
    shaded = [(axes.across(start), axes.top, axes.across(stop), axes.bottom) for start, stop in spans]
    sheet.draw(boxes(shaded), Pen(alpha=0.09, filled=True), closed=True, layer=0)
    for index, series in enumerate(curves.series):
        colour = _COLOURS[index % len(_COLOURS)]
        sheet.draw(_areas(axes, series), Pen(colour, alpha=0.2, filled=True), closed=True, layer=0)
    if curves.reference is not None and not (curves.log and curves.reference <= 0):
        sheet.draw([_level(axes, curves.reference)], REFERENCE)
    for index, series in enumerate(curves.series):
        runs = _runs(axes, series)
        sheet.draw(runs, _pen(index))
        sheet.dots(
            (place for run in runs if len(run) <= _DOTTED for place in run), _COLOURS[index % len(_COLOURS)], 4
        )
    label_axis(sheet, axes, "bottom", short(curves.x_label, 90), whole=curves.whole)
    label_axis(sheet, axes, "left", "\n".join(label), grid=True)
    for band in curves.bands:
        middle = axes.across((band.start + band.stop) / 2)
        sheet.write(middle, axes.top - 4, short(band.name, 30), Style(SMALL))
    for row, keyed in enumerate(keys):
        for index, start in keyed:
            left, down = axes.left + start, 10 + 14 * row
            sheet.draw([[(left, down), (left + 24, down)]], _pen(index))
            sheet.write(left + 28, down + 0.35 * SMALL, names[index], Style(SMALL, "start"))
    return sheet


def _pen(index: int) -> Pen:
    return Pen(_COLOURS[index % len(_COLOURS)], _LINE, _DASHES[index % len(_DASHES)])


def _level(axes: Axes, value: float) -> list[Place]:
    return [(axes.left, axes.down(value)), (axes.right, axes.down(value))]


def _upright(axes: Axes, value: float) -> list[Place]:
    return [(axes.across(value), axes.top), (axes.across(value), axes.bottom)]


def _runs(axes: Axes, series: Series) -> list[list[Place]]:
    """The places of a line, broken where a value is missing or has no logarithm."""
    pairs = [(x, y) for x, y in zip(series.x, series.y, strict=True)]
    measured = groupby(pairs, lambda pair: known(pair[1]) and not (axes.y.log and pair[1] <= 0))
    return [[axes.at(x, y) for x, y in run if y is not None] for there, run in measured if there]


def _areas(axes: Axes, series: Series) -> list[list[Place]]:
    """The intervals around a line: an area for each run of them, as wide as a dot where one stands alone."""
    rows = list(zip(series.x, series.lower, series.upper, strict=True))
    found = []
    for there, run in groupby(rows, lambda row: known(row[1]) and known(row[2])):
        ends = [(axes.at(x, up), axes.at(x, low)) for x, low, up in run if low is not None and up is not None]
        if not there:
            continue
        if len(ends) == 1:
            [((x, top), (_, bottom))] = ends
            found += boxes([(x - 2, top, x + 2, bottom)])
        else:
            found.append([up for up, _ in ends] + [low for _, low in reversed(ends)])
    return found


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


def plot_dots(dots: Dots) -> Sheet:
    """One row per estimate: a dot with a whisker, group by group under its heading."""
    rows: list[tuple[str, Dot | None]] = []
    for group in dots.groups:
        rows += [(short(group.name, 40), None)] if group.name else []
        rows += [(short(dot.name, 40), dot) for dot in group.dots]
    names = [name for name, _ in rows] or ["nothing to draw"]
    shown = [(place, dot) for place, (_, dot) in enumerate(rows) if dot is not None]
    values: list[Number] = [v for _, dot in shown for v in (dot.estimate, dot.lower, dot.upper, *dot.spread)]
    x, y = covering([*values, dots.reference]), Span(len(names) - 0.5, -0.5)
    sheet = Sheet((_TOP + _ROW * len(names) + _FOOT) / 72)
    left = 0.15 + room(names, SMALL)
    axes = sheet.axes(x, y, left=left, right=0.2, top=_TOP / 72, bottom=_FOOT / 72, spines=["bottom"])
    _spreads(sheet, axes, [(place, dot.spread) for place, dot in shown if dot.spread])
    whiskers = [
        [axes.at(d.lower, place), axes.at(d.upper, place)]
        for place, d in shown
        if known(d.lower) and known(d.upper)
    ]
    sheet.draw(whiskers, Pen(_COLOURS[0], _LINE))
    sheet.dots((axes.at(dot.estimate, place) for place, dot in shown if known(dot.estimate)), _COLOURS[0], 6)
    if dots.reference is not None:
        sheet.draw([_upright(axes, dots.reference)], REFERENCE)
    headings = [place for place, (_, dot) in enumerate(rows) if dot is None]
    label_axis(sheet, axes, "left", "", dict(enumerate(names)), grid=True, bold=headings, size=SMALL)
    label_axis(sheet, axes, "bottom", short(dots.x_label, 90), grid=True)
    for place, dot in shown:
        if not known(dot.estimate):
            sheet.write(axes.left + 4, axes.down(place) + 0.35 * SMALL, "not measured", Style(SMALL, "start"))
    return sheet


def _spreads(sheet: Sheet, axes: Axes, spreads: Sequence[tuple[int, Sequence[float]]]) -> None:
    """Distributions behind dots: a broad band holds the middle half of the values, a narrow one four fifths."""
    bands: dict[float, list[list[Place]]] = {4: [], 11: []}
    middles = []
    for place, (lowest, lower, middle, upper, highest) in spreads:
        bands[4].append([axes.at(lowest, place), axes.at(highest, place)])
        bands[11].append([axes.at(lower, place), axes.at(upper, place)])
        x, down = axes.at(middle, place)
        middles.append([(x, down - 5.5), (x, down + 5.5)])
    for width, lines in bands.items():
        sheet.draw(lines, Pen(_COLOURS[0], width, alpha=0.3))
    sheet.draw(middles, Pen(width=1))


def plot_points(points: Points) -> Sheet:
    """A mark per item; kinds differ in shape as well as in colour."""
    names = [short(cloud.name, 40) for cloud in points.clouds]
    keys = _key_rows(names)
    head = 8 + 14 * len(keys)
    x = covering(value for cloud in points.clouds for value in cloud.x)
    y = covering(value for cloud in points.clouds for value in cloud.y)
    sheet = Sheet(3.4 + head / 72)
    axes = sheet.axes(x, y, left=0.79, right=0.1, top=head / 72, bottom=0.52)
    for index, cloud in enumerate(points.clouds):
        _markers(sheet, [axes.at(a, b) for a, b in zip(cloud.x, cloud.y, strict=True)], index, 2)
    label_axis(sheet, axes, "bottom", short(points.x_label, 90))
    label_axis(sheet, axes, "left", short(points.y_label, 38))
    for row, keyed in enumerate(keys):
        for index, start in keyed:
            left, down = axes.left + start, 10 + 14 * row
            _markers(sheet, [(left + 18, down)], index, 2.5)
            sheet.write(left + 28, down + 0.35 * SMALL, names[index], Style(SMALL, "start"))
    return sheet


def _markers(sheet: Sheet, places: Iterable[Place], index: int, half: float) -> None:
    """The mark of a kind at each place, twice `half` points wide."""
    colour, shape = _COLOURS[index % len(_COLOURS)], _MARKERS[index % len(_MARKERS)]
    if shape == "o":
        sheet.dots(places, colour, 2 * half + 1)
        return
    shapes: dict[str, list[list[Place]]] = {
        "x": [[(-half, -half), (half, half)], [(-half, half), (half, -half)]],
        "+": [[(-half, 0), (half, 0)], [(0, -half), (0, half)]],
        "^": [[(-half, half), (0, -half), (half, half), (-half, half)]],
    }
    moved = [[(x + a, y + b) for a, b in line] for x, y in places for line in shapes[shape]]
    sheet.draw(moved, Pen(colour, 1))


def plot_sets(sets: Sets) -> Sheet:
    """An UpSet plot: a column per intersection, its size above, the sets that share it below; left the whole sets."""
    parts = sorted(sets.intersections, key=lambda part: (-part.size, list(part.members)))[:MOST_INTERSECTIONS]
    names = [short(name, 32) for name in sets.names]
    below = 0.1 + 0.24 * max(len(names), 1)
    foot, left = 0.5, 1.65 + room(names, SMALL)
    sheet = Sheet(2.25 + below + foot)
    columns = Span(-0.6, max(len(parts), 1) - 0.4)
    expected = [(place, part.expected) for place, part in enumerate(parts) if known(part.expected)]
    highest = covering([0.0, *(part.size for part in parts), *(value for _, value in expected)])
    sizes = Span(0.0, highest.high)
    above = sheet.axes(columns, sizes, left=left, right=0.1, top=0.3, bottom=below + foot)
    bars = [
        (above.across(place - 0.31), above.down(part.size), above.across(place + 0.31), above.bottom)
        for place, part in enumerate(parts)
    ]
    sheet.draw(boxes(bars), Pen(_COLOURS[0], filled=True), closed=True)
    if expected:
        centres = [above.at(place, value) for place, value in expected]
        sheet.draw([[(x - 7.5, y), (x + 7.5, y)] for x, y in centres], Pen(width=2))
        sheet.draw([[(WIDTH * 72 - 112, 10), (WIDTH * 72 - 98, 10)]], Pen(width=2))
        sheet.write(WIDTH * 72 - 94, 13, "expected by chance", Style(SMALL, "start"))
    label_axis(sheet, above, "left", short(sets.element, 28), whole=True)
    for place, part in enumerate(parts):
        x, y = above.at(place, part.size)
        sheet.write(x, y - 3, f"{part.size}", Style(SMALL))
    rows, top = Span(max(len(names), 1) - 0.5, -0.5), sheet.height - below - foot
    matrix = sheet.axes(columns, rows, left=left, right=0.1, top=top, bottom=foot, spines=[])
    _memberships(sheet, matrix, len(names), parts)
    label_axis(sheet, matrix, "left", "", dict(enumerate(names)), size=SMALL)
    longest = Span(covering([0.0, *sets.sizes]).high, 0.0)
    whole = sheet.axes(longest, rows, left=0.15, right=WIDTH - 1.45, top=top, bottom=foot, spines=["bottom"])
    lengths = [
        (whole.across(size), whole.down(row - 0.3), whole.right, whole.down(row + 0.3))
        for row, size in enumerate(sets.sizes)
    ]
    sheet.draw(boxes(lengths), Pen(_COLOURS[0], filled=True), closed=True)
    label_axis(sheet, whole, "bottom", f"{short(sets.element, 14)} in all", size=SMALL, whole=True)
    return sheet


def _memberships(sheet: Sheet, axes: Axes, sets: int, parts: Sequence[Intersection]) -> None:
    """A column per intersection: black dots for the sets that it lies in, grey for the others."""
    inside = {(x, y) for x, part in enumerate(parts) for y in part.members}
    outside = {(x, y) for x in range(len(parts)) for y in range(sets)} - inside
    sheet.dots((axes.at(*place) for place in sorted(outside)), _FAINT, 7)
    sheet.dots((axes.at(*place) for place in sorted(inside)), INK, 7)
    linked = [(x, min(part.members), max(part.members)) for x, part in enumerate(parts) if part.members]
    sheet.draw([[axes.at(x, first), axes.at(x, last)] for x, first, last in linked], Pen(width=1.5))
