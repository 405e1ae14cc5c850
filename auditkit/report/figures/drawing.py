"""Figures of a claim as inline SVG, and their numbers for the table beside the drawing.

The same data give the same bytes. A figure whose data do not fit its kind costs itself and not the report.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import zip_longest
from typing import NamedTuple

from auditkit.record import escaping
from auditkit.record.figures import (
    QUANTILES,
    AnyDrawing,
    Curves,
    Dots,
    Heatmap,
    Image,
    Intersection,
    Number,
    Points,
    Sets,
    Table,
    drawing_of,
)
from auditkit.record.schema import Figure, Grid
from auditkit.report.figures.heatmap import PALETTES, bar, palette, plot_heatmap
from auditkit.report.figures.numbers import MISSING, number
from auditkit.report.figures.plots import MOST_INTERSECTIONS, plot_curves, plot_dots, plot_points, plot_sets
from auditkit.report.figures.sheet import Sheet
from auditkit.report.figures.svg import inline


class Measured(NamedTuple):
    """A value with its interval."""

    value: float
    lower: Number
    upper: Number


BARS = "bar-"
"""How the identifiers of colour scales begin, where they are those of the whole page."""

_NUMBERED = re.compile(r"([a-z]+) (\d+)(?:, |$)")

Cell = str | float | Measured | None
"""Words, a number, or nothing that could be measured; empty where nothing belongs."""


@dataclass(frozen=True)
class Numbers:
    """A table of a figure's numbers; the first column names the row."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    step: float = 0.0
    """Numbers are printed to no finer a step: the drawing's scale is thousands of them long. 0: each to its digits."""

    @property
    def of_words(self) -> tuple[bool, ...]:
        """Which columns hold words."""
        return tuple(
            any(isinstance(row[i], str) and row[i] for row in self.rows) for i in range(len(self.columns))
        )


def render_svg(figure: Figure, prefix: str, *, apart: bool = False) -> str:
    """Draw `figure`; `prefix` makes its identifiers unique within the page. Tables and images are not drawn: empty.

    Args:
        apart: title and caption stand beside the drawing, and `colour_scales` elsewhere in the page; see `svg.inline`.

    Raises:
        ValueError: the figure's data do not fit its kind, or cannot be drawn.
    """
    drawing = drawing_of(figure)
    if isinstance(drawing, Table | Image):
        return ""
    bars = BARS if apart else f"{prefix}-"
    sheet = _plot(drawing, bars)
    own = bar(palette(drawing), f"{bars}{palette(drawing)}") if isinstance(drawing, Heatmap) and not apart else ""
    return inline(
        sheet.marks,
        sheet.texts,
        sheet.size,
        prefix,
        title=escaping.document(figure.title),
        description=escaping.document(drawing.caption),
        apart=apart,
        shapes=own,
    )


def colour_scales(figures: Iterable[Figure]) -> str:
    """Definitions of what heat maps share, for a page whose figures stand apart; empty where there are none."""
    if not any(figure.kind == "heatmap" for figure in figures):
        return ""
    return "".join(bar(name, f"{BARS}{name}") for name in PALETTES)


def _plot(drawing: Curves | Heatmap | Dots | Sets | Points, bars: str) -> Sheet:
    match drawing:
        case Curves():
            return plot_curves(drawing)
        case Heatmap():
            return plot_heatmap(drawing, f"{bars}{palette(drawing)}")
        case Dots():
            return plot_dots(drawing)
        case Sets():
            return plot_sets(drawing)
        case Points():
            return plot_points(drawing)


def numbers_of(drawing: AnyDrawing) -> list[Numbers]:
    """Every number of the figure, in tables."""
    match drawing:
        case Curves():
            return [_of_curves(drawing)]
        case Heatmap():
            return [_of_heatmap(drawing)]
        case Dots():
            return [_of_dots(drawing)]
        case Table():
            return [Numbers("", tuple(drawing.columns), tuple(tuple(row) for row in drawing.rows))]
        case Sets():
            return _of_sets(drawing)
        case Points():
            return [_of_points(drawing)]
        case Image():
            return []


def _of_curves(curves: Curves) -> Numbers:
    """A row per x, a column per series; a series may have several values at one x."""
    cells: dict[tuple[float, int], dict[int, Cell]] = {}
    for index, series in enumerate(curves.series):
        times: Counter[float] = Counter()
        for x, y, lower, upper in zip(series.x, series.y, series.lower, series.upper, strict=True):
            cells.setdefault((x, times[x]), {})[index] = _with_interval(y, lower, upper)
            times[x] += 1
    rows = ((x, *(found.get(i, "") for i in range(len(curves.series)))) for (x, _), found in sorted(cells.items()))
    caption = f"{curves.y_label}, with its interval" + _reference(curves.reference)
    caption += "".join(f"; shaded: {b.name}, {number(b.start)}–{number(b.stop)}" for b in curves.bands)
    caption += "; drawn on a logarithmic scale" if curves.log else ""
    return Numbers(caption, (curves.x_label, *(series.name for series in curves.series)), tuple(rows))


