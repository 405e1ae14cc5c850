"""Geometry of the drawings over several runs: one claim along the order, and two measures of each run in a plane.

Runs stand at equal distances in the order that was given, with their numbers below. A number that answers another
question is drawn apart and is not connected. Where a run has no number there is a gap with a dash, never a point. A
template draws what is computed here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from auditkit.record.schema import Effect
from auditkit.report.figures.scales import round_step
from auditkit.report.several.matrix import ClaimInRuns, State

WIDTH, HEIGHT = 320, 130
_LEFT, _RIGHT, _TOP, _BOTTOM = 52.0, 8.0, 8.0, 24.0
PLANE_WIDTH, PLANE_HEIGHT = 460, 320
_PLANE = (64.0, 16.0, 14.0, 46.0)


@dataclass(frozen=True)
class Axis:
    """A linear map from values to positions; `ticks` are the values that are written."""

    low: float
    high: float
    start: float
    stop: float
    ticks: tuple[float, ...]

    def at(self, value: float) -> float:
        """Position of `value`, kept inside the drawing."""
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + (self.stop - self.start) * min(1.0, max(0.0, share)), 1)


@dataclass(frozen=True)
class Mark:
    """One run in a trend."""

    x: float
    number: int
    """The run's number, from 1."""
    y: float | None
    """None: the run has no number of this claim."""
    whisker: str
    state: State
    joined: bool
    diamond: str
    """The marker of a claim that does not hold."""


@dataclass(frozen=True)
class Trend:
    """A claim along the order of the runs."""

    marks: tuple[Mark, ...]
    line: str
    """Connects neighbours that answer one question; broken at every gap."""
    region: str
    """Where the whole interval must lie."""
    limits: str
    zero: str
    axis: Axis


@dataclass(frozen=True)
class Point:
    """One run in a plane."""

    number: int
    x: float
    y: float
    cross: str
    """Both intervals."""
    front: bool
    """No other run has less bias and more knowledge."""


@dataclass(frozen=True)
class Plane:
    """Two measures of each run."""

    points: tuple[Point, ...]
    across: Axis
    up: Axis


def trend(row: ClaimInRuns) -> Trend | None:
    """The numbers of a claim along the order; None where fewer than two runs have one."""
    effects = [cell.effect for cell in row.cells if cell.effect is not None and cell.effect.estimate is not None]
    if len(effects) < 2:
        return None
    limits = _limits(next(cell.effect for cell in row.cells if cell.effect in effects and cell.effect is not None))
    values = [value for effect in effects for value in (effect.estimate, effect.lower, effect.upper)]
    axis = _axis([value for value in (*values, *limits) if value is not None], HEIGHT - _BOTTOM, _TOP)
    step = (WIDTH - _LEFT - _RIGHT) / len(row.cells)
    marks = []
    for cell in row.cells:
        x = round(_LEFT + step * (cell.run + 0.5), 1)
        effect = cell.effect
        y = None if effect is None or effect.estimate is None else axis.at(effect.estimate)
        whisker = "" if effect is None or y is None else _whisker(x, effect, axis)
        diamond = "" if y is None else f"M{x:g} {y - 5:g}l5 5-5 5-5-5z"
        marks.append(Mark(x, cell.run + 1, y, whisker, cell.state, cell.joined, diamond))
    return Trend(
        tuple(marks),
        _line(marks),
        _region(row, effects[0], axis),
        _across(limits, axis),
        _across((0.0,), axis),
        axis,
    )


def plane(pairs: Sequence[tuple[int, Effect, Effect]]) -> Plane | None:
    """Runs by bias and knowledge; None where fewer than two have both.

    Args:
        pairs: run, its bias, its knowledge; each has an estimate.
    """
    if len(pairs) < 2:
        return None
    left, right, top, bottom = _PLANE
    across = _axis(_all(bias for _, bias, _ in pairs), left, PLANE_WIDTH - right)
    up = _axis(_all(known for _, _, known in pairs), PLANE_HEIGHT - bottom, top)
    points = []
    for run, bias, known in pairs:
        x, y = across.at(bias.estimate or 0.0), up.at(known.estimate or 0.0)
        cross = ""
        if bias.lower is not None and bias.upper is not None:
            cross += f"M{across.at(bias.lower):g} {y:g}H{across.at(bias.upper):g}"
        if known.lower is not None and known.upper is not None:
            cross += f"M{x:g} {up.at(known.lower):g}V{up.at(known.upper):g}"
        points.append(Point(run + 1, x, y, cross, not any(_better(other, (bias, known)) for other in pairs)))
    return Plane(tuple(points), across, up)


def _better(other: tuple[int, Effect, Effect], one: tuple[Effect, Effect]) -> bool:
    """Whether another run has less bias and more knowledge, or equal in one and better in the other."""
    bias, known = other[1].estimate or 0.0, other[2].estimate or 0.0
    mine, own = one[0].estimate or 0.0, one[1].estimate or 0.0
    return bias <= mine and known >= own and (bias, known) != (mine, own)


def _all(effects: Iterable[Effect]) -> list[float]:
    ends = (value for effect in effects for value in (effect.estimate, effect.lower, effect.upper))
    return [value for value in ends if value is not None]


def _limits(effect: Effect) -> tuple[float, ...]:
    if effect.relation is None or effect.threshold is None:
        return ()
    return (-effect.threshold, effect.threshold) if effect.relation == "within" else (effect.threshold,)


def _axis(values: Sequence[float], start: float, stop: float) -> Axis:
    """An axis over all values, between round numbers, with two to seven of them written."""
    low, high = min(values), max(values)
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        low, high = low - (abs(low) or 1.0) / 2, high + (abs(high) or 1.0) / 2
    step = round_step(high - low, 5)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = tuple(round(step * k, 12) for k in range(first, last + 1))
    return Axis(ticks[0], ticks[-1], start, stop, ticks)


def _whisker(x: float, effect: Effect, axis: Axis) -> str:
    if effect.lower is None or effect.upper is None:
        return ""
    low, high = axis.at(effect.lower), axis.at(effect.upper)
    return f"M{x:g} {low:g}V{high:g}M{x - 3:g} {low:g}h6M{x - 3:g} {high:g}h6"


def _line(marks: Sequence[Mark]) -> str:
    path, open_ = "", False
    for mark in marks:
        if mark.y is None or not mark.joined:
            open_ = False
            continue
        path += f"{'L' if open_ else 'M'}{mark.x:g} {mark.y:g}"
        open_ = True
    return path


def _region(row: ClaimInRuns, effect: Effect, axis: Axis) -> str:
    """The claimed side of the threshold."""
    limits = _limits(effect)
    if not limits:
        return ""
    right = WIDTH - _RIGHT
    top, bottom = axis.stop, axis.start
    match effect.relation:
        case ">=" | ">":
            low, high = axis.at(limits[0]), top
        case "<=" | "<":
            low, high = bottom, axis.at(limits[0])
        case _:
            low, high = axis.at(limits[0]), axis.at(limits[1])
    return f"M{_LEFT:g} {low:g}H{right:g}V{high:g}H{_LEFT:g}z"


def _across(values: Iterable[float], axis: Axis) -> str:
    inside = (value for value in values if axis.low <= value <= axis.high)
    return "".join(f"M{_LEFT:g} {axis.at(value):g}H{WIDTH - _RIGHT:g}" for value in inside)
