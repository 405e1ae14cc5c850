"""What a figure's numbers are: one type per kind, checked when made and again when drawn.

A claim keeps numbers and never pictures; the report draws them, and prints them in a table beside the drawing. Every
kind has `caption`, one sentence that says how to read it. None stands where nothing could be measured.

    figure(Heatmap("layer", "position", "logit", "Each cell restores ...", columns, rows, values).titled("Where ..."))
    figure(Table.of(frame, "Each row is a persona.").titled("Personas"))
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import msgspec

from auditkit.record.schema import Effect, FigureKind
from auditkit.record.schema import Figure as Figure

if TYPE_CHECKING:
    import pandas as pd

Number = float | None
Grid = Sequence[Sequence[Number]]


class Drawing(msgspec.Struct, frozen=True):
    """Base of the kinds."""

    def titled(self, title: str) -> Figure:
        """The record's figure with these numbers."""
        kind = next(name for name, drawing in KINDS.items() if type(self) is drawing)
        return Figure(title=title, kind=kind, data=msgspec.to_builtins(self))


class Series(msgspec.Struct, frozen=True):
    """One line: a value with an interval at every x."""

    name: str
    x: Sequence[float]
    y: Sequence[Number]
    lower: Sequence[Number]
    upper: Sequence[Number]

    def __post_init__(self) -> None:
        if not len(self.x) == len(self.y) == len(self.lower) == len(self.upper):
            raise ValueError(f"series {self.name!r} holds lists of different lengths")

    @classmethod
    def through(cls, name: str, x: Sequence[float], effects: Sequence[Effect]) -> Series:
        """Effects and their intervals, one at every x."""
        columns = [[getattr(effect, end) for effect in effects] for end in ("estimate", "lower", "upper")]
        return cls(name, list(x), *columns)


class Band(msgspec.Struct, frozen=True):
    """An inclusive range of x to shade."""

    name: str
    start: float
    stop: float


class Curves(Drawing, frozen=True):
    """Values with intervals along an axis: layers of a network, a strength, tokens."""

    x_label: str
    y_label: str
    caption: str
    series: Sequence[Series]
    bands: Sequence[Band] = ()
    reference: Number = None
    """Height of a dashed line."""
    log: bool = False
    """y on a logarithmic scale; values that are not above 0 are left out of the drawing, not of the table."""
    whole: bool = True
    """x takes whole numbers only, as layers do."""


class Heatmap(Drawing, frozen=True):
    """One value per cell, with its interval where there is one: heads by layers, persona by persona, site by layer."""

    x_label: str
    y_label: str
    value_label: str
    caption: str
    columns: Sequence[str]
    rows: Sequence[str]
    values: Grid
    """`values[row][column]`."""
    lower: Grid | None = None
    upper: Grid | None = None
    outlined: Sequence[tuple[int, int]] = ()
    """Cells (row, column) with a frame, for what `caption` says."""
    scale: Literal["linear", "centred", "log"] = "linear"
    """"centred": two colours that meet at 0."""

    def __post_init__(self) -> None:
        for grid in (self.values, self.lower, self.upper):
            if grid is not None and [len(row) for row in grid] != [len(self.columns)] * len(self.rows):
                raise ValueError(
                    f"a heat map of {len(self.rows)} x {len(self.columns)} holds a grid of another shape"
                )
        if any(not (0 <= i < len(self.rows) and 0 <= j < len(self.columns)) for i, j in self.outlined):
            raise ValueError("an outlined cell is outside the heat map")


QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
"""Which quantiles stand for a distribution."""


class Dot(msgspec.Struct, frozen=True, omit_defaults=True):
    """One estimate with its interval, and if wanted the distribution of the single values behind it."""

    name: str
    estimate: Number
    lower: Number
    upper: Number
    spread: Sequence[float] = ()
    """`QUANTILES` of the single values; empty where they are not shown."""

    def __post_init__(self) -> None:
        if self.spread and (len(self.spread) != len(QUANTILES) or list(self.spread) != sorted(self.spread)):
            raise ValueError(f"the spread of {self.name!r} must be {len(QUANTILES)} rising quantiles")

    @classmethod
    def at(cls, name: str, effect: Effect, spread: Sequence[float] = ()) -> Dot:
        """An effect with its interval."""
        return cls(name, effect.estimate, effect.lower, effect.upper, spread)


class DotGroup(msgspec.Struct, frozen=True):
    """Estimates that belong together, under one heading."""

    name: str
    dots: Sequence[Dot]


