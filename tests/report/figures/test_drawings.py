"""Every kind of figure is drawn: small, without colour alone, with each number in a table."""

from __future__ import annotations

import random
import re
import xml.etree.ElementTree as ET
from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditkit.record.figures import (
    AnyDrawing,
    Cloud,
    Curves,
    Dot,
    DotGroup,
    Dots,
    Heatmap,
    Intersection,
    Points,
    Series,
    Sets,
    Table,
)
from auditkit.record.schema import Run
from auditkit.report.figures.drawing import Measured, Numbers, as_columns, numbers_of, render_svg, text_of
from auditkit.report.figures.heatmap import LEVELS, runs
from auditkit.report.page import render_html
from auditkit.report.wording import number

pytestmark = pytest.mark.unit

SVG = "{http://www.w3.org/2000/svg}"


def heat(rows: int, columns: int, scale: str = "linear", seed: int = 1, **changes: Any) -> Heatmap:
    """Values without any pattern: the worst case for merging cells. Row 1, column 1 is missing."""
    chance = random.Random(seed)
    values = [[chance.uniform(-1, 1) for _ in range(columns)] for _ in range(rows)]
    if scale == "log":
        values = [[10 ** (4 * value) for value in row] for row in values]
    grid: list[list[float | None]] = [list(row) for row in values]
    grid[1][1] = None
    fields = {
        "x_label": "head",
        "y_label": "layer",
        "value_label": "restored",
        "caption": "Each cell is one head.",
        "columns": [f"h{i}" for i in range(columns)],
        "rows": [f"l{i}" for i in range(rows)],
        "values": grid,
        "scale": scale,
    }
    return Heatmap(**(fields | changes))


KINDS: dict[str, AnyDrawing] = {
    "curves": Curves(
        "tokens", "KL", "It falls.", [Series("a", [1, 2, 4], [0.1, 0.0, 1e-3], [None] * 3, [None] * 3)], log=True,
        whole=False,
    ),
    "heads": heat(32, 32, "centred", outlined=[(0, 0), (31, 31)]),
    "small heatmap": heat(3, 4, "centred", lower=[[-1.0] * 4] * 3, upper=[[1.0] * 4] * 3),
    "log": heat(30, 9, "log"),
    "empty heatmap": Heatmap("x", "y", "v", "r", ["a"], [], []),
    "unmeasured heatmap": Heatmap("x", "y", "v", "r", ["a", "b"], ["c"], [[None, None]], scale="log"),
    "constant": Heatmap("x", "y", "v", "r", ["a", "b"], ["c"], [[0.25, 0.25]]),
    "dots": Dots(
        "logits", "Dots.",
        [DotGroup("age", [Dot("young", 0.2, 0.1, 0.3), Dot("old", None, None, None)]), DotGroup("", [])], 0.0,
    ),
    "distributions": Dots(
        "of even spread", "Bands.",
        [DotGroup("one", [Dot("self", 0.4, 0.3, 0.5, [0.0, 0.2, 0.4, 0.6, 0.9]), Dot("neutral", 0.1, None, None)])],
    ),
    "no dots": Dots("logits", "Dots.", []),
    "sets": Sets(
        "units", "Columns.", ["age", "gender"], [12, 31],
        [Intersection([0], 8, 7.5), Intersection([0, 1], 4), Intersection([], 3, 2.5)],
    ),
    "no sets": Sets("units", "Columns.", [], [], []),
    "points": Points("first", "second", "Marks.", [Cloud(name, *2 * [[0.1 * i for i in range(60)]]) for name in "ab"]),
    "no points": Points("first", "second", "Marks.", []),
}  # fmt: skip


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ET.fromstring(svg).iter(f"{SVG}text")]


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_is_drawn_under_a_strict_policy(name: str) -> None:
    figure = KINDS[name].titled("A title")
    svg = render_svg(figure, "f")
    assert len(svg.encode()) < 60_000
    assert "style" not in svg
    assert "<image" not in svg, "no raster"
    assert "nan" not in svg.lower()
    assert "#000000" not in svg
    root = ET.fromstring(svg)
    assert (root[0].text, root[1].text) == ("A title", KINDS[name].caption)
    assert render_svg(figure, "f") == svg


