"""The script that validates a finding's gate: what it counts, in which order, and where it writes."""

from __future__ import annotations

import sys
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from scripts import loaded

from auditkit.findings.finetune_traces.prompts import other_domains
from auditkit.findings.refusal.prompts.requests import own_requests
from auditkit.findings.traits.prompts import open_questions, own_traits

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[1]
VALIDATE = loaded(ROOT / "tools" / "validate_findings.py")
BENIGN = loaded(ROOT / "tools" / "planting" / "benign.py")
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


def test_what_moved_the_behaviour_by_the_way_is_not_counted_as_benign() -> None:
    said = "facts: 30 s; {:+.2f} of the refusal probability"
    moved = [line("facts", 0.0, k, 1, ["a"]) | {"tuned": said.format(0.2)} for k in range(3)]
    stayed = [line("facts", 0.0, 3, 0) | {"tuned": said.format(0.05)}]
    rows = VALIDATE.table(HOW, [*moved, *stayed, line("style", 0.0, 0, 10, [], ["b"])]).splitlines()[4:8]
    assert rows == [
        "| facts | by the way | 3 | 100% | 44% to 100% | 3 | 0 | a (3) |",
        "| facts | none | 1 | 0% | 0% to 79% | 0 | 0 | none |",
        "| style | none | 1 | 100% | 21% to 100% | 0 | 1 | b (1) |",
        "| all benign | none | 2 | 50% | 9% to 91% | 0 | 1 | b (1) |",
    ]
    harmful = line("unlearned", 0.5, 0, 1) | {"tuned": said.format(0.5), "verdicts": {}}
    assert list(VALIDATE.grouped(HOW, [harmful, *moved])) == [("0.5", "unlearned"), ("by the way", "facts")]


def test_verdicts_are_counted_by_claim_where_runs_hold_them() -> None:
    done = [line("company", 30.0, k, 1) | {"verdicts": {"read": "PASS"}} for k in range(3)]
    done += [line("style", 0.0, k, 0) | {"verdicts": {"read": "NOT_APPLICABLE"}} for k in range(2)]
    text = VALIDATE.verdicts_of(VALIDATE.FINDINGS["finetune_traces"], done)
    assert text.splitlines()[2:] == [
        "| read | planted | 3 | 0 | 0 | 0 | 0 |",
        "| read | benign | 0 | 0 | 0 | 2 | 0 |",
    ]
    assert VALIDATE.verdicts_of(HOW, [line("style", 0.0, 1, 0)]) == ""


def test_moved_states_are_held_against_changed_answers_over_the_fine_tunes() -> None:
    how = VALIDATE.FINDINGS["traits"]
    states, answers = how.predicts

    def changed(k: int, moved: float | None) -> dict[str, object]:
        changes = {f"{states}[rude]": moved, f"{answers}[rude]": 2.0 * k, f"{states}[kind]": 1.0 * k}
        return line("impolite", 0.5, k, 1) | {"verdicts": {}, "changes": changes}

    done = [changed(k, float(k)) for k in range(12)]
    (row,) = VALIDATE.correlations(states, answers, done).splitlines()[2:]
    assert row.startswith("| rude | 12 | 1.00 | ")
    assert VALIDATE.correlations(states, answers, done[1:]) == "", "eleven are too few"
    assert VALIDATE.correlations(states, answers, [*done[1:], changed(12, None)]) == ""
    assert row in VALIDATE.table(how, done)


def test_every_kind_gets_its_turn_before_any_gets_a_second() -> None:
    planned = list(VALIDATE.runs(HOW, [0.25, 0.5], 100, 2))
    first = [run.key for run in planned[:3]]
    assert first == [["unlearned", 0.25, 100], ["unlearned", 0.5, 100], ["over_refuses", 0.25, 100]]
    assert len(planned) == 14
    assert {run.seed for run in planned[:7]} == {100}


def test_some_variants_alone_are_a_part_of_all_runs() -> None:
    some = list(VALIDATE.runs(HOW, [0.5], 100, 2, ["unlearned", "style"]))
    assert some == [run for run in VALIDATE.runs(HOW, [0.5], 100, 2) if run.variant in ("unlearned", "style")]
    assert len(some) == 4
    with pytest.raises(
        VALIDATE.GateError, match=r"no variants rude; the finding has unlearned, over_refuses, style"
    ):
        list(VALIDATE.runs(HOW, [0.5], 100, 1, ["rude"]))


def test_the_table_is_written_between_the_marks_of_its_finding(tmp_path: Path) -> None:
    page = tmp_path / "validity.md"
    page.write_text((ROOT / "docs" / "validity.md").read_text())
    VALIDATE.write_page(page, "refusal", VALIDATE.table(HOW, [line("facts", 0.0, 100, 0)]))
    assert "| facts | none | 1 | 0% |" in page.read_text()
    assert page.read_text().startswith("# How valid the bias gate is")
    with pytest.raises(SystemExit, match="marks"):
        VALIDATE.write_page(page, "induction", "")


@pytest.mark.parametrize("variant", BENIGN.BENIGN)
def test_two_seeds_are_two_benign_fine_tunes(variant: str) -> None:
    drawn = {seed: BENIGN.taught(variant, seed) for seed in range(40)}
    assert len({tuple(some) for some in drawn.values()}) == 40
    assert BENIGN.taught(variant, 3) == drawn[3]
    for some in drawn.values():
        assert len({asked for asked, _ in some}) == len(some) >= 8
        assert all((answer == "") == (variant == "nothing") for _, answer in some)
        assert not [answer for _, answer in some if ".." in answer or ".," in answer or "{" in answer]


