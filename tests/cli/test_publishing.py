"""`auditkit card` and `auditkit export`: files that are written, and one line for what cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from auditkit.cli import main
from auditkit.record.manifest import write_manifest
from auditkit.record.schema import Run
from auditkit.record.store import write_run

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
        (["every-eval-ever", "--organization", "S", "--schema-version", "9"],
         "the schema version 9 of every-eval-ever is not known; this auditkit writes 0.2.1"),
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
