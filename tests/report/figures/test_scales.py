"""Scales: round numbers beside an axis, every value in its place, and no value that can be mistaken for another."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from auditkit.report.figures.scales import Span, covering, round_step
from auditkit.report.figures.svg import Line, path

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("low", "high", "names", "factor"),
    [
        (0, 29, ("0", "5", "10", "15", "20", "25"), ""),
        (-0.31, 0.31, ("−0.2", "0.0", "0.2"), ""),
        (0, 2.1e-6, ("0", "1", "2"), "×10⁻⁶"),
        (0, 20_000, ("0", "5,000", "10,000", "15,000", "20,000"), ""),
        (3e6, 5e6, ("3.0", "3.5", "4.0", "4.5", "5.0"), "×10⁶"),
        (1.5, -0.5, ("−0.5", "0.0", "0.5", "1.0", "1.5"), ""),
    ],
)
def test_numbers_of_an_axis_are_round(low: float, high: float, names: tuple[str, ...], factor: str) -> None:
    ticks = Span(low, high).ticks(6 if high > 1 or low > 1 else 4)
    assert (ticks.names, ticks.factor) == (names, factor)


def test_what_counts_something_has_whole_numbers() -> None:
    assert Span(0, 2).ticks(8, whole=True).places == (0, 1, 2)


def test_a_logarithmic_axis_has_powers_of_ten_or_what_stands_between_them() -> None:
    assert Span(0.002, 40, log=True).ticks(8).names == ("0.01", "0.1", "1", "10")
    assert Span(3, 60, log=True).ticks(8).names == ("5", "10", "20", "50")
    assert len(Span(1e-30, 1e30, log=True).ticks(8).places) <= 9
    assert len(Span(3.1, 3.4, log=True).ticks(8).places) >= 2


@given(st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=8), st.integers(2, 9))
@example([5e-324], 2)
@example([0.0, 5e-324], 2)
@example([1e-300, 2e-300], 5)
def test_an_axis_holds_its_values_and_its_numbers_are_in_order(values: list[float], most: int) -> None:
    scale = covering(values)
    assert all(0 <= scale.share(value) <= 1 for value in values)
    ticks = scale.ticks(most)
    assert list(ticks.places) == sorted(set(ticks.places))
    assert 1 <= len(ticks.places) <= most + 1
    assert len(set(ticks.names)) == len(ticks.names), "two places that are written alike"


def test_what_has_no_logarithm_stands_at_the_low_end() -> None:
    scale = covering([0.0, -1.0, 0.1, 10.0, None, math.nan], log=True)
    assert scale.low < 0.1 < 10.0 < scale.high
    assert scale.share(0.0) == 0.0


@given(st.floats(1e-12, 1e12), st.integers(2, 9))
def test_a_step_is_the_smallest_round_one_that_fits(span: float, most: int) -> None:
    step = round_step(span, most)
    assert span / step <= most * (1 + 1e-9)
    assert f"{step:e}"[0] in "125"


@given(st.lists(st.lists(st.tuples(st.integers(0, 500), st.integers(0, 500)), min_size=1, max_size=5), max_size=4))
def test_steps_of_a_path_lead_where_its_lines_lead(lines: list[list[tuple[int, int]]]) -> None:
    """Read back by the rules of SVG: what follows a move is a line."""
    data = path(Line(tuple(places), closed=True) for places in lines)
    met: list[list[tuple[float, float]]] = []
    x = y = 0.0
    for command, numbers in _commands(data):
        if command == "m":
            (x, y), rest = (x + numbers[0], y + numbers[1]), numbers[2:]
            met.append([(x, y)])
        elif command == "z":
            x, y = met[-1][0]
            continue
        else:
            rest = numbers if command == "l" else [numbers[0], 0.0] if command == "h" else [0.0, numbers[0]]
        for across, down in zip(rest[::2], rest[1::2], strict=True):
            x, y = x + across, y + down
            met[-1].append((x, y))
    assert met == [[(2 * a, 2 * b) for a, b in _without_repeats(places)] for places in lines]


def _without_repeats(places: list[tuple[int, int]]) -> list[tuple[int, int]]:
    kept = [place for place, before in zip(places, [None, *places], strict=False) if place != before]
    return [places[0], places[0]] if len(places) == 2 and len(kept) == 1 else kept


def _commands(data: str) -> list[tuple[str, list[float]]]:

    return [
        (command, [float(number) for number in re.findall(r"-?\d+", numbers)])
        for command, numbers in re.findall(r"([mlhvz])([^mlhvz]*)", data)
    ]
