"""Geometry of the interval drawings: where estimate, interval and threshold fall on a shared scale.

A forest plot compares rows by eye, so rows that share a unit share a scale. One very wide interval must not
squeeze all others into a dot: the scale is spanned by estimates and thresholds, wide intervals may stretch it
only so far, and what leaves it ends in an arrow. A template macro draws what is computed here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from auditkit.record.schema import Effect

WIDTH = 240.0
"""Width of a drawing in its own units; the page scales it."""

_MARGIN = 8.0
_STRETCH = 1.5
"""How far intervals may stretch the scale beyond estimates and thresholds, in multiples of their span."""


@dataclass(frozen=True)
class Scale:
    """A linear map from values in one unit to horizontal positions."""

    low: float
    high: float

    def x(self, value: float) -> float:
        """Position of `value`, kept inside the drawing."""
        share = (value - self.low) / (self.high - self.low)
        return round(_MARGIN + (WIDTH - 2 * _MARGIN) * min(1.0, max(0.0, share)), 1)


@dataclass(frozen=True)
class RowPaths:
    """Paths of one row, 24 high; empty where there is nothing to draw."""

    disc: str
    """The estimate, round."""
    diamond: str
    """The same, with corners."""
    whisker: str
    """The interval; an end that leaves the scale is an arrow."""
    ticks: str
    """Thresholds; two where an effect must lie between them."""
    region: str
    """Where the whole interval must lie."""
    zero: str


def scales(effects: Iterable[Effect]) -> dict[str, Scale]:
    """One scale per unit that spans all `effects` in this unit."""
    by_unit: dict[str, list[Effect]] = {}
    for effect in effects:
        by_unit.setdefault(effect.unit, []).append(effect)
    return {unit: _scale(group) for unit, group in by_unit.items()}


def drawing(effect: Effect, scale: Scale) -> RowPaths | None:
    """Where the parts of `effect` fall on `scale`; None where there is no estimate to draw."""
    if effect.estimate is None:
        return None
    at = scale.x(effect.estimate)
    ticks = [scale.x(value) for value in _thresholds(effect)]
    left, right = _MARGIN, WIDTH - _MARGIN
    match effect.relation:
        case ">=" | ">" if ticks:
            region = f"M{ticks[0]:g} 1H{right:g}V23H{ticks[0]:g}z"
        case "<=" | "<" if ticks:
            region = f"M{left:g} 1H{ticks[0]:g}V23H{left:g}z"
        case "within" if ticks:
            region = f"M{ticks[0]:g} 1H{ticks[1]:g}V23H{ticks[0]:g}z"
        case _:
            region = ""
    return RowPaths(
        disc=f"M{at - 4.5:g} 12a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0-9 0",
        diamond=f"M{at:g} 6.5l5.5 5.5-5.5 5.5-5.5-5.5z",
        whisker=_whisker(effect, scale),
        ticks="".join(f"M{x:g} 1V23" for x in ticks),
        region=region,
        zero=f"M{scale.x(0.0):g} 1V23" if scale.low <= 0 <= scale.high else "",
    )


def _whisker(effect: Effect, scale: Scale) -> str:
    if effect.lower is None or effect.upper is None:
        return ""
    low, high = scale.x(effect.lower), scale.x(effect.upper)
    start = f"M{low + 5:g} 7l-5 5 5 5" if effect.lower < scale.low else f"M{low:g} 8V16"
    stop = f"M{high - 5:g} 7l5 5-5 5" if effect.upper > scale.high else f"M{high:g} 8V16"
    return f"M{low:g} 12H{high:g}{start}{stop}"


def _thresholds(effect: Effect) -> tuple[float, ...]:
    if effect.relation is None or effect.threshold is None:
        return ()
    return (-effect.threshold, effect.threshold) if effect.relation == "within" else (effect.threshold,)


def _scale(effects: list[Effect]) -> Scale:
    core = [effect.estimate for effect in effects if effect.estimate is not None]
    core += [value for effect in effects for value in _thresholds(effect)]
    ends = [end for effect in effects for end in (effect.lower, effect.upper) if end is not None]
    core = core or ends or [0.0]
    first, last = min(core), max(core)
    reach = _STRETCH * ((last - first) or max((abs(end - first) for end in ends), default=0.0))
    low = min([first, *(max(end, first - reach) for end in ends)])
    high = max([last, *(min(end, last + reach) for end in ends)])
    span = (high - low) or abs(high) or 1.0
    # Zero is the natural reference; it is shown unless that would squeeze the data into half of the drawing.
    if 0 < low <= span:
        low = 0.0
    elif -span <= high < 0:
        high = 0.0
    if high == low:
        low, high = low - span / 2, high + span / 2
    step = 10 ** math.floor(math.log10(high - low)) / 5
    if step == 0:  # the smallest numbers there are cannot be divided
        return Scale(low - 1, high + 1)
    return Scale(math.floor(low / step) * step, math.ceil(high / step) * step)
