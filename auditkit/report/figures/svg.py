"""SVG of a drawing that can stand inside the page: few elements, whole coordinates, texts that stay texts.

The page forbids inline styles, follows the reader's light or dark setting and may hold many figures. So looks are
attributes of a few paths: neighbours that look alike are one path, in steps from point to point. Black is
`currentColor`. Coordinates are whole numbers of half a point, which is less than a pixel of the page. Text stays text,
so that it can be searched, copied and read aloud.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal
from xml.sax.saxutils import escape

INK = "currentColor"
"""The page's text colour."""
UNITS = 2
"""Units of a coordinate in a point. A drawing of 540 points is shown at most 832 pixels wide."""

Place = tuple[float, float]
"""In points from the left and the top."""


@dataclass(frozen=True)
class Pen:
    """How lines look, or what they enclose."""

    colour: str = INK
    width: float = 0.6
    """Points; of what is filled, nothing."""
    dash: tuple[float, ...] = ()
    alpha: float = 1.0
    filled: bool = False
    round: bool = False
    """Ends of lines are round, so that a line of no length is a disc."""

    def attributes(self) -> str:
        """The same in SVG, but for the colour."""
        kind = "fill" if self.filled else "stroke"
        said = {} if self.filled else {"stroke-width": f"{UNITS * self.width:g}"}
        said |= {"stroke-dasharray": " ".join(f"{UNITS * part:g}" for part in self.dash)} if self.dash else {}
        said |= {f"{kind}-opacity": f"{self.alpha:g}".lstrip("0")} if self.alpha < 1 else {}
        said |= {"stroke-linecap": "round"} if self.round else {}
        return _attributes(said)

    def ink(self) -> str:
        """The colour in SVG."""
        return _attributes({"fill" if self.filled else "stroke": self.colour})


@dataclass(frozen=True)
class Line:
    """Straight lines from place to place."""

    places: tuple[Place, ...]
    closed: bool = False


@dataclass(frozen=True)
class Strokes:
    """Lines that look alike."""

    lines: tuple[Line, ...]
    pen: Pen


@dataclass(frozen=True)
class Ruling:
    """Level lines of one length below each other at even steps, as a grid has them."""

    start: Place
    """Where the first begins, on the left."""
    length: float
    step: float
    count: int
    pen: Pen
    """Without dashes."""


@dataclass(frozen=True)
class Tiles:
    """Cells of one size in colours, from a corner rightward and downward."""

    corner: Place
    size: Place
    """Width and height of a cell, in points."""
    runs: tuple[tuple[str, tuple[tuple[int, int, int], ...]], ...]
    """By colour: column, row and length of each run of neighbours, row by row."""


@dataclass(frozen=True)
class Strikes:
    """A short stroke upwards to the right in cells of one size, from a corner rightward and downward."""

    corner: Place
    size: Place
    width: float
    """Of a stroke, in points."""
    runs: tuple[tuple[str, tuple[tuple[int, int, int], ...]], ...]
    """By colour: column, row and length of each run of neighbours, row by row."""


@dataclass(frozen=True)
class Halo:
    """Lines seen on dark and on light ground: drawn once broad in one colour, and again in another."""

    lines: tuple[Line, ...]
    below: Pen
    above: Pen


@dataclass(frozen=True)
class Copy:
    """A shape that is defined elsewhere, stretched over a box: left, top, width and height in points."""

    shape: str
    """Its identifier."""
    box: tuple[float, float, float, float]


@dataclass(frozen=True)
class Style:
    """How a text is written."""

    size: float
    anchor: Literal["start", "middle", "end"] = "middle"
    turn: float = 0.0
    """Degrees, clockwise."""
    bold: bool = False
    colour: str = INK


Written = tuple[float, float, str]
"""Where the baseline of a text is, and what is written there."""
Texts = Mapping[Style, Sequence[Written]]
"""By style."""
Axis = Literal["x", "y", ""]
_SEVERAL = 5
"""Texts of one column, or of one row, from which on a group around them is shorter."""


Mark = Strokes | Ruling | Tiles | Strikes | Halo | Copy
"""What a drawing consists of, but for its texts."""


