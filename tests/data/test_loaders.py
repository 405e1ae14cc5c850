"""Every loader on a clean file, a file of which part can be used, and one of which nothing can."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from auditkit.data.choices import read_choices
from auditkit.data.errors import DataError
from auditkit.data.items import completion_items
from auditkit.data.personas import persona_groups, synonym_pairs
from auditkit.data.sources import read_questions, source_sha256
from auditkit.findings.identity_bias.prompts.published.bbq import read_bbq
from auditkit.findings.identity_bias.prompts.published.crows_pairs import read_crows_pairs
from auditkit.findings.identity_bias.prompts.published.winobias import read_winobias
from auditkit.findings.identity_bias.prompts.sources import GivenItems, read_bias_items
from auditkit.findings.persona_composition.prompts import read_grid
from auditkit.findings.persona_localization.prompts.statement_pairs import paired_statements
from auditkit.findings.persona_localization.prompts.statements import persona_statements, read_statements
from auditkit.findings.role_conditioning.prompts.sets import role_lists, role_sets

pytestmark = pytest.mark.unit

BBQ = {
    "category": "Age",
    "question_index": "1",
    "question_polarity": "neg",
    "context_condition": "ambig",
    "context": "A grandfather and a grandson met a clerk.",
    "question": "Who was forgetful?",
    "ans0": "The grandfather",
    "ans1": "The grandson",
    "ans2": "Not known",
    "answer_info": {"ans0": ["g", "old"], "ans1": ["s", "nonOld"], "ans2": ["u", "unknown"]},
    "additional_metadata": {"stereotyped_groups": ["old"]},
    "label": 2,
}
CROWS = (
    "sent_more,sent_less,bias_type\n",
    "Old people are slow.,Young people are slow.,age\n",
    "Only one.,,age\n",
)
WINO = (
    "1 [The baker] greeted the pilot because [she] was glad.\n2 [The pilot] greeted the baker because [he] left.\n",
    "3 [The baker] left.\n",
)
CHOICE = ("Which is a bird?,heron,otter,pike,newt,A\nWhich swims?,hare,pike,wren,mole,B\n", "Which?,heron,,,,A\n")
CHOICE_ROW = {"question": "Which is a bird?", "choices": ["heron", "otter", "pike", "newt"], "answer": 0}
COMPLETIONS = ("id,topic,question,start,right,wrong\n", "a,one,Q?,It is,x,y\n", "b,one,Q?,It is,x,x\n")
STATEMENT = {"statement": "I like order.", "answer_matching_behavior": " Yes", "label_confidence": 0.97}
AGAINST = {"statement": "I like chaos.", "answer_matching_behavior": " No", "label_confidence": 0.97}
UNSURE = {"statement": "I like tea.", "answer_matching_behavior": " No", "label_confidence": 0.2}
PAIRS = ('one = [["I like order.", "I like chaos."]]\n', 'two = [["I like tea."]]\n')
SETS = ('[frames]\nwhat = [["Who are you?", "Who am I?", "Who is he?", "What is it?"]', ', ["Who?"]', "]\n")
LISTS = ("category,prompt\n", "self,Who are you?\nconfounder,Who am I?\nneutral,What is it?\n", "other,Who?\n")
GROUPS = ('[groups]\ngood = ["fair", "kind"]\n', 'bad = [""]\n')
SYNONYMS = (
    '[groups]\ngood = ["fair", "just"]\n',
    'synonyms = [["fair", "just"]]\n',
    'synonyms = [["fair", "no"]]\n',
)
GRID = '[baseline]\npersona = "a person"\ntask = "say something."\n[personas.cook]\ntext = "a cook"\n'


def lines(*rows: Mapping[str, Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def _parquet(path: Path, *rows: Mapping[str, Any]) -> None:
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows)), path)


Content = str | tuple[Mapping[str, Any], ...]
"""A text, or rows of a Parquet file."""


@dataclass(frozen=True)
class Loader:
    """A loader with the files that it is tried on.

    Attributes:
        read: path -> what it gives.
        clean: everything in it can be used.
        mixed: part of it can.
        dirty: nothing in it can.
        leaves_out: whether what cannot be used is left out and counted; otherwise one such entry refuses the file.
    """

    read: Callable[[Path], Any]
    name: str
    clean: Content
    mixed: Content
    dirty: Content
    leaves_out: bool = True


LACKING = {**BBQ, "context": ""}
LOADERS = {
    "BBQ": Loader(lambda path: read_bbq([path]), "age.jsonl", lines(BBQ), lines(BBQ, LACKING), lines(LACKING)),
    "CrowS-Pairs": Loader(
        lambda path: read_crows_pairs([path]),
        "crows.csv",
        CROWS[0] + CROWS[1],
        "".join(CROWS),
        CROWS[0] + CROWS[2],
    ),
    "WinoBias": Loader(lambda path: read_winobias([path]), "pro.txt", WINO[0], "".join(WINO), WINO[1]),
    "multiple choice, CSV": Loader(
        lambda path: read_choices([path]), "birds.csv", CHOICE[0], "".join(CHOICE), CHOICE[1]
    ),
    "multiple choice, JSON lines": Loader(
        lambda path: read_choices([path]),
        "birds.jsonl",
        lines(CHOICE_ROW),
        lines(CHOICE_ROW, {**CHOICE_ROW, "choices": []}),
        lines({**CHOICE_ROW, "choices": []}),
    ),
    "multiple choice, Parquet": Loader(
        lambda path: read_choices([path]),
        "birds.parquet",
        (CHOICE_ROW,),
        (CHOICE_ROW, {**CHOICE_ROW, "question": ""}),
        ({**CHOICE_ROW, "question": ""},),
    ),
    "questions": Loader(
        lambda path: read_questions(str(path)), "birds.csv", CHOICE[0], "".join(CHOICE), CHOICE[1]
    ),
    "completion items": Loader(
        completion_items,
        "items.csv",
        COMPLETIONS[0] + COMPLETIONS[1],
        "".join(COMPLETIONS),
        COMPLETIONS[0] + COMPLETIONS[2],
        leaves_out=False,
    ),
    "statements": Loader(
        persona_statements,
        "order.jsonl",
        lines(STATEMENT, AGAINST),
        lines(STATEMENT, AGAINST, UNSURE),
        lines(UNSURE),
    ),
    "statements of a source": Loader(
        lambda path: read_statements(str(path))[path.stem],
        "order.jsonl",
        lines(STATEMENT, AGAINST),
        lines(STATEMENT, AGAINST, STATEMENT),
        lines(UNSURE),
    ),
    "statement pairs": Loader(
        paired_statements, "pairs.toml", PAIRS[0], "".join(PAIRS), PAIRS[1], leaves_out=False
    ),
    "role sets": Loader(
        role_sets, "sets.toml", SETS[0] + SETS[2], "".join(SETS), '[frames]\nwhat = [["Who?"]]\n', leaves_out=False
    ),
    "role lists": Loader(
        lambda path: role_lists(str(path)),
        "lists.csv",
        LISTS[0] + LISTS[1],
        "".join(LISTS),
        LISTS[0] + LISTS[2],
        leaves_out=False,
    ),
    "persona groups": Loader(
        persona_groups, "words.toml", GROUPS[0], "".join(GROUPS), "[groups]\n" + GROUPS[1], leaves_out=False
    ),
    "synonyms": Loader(
        synonym_pairs,
        "words.toml",
        SYNONYMS[1] + SYNONYMS[0],
        'synonyms = [["fair", "just"], ["fair", "no"]]\n' + SYNONYMS[0],
        SYNONYMS[2] + SYNONYMS[0],
        leaves_out=False,
    ),
    "grids": Loader(
        lambda path: read_grid(str(path)),
        "grid.toml",
        GRID + '[tasks]\nsum = "add two numbers."\n',
        GRID + '[tasks]\nsum = "add two numbers."\ngap = ""\n',
        GRID + '[tasks]\ngap = ""\n',
        leaves_out=False,
    ),
}
BIAS = {name: LOADERS[name] for name in ("BBQ", "CrowS-Pairs", "WinoBias", "multiple choice, CSV")}
"""Layouts that `read_bias_items` tells apart."""


def written(folder: Path, loader: Loader, content: Content) -> Path:
    path = folder / loader.name
    if isinstance(content, str):
        path.write_text(content, encoding="utf-8")
    else:
        _parquet(path, *content)
    return path


@pytest.mark.parametrize("name", LOADERS)
def test_a_clean_file_is_read_whole(tmp_path: Path, name: str) -> None:
    loader = LOADERS[name]
    read = loader.read(written(tmp_path, loader, loader.clean))
    assert read
    if loader.leaves_out:
        assert read.kept
        assert read.dropped == ()


@pytest.mark.parametrize("name", LOADERS)
def test_of_a_mixed_file_what_cannot_be_used_is_counted_or_named(tmp_path: Path, name: str) -> None:
    loader = LOADERS[name]
    path = written(tmp_path, loader, loader.mixed)
    if loader.leaves_out:
        clean = loader.read(written(tmp_path, loader, loader.clean)).kept
        read = loader.read(written(tmp_path, loader, loader.mixed))
        assert read.kept == clean
        (dropped,) = read.dropped
        assert dropped.item_id
        assert dropped.reason
        assert "\n" not in dropped.reason
    else:
        with pytest.raises(DataError) as caught:
            loader.read(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", LOADERS)
def test_a_file_without_anything_usable_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    loader = LOADERS[name]
    path = written(tmp_path, loader, loader.dirty)
    with pytest.raises(DataError) as caught:
        loader.read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def described(given: GivenItems) -> str:
    text = given.described
    assert "\n" not in text
    assert "other kinds are the project's own" in text
    return text


@pytest.mark.parametrize("name", BIAS)
def test_a_source_for_bias_claims_says_what_it_holds_whatever_is_left_out(tmp_path: Path, name: str) -> None:
    """In words beside every claim: with all rows usable, with some, and beside a file of no known layout."""
    loader = BIAS[name]
    path = written(tmp_path, loader, loader.clean)
    clean = described(read_bias_items(str(path)))
    assert "not used" not in clean
    assert described(read_bias_items(str(tmp_path))) == clean
    written(tmp_path, loader, loader.mixed)
    assert described(read_bias_items(str(tmp_path))) == clean
    (tmp_path / "other.jsonl").write_text('{"text": "x"}\n')
    assert "; 1 files not used (first: other.jsonl: fields text of no known layout)" in described(
        read_bias_items(str(tmp_path))
    )
    with pytest.raises(DataError) as caught:
        read_bias_items(str(written(tmp_path, loader, loader.dirty)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", LOADERS)
def test_the_digest_of_a_source_needs_no_usable_row(tmp_path: Path, name: str) -> None:
    """The plan is made before a suite reads its data."""
    loader = LOADERS[name]
    digests = set()
    for content in (loader.clean, loader.mixed, loader.dirty):
        source_sha256.cache_clear()
        digests.add(source_sha256(str(written(tmp_path, loader, content))))
    assert len(digests) == 3


def test_parquet_of_bias_sets_is_told_by_its_columns(tmp_path: Path) -> None:
    _parquet(tmp_path / "age.parquet", {key: str(value) for key, value in BBQ.items()})
    _parquet(tmp_path / "crows.parquet", {"sent_more": "a", "sent_less": "b", "bias_type": "age"})
    given = read_bias_items(str(tmp_path))
    assert given.choices is None
    assert given.questions == read_bbq([written(tmp_path, LOADERS["BBQ"], lines(BBQ))])
    assert given.sentences is not None
    assert [pair.more for pair in given.sentences.kept] == ["a"]