@pytest.mark.parametrize("scale", ["linear", "centred", "log"])
def test_head_maps_stay_small(scale: str) -> None:
    figure = heat(32, 32, scale, outlined=[(i, i) for i in range(32)]).titled("heads")
    svg = render_svg(figure, "plot-12-34-5")
    assert len(svg.encode()) < 60_000
    assert len(list(ET.fromstring(svg).iter(f"{SVG}path"))) < 4 * LEVELS


@given(st.lists(st.sampled_from([None, 0, 1, 2]), max_size=8))
def test_runs_cover_every_cell_once(levels: list[int | None]) -> None:
    covered = Counter((column, level) for level, start, stop in runs(levels) for column in range(start, stop))
    assert covered == Counter((column, level) for column, level in enumerate(levels) if level is not None)
    assert all(levels[stop : stop + 1] != [level] for level, _, stop in runs(levels)), (
        "neighbours of one level are one stroke"
    )


def test_marks_stand_where_colour_would_stand_alone() -> None:
    """Struck below 0, crossed where nothing was measured, framed where outlined; said in a key."""
    plain = heat(15, 15, "centred", values=[[0.5] * 15] * 15)
    assert not [text for text in texts(render_svg(plain.titled("t"), "f")) if "×" in text or "□" in text]
    values: list[list[float | None]] = [[0.5] * 15 for _ in range(15)]
    values[0][0], values[0][1], values[3][4] = -0.5, -0.25, None
    marked = heat(15, 15, "centred", values=values, outlined=[(2, 2)])
    svg = render_svg(marked.titled("t"), "f")
    assert "× not measured · ⁄ below 0 · □ outlined" in texts(svg)
    root = ET.fromstring(svg)
    [sheared] = [group for group in root.iter(f"{SVG}g") if group.get("transform", "").startswith("matrix")]
    assert [path.get("d") for path in sheared] == ["m0 0h1", "m1 0h1"], "light on a dark cell, dark on a light one"
    slanted = re.compile(r"m-?\d+[ -]\d+(?: |(?=-))-?\d+[ -]\d+(?=m|$)")
    marks = [path.get("d", "") for path in root.iter(f"{SVG}path")]
    assert sum(len(slanted.findall(d)) for d in marks) == 2, "one cell crossed"


def test_a_stroke_stands_in_the_middle_of_its_cell_in_every_row() -> None:
    """Places are computed back from the sheared cells: what is drawn at (x, y) of them stands at `matrix` times it."""
    values: list[list[float | None]] = [[0.5] * 20 for _ in range(20)]
    below = [(0, 3), (7, 2), (7, 3), (7, 4), (19, 19)]
    for row, column in below:
        values[row][column] = -0.5
    svg = ET.fromstring(render_svg(heat(20, 20, "centred", values=values).titled("t"), "f"))
    groups = {group.get("transform", ""): group for group in svg.iter(f"{SVG}g")}
    [sheared] = [name for name in groups if name.startswith("matrix")]
    a, _, c, d, e, f = map(float, re.findall(r"-?[\d.]+", sheared))
    [tiles] = [name for name in groups if "scale" in name]
    left, middle, width, height = map(float, re.findall(r"[\d.]+", tiles))
    gap, dash, after = map(float, groups[sheared].get("stroke-dasharray", "").split()[1:])
    assert gap + dash + after == pytest.approx(1), "one dash per cell"
    assert gap == after, "in its middle"
    x = y = 0
    struck = []
    for right, down, length in re.findall(r"m(-?\d+) ?(-?\d+)h(\d+)", groups[sheared][0].get("d", "")):
        x, y = x + int(right), y + int(down)
        for _ in range(int(length)):
            across, down_to = a * (x + 0.5) + c * y + e, d * y + f
            struck.append((round((down_to - middle) / height), (across - left) / width - 0.5))
            x += 1
    assert struck == [(row, pytest.approx(column)) for row, column in below]