def inline(
    marks: Iterable[Mark],
    texts: Texts,
    size: tuple[float, float],
    prefix: str,
    *,
    title: str,
    description: str,
    apart: bool = False,
    shapes: str = "",
) -> str:
    """An `svg` element; `prefix` makes its identifiers unique within the page.

    All that is drawn stands in one group, `prefix` with "-all", so that a small copy can refer to it.

    Args:
        size: width and height in points.
        apart: title and description stand beside the drawing already, in elements `prefix` with "-title" and "-desc",
            and the page's style sheet sets what the group sets elsewhere.
        shapes: definitions of the shapes that are copied, if they stand nowhere else.
    """
    width, height = (round(UNITS * side) for side in size)
    said = "" if apart else _titled(prefix, "title", title) + _titled(prefix, "desc", description)
    space = "" if apart else ' xmlns="http://www.w3.org/2000/svg"'
    looks = "" if apart else f' fill="{INK}" stroke-linejoin="round"'
    defined = f"<defs>{shapes}</defs>" if shapes else ""
    return (
        f'<svg{space} viewBox="0 0 {width} {height}" class="plot" role="img" '
        f'aria-labelledby="{prefix}-title {prefix}-desc">{said}{defined}'
        f'<g id="{prefix}-all"{looks}><g fill="none">{"".join(_elements(marks, prefix))}</g>{_written(texts)}</g></svg>'
    )


def _titled(prefix: str, tag: str, text: str) -> str:
    return f'<{tag} id="{prefix}-{tag}">{escape(text)}</{tag}>'


def _attributes(named: Mapping[str, str]) -> str:
    """Attributes of our own making: names, numbers and colours, in which nothing has to be escaped."""
    return "".join(f' {name}="{value}"' for name, value in named.items())


def _elements(marks: Iterable[Mark], prefix: str) -> Iterable[str]:
    """Neighbours that look alike as one path, and those that differ in colour alone as one group."""
    halos = 0
    for looks, group in groupby(marks, lambda mark: mark.pen.attributes() if isinstance(mark, Strokes) else None):
        if looks is not None:
            yield _stroked(looks, [mark for mark in group if isinstance(mark, Strokes)])
            continue
        for mark in group:
            if isinstance(mark, Tiles):
                yield _tiled(mark)
            elif isinstance(mark, Strikes):
                yield _struck(mark)
            elif isinstance(mark, Ruling):
                yield _ruled(mark)
            elif isinstance(mark, Halo):
                halos += 1
                yield _haloed(mark, f"{prefix}-halo{halos}")
            elif isinstance(mark, Copy):
                yield _copied(mark)


def _stroked(looks: str, drawn: Sequence[Strokes]) -> str:
    inks = [(ink, path(line for mark in run for line in mark.lines)) for ink, run in groupby(drawn, _ink)]
    around = looks if len(inks) == 1 else ""
    paths = "".join(f'<path{ink}{around} d="{data}"/>' for ink, data in inks)
    return paths if len(inks) == 1 else f"<g{looks}>{paths}</g>"


def _ink(mark: Strokes) -> str:
    return mark.pen.ink()


def _tiled(cells: Tiles) -> str:
    """A stroke as broad as a row for each run, in units of a cell, which are written shorter than any other.

    Edges are not smoothed: cells that meet would otherwise show a seam.
    """
    (left, top), (width, height) = cells.corner, cells.size
    at = f"translate({UNITS * left:g} {UNITS * (top + height / 2):g})scale({UNITS * width:g} {UNITS * height:g})"
    paths = "".join(f'<path stroke="{colour}" d="{_steps(runs)}"/>' for colour, runs in cells.runs)
    return f'<g transform="{at}" shape-rendering="crispEdges">{paths}</g>'


def _struck(cells: Strikes) -> str:
    """A dash half as broad as a row in each cell of a run, in units of a cell that are sheared, so that it slants.

    A run starts one unit further right for each row, which undoes the shear for its middle.
    """
    (left, top), (width, height) = cells.corner, (UNITS * side for side in cells.size)
    at = f"matrix({width:g} 0 {-width:g} {height:g} {UNITS * left:g} {UNITS * top + height / 2:g})"
    dash = UNITS * cells.width * math.hypot(width, height) / (width * height)
    gap = (1 - dash) / 2
    dashes = f"0 {gap:.3f} {1 - 2 * round(gap, 3):.3f} {gap:.3f}".replace(" 0.", " .")
    paths = "".join(
        f'<path stroke="{colour}" d="{_steps((column + row, row, length) for column, row, length in runs)}"/>'
        for colour, runs in cells.runs
        if runs
    )
    return f'<g transform="{at}" stroke-width=".5" stroke-dasharray="{dashes}">{paths}</g>' if paths else ""


