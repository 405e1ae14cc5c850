"""The plugin under the pytest releases that it declares and that are not the installed one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
# Outcomes and options, a family, workers that die, and a run cut off: what hangs on pytest's and xdist's hooks.
FILES = ["test_outcomes.py", "test_families.py", "test_distributed.py", "test_reruns.py", "test_unrelated_runs.py"]


@pytest.mark.parametrize("version", ["==8.2.0", ">=8.2,<9", ">=9,<10"])
def test_the_plugin_works_with(tmp_path: Path, version: str) -> None:
    """pyproject.toml asks for pytest 8.2 or later; only pytest itself is another one here."""
    target = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target)]
    done = subprocess.run([*install, f"pytest{version}"], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"pytest{version} cannot be installed here: {done.stderr.strip().splitlines()[-1]}")
    environment = {**os.environ, "PYTHONPATH": f"{target}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"--basetemp={tmp_path / 'runs'}"]
    files = [str(next((ROOT / "tests" / "pytest_plugin").rglob(name))) for name in FILES]
    result = subprocess.run(
        [*command, "-m", "not slow", *files], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    used = next(line for line in result.stdout.splitlines() if "pytest-" in line)
    assert f"pytest-{version.strip('=<>')[0]}." in used
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-2000:]
