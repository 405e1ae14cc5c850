"""The index of decisions and the pages of decisions say the same."""

from __future__ import annotations

import re

import pytest
from docpages import ROOT, anchors

pytestmark = pytest.mark.unit

FOLDER = ROOT / "docs" / "decisions"
PAGES = {
    path.stem: path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob("*.md")) if path.stem != "README"
}
ENTRY = re.compile(r"^### (?P<title>.+)\n\nDate: (?P<date>\d{4}-\d\d-\d\d)\. Status: (?P<status>.+)\.$", re.M)
ROW = re.compile(r"^\| (\d{4}-\d\d-\d\d) \| \[(.+)\]\((\w+)\.md#([\w-]+)\) \| (\w+) \| (\w+) \|$", re.M)


def test_every_entry_has_a_date_and_a_status() -> None:
    for page, text in PAGES.items():
        assert len(ENTRY.findall(text)) == len(re.findall(r"^### ", text, re.M)), page
        for entry in ENTRY.finditer(text):
            assert re.fullmatch(r"accepted|(?:amended|superseded) by \[.+\]\(.+\)", entry["status"]), entry[
                "title"
            ]


def test_the_index_has_every_entry_once() -> None:
    index = (FOLDER / "README.md").read_text(encoding="utf-8")
    rows = [(date, title, page, status) for date, title, page, _, status, _ in ROW.findall(index)]
    entries = [
        (entry["date"], entry["title"], page, entry["status"].split()[0])
        for page, text in PAGES.items()
        for entry in ENTRY.finditer(text)
    ]
    assert sorted(rows) == sorted(entries)
    assert all(
        page == again and anchor in anchors(PAGES[page]) for *_, page, anchor, _, again in ROW.findall(index)
    )


def test_a_superseded_rule_is_not_what_the_suite_asks() -> None:
    """W1.c was once asked within 0.20."""
    text = PAGES["persona_patching"]
    entry = text.split("### `first MLP = all positions` has a margin of 0.20")[1].split("###")[0]
    assert "superseded by [The same at the word and everywhere means within 0.05 logits]" in entry
