"""What all drawings share: the sheet they stand on, its axes, and how numbers and names are written on it.

The page's own font sets the texts, so their size is not known here: margins are set from the lengths of the labels.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from auditkit.record import escaping
from auditkit.report.figures.scales import Span
from auditkit.report.figures.svg import (
    Copy,
    Halo,
    Line,
    Mark,
    Pen,
    Place,
    Ruling,
    Strikes,
    Strokes,
    Style,
    Texts,
    Tiles,
)

WIDTH = 7.5
"""Of every drawing, in inches; the page scales it."""
_FONT = 9.5
SMALL = 8.5
"""Size of names and keys, in points."""
REFERENCE = Pen(width=0.8, dash=(3.2, 2.4), alpha=0.75)
"""How a line to compare with is drawn."""
FRAME = Pen()
_GRID = Pen(alpha=0.12)
_APART = {True: 55, False: 26}
"""Points from one number of a level or an upright axis to the next, at least."""

Spine = Literal["left", "right", "top", "bottom"]


@dataclass(frozen=True)
class Axes:
    """A box on the sheet, in points, in which values have a place."""

    left: float
    top: float
    right: float
    bottom: float
    x: Span
    y: Span

    def across(self, value: float) -> float:
        return self.left + self.x.share(value) * (self.right - self.left)

    def down(self, value: float) -> float:
        return self.bottom - self.y.share(value) * (self.bottom - self.top)

    def at(self, x: float, y: float) -> Place:
        return self.across(x), self.down(y)

    def room(self, *, level: bool) -> int:
        """How many numbers an axis has room for."""
        length = self.right - self.left if level else self.bottom - self.top
        return max(2, int(length / _APART[level]))


class Sheet:
    """An empty drawing of `WIDTH` by `height` inches, to the next whole point, without a background."""

    def __init__(self, height: float) -> None:
        self.size = (WIDTH * 72, float(math.ceil(height * 72)))
        self._layers: tuple[list[Mark], ...] = ([], [], [])
        self._texts: dict[Style, list[tuple[float, float, str]]] = {}

    @property
    def height(self) -> float:
        """In inches."""
        return self.size[1] / 72

    def axes(
        self, x: Span, y: Span, *, left: float, right: float, top: float, bottom: float,
        spines: Sequence[Spine] = ("left", "bottom"),
    ) -> Axes:  # fmt: skip
        """Axes with these margins, in inches, to the next whole point."""
        width, height = self.size
        left, right, top, bottom = (round(margin * 72) for margin in (left, right, top, bottom))
        box = Axes(left, top, width - right, height - bottom, x, y)
        corners = {
            "left": ((box.left, box.bottom), (box.left, box.top)),
            "right": ((box.right, box.bottom), (box.right, box.top)),
            "top": ((box.left, box.top), (box.right, box.top)),
            "bottom": ((box.left, box.bottom), (box.right, box.bottom)),
        }
        self.draw([corners[name] for name in spines], FRAME, layer=2)
        return box

    def draw(
        self, lines: Iterable[Sequence[Place]], pen: Pen, *, closed: bool = False, layer: Literal[0, 1, 2] = 1
    ) -> None:
        """Draw lines from place to place, in points.

        Args:
            closed: each ends where it begins.
            layer: behind the others (0), or in front of them (2).
        """
        found = tuple(Line(tuple(places), closed) for places in lines)
        if found:
            self._layers[layer].append(Strokes(found, pen))

    def cells(self, corner: Place, size: Place, runs: Mapping[str, Sequence[tuple[int, int, int]]]) -> None:
        """Colour cells of one size: by colour, column, row and length of each run of neighbours, row by row."""
        if runs:
            self._layers[1].append(
                Tiles(corner, size, tuple((colour, tuple(some)) for colour, some in runs.items()))
            )

    def strikes(self, corner: Place, size: Place, runs: Mapping[str, Sequence[tuple[int, int, int]]]) -> None:
        """Strike cells of one size through: by colour, column, row and length of each run of neighbours."""
        self._layers[1].append(Strikes(corner, size, 0.7, tuple((ink, tuple(some)) for ink, some in runs.items())))

    def rule(self, start: Place, length: float, step: float, count: int, pen: Pen) -> None:
        """Draw level lines of one length at even steps behind everything else."""
        self._layers[0].append(Ruling(start, length, step, count, pen))

    def frame(self, lines: Iterable[Sequence[Place]], below: Pen, above: Pen) -> None:
        """Draw closed lines twice, so that they are seen on dark and on light ground."""
        found = tuple(Line(tuple(places), closed=True) for places in lines)
        if found:
            self._layers[1].append(Halo(found, below, above))

    def copy(self, shape: str, box: tuple[float, float, float, float]) -> None:
        """Draw a shape that is defined elsewhere: left, top, width and height."""
        self._layers[1].append(Copy(shape, box))

    def dots(self, places: Iterable[Place], colour: str, size: float) -> None:
        """Discs of `size` points: lines of no length with round ends."""
        self.draw([(place, place) for place in places], Pen(colour, size, round=True))

    def write(self, x: float, y: float, text: str, style: Style | None = None) -> None:
        """Write one line with its baseline at (x, y), in points from the left and the top."""
        if text:
            self._texts.setdefault(style or Style(_FONT), []).append((x, y, text))

    @property
    def marks(self) -> list[Mark]:
        return [mark for layer in self._layers for mark in layer]

    @property
    def texts(self) -> Texts:
        return self._texts


def boxes(rectangles: Iterable[tuple[float, float, float, float]]) -> list[list[Place]]:
    """The corners of rectangles (left, top, right, bottom)."""
    return [
        [(left, top), (right, top), (right, bottom), (left, bottom)] for left, top, right, bottom in rectangles
    ]


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
    whole: bool = False,
) -> None:
    """Write an axis.

    Args:
        names: place -> what is written there; None: numbers, with marks.
        grid: a faint line at every place.
        turned: names stand at an angle.
        bold: places of headings.
        whole: only whole numbers are written.
    """
    level = side == "bottom"
    marked = names is None
    if names is None:
        ticks = (axes.x if level else axes.y).ticks(axes.room(level=level), whole=whole)
        names = dict(zip(ticks.places, ticks.names, strict=True))
        label = f"{label} ({ticks.factor})" if ticks.factor else label
    edge = axes.right if side == "right" else axes.left
    outward = -1 if side == "left" else 1
    at = {place: axes.across(place) if level else axes.down(place) for place in names}
    if marked and not grid:
        ends = axes.bottom if level else edge
        marks = [(ends, ends + 3)] if level else [(edge, edge + 3 * outward)]
        sheet.draw([[(x, a), (x, b)] if level else [(a, x), (b, x)] for x in at.values() for a, b in marks], FRAME)
    if grid:
        a, b = (axes.top, axes.bottom) if level else (axes.left, axes.right)
        steps = {round(after - before, 6) for before, after in itertools.pairwise(at.values())}
        if len(steps) == 1 and not level:
            sheet.rule((a, min(at.values())), b - a, abs(steps.pop()), len(at), _GRID)
        else:
            sheet.draw([[(x, a), (x, b)] if level else [(a, x), (b, x)] for x in at.values()], _GRID, layer=0)
    anchor: Literal["start", "middle", "end"] = "middle" if level else "end" if side == "left" else "start"
    for place, x in at.items():
        style = Style(size, "end" if turned else anchor, -45 if turned else 0, bold=place in bold)
        if level:
            sheet.write(x, axes.bottom + 4 + 0.9 * size, names[place], style)
        else:
            sheet.write(edge + 5 * outward, x + 0.35 * size, names[place], style)
    wide = room(names.values(), size) * 72
    if level:
        beyond = 0.72 * wide if turned else 1.2 * size
        sheet.write((axes.left + axes.right) / 2, axes.bottom + 6 + beyond + size, label, Style(size))
    else:
        middle = (axes.top + axes.bottom) / 2
        _write_upwards(sheet, label, edge, middle, wide, size, to_the_right=side == "right")


def _write_upwards(
    sheet: Sheet, label: str, edge: float, middle: float, beyond: float, size: float, *, to_the_right: bool
) -> None:
    """Write the label of an upright axis, `beyond` points away from its edge, line by line."""
    lines = label.split("\n")
    for nth, line in enumerate(lines if to_the_right else reversed(lines)):
        # Written upwards: the baseline is the side away from the names on the left, and towards them on the right.
        away = 12 + beyond + 1.15 * size * nth + (0.8 * size if to_the_right else 0)
        sheet.write(edge + (away if to_the_right else -away), middle, line, Style(size, turn=-90))


def short(text: str, length: int) -> str:
    """One line of at most `length` characters; the page prints the whole text beside the figure."""
    line = " ".join(escaping.document(text).split())
    return line if len(line) <= length else line[: length - 1] + "…"


def room(texts: Iterable[str], size: float = _FONT) -> float:
    """Inches that the longest of `texts` takes, at most: a letter is about 0.6 of the font's size wide."""
    return max(map(len, texts), default=0) * 0.6 * size / 72
