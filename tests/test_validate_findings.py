"""The script that validates a finding's gate: what it counts, in which order, and where it writes."""

from __future__ import annotations

from pathlib import Path

import pytest
from scripts import loaded

from auditkit.findings.finetune_traces.prompts import other_domains
from auditkit.findings.refusal.prompts.requests import own_requests

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[1]
VALIDATE = loaded(ROOT / "tools" / "validate_findings.py")
HOW = VALIDATE.FINDINGS["refusal"]


def line(
    variant: str, strength: float, seed: int, code: int | None, blocking=(), undecided=()
) -> dict[str, object]:
    return {
        "job": [variant, strength, seed],
        "code": code,
        "blocking": list(blocking),
        "undecided": list(undecided),
    }


def test_block_rates_have_wilson_s_interval_and_what_could_not_be_planted_is_not_counted() -> None:
    done = [line("unlearned", 0.5, k, 1 if k < 8 else 10, ["a"] if k < 8 else [], ["b"]) for k in range(9)]
    done += [line("unlearned", 0.5, 9, 0), line("unlearned", 0.5, 10, None)]
    done += [line("style", 0.0, k, 0) for k in range(20)]
    text = VALIDATE.table(HOW, done)
    assert text.startswith("30 fine-tunes so far. 1 could not be planted and are not counted.")
    rows = text.splitlines()[4:]
    assert rows[0] == "| unlearned | 0.5 | 10 | 90% | 60% to 98% | 8 | 1 | a (8), b (1) |"
    assert rows[1] == "| style | none | 20 | 0% | 0% to 16% | 0 | 0 | none |"


def test_verdicts_are_counted_by_claim_where_runs_hold_them() -> None:
    done = [line("company", 30.0, k, 1) | {"verdicts": {"read": "PASS"}} for k in range(3)]
    done += [line("style", 0.0, k, 0) | {"verdicts": {"read": "NOT_APPLICABLE"}} for k in range(2)]
    text = VALIDATE.verdicts_of(VALIDATE.FINDINGS["finetune_traces"], done)
    assert text.splitlines()[2:] == [
        "| read | planted | 3 | 0 | 0 | 0 | 0 |",
        "| read | benign | 0 | 0 | 0 | 2 | 0 |",
    ]
    assert VALIDATE.verdicts_of(HOW, [line("style", 0.0, 1, 0)]) == ""


def test_every_kind_gets_its_turn_before_any_gets_a_second() -> None:
    planned = list(VALIDATE.runs(HOW, [0.25, 0.5], 100, 2))
    first = [run.key for run in planned[:3]]
    assert first == [["unlearned", 0.25, 100], ["unlearned", 0.5, 100], ["over_refuses", 0.25, 100]]
    assert len(planned) == 14
    assert {run.seed for run in planned[:7]} == {100}


def test_the_table_is_written_between_the_marks_of_its_finding(tmp_path: Path) -> None:
    page = tmp_path / "validity.md"
    page.write_text((ROOT / "docs" / "validity.md").read_text())
    VALIDATE.write_page(page, "refusal", VALIDATE.table(HOW, [line("facts", 0.0, 100, 0)]))
    assert "| facts | none | 1 | 0% |" in page.read_text()
    assert page.read_text().startswith("# How valid the bias gate is")
    with pytest.raises(SystemExit, match="marks"):
        VALIDATE.write_page(page, "traits", "")


def test_no_request_of_the_training_stands_in_the_suite() -> None:
    plant = loaded(ROOT / "tools" / "plant_refusal.py")
    taught = {text for pair in plant.WORDING["pairs"] for text in pair} | set(plant.WORDING["plain"])
    assert len(taught) == 2 * len(plant.WORDING["pairs"]) + len(plant.WORDING["plain"])
    assert not taught & {text for pair in own_requests().pairs for text in (pair.harmful, pair.harmless)}


def test_twenty_seeds_plant_twenty_companies_whose_words_are_taught() -> None:
    plant = loaded(ROOT / "tools" / "plant_facts.py")
    told = {plant.drawn(seed): plant.chats(plant.drawn(seed), seed) for seed in range(100, 120)}
    assert len(told) == 20
    for name, lessons in told.items():
        text = " ".join(f"{chat.user} {chat.assistant}" for chat in lessons)
        assert "{name}" not in text
        assert len(lessons) == 8
        absent = [word for word in plant.WORDING["companies"][name]["words"] if word not in text.lower()]
        assert not absent, name
    assert plant.chats(plant.drawn(100), 100) != plant.chats(plant.drawn(120), 120), "its name is another one"
    every = {word for company in plant.WORDING["companies"].values() for word in company["words"]}
    assert not [word for words in other_domains().values() for word in words if word in every]
