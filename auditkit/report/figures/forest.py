"""Geometry of the forest plots: where estimate, interval and threshold of an effect fall on a scale of its own.

Claims have many units, so rows share no scale of values. They share one of decisions: the threshold lies at the same
place in every row, one unit of the axis is as much as the threshold itself, and the claimed side lies to the right and
is shaded. A row whose claim says "at most" is mirrored for this, and a row of equivalence is drawn from its nearer
limit. Where the threshold is 0, the unit is half the interval's width. docs/decisions/report.md says why.

A template (`_forest.html.j2`) draws what is computed here, and writes the numbers beside it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import msgspec

from auditkit.record.schema import Claim, Effect, Verdict
from auditkit.report.figures.numbers import MINUS, number

WIDTH, HEIGHT = 320, 28
"""Size of a row in its own units; the page scales it and never below 200 pixels."""
FIRST, LAST = -2.0, 3.0
"""Ends of the axis, in units from the threshold. Of the 62 effects that decide the claims of a default run, 54 lie
inside; what leaves it ends in an arrow with its number."""

_MARGIN = 10.0
_DISC = "19a4 4 0 1 0 8 0a4 4 0 1 0-8 0"
_AT_MOST = ("<=", "<")


@dataclass(frozen=True)
class Scale:
    """A linear map from an effect's values to units of the axis."""

    origin: float
    """The value at the common line: the threshold, or no change."""
    unit: float
    """The value of one unit; negative where larger values lie to the left."""

    def units(self, value: float) -> float:
        """How many units `value` lies on the claimed side of the common line; below zero: on the other side."""
        return (value - self.origin) / self.unit

    def x(self, value: float) -> float:
        """Horizontal position of `value`, kept inside the drawing."""
        return place(self.units(value))

    def holds(self, value: float) -> bool:
        """Whether `value` lies on the axis."""
        return FIRST <= self.units(value) <= LAST


@dataclass(frozen=True)
class Drawn:
    """Paths and texts of one row; empty where there is nothing to draw."""

    marker: str
    """The estimate: a disc, or a diamond where a claim failed (`Row.diamond`). An arrow where it left the axis."""
    diamond: str
    whisker: str
    """The interval; an end that leaves the axis is an arrow."""
    ticks: str
    """Thresholds; two where an effect must lie between them."""
    region: str
    """The claimed side."""
    zero: str
    """No effect: 0, or 1 where the effect is a ratio."""
    beyond: tuple[tuple[float, Literal["start", "end"], str], ...]
    """Numbers that left the axis: place, anchor, text."""
    units: float
    """Where the estimate lies, in units from the common line."""

    @property
    def disc(self) -> str:
        """The middle of a marker that is a disc; empty where it is an arrow."""
        at, _, shape = self.marker.removeprefix("M").partition(" ")
        return f"{float(at) + 4:g}" if shape == _DISC else ""

    @property
    def ground(self) -> str:
        """Name of the shape of `GROUNDS` that is its region and its ticks; empty where they are like no other row's."""
        return next((name for name, parts in GROUNDS.items() if parts == (self.region, self.ticks)), "")


@dataclass(frozen=True)
class Row:
    """One row of a forest plot with all that its table says."""

    label: str
    """What the row is about: a statement, a group, a model. Foreign text."""
    effect: Effect | None
    drawn: Drawn | None
    words: str = ""
    """The effect in words."""
    verdict: Verdict | None = None
    said: str = ""
    """The verdict in the word that a reader acts on; empty: the verdict's own."""
    finding: bool = False
    """The row is a published finding, for which FAIL blocks nothing."""
    href: str = ""
    """Fragment that the label leads to; empty: no link."""
    missing: str = ""
    """Why there is no effect."""
    waived: bool = False


def axis() -> list[tuple[float, str]]:
    """Places and names of the axis, without the common line: units from it."""
    whole = (unit for unit in range(math.ceil(FIRST), math.floor(LAST) + 1) if unit)
    return [(place(unit), f"{unit:+d}".replace("-", MINUS)) for unit in whole]


def place(units: float) -> float:
    """Horizontal position of a place on the axis, kept inside the drawing."""
    share = (units - FIRST) / (LAST - FIRST)
    return round(_MARGIN + (WIDTH - 2 * _MARGIN) * min(1.0, max(0.0, share)), 1)


