"""Drawings of a claim's numbers by matplotlib, without a display: curves, dots by name and overlapping sets.

A reader may have no colour, so what a colour says is said by a dash pattern, a marker or a word as well.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from auditkit.record.figures import Curves, Dot, Dots, Intersection, Series, Sets
from auditkit.report.sheet import NOTHING, REFERENCE, SMALL, WIDTH, Sheet, logarithmic, room, short
from auditkit.report.svg import INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Distinguishable with colour-vision deficiency and at least 3:1 against both page backgrounds; the dash
# pattern carries the same information in black and white.
_COLOURS = ("#0b7bc1", "#c2570c", "#2e8b57", "#9a63d9", "#8a7a1c", "#c44a7f")
_DASHES: tuple[str | tuple[int, tuple[float, ...]], ...] = (
    "-",
    (0, (5, 2)),
    (0, (1, 1.5)),
    (0, (6, 2, 1, 2)),
)
MOST_INTERSECTIONS = 24
"""So many intersections of sets are drawn, the largest; the table holds all."""


def plot_curves(curves: Curves) -> Sheet:
    """Lines with their intervals as bands."""
    from matplotlib.ticker import MaxNLocator

    legend = len(curves.series) > 1
    label = textwrap.wrap(short(curves.y_label, 76), 38)
    above = 0.1 + 0.17 * bool(curves.bands) + 0.19 * legend * -(-len(curves.series) // 3)
    sheet = Sheet(2.9 + above)
    axes = sheet.axes(left=0.62 + 0.17 * len(label), right=0.1, top=above, bottom=0.52)
    for band in curves.bands:
        axes.axvspan(band.start - 0.5, band.stop + 0.5, color=INK, alpha=0.09, linewidth=0)
        axes.annotate(
            short(band.name, 30),
            ((band.start + band.stop) / 2, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(0, 3),
            textcoords="offset points",
            ha="center",
            fontsize=SMALL,
            annotation_clip=False,
        )
    if curves.reference is not None:
        axes.axhline(curves.reference, **REFERENCE)
    for index, series in enumerate(curves.series):
        _line(axes, series, _COLOURS[index % len(_COLOURS)], _DASHES[index % len(_DASHES)])
    axes.grid(axis="y", color=INK, alpha=0.12, linewidth=0.6)
    axes.margins(x=0.015)
    axes.set_xlabel(short(curves.x_label, 90))
    axes.set_ylabel("\n".join(label))
    if curves.log:
        logarithmic(axes.yaxis)
    if curves.whole:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    if legend:
        inches = 2.9 - 0.52
        axes.legend(
            loc="lower left", bbox_to_anchor=(0, 1 + 0.17 * bool(curves.bands) / inches), ncols=3, fontsize=SMALL,
            borderaxespad=0.2, handlelength=3,
        )  # fmt: skip
    return sheet


def _line(axes: Axes, series: Series, colour: str, dash: str | tuple[int, tuple[float, ...]]) -> None:
    x, y, lower, upper = (
        [NOTHING if value is None else value for value in column]
        for column in (series.x, series.y, series.lower, series.upper)
    )
    axes.fill_between(x, lower, upper, color=colour, alpha=0.2, linewidth=0)
    axes.plot(
        x, y, color=colour, linestyle=dash, linewidth=1.6, marker="o", markersize=3, label=short(series.name, 32)
    )


def plot_dots(dots: Dots) -> Sheet:
    """One row per estimate: a dot with a whisker, group by group under its heading."""
    rows: list[tuple[str, Dot | None]] = []
    for group in dots.groups:
        rows += [(short(group.name, 40), None)] if group.name else []
        rows += [(short(dot.name, 40), dot) for dot in group.dots]
    names = [name for name, _ in rows] or ["nothing to draw"]
    sheet = Sheet(0.62 + 0.21 * len(names))
    axes = sheet.axes(left=0.15 + room(names, SMALL), right=0.2, top=0.05, bottom=0.52)
    shown = [(place, dot) for place, (_, dot) in enumerate(rows) if dot is not None]
    with_interval = [(y, d.lower, d.upper) for y, d in shown if d.lower is not None and d.upper is not None]
    if with_interval:
        places, lower, upper = zip(*with_interval, strict=True)
        axes.hlines(places, lower, upper, color=_COLOURS[0], linewidth=1.6)
        axes.plot([*lower, *upper], [*places, *places], "|", color=_COLOURS[0], markersize=6)
    measured = [(d.estimate, y) for y, d in shown if d.estimate is not None]
    if measured:
        axes.plot(*zip(*measured, strict=True), "o", color=_COLOURS[0], markersize=5)
    for place, dot in shown:
        if dot.estimate is None:
            axes.text(
                0.01, place, "not measured", transform=axes.get_yaxis_transform(), fontsize=SMALL, va="center"
            )
    if dots.reference is not None:
        axes.axvline(dots.reference, **REFERENCE)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_yticks(range(len(names)), names, fontsize=SMALL)
    for text, (_, row) in zip(axes.get_yticklabels(), rows, strict=False):
        text.set_fontweight("normal" if row else "bold")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="both", color=INK, alpha=0.12, linewidth=0.6)
    axes.set_xlabel(short(dots.x_label, 90))
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
    for place, part in zip(places, parts, strict=True):
        above.annotate(
            f"{part.size}",
            (place, part.size),
            xytext=(0, 2),
            textcoords="offset points",
            ha="center",
            fontsize=SMALL,
        )
    expected = [
        (place, part.expected) for place, part in zip(places, parts, strict=True) if part.expected is not None
    ]
    if expected:
        above.plot(
            *zip(*expected, strict=True),
            "_",
            color=INK,
            markersize=15,
            markeredgewidth=2,
            label="expected by chance",
        )
        above.legend(loc="lower right", bbox_to_anchor=(1, 1), fontsize=SMALL, borderaxespad=0.1)
    above.set_ylim(bottom=0)
    above.set_ylabel(short(sets.element, 28))
    above.set_xticks([])
    _memberships(sheet.axes(left=left, right=0.1, top=sheet.height - below - bars, bottom=bars), names, parts)
    above.set_xlim(-0.6, max(len(parts), 1) - 0.4)

    whole = sheet.axes(left=0.15, right=WIDTH - 1.45, top=sheet.height - below - bars, bottom=bars)
    whole.barh(range(len(names)), sets.sizes, height=0.6, color=_COLOURS[0])
    whole.set_ylim(len(names) - 0.5, -0.5)
    whole.invert_xaxis()
    whole.set_yticks([])
    whole.locator_params(axis="x", nbins=3)
    whole.spines["left"].set_visible(False)
    whole.set_xlabel(f"{short(sets.element, 14)} in all", fontsize=SMALL)
    whole.tick_params(axis="x", labelsize=SMALL)
    return sheet


def _memberships(axes: Axes, names: list[str], parts: list[Intersection]) -> None:
    """A column per intersection: full dots where it lies inside the set, faint ones where outside."""
    places = [(x, y) for x in range(len(parts)) for y in range(len(names))]
    inside = [(x, y) for x, part in enumerate(parts) for y in part.members]
    if places:
        axes.plot(*zip(*places, strict=True), "o", color=INK, alpha=0.15, markersize=6, markeredgewidth=0)
    if inside:
        axes.plot(*zip(*inside, strict=True), "o", color=INK, markersize=6)
    linked = [(x, min(part.members), max(part.members)) for x, part in enumerate(parts) if part.members]
    if linked:
        axes.vlines(*zip(*linked, strict=True), color=INK, linewidth=1.5)
    axes.set_xlim(-0.6, max(len(parts), 1) - 0.4)
    axes.set_ylim(max(len(names), 1) - 0.5, -0.5)
    axes.set_yticks(range(len(names)), names, fontsize=SMALL)
    axes.set_xticks([])
    axes.tick_params(axis="y", length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
