"""The suite run as a user runs it, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from auditkit.record.schema import Run
from auditkit.record.store import read_run

ROOT = Path(__file__).parents[3]


def audit(reports: Path, *options: str, of: str = "suites/identity_bias", items: int = 10) -> Run:
    command = [sys.executable, "-m", "pytest", of, "--items", str(items), "--audit-dir", str(reports)]
    done = subprocess.run([*command, *options], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode in (0, 1, 10), done.stdout + done.stderr
    return read_run(reports / "latest")
