"""What the project cites exists: links between pages, documents named in code, sections of protocols."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest
from docpages import PAGES, ROOT, anchors, links, named

pytestmark = pytest.mark.unit

PYTHON = [
    path
    for top in ("auditkit", "suites", "tests", "tools", "examples", "benchmarks")
    for path in (ROOT / top).rglob("*.py")
]
TEXTS = [
    *PYTHON,
    *PAGES,
    ROOT / "pyproject.toml",
    ROOT / "Makefile",
    *(ROOT / ".github").rglob("*.yml"),
    *(ROOT / "auditkit").rglob("*.j2"),
]


@cache
def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@cache
def _anchors(path: Path) -> set[str]:
    return anchors(_text(path))


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(_text(page)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{named(page)}: no such file: {link}"
        if anchor and target.suffix == ".md":
            assert anchor in _anchors(target), f"{named(page)}: no such heading: {link}"


def test_links_are_found() -> None:
    text = "See [a](b.md#c), [`d`](e.md) and `[no](f.md)`.\n\n```\n[no](g.md)\n```\n[![i](j.png)](k.html)\n"
    assert links(text)[:2] == ["b.md#c", "e.md"]
    assert links(text)[2:] == ["k.html"]


def test_anchors_are_those_of_github() -> None:
    text = "# A `B` (c)\n## Rule 10: x, y\n## Rule 10: x, y\n```\n# no\n```\n"
    assert anchors(text) == {"a-b-c", "rule-10-x-y", "rule-10-x-y-1"}


def test_documents_that_are_named_exist() -> None:
    for path in TEXTS:
        for document, anchor in re.findall(r"(?<![\w/])(docs/[\w/-]+\.md)(#[\w-]+)?", _text(path)):
            if path.suffix == ".md" and "X" in document:
                continue  # a placeholder of CONTRIBUTING
            assert (ROOT / document).is_file(), f"{named(path)} names {document}"
            assert not anchor or anchor[1:] in _anchors(ROOT / document), f"{named(path)} names {document}{anchor}"


def test_sections_of_protocols_that_are_cited_exist() -> None:
    pages = (ROOT / "docs" / "protocols").glob("*.md")
    headings = {
        match for page in pages for match in re.findall(r"^### ((?:W\d\.[a-z])|(?:B\.\d)) ", _text(page), re.M)
    }
    assert {"W1.a", "B.1"} <= headings
    cited = {
        (named(path), section)
        for path in PYTHON
        for section in re.findall(r"\b(?:W\d\.[a-z]|B\.\d)\b", _text(path))
        if path != Path(__file__)
    }
    assert {section for _, section in cited}
    assert not {one for one in cited if one[1] not in headings}


def test_no_document_outside_the_repository_is_cited() -> None:
    for path in TEXTS:
        if path != Path(__file__):
            found = re.findall(r"\bdesign\.md|\(design, [A-Z]|\(protocol, ", _text(path))
            assert not found, f"{named(path)} cites {found}"
