"""The page of several runs: complete without scripts, the same bytes again, no text becomes markup, every width."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hostile import HOSTILE, Document, replace_text

from auditkit.record.schema import Run
from auditkit.report.several import words
from auditkit.report.several.matrix import scorecard
from auditkit.report.several.page import render_several

pytestmark = pytest.mark.unit

replace = msgspec.structs.replace
WIDTHS = (390, 600, 768, 1024, 1400, 1600)


def test_the_page_says_the_sentences_first_and_shows_every_number(ten: list[Run]) -> None:
    html = render_several(ten)
    page = Document(html)
    text = " ".join(page.text.split())
    card = scorecard(ten)
    for sentence in words.sentences(card):
        assert sentence in text
    assert text.index(words.sentences(card)[0]) < text.index("Scorecard")
    for change in words.changed(card):
        assert change.sentence in text
    assert text.count("0.75 [0.69, 0.81]") == 1, "one number stands once"
    assert "not in this run" not in text
    assert "1 claim of this suite has no answer in any run: not readable. composition/task_vectors" in text
    targets = {value.removeprefix("#") for _, name, value in page.attributes if name == "href"}
    assert targets <= set(page.ids)
    assert len(set(page.ids)) == len(page.ids)


def test_the_same_runs_give_the_same_page_without_a_script(ten: list[Run]) -> None:
    html = render_several(ten)
    assert html == render_several(ten)
    assert "<script" not in html
    assert 'style="' not in html
    assert "script-src 'none'" in html.replace("&#39;", "'")


@pytest.mark.parametrize("text", HOSTILE[::7])
def test_hostile_text_stays_text(ten: list[Run], text: str) -> None:
    def page(word: str) -> Document:
        runs = [replace_text(run, lambda old: f"{word} {old}") for run in ten[:3]]
        return Document(render_several(runs, f"{word} a note"))

    hostile, harmless = page(text), page("x")
    assert hostile.elements == harmless.elements
    assert "x a note" in harmless.text


@pytest.mark.parametrize("scripts", [True, False])
def test_ten_runs_can_be_read_at_every_width(opened: Any, ten: list[Run], scripts: bool) -> None:
    with opened(render_several(ten), java_script_enabled=scripts) as page:
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            page.evaluate("document.querySelectorAll('details').forEach((box) => (box.open = true))")
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth") is True, width
            small = page.evaluate("Math.min(...[...document.querySelectorAll('svg.trend')].filter((s) => "
                                  "s.checkVisibility()).map((s) => s.getBoundingClientRect().width))")  # fmt: skip
            assert small >= 200, width
        page.set_viewport_size({"width": 1400, "height": 900})
        fits = page.evaluate(
            """[...document.querySelectorAll('#scorecard .scroll, #claims .scroll')]
            .every((box) => box.scrollWidth <= box.clientWidth)"""
        )
        assert fits, "ten runs stand beside each other"
        cut = page.evaluate(
            """[...document.querySelectorAll('.matrix td')].filter((cell) => cell.checkVisibility() &&
            cell.scrollWidth > cell.clientWidth + 1).length"""
        )
        assert cut == 0


def test_nothing_in_a_run_executes(opened: Any, ten: list[Run]) -> None:
    runs = [replace_text(run, lambda old: " ".join([*HOSTILE, old])) for run in ten[:2]]
    with opened(render_several(runs)) as page:
        assert page.title().startswith("2 runs compared")


def test_two_runs_without_anything_in_common_say_so(ten: list[Run], empty_run: Run) -> None:
    html = render_several([ten[0], empty_run])
    assert "not in this run" in html
    assert "Nothing was compared: no run holds a claim." in render_several([empty_run, empty_run])
