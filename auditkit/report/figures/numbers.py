"""How a number is written for readers: three significant digits, and a dash where nothing could be measured."""

from __future__ import annotations

import math

MISSING = "—"
"""Stands where a number could not be measured; the reason always stands next to it."""

MINUS = "\N{MINUS SIGN}"

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def number(value: float | None) -> str:
    """A number for readers: three significant digits, never fewer digits than stand before the point.

    Exactly short numbers stay short (a threshold of 0.3 is not shown as 0.300); integers are shown whole;
    very small and very large values get a power of ten. Missing and non-finite values become an em dash.
    """
    if value is None or not math.isfinite(value):
        return MISSING
    if isinstance(value, int):
        return f"{value:,}".replace("-", MINUS)
    short = f"{value:.3g}"
    rounded = float(short)
    if rounded == 0:
        return "0"  # also for -0.0
    size = abs(rounded)
    if size < 1e-4 or size >= 1e6:
        mantissa, exponent = short.split("e")
        text = f"{mantissa}×{power_of_ten(int(exponent))}"
    elif size >= 1000:
        text = f"{value:,.0f}"
    elif rounded == value:
        text = f"{value:g}"
    else:
        text = f"{value:.{2 - math.floor(math.log10(size))}f}"
    return text.replace("-", MINUS)


def power_of_ten(power: int) -> str:
    """ "10⁻⁶"."""
    return f"10{str(power).translate(_SUPERSCRIPTS)}"