def _of_heatmap(heatmap: Heatmap) -> Numbers:
    rows = [
        (name, *(_cell(heatmap, row, column) for column in range(len(heatmap.columns))))
        for row, name in enumerate(heatmap.rows)
    ]
    caption = f"{heatmap.value_label}, by {heatmap.y_label} (rows) and {heatmap.x_label} (columns)"
    outlined = [f"{heatmap.rows[row]} / {heatmap.columns[column]}" for row, column in heatmap.outlined]
    caption += f"; outlined: {', '.join(outlined)}" if outlined else ""
    sizes = [abs(value) for values in heatmap.values for value in values if value]
    step = 0.0 if heatmap.scale == "log" or not sizes else 10.0 ** (math.floor(math.log10(max(sizes))) - 3)
    return Numbers(caption, (heatmap.y_label, *heatmap.columns), tuple(rows), step)


def _cell(heatmap: Heatmap, row: int, column: int) -> Cell:
    lower, upper = (None if grid is None else grid[row][column] for grid in (heatmap.lower, heatmap.upper))
    return _with_interval(heatmap.values[row][column], lower, upper)


def _with_interval(value: Number, lower: Number, upper: Number) -> Cell:
    if value is None or (lower is None and upper is None):
        return value
    return Measured(value, lower, upper)


def text_of(cell: Cell) -> str:
    """A cell as it is printed: "0.58 [0.51, 0.65]"."""
    match cell:
        case str():
            return cell
        case Measured():
            return f"{number(cell.value)} [{number(cell.lower)}, {number(cell.upper)}]"
    return number(cell)


class Columns(NamedTuple):
    """A table as text: a line for each row, with tabs between the cells."""

    lines: str
    stop: int
    """Characters from one tab stop to the next, by the longest cell."""
    halved: bool
    """Some columns hold half the width of an interval, not its ends."""


STOPS = (8, 12, 16, 24, 32, 48)
"""Distances between tab stops that the page knows."""
HALF = "±"
"""Heading of a column that holds half the width of an interval."""
EVEN = 0.02
"""How much further an interval may reach to one side than to the other, as a share of its width, to be printed as one
number. Rounding to two digits moves its ends by more."""


def as_columns(table: Numbers) -> Columns:
    """The table as text, with numbers as a spreadsheet reads them.

    Intervals have columns of their own: one for half the width where all of a column reach as far to either side, else
    one for each end. A tab or a line break in a name becomes a blank.
    """
    ends = [_ends(row[i] for row in table.rows) for i in range(len(table.columns))]
    rows = [[part for name, own in zip(table.columns, ends, strict=True) for part in (_flat(name), *own)]]
    rows += [
        [part for cell, own in zip(row, ends, strict=True) for part in _parts(cell, len(own), table.step)]
        for row in table.rows
    ]
    longest = max((len(cell) for row in rows for cell in row), default=0)
    stop = next((stop for stop in STOPS if stop > longest), STOPS[-1])
    return Columns("\n".join("\t".join(row) for row in rows), stop, any(HALF in own for own in ends))


def _ends(cells: Iterable[Cell]) -> tuple[str, ...]:
    """Headings of the columns for a column's intervals."""
    measured = [cell for cell in cells if isinstance(cell, Measured)]
    if not measured:
        return ()
    return (HALF,) if all(map(_even, measured)) else ("lower", "upper")


def _even(cell: Measured) -> bool:
    """Whether an interval reaches as far to either side of its value, but for what rounding hides."""
    if cell.lower is None or cell.upper is None:
        return False
    above, below = cell.upper - cell.value, cell.value - cell.lower
    return above >= 0 and below >= 0 and abs(above - below) <= EVEN * (above + below)


def _parts(cell: Cell, ends: int, step: float) -> list[str]:
    """The cell as one column and as many further ones as its column has for intervals."""
    if isinstance(cell, str):
        return [_flat(cell), *[""] * ends]
    if not isinstance(cell, Measured):
        return [_plain(cell, step), *[MISSING] * ends]
    if ends == 1:
        assert cell.lower is not None
        assert cell.upper is not None
        half = max(cell.upper / 2 - cell.lower / 2, step)
        return [_to_the_digit_of(half, cell.value), _lean(f"{half:.2g}" if half < 100 else f"{half:.0f}")]
    return [_plain(value, step) for value in cell]


def _plain(value: Number, step: float = 0.0) -> str:
    """A number with as many digits as elsewhere in the report, in the signs that programs read."""
    if value is None:
        return MISSING
    if abs(value) < 10 * step:
        value = round(value / step) * step + 0.0
    return _lean(f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}")


