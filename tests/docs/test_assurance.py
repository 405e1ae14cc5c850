"""docs/assurance.md: every statement has a status, and every command names something that exists."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from docpages import ROOT

from auditkit.claims.suites import packaged

pytestmark = pytest.mark.unit

PAGE = (ROOT / "docs" / "assurance.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" |")]
    for line in PAGE.splitlines()
    if line.startswith("| ") and not line.startswith("| statement")
]


def missing(command: str) -> str:
    """What a command names that is not there; empty where all is."""
    program, *words = shlex.split(command)
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    path, _, test = words[0].partition("::")
    if program == "make":
        return "" if words[0] in targets else f"no target {words[0]}"
    if program == "auditkit":
        offered = {"verify", "report", *(("audit",) if words[1] in packaged() else ())}
        return "" if words[0] in offered else f"no command or suite: {command}"
    if program not in ("python", "pytest") or not (ROOT / path).exists():
        return f"no {path}"
    return "" if not test or f"def {test}(" in Path(ROOT / path).read_text(encoding="utf-8") else f"no test {test}"


def test_every_statement_has_a_status_and_says_where_it_ends() -> None:
    assert len(ROWS) > 30
    for statement, status, command, ends in ROWS:
        assert status in ("supported", "refuted", "open"), statement
        if status == "open":
            assert ends, f"{statement}: what is missing?"
        else:
            assert command, f"{statement}: which command shows it?"
    assert {row[1] for row in ROWS} == {"supported", "refuted", "open"}


@pytest.mark.parametrize("row", [row for row in ROWS if row[2]], ids=lambda row: row[0][:40])
def test_every_command_names_what_exists(row: list[str]) -> None:
    assert not missing(row[2].strip("`"))


@pytest.mark.parametrize(
    "command",
    [
        "make nothing",
        "python tools/none.py",
        "pytest tests/test_wheel.py::test_none",
        "auditkit audit nowhere",
        "ls docs",
    ],
)
def test_a_command_that_names_nothing_is_found(command: str) -> None:
    assert missing(command)
