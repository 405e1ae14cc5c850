"""Audits that a test starts as a user does, in a process of their own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

ROOT = Path(__file__).parents[2]
MEASURED = (0, 1, 10)
"""Exit codes of an audit that came to its end and can be read."""


def audit(reports: Path, *arguments: str, codes: Collection[int] = MEASURED, python: Collection[str] = ()) -> Path:
    """The folder of the run that `pytest ARGUMENTS` writes from the repository's root.

    Args:
        reports: folder of run folders.
        codes: exit codes that are expected; another one fails the test with what the process printed.
        python: options of the interpreter.
    """
    command = [sys.executable, *python, "-m", "pytest", *arguments, "--audit-dir", str(reports)]
    done = subprocess.run([*command, "-p", "no:cacheprovider"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode in codes, done.stdout + done.stderr
    return reports / "latest"
