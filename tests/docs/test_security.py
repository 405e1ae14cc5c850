"""The tables of docs/security.md are those of the tests."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from docpages import ROOT
from hostile import HOSTILE, KINDS, TEMPLATES

from tests.pytest_plugin.comparing.test_lost_claims import WAYS
from tests.pytest_plugin.processes.test_resume import EDITS, NEEDS_CHAIN

pytestmark = pytest.mark.unit


def between(name: str) -> list[str]:
    text = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    return text.split(f"<!-- {name}: begin -->\n")[1].split(f"<!-- {name}: end -->")[0].splitlines()


def table(head: str, rows: Iterable[tuple[object, ...]]) -> list[str]:
    lines = [f"| {' | '.join(map(str, row))} |" for row in rows]
    return [f"| {head} |", "|" + "---|" * (head.count("|") + 1), *lines]


def test_the_table_of_texts_is_the_corpus() -> None:
    rows = [*((kind, len(texts)) for kind, texts in KINDS.items()), ("all", len(HOSTILE))]
    assert between("texts") == table("what a text tries to be | texts", rows)


def test_the_table_of_lost_claims_is_the_tests() -> None:
    assert between("ways") == [f"- {way.name.replace('_', ' ')}" for way in WAYS]


def test_the_table_of_edits_of_a_journal_is_the_tests() -> None:
    rows = [(name, "yes", "" if name in NEEDS_CHAIN else "yes") for name in EDITS]
    assert between("journal") == table("an edit of | digests as they were | digests made anew", rows)


def test_the_table_of_templates_is_the_tests() -> None:
    rows = [(name, f"`{said}`") for name, (_, said) in TEMPLATES.items()]
    assert between("templates") == table("a template with | the refusal says", rows)