def test_small_maps_carry_their_numbers() -> None:
    shown = texts(render_svg(KINDS["small heatmap"].titled("t"), "f"))
    values = [value for row in KINDS["small heatmap"].values for value in row if value is not None]
    assert {number(value) for value in values} <= set(shown)


def test_bar_of_a_centred_scale_reaches_equally_far() -> None:
    values: list[list[float | None]] = [[-1.0, 0.25] * 8] * 16
    svg = render_svg(heat(16, 16, "centred", values=values).titled("t"), "f")
    assert {"−1.0", "0.0", "1.0"} <= set(texts(svg)), "the scale is that of the largest value on either side"


def test_log_scales_are_written_as_numbers() -> None:
    for name in ("log", "curves"):
        assert {"0.01", "0.1"} <= set(texts(render_svg(KINDS[name].titled("t"), "f")))


def test_values_that_cannot_be_told_apart_from_infinity_are_refused() -> None:
    wide = heat(2, 2, values=[[1e308, -1e308], [0.0, 0.0]])
    with pytest.raises(ValueError, match="too far apart"):
        render_svg(wide.titled("t"), "f")


def test_names_stay_text() -> None:
    """Whatever a plotting library or an XML writer would read as a sign."""
    for name in ("$x^2$", "</svg><script>", "_hidden", "a\nb", "\x00\ud800", "W" * 5_000):
        dots = Dots(name, name, [DotGroup(name, [Dot(name, 1.0, 0.5, 2.0)])])
        heatmap = Heatmap(name, name, name, name, [name] * 2, [name], [[1.0, 2.0]])
        sets = Sets(name, name, [name, name], [1, 2], [Intersection([0], 1)])
        lines = Curves(name, name, name, [Series(name, [0.0], [1.0], [0.5], [2.0])] * 2)
        for drawing in (dots, heatmap, sets, lines):
            svg = render_svg(drawing.titled(name), "f")
            assert len(svg) < 60_000
            assert any(
                text.startswith(name.replace("\n", " ")[:4].replace("\x00\ud800", "�")) for text in texts(svg)
            )


def test_tables_hold_every_number() -> None:
    [curves] = numbers_of(KINDS["curves"])
    assert curves.columns == ("tokens", "a")
    assert curves.rows[1] == (2, 0.0)
    [cells] = numbers_of(KINDS["small heatmap"])
    assert cells.columns == ("layer", "h0", "h1", "h2", "h3")
    assert cells.rows[1][2] is None
    assert text_of(cells.rows[2][1]).endswith(" [−1, 1]")
    [dots] = numbers_of(KINDS["dots"])
    assert dots.rows == (("young", "age", Measured(0.2, 0.1, 0.3)), ("old", "age", None))
    [spread] = numbers_of(KINDS["distributions"])
    assert spread.columns[3:] == tuple(f"{share} % of values below" for share in (10, 25, 50, 75, 90))
    assert [row[3:] for row in spread.rows] == [(0.0, 0.2, 0.4, 0.6, 0.9), ("",) * 5]
    shared, whole = numbers_of(KINDS["sets"])
    assert shared.rows == (("age", 8, 7.5), ("age and gender", 4, None), ("none of them", 3, 2.5))
    assert whole.rows == (("age", 12), ("gender", 31))


