"""How what was measured shows itself in a notebook: as a line of text, as a table, and as a figure.

    effect                          # Estimate: recovery by mlp, layers 2-5 = 0.58 [0.51, 0.65] of the total effect ...
    effect.to_frame()               # a pandas table
    effect.plot()                   # drawn as SVG, without matplotlib
    effect.plot().save("effect.svg")

A result inherits from `Showable` and says what it is (`in_words`), its table (`to_frame`) and its figures (`figures`,
the ones that a report shows as well). The rest follows.
"""

from __future__ import annotations

import hashlib
import html
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from auditkit.record.figures import QUANTILES, Dot, DotGroup, Dots, Image, drawing_of
from auditkit.record.schema import Figure

if TYPE_CHECKING:
    import pandas as pd

_INK = "#1f2328"
_FONTS = "system-ui, sans-serif"
_LOOK = f"max-width: 720px; margin: 0 0 1em 0; font-family: {_FONTS}"


class Plot(Sequence[Figure]):
    """Figures as a notebook shows them; `save` writes one as an SVG file.

    Attributes:
        figures: their numbers, as a report records them.
    """

    def __init__(self, figures: Iterable[Figure]) -> None:
        self.figures = tuple(figures)

    def __len__(self) -> int:
        return len(self.figures)

    def __getitem__(self, index: Any) -> Any:
        """One figure of several, as a plot of its own; or a slice of them."""
        return Plot(self.figures[index] if isinstance(index, slice) else [self.figures[index]])

    def svg(self) -> str:
        """The drawing of a plot of one figure.

        Raises:
            ValueError: several figures, or one that is a table or a picture and has no drawing.
        """
        if len(self.figures) != 1:
            held = f"this plot holds {len(self.figures)} figures"
            raise ValueError(f"{held}: take one, as in plot()[0]" if self.figures else f"{held}: nothing to draw")
        (figure,) = self.figures
        drawn = _drawn(figure)
        if not drawn:
            raise ValueError(f"'{figure.title}' is a {figure.kind} and has no drawing; a notebook shows it")
        return drawn

    def save(self, path: str | Path) -> Path:
        """Write the drawing of a plot of one figure to an SVG file.

        Raises:
            ValueError: as `svg`, or another ending than .svg.
        """
        path = Path(path)
        if path.suffix.lower() != ".svg":
            raise ValueError(f"{path.name}: figures are drawn as SVG; give a name that ends in .svg")
        # A file stands on any ground, and its ink is that of where it stands: so it brings both.
        opened, drawn = self.svg().split(">", 1)
        ground = '<rect width="100%" height="100%" fill="#fff"/>'
        path.write_text(f'{opened} color="{_INK}" font-family="{_FONTS}">{ground}{drawn}\n', encoding="utf-8")
        return path

    def __repr__(self) -> str:
        return f"Plot: {'; '.join(figure.title for figure in self.figures) or 'no figures'}"

    def _repr_html_(self) -> str:
        return "".join(_shown(figure) for figure in self.figures) or "<p>no figures</p>"


class Showable:
    """A result that shows itself: `repr` in a line, `to_frame()` as a table, `plot()` as figures."""

    def __init_subclass__(cls, **arguments: Any) -> None:
        """A dataclass makes a `repr` of all its arrays where its class has none of its own."""
        super().__init_subclass__(**arguments)
        if "__repr__" not in cls.__dict__:
            cls.__repr__ = Showable.__repr__  # type: ignore[method-assign]  # see above

    def in_words(self) -> str:
        """What was measured and what came out, in one line; where a class says nothing else, the model, since what a
        suite measures is measured when it is asked for."""
        info = getattr(getattr(self, "adapter", None), "info", None)
        return "" if info is None else f"{info.name}, {info.layers} layers of {info.heads} heads"

    def to_frame(self) -> pd.DataFrame:
        """The numbers as a table; where a class says nothing else, those under its figures, one below the other."""
        return frame_of(self.figures())

    def figures(self) -> Iterable[Figure]:
        """The figures that a report shows of this; none where one would say no more than the table."""
        return ()

    def plot(self, *arguments: Any, **named: Any) -> Plot:
        """The figures, drawn; arguments are those of `figures`."""
        return Plot(self.figures(*arguments, **named))

    def __repr__(self) -> str:
        return ": ".join(filter(None, (type(self).__name__, self.in_words())))


def spreads(values: Mapping[str, Any], label: str, caption: str, reference: float | None = None) -> Dots:
    """The mean of each list of values, and where the single ones lie; values that are not finite are left out."""
    import numpy as np

    dots = []
    for name, some in values.items():
        known = np.asarray(some, dtype=float)
        known = known[np.isfinite(known)]
        spread = [float(value) for value in np.quantile(known, QUANTILES)] if len(known) else []
        dots.append(Dot(str(name), float(known.mean()) if len(known) else None, None, None, spread))
    return Dots(label, f"{caption} The band shows where the single values lie.", [DotGroup("", dots)], reference)


def frame_of(figures: Iterable[Figure]) -> pd.DataFrame:
    """The numbers of figures, a column "figure" naming each where there are several."""
    import pandas as pd

    from auditkit.report.figures.drawing import Measured, numbers_of

    found = []
    for figure in figures:
        for table in numbers_of(drawing_of(figure)):
            rows: list[dict[str, object]] = []
            for row in table.rows:
                cells: dict[str, object] = {}
                for name, cell in zip(table.columns, row, strict=True):
                    cells[name] = cell.value if isinstance(cell, Measured) else cell
                    if isinstance(cell, Measured):
                        cells |= {f"{name} lower": cell.lower, f"{name} upper": cell.upper}
                rows.append(cells)
            found.append((figure.title, pd.DataFrame(rows)))
    if len(found) == 1:
        return found[0][1]
    return pd.concat([frame.assign(figure=title) for title, frame in found]) if found else pd.DataFrame()


def _drawn(figure: Figure) -> str:
    from auditkit.report.figures.drawing import render_svg

    # Identifiers are of the whole page, and a notebook shows many figures.
    digest = hashlib.sha256(msgspec.json.encode((figure.title, figure.data))).hexdigest()
    return render_svg(figure, f"plot-{digest[:12]}")


def _shown(figure: Figure) -> str:
    drawing, title = drawing_of(figure), html.escape(figure.title)
    said = f"<figcaption><b>{title}</b><br>{html.escape(drawing.caption)}</figcaption>"
    if isinstance(drawing, Image):
        source = f"data:{drawing.media_type};base64,{drawing.content}"
        body = f'<img src="{source}" alt="{html.escape(drawing.alt)}">'
    else:
        body = _drawn(figure) or frame_of([figure]).to_html(index=False, na_rep="")
    return f'<figure style="{_LOOK}">{said}{body}</figure>'
