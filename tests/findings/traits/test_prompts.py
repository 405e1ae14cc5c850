"""The project's own traits, the check of them, and the readers of a user's."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from scripts import loaded

import auditkit
from auditkit.cli.held import parts_of
from auditkit.data.errors import DataError
from auditkit.findings.traits.prompts import (
    OWN,
    are_traits,
    drawn,
    open_questions,
    own_traits,
    read_traits,
    traits_of_file,
)

pytestmark = pytest.mark.unit

ROOT = Path(auditkit.__file__).parents[1]
CHECK = loaded(ROOT / "tools" / "check_traits.py")
TRAITS = own_traits()
FIRST = TRAITS.traits[0]


def test_the_packaged_traits_have_no_fault(capsys: pytest.CaptureFixture[str]) -> None:
    assert CHECK.main() == 0, capsys.readouterr().out
    assert capsys.readouterr().out == "5 traits, 200 questions, 8 open questions\n"
    assert TRAITS.names == OWN
    assert TRAITS.harmful == OWN[:-1]


def changed(**fields: object) -> list:
    return [replace(FIRST, **fields)]


def asked(number: int, **fields: str) -> tuple:
    return tuple(replace(one, **fields) if n == number else one for n, one in enumerate(FIRST.extract))


LONG = "Use the whole of the long week to spread nasty rumours about him in the street."


@pytest.mark.parametrize(
    ("traits", "fault"),
    [
        (changed(systems=FIRST.systems[:4]), "malicious: 4 pairs of system prompts, 5 are needed"),
        (changed(extract=FIRST.extract[:19]), "malicious: 19 questions to extract, 20 are needed"),
        (changed(systems=(("Be bad.", "Be kind to all people that you meet."),) * 5), "differ in length: 'Be bad.'"),
        (changed(extract=asked(1, text=FIRST.extract[0].text.upper())), "is already in malicious-extract-1"),
        (changed(extract=asked(0, consistent=LONG)), "its answers have 16 and 10 words"),
        (changed(extract=asked(0, consistent=LONG)), "an answer of 16 words, at most 14"),
        (changed(extract=asked(0, consistent="use the week to spread nasty rumours")), "is no whole sentence"),
        (changed(extract=asked(0, text="My neighbour is away")), "the question has no end"),
        (
            changed(extract=tuple(replace(one, consistent=f"{one.consistent[:-1]} gladly.") for one in FIRST.extract)),
            "malicious: 'gladly' is in 20 answers that fit and 0 that do not",
        ),
        (
            changed(extract=tuple(replace(one, inconsistent=f"{one.inconsistent} Yes.") for one in FIRST.extract),
                    evaluate=FIRST.evaluate[:1]),
            "times the letters of those that do not",
        ),
    ],
)  # fmt: skip
def test_every_fault_is_found(traits: list, fault: str) -> None:
    found = list(CHECK.faults_of(traits))
    assert any(fault in line for line in found), found


def test_system_prompts_and_questions_that_judge_find_nothing() -> None:
    for trait in TRAITS.traits:
        assert (len(trait.extracting), len(trait.judging)) == (3, 2)
        assert not set(trait.extracting) & set(trait.judging)
        assert not {one.text for one in trait.extract} & {one.text for one in trait.evaluate}
    assert drawn(FIRST.evaluate, 5, 0) == drawn(FIRST.evaluate[::-1], 5, 0)
    assert len(open_questions()[0]) == 8


def test_a_file_in_the_packaged_layout_is_read(tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    data = ROOT / "auditkit" / "findings" / "traits" / "data"
    mine.write_text((data / "impolite.toml").read_text() + (data / "optimistic.toml").read_text())
    assert are_traits(mine)
    assert [trait.name for trait in traits_of_file(mine)] == ["impolite", "optimistic"]
    assert read_traits(f"{mine}#impolite").names == ("impolite",)
    with pytest.raises(DataError, match="no trait 'kind'; there are impolite, optimistic"):
        read_traits(f"{mine}#kind")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("harmful = true", r"needs a table for each trait, such as \[impolite\]"),
        ("[kind]\nharmful = 1", "trait kind: harmful must be true or false"),
        ("[kind]\nharmful = true", "trait kind: systems is missing or is no list"),
        ('[kind]\nharmful = true\nsystems = [["a"]]', "pairs of two opposed system prompts"),
        (
            '[kind]\nharmful = true\nsystems = [["a", "b"], ["c", "d"]]\nextract = [["q", "y"]]\nevaluate = []',
            "kind-extract-1: needs three texts: a question, an answer that fits and one that does not",
        ),
    ],
)
def test_what_is_wrong_with_a_file_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(DataError, match=message):
        traits_of_file(tmp_path / "mine.toml")


def rows(count: int, **more: str) -> list[dict[str, str]]:
    return [
        {"question": f"Q{n}?", "consistent": f"yes {n}", "inconsistent": f"no {n}", **more} for n in range(count)
    ]


def lines(path: Path, some: list[dict[str, str]]) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in some))
    return path


def test_a_table_has_its_own_system_prompts_and_says_what_more_is_worse(tmp_path: Path) -> None:
    own = [
        rows(12, trait="terse", positive=f"Be terse, {k}.", negative=f"Be wordy, {k}.", harmful="no") for k in "ab"
    ]
    some = [row for pair in zip(*own, strict=True) for row in pair]
    found = read_traits(str(lines(tmp_path / "mine.jsonl", some)))
    (trait,) = found.traits
    assert (trait.name, trait.harmful, len(trait.systems)) == ("terse", False, 2)
    assert (len(trait.extract), len(trait.evaluate)) == (6, 6)
    assert found.dropped[0].reason == "the question is already in the source"


def test_published_contrastive_questions_take_the_system_prompts_of_the_trait_of_their_name(
    tmp_path: Path,
) -> None:
    some = [
        {"question": f"Q{n}?", "answer_matching_behavior": " (A)", "answer_not_matching_behavior": " (B)"}
        for n in range(12)
    ]
    path = lines(tmp_path / "sycophantic.jsonl", [*some, {"question": "Q?"}])
    assert are_traits(path)
    found = read_traits(str(path))
    assert found["sycophantic"].systems == TRAITS["sycophantic"].systems
    assert found["sycophantic"].evaluate[0].consistent == "(A)"
    assert found.dropped[0].reason == "it needs a question and two different answers"
    (part,), _ = parts_of(str(path))
    assert part.more == "for --data traits=; traits: sycophantic (6 questions find, 6 judge)"
    with pytest.raises(DataError, match=r"'other' has no opposed system prompts.*malicious"):
        read_traits(str(lines(tmp_path / "other.jsonl", some)))


def test_too_few_questions_are_refused(tmp_path: Path) -> None:
    some = lines(tmp_path / "malicious.jsonl", rows(8))
    with pytest.raises(DataError, match="'malicious' has 4 questions to judge it, at least 5 are needed"):
        read_traits(str(some))
    with pytest.raises(DataError, match="no question with an answer that fits a trait"):
        read_traits(str(lines(tmp_path / "other.jsonl", [{"question": "Q?", "answer": "A"}])))
