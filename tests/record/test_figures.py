"""Figures are numbers: they come back from the record as they went in, and ill-shaped ones are refused."""

import base64

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditkit.record.figures import (
    KINDS,
    Band,
    Cloud,
    Curves,
    Dot,
    DotGroup,
    Dots,
    Heatmap,
    Image,
    Intersection,
    Points,
    Series,
    Sets,
    Table,
    drawing_of,
)
from auditkit.record.schema import Effect, Figure

pytestmark = pytest.mark.unit

numbers = st.none() | st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@st.composite
def curves(draw):
    n = draw(st.integers(0, 4))
    column = st.lists(numbers, min_size=n, max_size=n)
    series = [Series(draw(texts), list(map(float, range(n))), draw(column), draw(column), draw(column))]
    return Curves(draw(texts), draw(texts), draw(texts), series, [Band("b", 0.0, 2.0)], draw(numbers))


@st.composite
def heatmaps(draw):
    rows, columns = draw(st.integers(0, 3)), draw(st.integers(1, 3))
    row = st.lists(numbers, min_size=columns, max_size=columns)
    grid = st.lists(row, min_size=rows, max_size=rows)
    names = [draw(texts) for _ in range(max(rows, columns))]
    return Heatmap("x", "y", "z", "r", names[:columns], names[:rows], draw(grid), draw(st.none() | grid))


@st.composite
def dots(draw):
    spread = st.just([]) | st.lists(st.floats(-9, 9), min_size=5, max_size=5).map(sorted)
    made = st.builds(Dot, texts, numbers, numbers, numbers, spread)
    return Dots("x", "r", [DotGroup(draw(texts), draw(st.lists(made, max_size=3)))], draw(numbers))


tables = st.builds(
    lambda rows: Table("r", ["name", "value"], rows), st.lists(st.tuples(texts, numbers).map(list), max_size=3)
)
overlaps = st.builds(
    lambda size, expected: Sets("units", "r", ["a", "b"], [3, 4], [Intersection([0, 1], size, expected)]),
    st.integers(0, 9),
    numbers,
)

points = st.builds(
    lambda places: Points("x", "y", "r", [Cloud("a", *map(list, zip(*places, strict=True)))]),
    st.lists(st.tuples(*2 * [st.floats(-9, 9)]), min_size=1, max_size=3),
)


@given(st.one_of(curves(), heatmaps(), dots(), tables, overlaps, points))
def test_a_drawing_comes_back_as_it_went_in(drawing):
    figure = msgspec.json.decode(msgspec.json.encode(drawing.titled("t")), type=Figure)
    assert figure.title == "t"
    assert msgspec.json.encode(drawing_of(figure)) == msgspec.json.encode(drawing)
    assert type(drawing_of(figure)) is type(drawing) is KINDS[figure.kind]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Series("s", [0, 1], [1], [1], [1]), "different lengths"),
        (lambda: Heatmap("", "", "", "", ["a", "b"], ["r"], [[1.0]]), "another shape"),
        (lambda: Heatmap("", "", "", "", ["a"], ["r"], [[1.0]], [[1.0], [2.0]]), "another shape"),
        (lambda: Heatmap("", "", "", "", ["a"], ["r"], [[1.0]], outlined=[(0, 1)]), "outside"),
        (lambda: Table("", ["a", "b"], [["x"]]), "another length"),
        (lambda: Cloud("a", [1], []), "1 places along x and 0 along y"),
        (lambda: Sets("units", "", ["a"], [], []), "name and a size"),
        (lambda: Sets("units", "", ["a"], [1], [Intersection([1], 1)]), "not there"),
    ],
)
def test_ill_shaped_numbers_are_refused(make, says):
    with pytest.raises(ValueError, match=says):
        make()


def test_data_of_another_kind_are_refused_with_their_path():
    with pytest.raises(ValueError, match=r"series"):
        drawing_of(
            Figure(title="t", kind="curves", data={"x_label": "", "y_label": "", "caption": "", "series": 3})
        )


DOT = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)


def test_an_image_is_kept_as_it_is() -> None:
    image = Image.of(DOT, caption="A dot.", alt="one dot")
    assert image.media_type == "image/png"
    assert base64.b64decode(image.content) == DOT
    assert drawing_of(image.titled("Dot")) == image


@pytest.mark.parametrize(
    ("media_type", "content", "message"),
    [
        ("image/png", "no base64!", "must be base64"),
        ("image/png", base64.b64encode(b"<svg onload=alert(1)>").decode(), "begin as such a file does"),
        ("image/svg+xml", base64.b64encode(b"<svg/>").decode(), "one of image/png, image/jpeg, image/gif"),
        ("image/jpeg", base64.b64encode(DOT).decode(), "begin as such a file does"),
        ("image/png", base64.b64encode(DOT + bytes(2**20)).decode(), "may have 1048576 bytes"),
    ],
)
def test_what_is_no_image_is_refused(media_type: str, content: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Image("r", "a", media_type, content)
    with pytest.raises(ValueError, match=message):
        drawing_of(Figure(title="t", kind="image", data={
            "caption": "r", "alt": "a", "media_type": media_type, "content": content,
        }))  # fmt: skip
    with pytest.raises(ValueError, match="must be one of"):
        Image.of(b"%PDF-1.7", caption="r", alt="a")


@pytest.mark.parametrize("spread", [[1.0, 2.0, 3.0], [1.0, 2.0, 3.0, 5.0, 4.0]])
def test_a_spread_is_rising_quantiles(spread: list[float]) -> None:
    with pytest.raises(ValueError, match="the spread of 'a' must be 5 rising quantiles"):
        Dot("a", 0.0, None, None, spread)


effects = st.builds(
    lambda estimate, lower, upper: Effect(
        name="", estimate=estimate, lower=lower, upper=upper, unit="1", relation=None, threshold=None, alpha=0.05,
        n=1, clusters=1, standardized=None, mde=None, items_needed=None, method="",
    ),
    numbers, numbers, numbers,
)  # fmt: skip


@given(st.lists(effects, max_size=5))
def test_an_effect_keeps_its_interval_in_a_drawing(drawn: list[Effect]) -> None:
    line = Series.through("s", range(len(drawn)), drawn)
    dots = [Dot.at("d", effect) for effect in drawn]
    assert line.x == list(range(len(drawn)))
    for k, effect in enumerate(drawn):
        assert (line.y[k], line.lower[k], line.upper[k]) == (effect.estimate, effect.lower, effect.upper)
        assert (dots[k].estimate, dots[k].lower, dots[k].upper) == (effect.estimate, effect.lower, effect.upper)
