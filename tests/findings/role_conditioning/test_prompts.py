"""The project's own role prompts, and the reader of lists by category."""

from __future__ import annotations

from pathlib import Path

import pytest

from auditkit.data.errors import DataError
from auditkit.findings.role_conditioning.prompts.sets import CATEGORIES, role_lists, role_sets

pytestmark = pytest.mark.unit


def test_there_are_enough_sets_and_frames() -> None:
    sets = role_sets()
    assert len(sets) >= 60
    assert len({each.frame for each in sets}) >= 30
    assert len({each.id for each in sets}) == len(sets)


@pytest.mark.parametrize("each", role_sets(), ids=lambda each: each.id)
def test_the_four_of_a_set_differ_in_their_subject_alone(each) -> None:
    texts = {category: text.split() for category, text in each.prompts.items()}
    assert tuple(texts) == CATEGORIES
    assert len({len(words) for words in texts.values()}) == 1
    assert "you" in texts["self"]
    assert "I" in texts["confounder"]
    assert {"she", "he"} & set(texts["third"])
    assert not {"you", "I", "she", "he", "your", "my"} & set(texts["neutral"])
    agreeing = {"do", "does", "are", "am", "is", "were", "was", "have", "has"}
    for category in ("confounder", "third", "neutral"):
        differing = [(a.lower(), b.lower()) for a, b in zip(texts["self"], texts[category], strict=True) if a != b]
        assert sum("you" in pair for pair in differing) == 1
        assert all("you" in pair or set(pair) <= agreeing for pair in differing)


def test_lists_of_unequal_size_are_read(tmp_path: Path) -> None:
    file = tmp_path / "prompts.csv"
    file.write_text(
        "category,prompt\nself,Who are you?\nneutral,What is rain?\nneutral,What is rain?\nconfounder,Who am I?\n"
    )
    lists = role_lists(str(file))
    assert dict(lists) == {"self": ("Who are you?",), "confounder": ("Who am I?",), "neutral": ("What is rain?",)}
    lines = tmp_path / "prompts.jsonl"
    rows = ['{"category": "self", "prompt": "a you"}', '{"category": "neutral", "prompt": "b"}', ""]
    lines.write_text("\n".join([*rows, '{"category": "confounder", "prompt": "c"}']))
    assert role_lists(str(lines))["self"] == ("a you",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("category,text\nself,a\n", "column prompt: missing column"),
        ("category,prompt\nyou,a\n", "category: 'you' is none of self, confounder, third, neutral"),
        ("category,prompt\nself,\n", "line 2, prompt: empty"),
        ("category,prompt\nself,a\nneutral,a\n", "'a' is already in category self"),
        ("category,prompt\nself,a\nneutral,b\n", "no prompt of category 'confounder'"),
    ],
)
def test_bad_lists_are_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "prompts.csv"
    file.write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        role_lists(str(file))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sets = 1", "no frame"),
        ("[frames]\ncan = [['a', 'b', 'c']]", "frame can, set 1: needs four texts"),
        ("[frames]\ncan = [['a', 'b', 'c', ' d']]", "has outer spaces"),
        ("[frames]\ncan = [['a', 'b', 'c', 'a']]", "'a' is already in the file"),
        ("[frames", "Expected"),
    ],
)
def test_bad_sets_are_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "sets.toml"
    file.write_text(text)
    with pytest.raises(DataError, match=message):
        role_sets(file)
