"""Scales of drawings: where a value stands along an axis, and which round numbers are written beside it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeGuard

from auditkit.report.figures.numbers import MINUS, number, power_of_ten

_ROUND = (1, 2, 5, 10)
"""Steps between the numbers of an axis, but for a power of ten."""
_PLAIN = range(-3, 6)
"""Powers of ten that the numbers of an axis are written without."""
_LEAST = 1e-290
"""What is nearer to each other than this is drawn as one value: its steps would have too few digits."""


class Ticks(NamedTuple):
    """The numbers of an axis."""

    places: tuple[float, ...]
    names: tuple[str, ...]
    factor: str
    """What every name is multiplied by, for the label of the axis: "×10⁻⁶"; mostly empty."""


@dataclass(frozen=True)
class Span:
    """From values to a share of an axis; `low` may be the larger one."""

    low: float
    high: float
    log: bool = False

    def share(self, value: float) -> float:
        """How far along the axis a value stands, kept between its ends; what has no logarithm stands at the low end."""
        if self.log and value <= 0:
            return 0.0
        low, high, at = (self.on(x) for x in (self.low, self.high, value))
        return min(1.0, max(0.0, (at - low) / (high - low)))

    def on(self, value: float) -> float:
        return math.log10(value) if self.log else value

    def ticks(self, most: int, *, whole: bool = False) -> Ticks:
        """At most about `most` round numbers; `whole` ones only where the axis counts something."""
        if self.log:
            return _powers(self, most)
        low, high = sorted((self.low, self.high))
        step = round_step(high - low, most)
        step = max(1.0, step) if whole else step
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        places = tuple(float(f"{step * k:.12g}") for k in range(first, last + 1))
        names, factor = _names(places, step)
        return Ticks(places, names, factor)


def covering(values: Iterable[float | None], *, margin: float = 0.05, log: bool = False) -> Span:
    """A scale that holds all values, with a margin as a share of it on either side.

    Raises:
        ValueError: the values are too far apart.
    """
    found = [value for value in values if known(value) and not (log and value <= 0)]
    low, high = (min(found), max(found)) if found else (1.0, 1.0) if log else (0.0, 1.0)
    if log:
        low, high = math.log10(low), math.log10(high)
    if high - low <= max(_LEAST, 1e-9 * max(abs(low), abs(high))):
        half = 1.0 if log else abs(low) / 2 if abs(low) > _LEAST else 0.5
        low, high = low - half, high + half
    beyond = margin * (high - low)
    if not math.isfinite(high - low + 2 * beyond):
        raise ValueError("the values are too far apart to be drawn")
    low, high = low - beyond, high + beyond
    return Span(10**low, 10**high, log=True) if log else Span(low, high)


def known(value: float | None) -> TypeGuard[float]:
    """Whether there is a number to draw."""
    return value is not None and math.isfinite(value)


def round_step(span: float, most: int) -> float:
    """The smallest round step that divides `span` into at most `most` parts."""
    power = 10.0 ** math.floor(math.log10(span / most))
    return next(power * times for times in _ROUND if span / (power * times) <= most)


def _names(places: Sequence[float], step: float) -> tuple[tuple[str, ...], str]:
    """The places as text, with as many digits as the step has, and the power of ten that was taken out of all."""
    top = max(map(abs, places), default=0.0)
    power = math.floor(math.log10(top)) if top else 0
    power = 0 if power in _PLAIN else power
    digits = max(0, math.ceil(-math.log10(step) + power - 1e-9))
    if digits > 8:
        return tuple(map(number, places)), ""
    texts = [f"{place / 10.0**power:,.{digits}f}" for place in places]
    names = tuple(text.lstrip("-") if not text.strip("-0.,") else text.replace("-", MINUS) for text in texts)
    return names, f"×{power_of_ten(power)}" if power else ""


def _powers(scale: Span, most: int) -> Ticks:
    """Powers of ten; between few of them 2 and 5 times each as well."""
    low, high = scale.on(scale.low), scale.on(scale.high)
    first, last = math.ceil(low - 1e-9), math.floor(high + 1e-9)
    every = max(1, math.ceil((last - first + 1) / most))
    places = [10.0**power for power in range(first, last + 1, every)]
    if len(places) < 2:
        between = (10.0**power * times for power in range(first - 1, last + 1) for times in (1, 2, 5))
        places = [place for place in between if scale.low <= place <= scale.high]
    if len(places) < 2:
        return Span(scale.low, scale.high).ticks(most)
    return Ticks(tuple(places), tuple(map(number, places)), "")
