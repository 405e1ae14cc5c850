"""`auditkit card` and `auditkit export`: files that are written, and one line for what cannot be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from msgspec.structs import replace

from auditkit.cli import main
from auditkit.record.manifest import write_manifest
from auditkit.record.schema import Run
from auditkit.record.store import write_run
from auditkit.report.trackers import stores
from auditkit.report.trackers.entry import TrackedRun

pytestmark = pytest.mark.unit


@pytest.fixture
def folder(tmp_path: Path, a_run: Run) -> Path:
    path = tmp_path / "run"
    path.mkdir()
    write_run(path, a_run, [])
    write_manifest(path)
    return path


def test_a_card_is_changed_in_place(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    card = tmp_path / "README.md"
    card.write_text("---\nlicense: mit\n---\n# A model\n")
    assert main(["card", str(folder), "--into", str(card)]) == 0
    assert "claims of " in capsys.readouterr().out
    assert "auditkit" in ModelCard.load(card).data.tags


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"# A readme", "it has no front matter"), (b"\xff\xfe", "is no text in UTF-8"), (None, "No such file")],
)
def test_a_card_that_cannot_be_changed_stays_as_it_is(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None, said: str
) -> None:
    card = tmp_path / "README.md"
    if content is not None:
        card.write_bytes(content)
    assert main(["card", str(folder), "--into", str(card)]) == 4
    printed = capsys.readouterr().err
    assert said in printed
    assert printed.count("\n") == 1
    assert (card.read_bytes() if card.exists() else None) == content


@pytest.mark.parametrize(
    "options",
    [["hub", "--dataset", "a/b"], ["every-eval-ever", "--organization", "S", "--schema-version", "0.2.1"]],
)
def test_an_export_is_written_where_it_is_wanted(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    out = tmp_path / ".eval_results" / "auditkit"
    assert main(["export", str(folder), "--to", *options, "--out", str(out)]) == 0
    assert "claims with a number" in capsys.readouterr().out
    assert out.stat().st_size > 10


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["hub"], "needs --dataset OWNER/NAME"),
        (["hub", "--dataset", "no-owner"], "needs --dataset OWNER/NAME"),
        (["every-eval-ever"], "needs --organization NAME"),
        (["hub", "--dataset", "a/b", "--schema-version", "1"], "the form of --to hub has no schema versions"),
        (["openinterp", "--claim", "a/b"], "needs --subject, what is edited: one of circuit, steering_vector, inter"),
        (["openinterp", "--subject", "circuit"], "needs --claim ID"),
        (["openinterp", "--claim", "a/b", "--subject", "circuit", "--schema-version", "2"],
         "the schema version 2 of openinterp is not known; this auditkit writes 0.1"),
        (["every-eval-ever", "--organization", "S", "--schema-version", "9"],
         "the schema version 9 of every-eval-ever is not known; this auditkit writes 0.2.1, 0.3.0"),
    ],
)  # fmt: skip
def test_an_export_that_cannot_be_made_is_refused_in_one_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    assert main(["export", str(folder), "--to", *options, "--out", str(tmp_path / "out")]) == 4
    printed = capsys.readouterr().err
    assert said in printed
    assert printed.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_causal_report_is_written_of_one_claim(
    folder: Path, a_run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [
        "--to",
        "openinterp",
        "--claim",
        "suite/claim0",
        "--subject",
        "circuit",
        "--out",
        str(tmp_path / "out"),
    ]
    assert main(["export", str(folder), *asked]) == 4
    assert "suite/claim0: its notes name no guards of edits" in capsys.readouterr().err
    guarded = tuple(replace(claim, notes=("guards: none tripped",)) for claim in a_run.claims)
    write_run(folder, replace(a_run, claims=guarded), [])
    write_manifest(folder)
    assert main(["export", str(folder), *asked]) == 0
    assert json.loads((tmp_path / "out").read_text())["verdict"] == "causal"


def test_a_recorded_run_is_logged_afterwards(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(stores, "missing", lambda trackers: None)
    monkeypatch.setitem(stores._TRACKERS, "mlflow", lambda entry: f"{entry.name}: {entry.numbers['suite/claim0']}")
    assert main(["log", str(folder), "--to", "mlflow"]) == 0
    assert capsys.readouterr().out == "mlflow: run: 0.5\n"


def test_a_run_that_cannot_be_logged_ends_the_command_with_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(entry: TrackedRun) -> str:
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(stores, "missing", lambda trackers: None)
    monkeypatch.setitem(stores._TRACKERS, "mlflow", fail)
    assert main(["log", str(folder), "--to", "mlflow"]) == 4
    assert capsys.readouterr().err == "auditkit: log: cannot log to mlflow: ConnectionError: no route to host\n"
    monkeypatch.setattr(stores, "missing", lambda trackers: f"{trackers[0]} is not installed")
    assert main(["log", str(folder), "--to", "wandb"]) == 4
    assert capsys.readouterr().err == "auditkit: log: wandb is not installed\n"