def _ruled(lines: Ruling) -> str:
    """One line across all of them, as broad as they are long, with a dash for each."""
    width, step = UNITS * lines.pen.width, UNITS * lines.step
    x, y = UNITS * (lines.start[0] + lines.length / 2), UNITS * lines.start[1] - width / 2
    looks = f' stroke-width="{UNITS * lines.length:g}" stroke-dasharray="{width:g} {step - width:g}"'
    looks += f' stroke-opacity="{lines.pen.alpha:g}"'.replace("0.", ".") if lines.pen.alpha < 1 else ""
    return f'<path{lines.pen.ink()}{looks} d="M{x:g} {y:g}v{step * (lines.count - 1) + width:g}"/>'


def _steps(runs: Iterable[tuple[int, int, int]]) -> str:
    written: list[str] = []
    across = down = 0
    for column, row, length in runs:
        written.append(f"m{_joined(column - across, row - down)}h{length}")
        across, down = column + length, row
    return "".join(written)


def _haloed(halo: Halo, identifier: str) -> str:
    """The lines stand once; the copy above takes its look from around it."""
    below, above = (pen.ink() + pen.attributes() for pen in (halo.below, halo.above))
    return f'<g{below}><path id="{identifier}" d="{path(halo.lines)}"/></g><use href="#{identifier}"{above}/>'


def _copied(copy: Copy) -> str:
    left, top, width, height = (f"{UNITS * side:g}" for side in copy.box)
    return f'<use href="#{copy.shape}" transform="translate({left} {top})scale({width} {height})"/>'


def path(lines: Iterable[Line]) -> str:
    """The lines in whole units, each step counted from the last place."""
    written: list[str] = []
    x = y = 0
    for line in lines:
        places = [(round(UNITS * across), round(UNITS * down)) for across, down in line.places]
        if not places:
            continue
        start = places[0]
        steps = "m" + _joined(start[0] - x, start[1] - y)
        implied = True  # pairs behind a move are lines
        x, y = start
        for place in places[1:]:
            across, down = place[0] - x, place[1] - y
            if not (across or down) and len(places) > 2:
                continue
            if across and down:
                pair = _joined(across, down)
                steps += (pair if pair[0] == "-" else f" {pair}") if implied else f"l{pair}"
                implied = True
            else:
                steps += f"v{down}" if down else f"h{across}"
                implied = False
            x, y = place
        if line.closed:
            steps += "z"
            x, y = start
        written.append(steps)
    return "".join(written)


def _joined(first: int, second: int) -> str:
    return f"{first}{second}" if second < 0 else f"{first} {second}"


def _written(texts: Texts) -> str:
    return "".join(
        _styled(style, axis, place, some)
        for style, lines in texts.items()
        for (axis, place), some in _aligned(style, lines).items()
    )


def _aligned(style: Style, lines: Sequence[Written]) -> dict[tuple[Axis, int], list[Written]]:
    """Texts by the column or the row that several of them stand in, which is then said once for all."""
    if style.turn:
        return {("", 0): list(lines)} if lines else {}
    columns = Counter(round(UNITS * x) for x, _, _ in lines)
    rows = Counter(round(UNITS * y) for _, y, _ in lines)
    found: dict[tuple[Axis, int], list[Written]] = {}
    for line in lines:
        x, y = round(UNITS * line[0]), round(UNITS * line[1])
        many = max(columns[x], rows[y])
        key: tuple[Axis, int] = ("", 0) if many < _SEVERAL else ("x", x) if columns[x] == many else ("y", y)
        found.setdefault(key, []).append(line)
    return found


def _styled(style: Style, axis: Axis, place: int, lines: Sequence[Written]) -> str:
    """Texts of one style; `axis` and `place` say which coordinate they share, if any."""
    looks = {"font-size": f"{UNITS * style.size:g}", "text-anchor": style.anchor}
    looks |= {"font-weight": "600"} if style.bold else {}
    looks |= {"fill": style.colour} if style.colour != INK else {}
    moved = {"x": f' transform="translate({place})"', "y": f' transform="translate(0 {place})"', "": ""}[axis]
    each = "" if len(lines) > 1 else _attributes(looks)
    written = "".join(f"<text{each}{_at(x, y, style.turn, axis)}>{escape(line)}</text>" for x, y, line in lines)
    return f"<g{_attributes(looks)}{moved}>{written}</g>" if len(lines) > 1 else written


def _at(x: float, y: float, turn: float, shared: Axis) -> str:
    across, down = round(UNITS * x), round(UNITS * y)
    if turn:
        return f' transform="translate({across} {down})rotate({turn:g})"'
    return (f' x="{across}"' if shared != "x" else "") + (f' y="{down}"' if shared != "y" else "")