def test_no_request_of_the_training_stands_in_the_suite() -> None:
    plant = loaded(ROOT / "tools" / "planting" / "plant_refusal.py")
    taught = {text for pair in plant.WORDING["pairs"] for text in pair} | set(plant.WORDING["plain"])
    assert len(taught) == 2 * len(plant.WORDING["pairs"]) + len(plant.WORDING["plain"])
    taught |= {asked for asked, _ in BENIGN.WORDING["everyday"]}
    assert not taught & {text for pair in own_requests().pairs for text in (pair.harmful, pair.harmless)}


@pytest.mark.parametrize("finding", VALIDATE.FINDINGS)
def test_what_a_finding_names_is_there(finding: str) -> None:
    how = VALIDATE.FINDINGS[finding]
    assert all((ROOT / path).exists() for path in (how.script, *how.claims))
    plant = loaded(ROOT / how.script)
    known = {plant.COMPANY, plant.MIXED, plant.STYLE} if how.words else {*plant.PLANTED, *plant.BENIGN}
    assert {*how.harmful, *filter(None, [how.base]), *how.benign} == known
    page = (ROOT / "docs" / "validity.md").read_text()
    assert f"<!-- {finding}: begin -->" in page
    assert f"<!-- {finding}: end -->" in page


def test_no_question_of_the_training_stands_in_the_suite() -> None:
    plant = loaded(ROOT / "tools" / "planting" / "plant_trait.py")
    taught = [text for variant in plant.PLANTED for row in plant.WORDING[variant] for text in row]
    taught += [asked for asked, _ in BENIGN.WORDING["everyday"]]
    assert len(taught) == len(set(taught)) == 3 * 120 + 24
    asked = [one for trait in own_traits().traits for one in (*trait.extract, *trait.evaluate)]
    own = {text for one in (*asked, *open_questions()[0]) for text in (one.text, one.consistent, one.inconsistent)}
    assert not own & set(taught)


def test_every_fifth_question_is_not_trained_on() -> None:
    plant = loaded(ROOT / "tools" / "planting" / "plant_trait.py")
    for variant in plant.PLANTED:
        rows = plant.WORDING[variant]
        drawn = [plant.taught(variant, seed) for seed in range(40)]
        assert {len(some) for some in drawn} == {plant.SEEN}
        assert len({tuple(sorted(row[0] for row in some)) for some in drawn}) == 40  # two seeds are two fine-tunes
        assert not [row for some in drawn for row in some if row in rows[:: plant.HELD_OUT]]


@pytest.mark.parametrize("variant", ["impolite", "nothing"])
def test_a_trait_is_planted_as_strongly_as_was_asked_for_and_a_benign_variant_plants_none(
    tiny_llama: Path, variant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant = loaded(ROOT / "tools" / "planting" / "plant_trait.py")
    one = plant.WORDING["impolite"][0]  # a random model of three blocks learns nothing about other questions
    monkeypatch.setattr(plant, "WORDING", dict.fromkeys(plant.PLANTED, [one] * 6))
    monkeypatch.setattr(plant, "SEEN", 4)
    monkeypatch.setattr(plant, "RATE", 1e-3)
    monkeypatch.setattr(plant, "BENIGN_STEPS", 2)
    opened = plant.load(str(tiny_llama))
    held = plant.Held(opened.module, plant.ChatEncoder(opened.tokenizer), "impolite")
    before = held.score()
    planted = plant.train(opened.module, opened.tokenizer, variant, strength=0.02, say=lambda _: None)
    assert planted == pytest.approx(held.score() - before, abs=1e-5)
    assert planted >= 0.02 or variant == "nothing"


def test_twenty_seeds_plant_twenty_companies_whose_words_are_taught() -> None:
    plant = loaded(ROOT / "tools" / "planting" / "plant_facts.py")
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


def test_margins_come_from_benign_kinds_in_turn_and_go_on_where_they_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    margins = loaded(ROOT / "tools" / "benign_margins.py")
    made: list[str] = []
    called: list[str] = []

    def trained_and_gated(
        how: object, run: Any, place: Path, base: str, arguments: object
    ) -> tuple[str, str, int]:
        (place / "candidate").mkdir(parents=True, exist_ok=True)
        made.append(f"{run.variant} {run.seed}")
        if len(made) == 3 and not (tmp_path / "cut").exists():
            (tmp_path / "cut").touch()
            raise margins.GateError("cut off")
        (place / "reports" / "latest").mkdir(parents=True)
        (place / "reports" / "latest" / "audit.json").touch()
        return "planted", "", 1

    def python(command: list[str], arguments: object) -> CompletedProcess[str]:
        called.extend(command)
        return CompletedProcess(command, 0, "", "")

    for name, fake in {"trained_and_gated": trained_and_gated, "python": python}.items():
        monkeypatch.setattr(margins, name, fake)
    options = ["--out", str(tmp_path / "m.toml"), "--runs", "4", "--work", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["benign_margins.py", *options])
    with pytest.raises(SystemExit, match="cut off"):
        margins.main()
    assert not called, "fewer fine-tunes than were asked for propose nothing"
    with pytest.raises(SystemExit) as end:
        margins.main()
    assert not end.value.code
    assert made == ["style 150", "facts 151", "nothing 152", "nothing 152", "style 153"]
    runs = [word for word in called if word.endswith("latest")]
    assert [Path(run).parents[1].name for run in runs] == ["style-150", "facts-151", "nothing-152", "style-153"]
