"""The script that validates the gate: what it counts, where it goes on, and what it trains. Training itself is slow."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from scripts import loaded

ROOT = Path(__file__).parents[1]


def script(name: str) -> ModuleType:
    return loaded(ROOT / "examples" / f"{name}.py")


def line(variant: str, strength: float, seed: int, code: int, blocking=(), undecided=()) -> dict[str, object]:
    return {"job": [variant, strength, seed], "group": "", "code": code, "blocking": list(blocking),
            "undecided": list(undecided), "tuned": ""}  # fmt: skip


@pytest.mark.unit
def test_blocked_are_failed_and_undecided_with_wilson_s_interval() -> None:
    validate = script("validate_gate")
    done = [line("decisions", 0.5, k, 1 if k < 8 else 10, ["a"] if k < 8 else [], ["b"]) for k in range(9)]
    done += [line("decisions", 0.5, 9, 0), *(line("style", 0.0, k, 0) for k in range(20))]
    rows = validate.table(done).splitlines()[2:]
    assert rows[0] == "| decisions | 0.5 | 10 | 90% | 60% to 98% | 8 | 1 | a (8), b (1) |"
    assert rows[1] == "| style | none | 20 | 0% | 0% to 16% | 0 | 0 | none |"
    assert validate.rates(done).splitlines() == [
        "- benign: blocked 0 of 20 (0%, 0% to 16%)",
        "- planted at 0.5 logits: missed 1 of 10 (10%, 2% to 40%)",
    ]


@pytest.mark.unit
def test_a_cut_off_line_is_made_again_and_a_damaged_one_is_said(tmp_path: Path) -> None:
    validate = script("validate_gate")
    results = tmp_path / "results.jsonl"
    whole = json.dumps(line("style", 0.0, 0, 0))
    results.write_text(f"{whole}\n{whole[:20]}")
    assert len(validate.read_results(results)) == 1
    assert results.read_text() == f"{whole}\n"
    results.write_text(f"{whole[:20]}\n{whole}\n")
    with pytest.raises(SystemExit, match="line 1: not JSON"):
        validate.read_results(results)


@pytest.mark.unit
def test_the_page_keeps_its_words_and_gets_the_table_and_its_command(tmp_path: Path) -> None:
    validate = script("validate_gate")
    page = tmp_path / "validity.md"
    page.write_text((ROOT / "docs" / "validity.md").read_text())
    validate.write_page(page, [line("facts", 0.0, 0, 0)], "python examples/validate_gate.py --runs 1")
    text = page.read_text()
    assert "| facts | none | 1 | 0% |" in text
    assert "Made by `python examples/validate_gate.py --runs 1`; 1 fine-tunes so far." in text
    assert text.startswith("# How valid the bias gate is")
    assert "With few runs the interval is wide" in text
    page.write_text("no marks")
    with pytest.raises(SystemExit, match="marks"):
        validate.write_page(page, [], "")


@pytest.mark.unit
def test_every_kind_gets_its_turn_before_any_gets_a_second() -> None:
    validate = script("validate_gate")
    jobs = list(validate.jobs(["decisions", "style"], [0.5, 1.0], 2))
    assert [job.key for job in jobs[:3]] == [["decisions", 0.5, 0], ["decisions", 1.0, 0], ["style", 0.0, 0]]
    assert [job.seed for job in jobs] == [0, 0, 0, 1, 1, 1]
    assert [job.group for job in jobs if job.variant == "decisions"] == ["a woman"] * 2 + ["a Muslim person"] * 2


@pytest.mark.unit
def test_nothing_of_the_training_stands_in_the_suite() -> None:
    from auditkit.data.items import completion_items
    from auditkit.findings.identity_bias.prompts.items import decisions

    plant = script("plant_bias")
    asked = {item.question for item in completion_items()}
    assert not asked & {
        question for question, *_ in plant.WORDING["answers"]["taught"] + plant.WORDING["answers"]["held_out"]
    }
    assert not {case.case for case in decisions().kept} & {
        *plant.WORDING["decisions"]["taught"],
        *plant.WORDING["decisions"]["held_out"],
    }
    with pytest.raises(ValueError, match="unknown variant 'tone'"):
        plant.train(None, None, "tone")


@pytest.mark.slow
def test_a_planted_model_is_blocked_and_a_benign_one_is_not_for_its_decisions(tmp_path: Path) -> None:
    """One of each, at a strength that no gate may miss; how often smaller ones are missed is the table's to say."""
    page = tmp_path / "validity.md"
    page.write_text((ROOT / "docs" / "validity.md").read_text())
    command = ["examples/validate_gate.py", "--runs", "1", "--strengths", "2", "--variants", "decisions", "style"]
    results = tmp_path / "results.jsonl"
    command += ["--items", "12", "--work", str(tmp_path / "work"), "--page", str(page), "--results", str(results)]
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    planted, benign = map(json.loads, results.read_text().splitlines())
    assert "the group moved by -2.0" in planted["tuned"]
    assert planted["code"] == 1
    assert [name for name in planted["blocking"] if name.startswith("no_group_gets_worse_decisions")]
    assert not [name for name in benign["blocking"] if name.startswith("no_group_gets_worse_decisions")]
    assert not list((tmp_path / "work").glob("*/candidate"))
    assert planted["plan"] == benign["plan"]
    assert "| decisions | 2 | 1 |" in page.read_text()
