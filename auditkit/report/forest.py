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
        return round(_MARGIN + (WIDTH - 2 * _MARGIN) * min(1.0, max(0.0, share)), 2)


@dataclass(frozen=True)
class Drawing:
    """Positions of one row. None: not there."""

    estimate: float
    lower: float | None
    upper: float | None
    beyond_low: bool
    beyond_high: bool
    ticks: tuple[float, ...]
    """Thresholds; two where an effect must lie between them."""
    region: tuple[float, float] | None
    """Start and width of the region in which the whole interval must lie."""
    zero: float | None


def scales(effects: Iterable[Effect]) -> dict[str, Scale]:
    """One scale per unit that spans all `effects` in this unit."""
    by_unit: dict[str, list[Effect]] = {}
    for effect in effects:
        by_unit.setdefault(effect.unit, []).append(effect)
    return {unit: _scale(group) for unit, group in by_unit.items()}


def drawing(effect: Effect, scale: Scale) -> Drawing | None:
    """Where the parts of `effect` fall on `scale`; None where there is no estimate to draw."""
    if effect.estimate is None:
        return None
    ticks = tuple(scale.x(value) for value in _thresholds(effect))
    right = WIDTH - _MARGIN
    region: tuple[float, float] | None = None
    match effect.relation:
        case ">=" | ">" if ticks:
            region = (ticks[0], round(right - ticks[0], 2))
        case "<=" | "<" if ticks:
            region = (_MARGIN, round(ticks[0] - _MARGIN, 2))
        case "within" if ticks:
            region = (ticks[0], round(ticks[1] - ticks[0], 2))
    return Drawing(
        estimate=scale.x(effect.estimate),
        lower=None if effect.lower is None else scale.x(effect.lower),
        upper=None if effect.upper is None else scale.x(effect.upper),
        beyond_low=effect.lower is not None and effect.lower < scale.low,
        beyond_high=effect.upper is not None and effect.upper > scale.high,
        ticks=ticks,
        region=region,
        zero=scale.x(0.0) if scale.low <= 0 <= scale.high else None,
    )


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
    return Scale(math.floor(low / step) * step, math.ceil(high / step) * step)