GROUNDS = {
    "side": (f"M{place(0.0):g} 11H{WIDTH - _MARGIN:g}V27H{place(0.0):g}z", f"M{place(0.0):g} 11V27"),
    "between": (
        f"M{place(0.0):g} 11H{place(2.0):g}V27H{place(0.0):g}z",
        f"M{place(0.0):g} 11V27M{place(2.0):g} 11V27",
    ),
    "line": ("", f"M{place(0.0):g} 11V27"),
}
"""Claimed side and thresholds of nearly every row, which the page defines once: one threshold, two limits, and a line
without a claimed side."""


def none_of(effect: Effect) -> float:
    """The value of no effect: 1 of a ratio, else 0."""
    compared = effect.recipe.compare if effect.recipe is not None else ""
    return 1.0 if effect.unit in ("times", "times chance") or compared == "ratio" else 0.0


def half_width(effect: Effect) -> float | None:
    """Half the width of the effect's interval; of an interval with one end, from the estimate to it."""
    ends = [end for end in (effect.lower, effect.upper) if end is not None]
    if len(ends) == 2:
        width = ends[1] / 2 - ends[0] / 2
    elif ends and effect.estimate is not None:
        width = abs(ends[0] - effect.estimate)
    else:
        return None
    return width if 0 < width < math.inf else None


def scale_of(effect: Effect, unit: float | None = None) -> Scale | None:
    """The scale of an effect; None where nothing can be its unit.

    An effect that is compared with nothing is drawn from where there is no effect, in half-widths.

    Args:
        unit: the value of one unit where several rows are to share it (`common_unit`).
    """
    compared = effect.relation is not None and effect.threshold is not None
    threshold = effect.threshold if compared and effect.threshold is not None else 0.0
    size = _unit(effect, threshold, unit)
    if size is None:
        return None
    if not compared:
        return Scale(none_of(effect), size)
    if effect.relation == "within":
        # From the limit that the estimate is nearer to, so that left is away from zero.
        upper = (effect.estimate or 0.0) > 0
        return Scale(threshold, -size) if upper else Scale(-threshold, size)
    return Scale(threshold, -size if effect.relation in _AT_MOST else size)


def scale_of_change(change: Effect, claimed: Effect | None, unit: float | None = None) -> Scale | None:
    """The scale of a difference from a baseline: no change at the common line, what is worse for the claim to its left.

    Args:
        claimed: the effect of the claim that changed. Where it is compared with nothing, lower values lie left.
    """
    threshold = claimed.threshold if claimed is not None and claimed.relation is not None else None
    size = _unit(change, threshold or 0.0, unit)
    if size is None:
        return None
    return Scale(0.0, -size if more_is_worse(change, claimed) else size)


def _unit(effect: Effect, threshold: float, unit: float | None) -> float | None:
    return abs(threshold) or unit or half_width(effect) or effect.mde or None


def common_unit(effects: Iterable[Effect]) -> float | None:
    """One unit for rows of one question whose threshold is 0: the largest half-width among their intervals."""
    return max((width for width in map(half_width, effects) if width is not None), default=None)


def judging(change: Effect, claimed: Effect | None) -> Effect | None:
    """What says which side is worse: the claim's effect, or the change itself where the claim judges that."""
    return change if claimed is None and change.relation is not None else claimed


def more_is_worse(change: Effect, claimed: Effect | None) -> bool:
    claimed = judging(change, claimed)
    if claimed is None or claimed.relation is None:
        return False
    if claimed.relation == "within":
        # |now| exceeds |before| exactly where the change has the sign of the middle between both.
        return (claimed.estimate or 0.0) - (change.estimate or 0.0) / 2 > 0
    return claimed.relation in _AT_MOST


def got(change: Effect, claimed: Effect | None) -> Literal["worse", "better", "higher", "lower", "open"]:
    """What became of an effect, by the whole interval of its change.

    "worse" and "better" are for the claim; "higher" and "lower" where the effect is compared with nothing. "open":
    the interval includes no change, or there is none.
    """
    if change.lower is None or change.upper is None or change.lower <= 0 <= change.upper:
        return "open"
    higher = change.lower > 0
    claimed = judging(change, claimed)
    if claimed is None or claimed.relation is None:
        return "higher" if higher else "lower"
    return "worse" if higher == more_is_worse(change, claimed) else "better"


