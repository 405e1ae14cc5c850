"""How exact values, families and exploratory grids read in the report."""

from __future__ import annotations

import msgspec
import pytest

from auditkit.record.schema import Cell, Effect, FamilyPlace, Grid, Run, Verdict
from auditkit.report import wording
from auditkit.report.figures.drawing import cells_of
from auditkit.report.files.markdown import render_markdown
from auditkit.report.page import render_html

pytestmark = pytest.mark.unit


def exact() -> Effect:
    return Effect(
        name="refusals", estimate=0.8, lower=None, upper=None, unit="1", relation=">=", threshold=0.7, alpha=0.0,
        n=40, clusters=40, standardized=None, mde=None, items_needed=None, method="exact", exact=True,
    )  # fmt: skip


def replaced(run: Run, **changes: object) -> Run:
    first = msgspec.structs.replace(run.claims[0], **changes)
    return msgspec.structs.replace(run, claims=(first, *run.claims[1:]))


def test_an_exact_value_says_so_and_shows_no_interval(sample_run: Run) -> None:
    assert wording.effect_text(exact()) == "0.8 exact"
    assert wording.level(exact()) == wording.MISSING
    assert "n=40, the whole population" in wording.line(exact())
    run = replaced(sample_run, effect=exact())
    assert "exact: the items are the whole population" in render_html(run)
    assert "0.8 exact" in render_markdown(run)


@pytest.mark.parametrize(
    ("likely", "assume", "text"),
    [
        ((160, 440), "topic", "needs 4 to 11 times the clusters of topic (17 now), and as many times the runs"),
        ((50, 52), "topic", "needs 1.2 to 1.3 times the clusters of topic (17 now), and as many times the runs"),
        (
            (160, None),
            "topic",
            "needs at least 4 times the clusters of topic (17 now), and as many times the runs",
        ),
        ((4100, None), "topic", "out of reach: needs more than 100 times the runs"),
        (
            (160, 360),
            "topic and pair",
            "needs 2 to 3 times the clusters of topic and pair, crossed as they are (17 now of the fewer), and 4 to 9 "
            "times the runs",
        ),
        (
            (160, 360),
            "topic, with as many of pair",
            "needs 4 to 9 times the clusters of topic, with as many of pair (17 now), and as many times the runs",
        ),
    ],
)
def test_what_would_decide_is_a_range_against_what_there_is(
    sample_run: Run, likely: tuple[int, int | None], assume: str, text: str
) -> None:
    effect = msgspec.structs.replace(exact(), exact=False, clusters=17, items_range=likely, items_assume=assume)
    assert wording.items_needed(effect) == text
    run = replaced(sample_run, effect=effect, verdict=Verdict.INCONCLUSIVE)
    for page in (render_html(run), render_markdown(run), wording.line(effect)):
        assert text in page


def test_a_family_is_named_with_what_it_changed(sample_run: Run) -> None:
    place = FamilyPlace(name="release", size=40, p=0.01, p_adjusted=0.4, alone=Verdict.FAIL, alone_reason="x")
    run = replaced(sample_run, family=place, verdict=Verdict.INCONCLUSIVE)
    text = (
        "release: FAIL corrected by Holm over 40 claims; p = 0.01 if the claim holds, 0.4 corrected; "
        "FAIL if judged alone"
    )
    assert wording.family(run.claims[0]) == text
    assert text in render_html(run)
    assert wording.family(sample_run.claims[0]) == ""


def test_a_grid_whose_cells_have_one_name_does_not_take_it_for_a_site() -> None:
    effect = msgspec.structs.replace(exact(), name="prefix matching minus same distance")
    cells = tuple(Cell(effect=effect, p=0.01, q=0.02, found=True) for _ in range(3))
    table = cells_of(Grid(name="heads", relation=">", threshold=0.0, rate=0.05, cells=cells))
    assert table.columns[0] == "prefix matching minus same distance, by site (not named in the record)"
    assert [row[0] for row in table.rows] == ["1", "2", "3"]


def test_a_grid_is_labelled_exploratory(sample_run: Run) -> None:
    cells = tuple(Cell(effect=exact(), p=0.01, q=q, found=q < 0.05) for q in (0.02, 0.4))
    grid = Grid(name="<heads>", relation=">", threshold=0.0, rate=0.05, cells=cells)
    page = render_html(replaced(sample_run, grids=(grid,)))
    assert "Exploratory: &lt;heads>" in page
    assert "1 of 2 stand out (>" in page
    assert "A grid decides nothing" in page
