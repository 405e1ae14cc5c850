"""The tutorial shows the suite that `auditkit new-suite` writes, and its commands run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from docpages import ROOT, blocks

from auditkit.cli import main

pytestmark = pytest.mark.unit

PAGE = ROOT / "docs" / "own-finding.md"
FOUND = list(blocks(PAGE.read_text(encoding="utf-8")))
COMMANDS = [line for kind, text, _ in FOUND if kind == "console" for line in text.splitlines()]


def as_it_stands(text: str) -> str:
    """Code without its indentation, since the page shows methods without their class."""
    return "\n".join(map(str.strip, text.splitlines()))


def test_every_excerpt_stands_in_what_is_written(tmp_path: Path) -> None:
    assert main(["new-suite", "leaning", "--into", str(tmp_path)]) == 0
    written = [path.read_text() for path in (tmp_path / "leaning").iterdir() if path.is_file()]
    excerpts = [text for kind, text, _ in FOUND if kind in ("python sketch", "toml")]
    assert len(excerpts) >= 6
    assert [
        text for text in excerpts if not any(as_it_stands(text) in as_it_stands(file) for file in written)
    ] == []
    assert {kind for kind, *_ in FOUND} == {"console", "python sketch", "python runnable", "toml"}


@pytest.mark.slow
def test_its_commands_run_one_after_the_other(tmp_path: Path, tiny_llama: Path) -> None:
    assert COMMANDS[0] == "auditkit new-suite leaning"
    for line in COMMANDS:
        program, *words = line.replace("smollm2-135m-instruct", str(tiny_llama)).split()
        module = {"auditkit": "auditkit.cli", "pytest": "pytest"}[program]
        called = [sys.executable, "-m", module, *words]
        done = subprocess.run(
            called, cwd=tmp_path, env=os.environ | {"PYTHONPATH": ""}, capture_output=True, text=True
        )
        measures = words[:1] == ["audit"]
        assert done.returncode in ((0, 1, 10) if measures else (0,)), done.stdout + done.stderr