class Dots(Drawing, frozen=True):
    """Estimates with intervals by name, one line each: groups of personas, arms of an experiment."""

    x_label: str
    caption: str
    groups: Sequence[DotGroup]
    reference: Number = None
    """Place of a dashed line."""

    @classmethod
    def of(
        cls, x_label: str, caption: str, groups: Mapping[str, Mapping[str, Effect]], reference: Number = None
    ) -> Dots:
        """Effects by heading and name."""
        drawn = [
            DotGroup(name, [Dot.at(dot, effect) for dot, effect in dots.items()]) for name, dots in groups.items()
        ]
        return cls(x_label, caption, drawn, reference)


class Table(Drawing, frozen=True):
    """Numbers and words in rows, where a drawing would say less: groups with n and rates, texts side by side."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str | float | None]]
    """The first column names the row."""

    def __post_init__(self) -> None:
        if any(len(row) != len(self.columns) for row in self.rows):
            raise ValueError(f"a table of {len(self.columns)} columns holds a row of another length")

    @classmethod
    def of(cls, frame: pd.DataFrame, caption: str) -> Table:
        """The columns and rows of a frame, its first column naming the row; missing values are empty cells."""
        rows = [[None if value != value else value for value in row] for row in frame.itertuples(index=False)]
        return cls(caption, [str(name) for name in frame.columns], rows)


class Intersection(msgspec.Struct, frozen=True):
    """How many elements are in just these sets and no other."""

    members: Sequence[int]
    """Indices of the sets."""
    size: int
    expected: Number = None
    """By chance."""


class Sets(Drawing, frozen=True):
    """How sets overlap (an UpSet plot: Lex et al. 2014, doi:10.1109/TVCG.2014.2346248)."""

    element: str
    """What the sets hold, in the plural: "units"."""
    caption: str
    names: Sequence[str]
    sizes: Sequence[int]
    intersections: Sequence[Intersection]

    def __post_init__(self) -> None:
        if len(self.names) != len(self.sizes):
            raise ValueError("every set has a name and a size")
        if any(not 0 <= i < len(self.names) for part in self.intersections for i in part.members):
            raise ValueError("an intersection names a set that is not there")


class Cloud(msgspec.Struct, frozen=True):
    """Points of one kind."""

    name: str
    x: Sequence[float]
    y: Sequence[float]

    def __post_init__(self) -> None:
        if len(self.x) != len(self.y):
            raise ValueError(
                f"the points of {self.name!r} have {len(self.x)} places along x and {len(self.y)} along y"
            )


class Points(Drawing, frozen=True):
    """Items in a plane: activations of statements in two components."""

    x_label: str
    y_label: str
    caption: str
    clouds: Sequence[Cloud]


SIGNATURES = {"image/png": b"\x89PNG\r\n\x1a\n", "image/jpeg": b"\xff\xd8\xff", "image/gif": b"GIF8"}
IMAGE_LIMIT = 2**20
"""Bytes of an image."""


class Image(Drawing, frozen=True):
    """A picture from elsewhere, embedded as it is: the report loads nothing, and says nothing of what it shows.

    Attributes:
        alt: what is to be seen, for those who cannot see it.
        media_type: one of `SIGNATURES`.
        content: the file in base64.
    """

    caption: str
    alt: str
    media_type: str
    content: str

    def __post_init__(self) -> None:
        try:
            data = base64.b64decode(self.content, validate=True)
        except ValueError as error:
            raise ValueError(f"the content of an image must be base64: {error}") from None
        if self.media_type not in SIGNATURES or not data.startswith(SIGNATURES[self.media_type]):
            raise ValueError(f"an image must be one of {', '.join(SIGNATURES)} and begin as such a file does")
        if len(data) > IMAGE_LIMIT:
            raise ValueError(f"an image may have {IMAGE_LIMIT} bytes, this one has {len(data)}")

    @classmethod
    def of(cls, data: bytes, *, caption: str, alt: str) -> Image:
        """The image in the bytes of a PNG, JPEG or GIF file.

        Raises:
            ValueError: another format, or too large.
        """
        kind = next((name for name, start in SIGNATURES.items() if data.startswith(start)), "")
        return cls(caption, alt, kind, base64.b64encode(data).decode())


AnyDrawing = Curves | Heatmap | Dots | Table | Sets | Points | Image

KINDS: dict[FigureKind, type[AnyDrawing]] = {
    "curves": Curves,
    "heatmap": Heatmap,
    "dots": Dots,
    "table": Table,
    "sets": Sets,
    "points": Points,
    "image": Image,
}


def drawing_of(figure: Figure) -> AnyDrawing:
    """The figure's numbers, checked.

    Raises:
        ValueError: what does not fit the kind, with its path.
    """
    return msgspec.convert(figure.data, KINDS[figure.kind])