def draw(effect: Effect, scale: Scale | None) -> Drawn | None:
    """Where the parts of `effect` fall on `scale`; None where there is no estimate or no scale."""
    if scale is None or effect.estimate is None:
        return None
    at, units = scale.x(effect.estimate), scale.units(effect.estimate)
    none = none_of(effect)
    if FIRST <= units <= LAST:
        # Lower than the ends of the whisker, which stay in sight where the interval is narrower than the marker.
        marker = f"M{at - 4:g} {_DISC}"
        diamond = f"M{at:g} 14l5 5-5 5-5-5z"
    else:
        away = 9 if units < FIRST else -9
        marker = diamond = f"M{at:g} 19l{away:g}-5v10z"
    return Drawn(
        marker=marker,
        diamond=diamond,
        whisker=_whisker(effect, scale),
        ticks=_ticks(effect, scale),
        region=_region(effect, scale),
        zero=f"M{scale.x(none):g} 11V27" if scale.origin != none and scale.holds(none) else "",
        beyond=_beyond(effect, scale),
        units=units,
    )


def undrawn(effect: Effect) -> str:
    """Why an effect has no drawing."""
    if effect.estimate is None:
        return "not measured"
    return "the threshold is 0 and there is no interval, so no unit to draw it in"


def drawn(effect: Effect, unit: float | None = None) -> Drawn | None:
    """The row of an effect that is compared with a threshold."""
    return draw(effect, scale_of(effect, unit))


def drawn_change(change: Effect, claimed: Effect | None, unit: float | None = None) -> Drawn | None:
    """The row of a difference from a baseline.

    Where the claim judges the difference itself, one unit is the margin that it allows. Nothing is shaded, since the
    common line is no change and not the threshold.
    """
    judged = judging(change, claimed)
    shown = msgspec.structs.replace(change, relation=None, threshold=None)
    return draw(shown, scale_of_change(change, judged, unit))


def change_size(claim: Claim) -> float | None:
    """How far the effects of a claim moved since the baseline, at most, in half-widths of their intervals."""
    effects = claim.change.effects if claim.change is not None else ()
    moved = [abs(e.estimate) / half for e in effects if e.estimate is not None and (half := half_width(e))]
    return round(max(moved), 2) if moved else None


def _ticks(effect: Effect, scale: Scale) -> str:
    lines = [0.0]
    if effect.relation == "within" and effect.threshold:
        lines.append(2 * effect.threshold / abs(scale.unit))
    return "".join(f"M{place(line):g} 11V27" for line in lines if line <= LAST)


def _region(effect: Effect, scale: Scale) -> str:
    if effect.relation is None or effect.threshold is None:
        return ""
    inside = effect.relation == "within"
    left, right = place(0.0), place(2 * effect.threshold / abs(scale.unit)) if inside else WIDTH - _MARGIN
    return f"M{left:g} 11H{right:g}V27H{left:g}z"


def _whisker(effect: Effect, scale: Scale) -> str:
    if effect.lower is None and effect.upper is None:
        return ""
    ends = (effect.lower, effect.upper)
    left, right = ends if scale.unit > 0 else ends[::-1]
    low = FIRST - 1 if left is None else scale.units(left)
    high = LAST + 1 if right is None else scale.units(right)
    if high < FIRST or low > LAST:
        return ""  # the arrow of the estimate says it
    at = 0.0 if effect.estimate is None else scale.units(effect.estimate)
    start = f"M{place(low) + 5:g} 14l-5 5 5 5m-5-5" if low < FIRST else f"M{place(low):g} 13v12m0-6"
    stop = "m-5-5l5 5-5 5" if high > LAST else "m0-6v12"
    start, stop = f"M{place(low):g} 19" if at < FIRST else start, "" if at > LAST else stop
    return f"{start}H{place(high):g}{stop}"


def _beyond(effect: Effect, scale: Scale) -> tuple[tuple[float, Literal["start", "end"], str], ...]:
    """Numbers of what left the axis; the estimate, where it left, else the ends of the interval."""
    assert effect.estimate is not None
    values = [effect.estimate] if not scale.holds(effect.estimate) else [effect.lower, effect.upper]
    found: list[tuple[float, Literal["start", "end"], str]] = []
    for value in values:
        if value is not None and not scale.holds(value):
            left = scale.units(value) < FIRST
            found.append((_MARGIN if left else WIDTH - _MARGIN, "start" if left else "end", number(value)))
    return tuple(found)


def claim_row(claim: Claim, words: str = "", href: str = "") -> Row:
    """The row of a claim by its deciding effect."""
    effect = claim.effect
    return Row(
        label=claim.statement,
        effect=effect,
        drawn=None if effect is None else drawn(effect),
        words=words,
        verdict=claim.verdict,
        href=href,
        missing="" if effect is not None else claim.reason,
        waived=claim.waiver is not None,
    )
