"""Persona statement files: what is read, what is refused in one line, and the published files where they are."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from auditkit.data.errors import DataError
from auditkit.findings.persona_localization.prompts.statements import (
    hub_statements,
    persona_statements,
    read_statements,
)

pytestmark = pytest.mark.unit

PUBLISHED = Path(__file__).parents[4] / "shared" / "data" / "persona_statements"


def line(
    text: str = "I enjoy long parties", answer: str = " Yes", confidence: object = 0.9, **extra: object
) -> str:
    return json.dumps(
        {"statement": text, "answer_matching_behavior": answer, "label_confidence": confidence, **extra}
    )


NO = line("I prefer to be alone", " No")


def written(folder: Path, *lines: str, name: str = "extraversion.jsonl") -> Path:
    path = folder / name
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_statements_are_read_with_their_labels(tmp_path: Path) -> None:
    path = written(tmp_path, line(question="Is it?"), "", NO, line("I rarely speak\u2028first", "no", 1))
    first, second, third = persona_statements(path).kept
    assert (first.id, first.persona, first.positive) == ("extraversion-1", "extraversion", True)
    assert (second.id, second.positive, second.confidence) == ("extraversion-3", False, 0.9)
    assert third.text == "I rarely speak\u2028first"


def test_unsure_labels_are_left_out(tmp_path: Path) -> None:
    path = written(
        tmp_path, line(), NO, line("I like people", confidence=0.84), line("I like crowds", confidence=0.85)
    )
    read = persona_statements(path)
    assert len(read.kept) == 3
    assert [(one.item_id, one.reason) for one in read.dropped] == [
        ("extraversion-3", "confidence 0.84 is below 0.85"),
    ]
    assert len(persona_statements(path, least_confidence=0.5).kept) == 4


def test_a_statement_that_comes_twice_is_kept_once(tmp_path: Path) -> None:
    read = persona_statements(written(tmp_path, line(), NO, line("I enjoy  long PARTIES ")))
    assert len(read.kept) == 2
    assert [(one.item_id, one.reason) for one in read.dropped] == [
        ("extraversion-3", "the statement is already in line 1"),
    ]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (line("Maybe", "Perhaps"), "line 3, field answer_matching_behavior: 'Perhaps' is neither yes nor no"),
        (line("i enjoy long parties", "No"), "line 3: the statement is already in line 1 with the other label"),
        (line("  "), "line 3, field statement: empty"),
        (line("x", confidence=1.2), "line 3, field label_confidence: 1.2 is not between 0 and 1"),
        (line("x", confidence=float("nan")), "line 3, field label_confidence: nan is not between 0 and 1"),
        (line("x", confidence="high"), "line 3, field label_confidence: 'high' is not a number"),
        (line("x", confidence=True), "line 3, field label_confidence: True is not a number"),
        (json.dumps({"statement": "x"}), "line 3: the field answer_matching_behavior is missing"),
        (json.dumps({"question": "x"}), "line 3: the field statement is missing"),
        (json.dumps(["x"]), "line 3: not an object"),
        ('{"statement": ', "line 3: not JSON"),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, bad: str, message: str) -> None:
    path = written(tmp_path, line(), NO, bad)
    with pytest.raises(DataError) as caught:
        persona_statements(path)
    assert f"{path}, {message}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_kind_only_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"no statement with the label no and a confidence of at least 0.85, among 2"
    ):
        persona_statements(written(tmp_path, line(), line("I prefer to be alone", "No", 0.2)))
    with pytest.raises(DataError, match=r"label yes and .* among 0"):
        persona_statements(written(tmp_path))


def test_a_file_in_another_encoding_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="not UTF-8"):
        persona_statements(path)


def test_the_hub_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    asked = []

    def download(name: str, **options: object) -> str:
        asked.append((name, options["repo_type"], options["allow_patterns"]))
        for persona in ("extraversion", "left-by-an-earlier-call"):
            written(tmp_path, line(), NO, name=f"{persona}.jsonl")
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert len(hub_statements("extraversion").kept) == 2
    ((name, kind, patterns),) = asked
    assert (name, kind) == ("Anthropic/model-written-evals", "dataset")
    assert isinstance(patterns, list)
    assert "*extraversion.jsonl" in patterns
    with pytest.raises(DataError, match=r"model-written-evals: holds no .* file of agreeableness"):
        hub_statements("agreeableness")
    with pytest.raises(DataError, match="holds no"):  # without a name there is nothing to fetch
        read_statements("Anthropic/model-written-evals")


def test_an_unreachable_hub_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def download(name: str, **options: object) -> str:
        raise ConnectionError

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(DataError, match=r"cannot fetch .* \(ConnectionError\) and it is not cached"):
        hub_statements("x")


def test_a_folder_has_a_file_for_each_persona(tmp_path: Path) -> None:
    for persona in ("calm", "loud", "third"):
        written(tmp_path, line(), NO, name=f"{persona}.jsonl")
    assert list(read_statements(str(tmp_path))) == ["calm", "loud", "third"]
    assert list(read_statements(f"{tmp_path}#loud,calm")) == ["calm", "loud"]
    assert list(read_statements(str(tmp_path / "loud.jsonl"))) == ["loud"]
    with pytest.raises(DataError, match="no file of the persona 'quiet'; there are calm, loud, third"):
        read_statements(f"{tmp_path}#quiet")
    (tmp_path / "table.csv").write_text("a,b\n")
    with pytest.raises(DataError, match=r"table\.csv: statements are read from \.jsonl files, one per persona"):
        read_statements(str(tmp_path))


def test_reading_files_needs_no_hub(tmp_path: Path) -> None:
    import subprocess

    path = written(tmp_path, line(), NO)
    code = (
        "import sys; from pathlib import Path; "
        "from auditkit.findings.persona_localization.prompts.statements import persona_statements; "
        f"persona_statements(Path({str(path)!r})); print('huggingface_hub' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason=f"the published persona files are not at {PUBLISHED}")
def test_the_published_files_are_read() -> None:
    read = {path.stem: persona_statements(path) for path in PUBLISHED.glob("*.jsonl")}
    assert len(read) == 9
    for persona, statements in read.items():
        assert len(statements.kept) + len(statements.dropped) == 1000, persona
        assert abs(sum(s.positive for s in statements.kept) - 500) <= 2, persona
    assert sum(len(statements.dropped) for statements in read.values()) == 6
