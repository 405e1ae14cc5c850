"""Figures: inline SVG without styles, unique identifiers, small, reproducible."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from typing import Any

import msgspec
import pytest

from auditkit.record.schema import Figure, Run
from auditkit.report import render_html
from auditkit.report.figures.drawing import render_svg

pytestmark = pytest.mark.unit


@pytest.fixture
def figure(sample_run: Run) -> Figure:
    return sample_run.claims[0].figures[0]


def changed(figure: Figure, **data: Any) -> Figure:
    return msgspec.structs.replace(figure, data=figure.data | data)


def test_drawing_works_under_a_strict_policy(figure: Figure) -> None:
    svg = render_svg(figure, "f")
    assert "style" not in svg
    assert "<metadata" not in svg
    assert len(svg.encode()) < 60_000
    root = ET.fromstring(svg)
    assert root.get("role") == "img"
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"Layer", "MLP output", "Attention output", "claimed layers", "25"} <= set(texts)
    assert root[0].text == figure.title
    assert root[1].text == figure.data["caption"]


def test_identifiers_carry_the_prefix_and_references_resolve(figure: Figure) -> None:
    svg = render_svg(figure, "f7")
    ids = re.findall(r'\bid="([^"]+)"', svg)
    assert ids
    assert all(name.startswith("f7-") for name in ids)
    assert len(set(ids)) == len(ids)
    assert set(re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', svg)) - {("", name) for name in ids} <= {
        (name, "") for name in ids
    }


def test_text_follows_the_page_colour(figure: Figure) -> None:
    svg = render_svg(figure, "f")
    assert "#000000" not in svg
    assert "currentColor" in svg


def test_same_data_same_bytes(figure: Figure) -> None:
    assert render_svg(figure, "f") == render_svg(figure, "f")


def test_sparse_data_can_be_drawn(figure: Figure) -> None:
    one = {"name": "one", "x": [3], "y": [0.5], "lower": [None], "upper": [None]}
    gap = {
        "name": "gap",
        "x": [0, 1, 2],
        "y": [0.5, None, 0.2],
        "lower": [0.4, None, 0.1],
        "upper": [0.6, None, 0.3],
    }
    for series in ([], [one], [gap], [one, gap] * 4):
        svg = render_svg(changed(figure, series=series, bands=[], reference=None), "f")
        assert "nan" not in svg.lower()


@pytest.mark.parametrize(
    "data",
    [
        {"series": [{"name": "short", "x": [0, 1], "y": [0.1], "lower": [0.1], "upper": [0.1]}]},
        {"series": "none"},
        {"reference": "high"},
        {"series": [{"name": "huge", "x": [0, 1], "y": [1e308, -1e308], "lower": [0, 0], "upper": [0, 0]}]},
    ],
)
def test_malformed_data_cost_the_figure_only(sample_run: Run, figure: Figure, data: dict[str, Any]) -> None:
    bad = changed(figure, **data)
    with pytest.raises(ValueError, match=r"series|reference|lists|array|float|too far apart"):
        render_svg(bad, "f")
    claim = msgspec.structs.replace(sample_run.claims[0], figures=(bad,))
    html = render_html(msgspec.structs.replace(sample_run, claims=(claim,)))
    assert "its data cannot be drawn" in html
    assert claim.statement in html
