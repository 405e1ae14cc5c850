"""The tutorial shows the suite that `auditkit new-suite` writes, and its commands run."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from docpages import ROOT, blocks

from auditkit import NotApplicable
from auditkit.cli import main
from tests.planted.inducing import Inducing, open_inducing
from tests.planted.refusing import open_refusing, pairs

pytestmark = pytest.mark.unit

OWN = ROOT / "examples" / "own_suites"
PAGE = ROOT / "docs" / "own-finding.md"
FOUND = list(blocks(PAGE.read_text(encoding="utf-8")))
COMMANDS = [line for kind, text, _ in FOUND if kind == "console" for line in text.splitlines()]


def as_it_stands(text: str) -> str:
    """Code without its indentation, since the page shows methods without their class."""
    return "\n".join(map(str.strip, text.splitlines()))


def test_every_excerpt_stands_in_what_is_written(tmp_path: Path) -> None:
    assert main(["new-suite", "leaning", "--into", str(tmp_path)]) == 0
    files = [*(tmp_path / "leaning").iterdir(), *OWN.glob("*/*.py")]
    written = [path.read_text() for path in files if path.is_file()]
    excerpts = [text for kind, text, _ in FOUND if kind in ("python sketch", "toml")]
    assert len(excerpts) >= 14
    assert [
        text for text in excerpts if not any(as_it_stands(text) in as_it_stands(file) for file in written)
    ] == []
    assert {kind for kind, *_ in FOUND} == {"console", "python sketch", "python runnable", "toml"}


def test_the_suite_of_heads_finds_a_planted_head(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(OWN))
    asked = importlib.import_module("lookup.measurements").Lookup(open_inducing(), seed=0, n_items=12)
    planted = Inducing()
    assert asked.best(asked.sequences.ids) == planted.induction
    assert asked.gain().describe().lower > 0.9


def test_the_suite_of_a_direction_finds_a_planted_one_and_does_not_apply_without(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(OWN))
    suite = importlib.import_module("one_direction.measurements")
    monkeypatch.setattr(suite, "own_requests", pairs)
    for strength in (6.0, 0.0):
        model = open_refusing(strength)
        asked = suite.refusals(model, seed=0, n_items=20)
        if strength:
            removed = suite.removal(model, asked, seed=0)
            assert removed.change("direction") <= -1.0
            assert removed.beyond("direction", "random 1") < 0
        else:
            with pytest.raises(NotApplicable, match=r"refuses \d+% of the harmful requests"):
                suite.removal(model, asked, seed=0)


@pytest.mark.slow
def test_its_commands_run_one_after_the_other(tmp_path: Path, tiny_llama: Path) -> None:
    assert COMMANDS[0] == "auditkit new-suite leaning"
    shutil.copytree(OWN, tmp_path / "examples" / "own_suites", ignore=shutil.ignore_patterns("__pycache__"))
    for line in COMMANDS:
        program, *words = line.replace("smollm2-135m-instruct", str(tiny_llama)).split()
        module = {"auditkit": "auditkit.cli", "pytest": "pytest"}[program]
        called = [sys.executable, "-m", module, *words]
        done = subprocess.run(
            called, cwd=tmp_path, env=os.environ | {"PYTHONPATH": ""}, capture_output=True, text=True
        )
        measures = "--model" in words
        assert done.returncode in ((0, 1, 10) if measures else (0,)), done.stdout + done.stderr
