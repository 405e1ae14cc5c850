"""Figures of a claim as inline SVG, and their numbers for the table beside the drawing.

The same data give the same bytes. A figure whose data do not fit its kind costs itself and not the report.
"""

from __future__ import annotations

from dataclasses import dataclass

from auditkit.record.figures import (
    AnyDrawing,
    Curves,
    Dots,
    Heatmap,
    Intersection,
    Number,
    Sets,
    Table,
    drawing_of,
)
from auditkit.record.schema import Figure
from auditkit.report.heatmap import plot_heatmap
from auditkit.report.plots import MOST_INTERSECTIONS, plot_curves, plot_dots, plot_sets
from auditkit.report.sheet import Sheet, settings
from auditkit.report.svg import inline
from auditkit.report.wording import clean, number

Cell = str | float | None


@dataclass(frozen=True)
class Numbers:
    """A table of a figure's numbers; the first column names the row."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    @property
    def worded(self) -> tuple[bool, ...]:
        """Which columns hold words."""
        return tuple(any(isinstance(row[i], str) for row in self.rows) for i in range(len(self.columns)))


def render_svg(figure: Figure, prefix: str) -> str:
    """Draw `figure`; `prefix` makes its identifiers unique within the page. A table is not drawn: empty.

    Raises:
        ValueError: the figure's data do not fit its kind, or cannot be drawn.
    """
    drawing = drawing_of(figure)
    if isinstance(drawing, Table):
        return ""
    with settings():
        document = _plot(drawing).svg()
    return inline(document, prefix, title=clean(figure.title), description=clean(drawing.reading))


def _plot(drawing: Curves | Heatmap | Dots | Sets) -> Sheet:
    match drawing:
        case Curves():
            return plot_curves(drawing)
        case Heatmap():
            return plot_heatmap(drawing)
        case Dots():
            return plot_dots(drawing)
        case Sets():
            return plot_sets(drawing)


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


def _of_curves(curves: Curves) -> Numbers:
    rows = [
        (series.name, *point)
        for series in curves.series
        for point in zip(series.x, series.y, series.lower, series.upper, strict=True)
    ]
    caption = curves.y_label + _reference(curves.reference)
    caption += "".join(f"; shaded: {b.name}, {number(b.start)}–{number(b.stop)}" for b in curves.bands)
    caption += "; drawn on a logarithmic scale" if curves.log else ""
    return Numbers(caption, ("Series", curves.x_label, "Value", "Lower", "Upper"), tuple(rows))


def _of_heatmap(heatmap: Heatmap) -> Numbers:
    rows = [
        (name, *(_cell(heatmap, row, column) for column in range(len(heatmap.columns))))
        for row, name in enumerate(heatmap.rows)
    ]
    caption = f"{heatmap.value_label}, by {heatmap.y_label} (rows) and {heatmap.x_label} (columns)"
    outlined = [f"{heatmap.rows[row]} / {heatmap.columns[column]}" for row, column in heatmap.outlined]
    caption += f"; outlined: {', '.join(outlined)}" if outlined else ""
    return Numbers(caption, (heatmap.y_label, *heatmap.columns), tuple(rows))


def _cell(heatmap: Heatmap, row: int, column: int) -> Cell:
    """The value, with its interval where it has one."""
    value = heatmap.values[row][column]
    lower, upper = (None if grid is None else grid[row][column] for grid in (heatmap.lower, heatmap.upper))
    if value is None or (lower is None and upper is None):
        return value
    return f"{number(value)} [{number(lower)}, {number(upper)}]"


def _of_dots(dots: Dots) -> Numbers:
    rows = [
        (dot.name, group.name, dot.estimate, dot.lower, dot.upper) for group in dots.groups for dot in group.dots
    ]
    caption = dots.x_label + _reference(dots.reference)
    return Numbers(caption, ("Name", "Group", "Estimate", "Lower", "Upper"), tuple(rows))


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