def _to_the_digit_of(half: float, value: float) -> str:
    """The value to the last digit that stands of half its interval, and to no more digits than any other."""
    if not (0 < half < math.inf and 0 < abs(value) < 1000):
        return _plain(value)
    decimals = 1 - math.floor(math.log10(half))
    digits = min(3, max(1, math.floor(math.log10(abs(value))) + 1 + decimals))
    return _plain(round(value, decimals)) if digits == 1 else _lean(f"{value:.{digits}g}")


def _lean(text: str) -> str:
    """A number without the zero before its point, a byte of each in tables of thousands: programs read it as it is."""
    return text.replace("0.", ".", 1) if text.startswith(("0.", "-0.")) else text


def _flat(text: str) -> str:
    """The text as one cell; one that a spreadsheet would run as a formula begins with an apostrophe."""
    said = re.sub("\r\n|[\t\r\n]", " ", text)
    return f"'{said}" if escaping.cell(said).startswith("'") and not said.startswith("'") else said


def cells_of(grid: Grid) -> Numbers:
    """The numbers of an exploratory grid, a row for each site."""
    units = {cell.effect.unit for cell in grid.cells}
    # "layer 3, head 1: self minus neutral": what every site measures stands in the heading.
    measured = {cell.effect.name.partition(": ")[2] for cell in grid.cells}
    what = measured.pop() if len(measured) == 1 else ""
    effect = f"Effect ({units.pop()})" if len(units) == 1 else "Effect"
    names = [cell.effect.name.removesuffix(f": {what}" if what else "") for cell in grid.cells]
    parts, sites = _sites(names)
    heading = f"Site{f' ({parts})' if parts else ''}{f': {what}' if what else ''}"
    if len(names) > 1 and len(set(names)) == 1:
        # What is measured, and no site: a column of one sentence would look as if it named them.
        heading, sites = f"{names[0]}, by site (not named in the record)", [str(n + 1) for n in range(len(names))]
    rows = [
        (
            site,
            _with_interval(cell.effect.estimate, cell.effect.lower, cell.effect.upper),
            _two_digits(cell.p),
            _two_digits(cell.q),
            "yes" if cell.found else "no",
        )
        for site, cell in zip(sites, grid.cells, strict=True)
    ]
    return Numbers("", (heading, effect, "p", "p corrected", "Stands out"), tuple(rows))


def _two_digits(share: float) -> float:
    return float(f"{share:.2g}")


def _sites(names: list[str]) -> tuple[str, list[str]]:
    """("layer, head", ["3, 1", "3, 2"]) for "layer 3, head 1" and "layer 3, head 2": what all names are made of is said
    once. Names of other forms stay as they are."""
    numbered = [_NUMBERED.findall(name) for name in names]
    if not all(", ".join(map(" ".join, found)) == name for found, name in zip(numbered, names, strict=True)):
        return "", names
    kinds = {", ".join(kind for kind, _ in found) for found in numbered}
    if len(kinds) != 1:
        return "", names
    return kinds.pop(), [", ".join(number for _, number in found) for found in numbered]


def _of_dots(dots: Dots) -> Numbers:
    pairs = [(group, dot) for group in dots.groups for dot in group.dots]
    columns = ["Name", "Group", "Estimate"]
    if any(dot.spread for _, dot in pairs):
        columns += [f"{100 * share:g} % of values below" for share in QUANTILES]
    rows: list[list[Cell]] = [
        [dot.name, group.name, _with_interval(dot.estimate, dot.lower, dot.upper), *dot.spread]
        for group, dot in pairs
    ]
    filled = (tuple(row + [""] * (len(columns) - len(row))) for row in rows)
    return Numbers(dots.x_label + _reference(dots.reference), tuple(columns), tuple(filled))


def _of_points(points: Points) -> Numbers:
    """Two columns for each kind; one of fewer points has empty cells below."""
    columns = [
        (f"{label}, {cloud.name}", values)
        for cloud in points.clouds
        for label, values in ((points.x_label, cloud.x), (points.y_label, cloud.y))
    ]
    rows: Iterable[tuple[Cell, ...]] = zip_longest(*(values for _, values in columns), fillvalue="")
    return Numbers("Places of all points", tuple(name for name, _ in columns), tuple(rows))


def _of_sets(sets: Sets) -> list[Numbers]:
    def name(part: Intersection) -> str:
        return " and ".join(sets.names[index] for index in part.members) or "none of them"

    parts = sorted(sets.intersections, key=lambda part: (-part.size, list(part.members)))
    caption = f"{sets.element} in just these sets and no other"
    if len(parts) > MOST_INTERSECTIONS:
        caption += f"; the {MOST_INTERSECTIONS} largest are drawn"
    shared = Numbers(
        caption,
        ("In just", sets.element, "Expected by chance"),
        tuple((name(part), float(part.size), part.expected) for part in parts),
    )
    whole = tuple((name, float(size)) for name, size in zip(sets.names, sets.sizes, strict=True))
    return [shared, Numbers(f"{sets.element} in each set", ("Set", sets.element), whole)]


def _reference(value: Number) -> str:
    return "" if value is None else f"; reference line at {number(value)}"
