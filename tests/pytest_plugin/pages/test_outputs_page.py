"""docs/outputs.md says what is so: its files are those of a run, and its commands are understood."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest

import auditkit
from auditkit.cli import main

pytestmark = pytest.mark.unit

DOCS = Path(auditkit.__file__).parents[1] / "docs"
PAGE = (DOCS / "outputs.md").read_text()
COMMANDS = [
    line for block in re.findall(r"^```console\n(.*?)^```$", PAGE, re.M | re.S) for line in block.splitlines()
]


def test_every_file_of_a_run_is_there_and_no_other(recorded: Path) -> None:
    table = PAGE.split("| file |")[1].split("\n\n")[0]
    assert set(re.findall(r"^\| `([^`]+)`", table, re.M)) == {path.name for path in recorded.iterdir()}


def test_every_command_works(audits: Any, recorded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The claim and the released run of the page are stood in for by those of a planted suite."""
    monkeypatch.chdir(audits.path)
    stands = {
        "persona_patching/early_mlps_carry_the_persona": "suite/once",
        "reports/20250601T101112Z-released": str(recorded),
        "suites/": "suites",
        "./candidate": str(audits.model),
    }
    for step in ("step-500", "step-1000", "step-1500"):
        shutil.copytree(recorded, audits.path / "reports" / step)
    for name in ("alpha", "beta"):
        folder = audits.path / "suites" / name
        folder.mkdir(parents=True)
        (folder / "conftest.py").write_text((audits.suite / "conftest.py").read_text())
        (folder / f"test_{name}.py").write_text((audits.suite / "test_finding.py").read_text())
    (audits.path / "README.md").write_text("---\nlicense: mit\n---\n# The candidate\n")
    for line in COMMANDS:
        program, *args = (stands.get(word, word) for word in shlex.split(line))
        code = main(args) if program == "auditkit" else audits.pytester.runpytest_inprocess(*args).ret
        assert code == 0, line


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", PAGE):
        file, _, anchor = target.partition("#")
        text = (DOCS / file).read_text()
        headings = {
            re.sub(r"[^a-z0-9 -]", "", h.lower()).replace(" ", "-") for h in re.findall(r"^#+ (.*)$", text, re.M)
        }
        assert not anchor or anchor in headings, target
