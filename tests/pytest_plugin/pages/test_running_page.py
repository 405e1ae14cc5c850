"""docs/running.md says what is so: its options exist and are all there, and so are its exit codes."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

import auditkit
from auditkit.claims.verdicts import EXIT_INCONCLUSIVE, EXIT_INTEGRITY
from auditkit.options import FLAGS, OPTIONS
from auditkit.pytest_plugin.options import options_of

pytestmark = pytest.mark.unit

PAGE = (Path(auditkit.__file__).parents[1] / "docs" / "running.md").read_text()


def _table(heading: str) -> list[str]:
    """First cells of the table under a heading."""
    section = PAGE.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    return [line.split("|")[1].strip() for line in section.splitlines() if line.startswith("|")][2:]


def test_every_option_is_there_and_no_other(pytestconfig: pytest.Config) -> None:
    named = {name for cell in _table("Options") for name in re.findall(r"--[a-z-]+", cell)}
    assert named == {f"--{name}" for name in OPTIONS} | {"--audit-dir"} | {f"--audit-{name}" for name in FLAGS}


def test_every_exit_code_is_there() -> None:
    assert [int(cell) for cell in _table("Exit codes")] == [0, 1, 4, EXIT_INCONCLUSIVE, EXIT_INTEGRITY]


@pytest.mark.parametrize("command", re.findall(r"^pytest (suites/ .*)$", PAGE, flags=re.MULTILINE))
def test_every_command_is_understood(pytester: pytest.Pytester, tiny_llama: Path, command: str) -> None:
    """pytest takes each command line of the page as an audit of the suites (that it measures is tested elsewhere)."""
    if " -n " in command:
        pytest.importorskip("xdist", reason="-n belongs to pytest-xdist")
    shutil.copytree(tiny_llama, pytester.path / "candidate")
    (pytester.mkdir("suites") / "test_finding.py").write_text('def test_claim(model):\n    """A claim."""\n')
    config = pytester.parseconfigure(*command.split())
    assert options_of(config).models
    assert [Path(path).name for path in config.args] == ["suites"]
