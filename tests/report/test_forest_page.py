"""Forest plots in a real browser: nothing overlaps, an interval has room, and everything is there without a drawing."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from markupsafe import Markup

from auditkit.record.schema import Claim, Effect, Run, Verdict
from auditkit.report.figures import forest
from auditkit.report.html import environment, own
from tests.report.conftest import build_run
from tests.report.conftest import effect as sample

pytestmark = pytest.mark.unit

WORDS = "Restoring early MLP layers recovers 58 % of the persona effect [51 % to 65 %]; at least 30 % is needed."
WIDTHS = (360, 390, 768, 961, 1024, 1200, 1400, 1600)

# What the parts of each row take up, by the boxes of their texts and drawings; hidden headings are left out.
BOXES = """() => [...document.querySelectorAll('.forests tbody tr:not(.group)')].map((row) =>
  [...row.cells].map((cell) => {
    const range = document.createRange();
    range.selectNodeContents(cell);
    const drawings = [...cell.querySelectorAll('svg')].map((s) => s.getBoundingClientRect());
    const boxes = [...range.getClientRects(), ...drawings];
    const own = cell.getBoundingClientRect();
    return {
      own: [own.left, own.top, own.right, own.bottom],
      boxes: boxes.filter((b) => b.width > 0).map((b) => [b.left, b.top, b.right, b.bottom]),
      drawn: drawings.map((box) => box.width),
    };
  }))"""


def awkward() -> list[Effect]:
    """Effects whose numbers, units and intervals need much room, or have no place on an axis."""
    long_unit = "standard deviations from the overlap of random sets of units of their sizes"
    return [
        sample(-1.2345e-9, -2.3456e-9, -1.2346e-10, unit=long_unit, threshold=-1.2345e-7),
        sample(123456.789, -987654.321, 999999.999, unit="logit", relation="within", threshold=0.123456),
        sample(0.0, None, None, threshold=0, relation=">", mde=None),
        sample(0.5, None, 0.6), sample(0.5, 0.4, None, relation="<="), sample(None, None, None),
        sample(0.5, 0.4, 0.6, relation=None, threshold=None), sample(0.31, 0.3099, 0.3101),
        sample(0.205, None, None, relation="<=", threshold=0.25, exact=True),
        sample(0.1, -0.2, 0.3, relation="within", threshold=0.25, unit="W" * 60),
    ]  # fmt: skip


def rows() -> list[forest.Row]:
    claims = build_run().claims
    made = [forest.claim_row(claim, words=WORDS) for claim in claims]
    made += [
        forest.Row(f"Row {i} " + "of many words " * (3 * i), one, forest.drawn(one), WORDS, verdict)
        for i, one in enumerate(awkward())
        for verdict in (list(Verdict)[i % 5],)
    ]
    return made


def page_of(**options: Any) -> str:
    """A page of one forest plot, in the style of the report."""
    template = environment().from_string(
        "{% import '_macros.html.j2' as m %}{% import '_forest.html.j2' as forests with context %}"
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>rows</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><style>{{ style }}</style></head>'
        "<body><main>{{ forests.table([('', rows)], **options) }}</main></body></html>"
    )
    return template.render(style=Markup(own("style.css")), rows=rows(), options=options)


@pytest.mark.parametrize("options", [{}, {"verdicts": False}, {"changes": True}])
def test_nothing_overlaps_and_an_interval_has_200_pixels_at_every_width(
    opened: Any, options: dict[str, Any]
) -> None:
    with opened(page_of(**options)) as page:
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), width
            table = page.evaluate(BOXES)
            assert len(table) == len(rows())
            for cells in table:
                for number, cell in enumerate(cells):
                    assert all(drawn >= 200 for drawn in cell["drawn"]), width
                    left, top, right, bottom = cell["own"]
                    for x1, y1, x2, y2 in cell["boxes"]:
                        beyond = max(left - x1, x2 - right, top - y1, y2 - bottom)
                        assert beyond <= 1, f"a text leaves its cell at {width}"
                    for other in cells[number + 1 :]:
                        apart = (
                            right <= other["own"][0] + 1 or other["own"][2] <= left + 1
                            or bottom <= other["own"][1] + 1 or other["own"][3] <= top + 1
                        )  # fmt: skip
                        assert apart, f"two cells overlap at {width}"


def test_on_paper_an_interval_has_200_pixels_too(opened: Any) -> None:
    with opened(page_of(), viewport={"width": 688, "height": 900}) as page:
        page.emulate_media(media="print")
        drawn = [width for cells in page.evaluate(BOXES) for cell in cells for width in cell["drawn"]]
        assert drawn
        assert min(drawn) >= 200


def test_the_table_says_every_number_without_its_drawings(opened: Any) -> None:
    with opened(page_of(), java_script_enabled=False) as page:
        assert page.locator("svg:not([aria-hidden=true])").count() == 0
        said = page.locator(".forests").inner_text()
        for one in awkward():
            for value in (one.estimate, one.lower, one.upper, one.threshold):
                assert value is None or forest.number(value) in said


def test_a_row_is_small(many_claims_run: Run) -> None:
    def size(claims: tuple[Claim, ...]) -> int:
        template = environment().from_string(
            "{% import '_macros.html.j2' as m %}{% import '_forest.html.j2' as forests with context %}"
            "{{ forests.table([('', rows)]) }}"
        )
        bare = [msgspec.structs.replace(claim, statement="s") for claim in claims]
        return len(template.render(rows=[forest.claim_row(claim) for claim in bare]).encode())

    assert size(many_claims_run.claims) / 300 < 1_000, "bytes of a row besides its statement"
