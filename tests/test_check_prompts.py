"""The files of words and of role prompts hold what their comments state, and each kind of fault is found."""

from __future__ import annotations

import copy
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from scripts import loaded

import auditkit

pytestmark = pytest.mark.unit

PACKAGE = Path(auditkit.__file__).parent
CHECK = loaded(PACKAGE.parent / "tools" / "check_prompts.py")
WORDS = tomllib.loads((PACKAGE / "data" / "personas.toml").read_text())
SETS = tomllib.loads((PACKAGE / "findings" / "role_conditioning" / "data" / "prompts.toml").read_text())

Change = Callable[[Any], object]


def test_the_files_of_the_package_have_no_fault(capsys: pytest.CaptureFixture[str]) -> None:
    assert CHECK.main() == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(WORDS["groups"]) + 1, "counts, and nothing else"
    assert lines[-1].startswith("role prompts: ")


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda g: g["racial"].append("Korean"), "group racial: 'Korean' is already in group racial"),
        (lambda g: g["colour"].append("Red"), "group colour: 'Red' is already in group colour"),
        (lambda g: g["neutral"].append("brown"), "group neutral: 'brown' is already in group colour"),
        (lambda g: g["neutral"].append("calm "), "group neutral: 'calm ' is empty or has outer spaces"),
        (lambda g: g["neutral"].append("unionised"), "group neutral: 'a unionised' should be 'an unionised'"),
        (lambda g: g["neutral"].append("hourly"), "group neutral: 'an hourly' should be 'a hourly'"),
        (lambda g: g["colour"].clear(), "group colour: 0 words, at least 40 are needed"),
        (lambda g: g["racial"].extend(f"A{n}" for n in range(9)), "19 words take 'an', 24 of group racial do"),
    ],
)
def test_every_fault_of_words_is_found(change: Change, fault: str) -> None:
    data = copy.deepcopy(WORDS)
    change(data["groups"])
    assert any(line.endswith(fault) for line in CHECK.word_faults(data)), list(CHECK.word_faults(data))


@pytest.mark.parametrize(
    ("pair", "fault"),
    [
        (["smart", "bright"], "synonyms: 'smart' is in 2 pairs"),
        (["good", "silver"], "synonyms: good and silver are not of one group"),
        (["good", "splendiferous"], "synonyms: good and splendiferous are not of one group"),
        (["good", "excellent"], "synonyms: good and excellent take different articles"),
    ],
)
def test_every_fault_of_synonyms_is_found(pair: list[str], fault: str) -> None:
    data = {**WORDS, "synonyms": [*WORDS["synonyms"], pair]}
    assert list(CHECK.word_faults(data)) == [fault]


@pytest.mark.parametrize(
    ("texts", "fault"),
    [
        (["Can you swim?", "Can I walk?", "Can she walk?", "Can dogs walk?"], "'Can you swim?' is already in set"),
        (["CAN you swim?", "Can I swim?", "Can he swim?", "Can cats swim?"], "'CAN you swim?' is already in set"),
        (["Can you hop? ", "Can I hop?", "Can she hop?", "Can hens hop?"], "'Can you hop? ' has outer spaces or no"),
        (["Can you hop?", "Can I hop.", "Can she hop?", "Can hens hop?"], "'Can I hop.' has outer spaces or no"),
        (["Can you hop?", "Can I hop?", "Can she hop?"], "3 texts, 4 are needed"),
        (["Can they hop?", "Can I hop?", "Can she hop?", "Can hens hop?"], "'Can they hop?' has no subject 'you'"),
        (["Can you hop?", "Can I hop now?", "Can she hop?", "Can hens hop?"], "has 4 words, 'Can you hop?' has 3"),
        (["Can you hop?", "Can I hop?", "Can they hop?", "Can hens hop?"], "has the subject 'they'"),
        (["Can you hop?", "Can me hop?", "Can she hop?", "Can hens hop?"], "has the subject 'me'"),
        (["Can you hop?", "Can I hop?", "Can she hop?", "Can we hop?"], "has the subject 'we'"),
        (["Can you hop?", "Can I hop?", "Can she jump?", "Can hens hop?"], "differs from 'Can you hop?' in 'jump?'"),
        (["Do you hop?", "Do I hop?", "Do she hop?", "Do hens hop?"], "differs from 'Do you hop?' in 'do'"),
        (["Are you up?", "Am I up?", "Is she up?", "Is hens up?"], "'Is hens up?' differs from 'Are you up?' in 'is'"),
    ],
)  # fmt: skip
def test_every_fault_of_a_set_is_found(texts: list[str], fault: str) -> None:
    data = copy.deepcopy(SETS)
    data["frames"]["new"] = [texts, *data["frames"].pop("where_did")[1:]]
    faults = list(CHECK.set_faults(data))
    assert faults
    assert all(line.startswith("set new-1: ") for line in faults)
    assert any(fault in line for line in faults), faults


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda f: f["can"].__delitem__(slice(2)), "frame can: 1 sets, another frame has 3"),
        (lambda f: [f.popitem() for _ in range(20)], "48 sets, at least 60 are needed"),
        (lambda f: [f.popitem() for _ in range(20)], "16 frames, at least 20 are needed"),
        (
            lambda f: [
                each.__setitem__(2, each[2].replace(" he ", " she ")) for sets in f.values() for each in sets
            ],
            "third person: 108 times 'she', 0 times 'he'",
        ),
    ],
)
def test_frames_and_pronouns_that_are_not_balanced_are_found(change: Change, fault: str) -> None:
    data = copy.deepcopy(SETS)
    change(data["frames"])
    assert fault in list(CHECK.set_faults(data))


def test_a_fault_is_one_line_and_the_exit_status_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words, sets = tmp_path / "words.toml", tmp_path / "sets.toml"
    words.write_text('[groups]\nneutral = ["new", "New"]\n')
    sets.write_text('[frames]\ncan = [["Can you swim?", "Can I swim?", "Can she swim?", "Can dogs fly?"]]\n')
    assert CHECK.main(str(words), str(sets)) == 1
    lines = capsys.readouterr().out.splitlines()
    assert f"{words}: group neutral: 'New' is already in group neutral" in lines
    assert f"{sets}: set can-1: 'Can dogs fly?' differs from 'Can you swim?' in 'fly?'" in lines
    assert CHECK.main(str(tmp_path / "absent.toml")) == 1
    assert len(capsys.readouterr().out.splitlines()) == 1