def test_numbers_as_text_are_those_of_a_spreadsheet() -> None:
    """Signs that programs read, a column for each end of an interval, and names that cannot add a cell."""
    assert as_columns(Numbers("", ("=1+1",), (("@SUM(A1)",),))).lines == "'=1+1\n'@SUM(A1)"
    rows = (("a\tb\nc", Measured(-1.25e-7, -2.0, 3e7)), ("d", None), ("e", 12345.6))
    lines, stop, halved = as_columns(Numbers("", ("name", "value"), rows))
    assert lines.split("\n") == [
        "name\tvalue\tlower\tupper",
        "a b c\t-1.25e-07\t-2\t30000000",
        "d\t—\t—\t—",
        "e\t12346\t—\t—",
    ]
    assert stop == 12
    assert not halved


def test_an_interval_that_reaches_as_far_to_both_sides_is_one_number() -> None:
    """To two digits, and the value to the last of these: what a reader computes from them are its ends."""
    even = Measured(0.0251, 0.02454, 0.02566)
    rows = (("a", even), ("b", Measured(0.00782, 0.0055, 0.01014)), ("c", None), ("d", ""))
    lines, _, halved = as_columns(Numbers("", ("name", "value"), rows))
    assert lines.split("\n") == [
        "name\tvalue\t±",
        "a\t.0251\t.00056",
        "b\t.0078\t.0023",
        "c\t—\t—",
        "d\t\t",
    ]
    assert halved
    uneven = (*rows, ("e", Measured(0.5, 0.4, 0.7)))
    assert as_columns(Numbers("", ("name", "value"), uneven)).lines.startswith(
        "name\tvalue\tlower\tupper\na\t.0251\t.0245\t.0257"
    )


def test_round_markers_and_long_paths_are_written_once() -> None:
    points = Points("x", "y", "r", [Cloud("a", [float(i) for i in range(40)], [float(i % 3) for i in range(40)])])
    svg = render_svg(points.titled("t"), "f", apart=True)
    assert svg.count("h0") >= 40, "a dot for each point"
    assert "<title" not in svg
    assert len(svg) < 3_500


def test_series_with_places_of_their_own_share_one_table() -> None:
    few = Series("few", [1, 3], [0.5, None], [0.4, None], [0.6, None])
    twice = Series("twice", [3, 3], [1.0, 2.0], [None, None], [None, None])
    [table] = numbers_of(Curves("layer", "value", "r", [few, twice]))
    assert table.columns == ("layer", "few", "twice")
    assert table.rows == ((1, Measured(0.5, 0.4, 0.6), ""), (3, None, 1.0), (3, "", 2.0))
    assert table.of_words == (False, False, False)


def test_page_shows_every_kind(sample_run: Run) -> None:
    table = Table(
        "Each row is a group.", ["group", "n", "said"], [["women", 40, "<b>yes</b>"], ["men", None, "no"]]
    )
    figures = tuple(drawing.titled(f"Kind {name}") for name, drawing in KINDS.items())
    claim = msgspec.structs.replace(sample_run.claims[0], figures=(*figures, table.titled("Kind table")))
    page = render_html(msgspec.structs.replace(sample_run, claims=(claim,)))
    for figure in claim.figures:
        assert f">{figure.title}<" in page
        assert f">{figure.data['caption']}<" in page
    assert page.count("class=plot") == len(KINDS)
    assert '<table class="data w3">' in page, "the third column holds words"
    assert "<td>&lt;b>yes" in page
    assert re.search(r"\b(nan|inf|None)\b", re.sub(r"<script.*?</script>", "", page, flags=re.S)) is None


def test_a_figure_that_cannot_be_drawn_still_shows_its_numbers(sample_run: Run) -> None:
    wide = heat(2, 2, values=[[1e308, -1e308], [0.0, 12.5]]).titled("Wide")
    claim = msgspec.structs.replace(sample_run.claims[0], figures=(wide,))
    page = render_html(msgspec.structs.replace(sample_run, claims=(claim,)))
    assert "its data cannot be drawn: the values are too far apart" in page
    assert "<td>12.5<" in page
