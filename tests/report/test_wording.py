"""Numbers and comparisons in words."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditkit.record.schema import Effect
from auditkit.report import wording
from auditkit.report.html import own

pytestmark = pytest.mark.unit


def effect(**changes: Any) -> Effect:
    fields: dict[str, Any] = {
        "name": "e",
        "estimate": 0.5,
        "lower": 0.4,
        "upper": 0.6,
        "unit": "logit",
        "relation": ">=",
        "threshold": 0.3,
        "alpha": 0.05,
        "n": 96,
        "clusters": 12,
        "standardized": None,
        "mde": None,
        "items_needed": None,
        "method": "t",
    }
    return Effect(**(fields | changes))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "—"),
        (float("nan"), "—"),
        (float("inf"), "—"),
        (0, "0"),
        (0.0, "0"),
        (-0.0, "0"),
        (-1e-12, "−1×10⁻¹²"),
        (0.3, "0.3"),
        (0.58324, "0.583"),
        (0.58, "0.58"),
        (0.58003, "0.580"),
        (-0.86951, "−0.870"),
        (0.99961, "1.00"),
        (1.0, "1"),
        (12.345, "12.3"),
        (99.96, "100"),
        (123.4, "123"),
        (1234.5, "1,234"),
        (1.53e-5, "1.53×10⁻⁵"),
        (0.00012345, "0.000123"),
        (2.5e7, "2.5×10⁷"),
        (134_515_008, "134,515,008"),
        (-7, "−7"),
    ],
)
def test_number(value: float | None, text: str) -> None:
    assert wording.number(value) == text


@given(st.floats(-1e300, 1e300))
def test_number_keeps_three_digits_and_its_sign(value: float) -> None:
    text = wording.number(value)
    assert "-" not in text
    assert text not in {"−0", ""}
    back, _, power = text.replace("−", "-").replace(",", "").partition("×10")
    exponent = int(power.translate(str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")) or 0)
    assert float(f"{back}e{exponent}") == pytest.approx(value, rel=5.1e-3)


def test_number_at_the_edge_of_floats() -> None:
    assert wording.number(1.7976931348623157e308) == "1.8×10³⁰⁸"
    assert wording.number(-5e-324) == "−4.94×10⁻³²⁴"


def test_comparisons() -> None:
    assert wording.effect_text(effect()) == "0.5 [0.4, 0.6] logit"
    assert wording.effect_text(effect(unit="1", lower=None, upper=None)) == "0.5 —"
    assert wording.effect_text(None) == "—"
    assert wording.interval(effect(lower=None)) == "[—, 0.6]"
    assert wording.threshold(effect()) == "≥ 0.3"
    assert wording.threshold(effect(relation="within", threshold=0.1)) == "within ±0.1"
    assert wording.threshold(effect(relation=None)) == "—"
    assert wording.level(effect()) == "95 %"
    assert wording.items_needed(effect(items_needed=236, items_range=(192, 480))) == (
        "needs 2 to 5 times the items (12 now), and as many times the runs"
    )
    assert wording.items_needed(effect()) == "—"


def test_distance_counts_half_widths() -> None:
    at_least = effect(estimate=0.5, lower=0.4, upper=0.6, threshold=0.3, relation=">=")
    assert wording.distance(at_least) == "clear of the threshold by 2 times the interval's half-width"
    within = msgspec.structs.replace(at_least, relation="within")
    assert wording.distance(within) == "short of the threshold by 2 times the interval's half-width"
    near = msgspec.structs.replace(at_least, estimate=0.49, lower=0.39, upper=0.59, threshold=0.5)
    assert wording.distance(near) == "short of the threshold by 0.1 of the interval's half-width"
    for missing in ({"estimate": None}, {"lower": None}, {"relation": None}, {"lower": 0.6}):
        assert wording.distance(msgspec.structs.replace(at_least, **missing)) == ""


def test_a_verdict_has_the_same_glyph_on_the_page_as_in_every_other_output() -> None:
    style = own("style.css")
    for verdict, glyph in wording.GLYPHS.items():
        assert (
            f'.verdict.{verdict.value.lower()}::before {{ content: "{glyph}"; content: "{glyph}" / ""; }}' in style
        )
