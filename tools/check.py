"""Run the unit tests of what changed: `python tools/check.py [REVISION]`, as `make check` does.

A changed module stands for the test file of its name in the room that mirrors its own or in one around it, or, where
there is none, for all tests of that room; a changed test file stands for itself, and a page for the tests of the docs.
Changes are those since REVISION, uncommitted and untracked files included; by default since the last commit, or of the
last commit where nothing is uncommitted. Tests of whole processes are left to `make test`, since they take minutes; a
line names those that a change stands for.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[1]
WHOLE = "processes"
"""Rooms of tests that start processes of their own."""


def changed(revision: str | None) -> list[str]:
    """Paths, from the root of the repository, of files that differ from a revision and still exist."""
    untracked = _git("ls-files", "--others", "--exclude-standard")
    paths = {*_git("diff", "--name-only", revision or "HEAD"), *untracked}
    if not paths and revision is None:
        paths = {*_git("diff", "--name-only", "HEAD~1")}
    return sorted(path for path in paths if (ROOT / path).is_file())


def tests_of(path: str) -> list[str]:
    """Test files and folders that a changed file stands for; none for a suite, the changelog and the like."""
    where = PurePosixPath(path)
    if where.suffix == ".md" and where.name != "CHANGELOG.md":
        return _in(Path("tests/docs"))
    if where.suffix != ".py" and "data" not in where.parts:
        return []
    if where.parts[0] == "tests":
        return [path] if where.name.startswith("test_") else _in(Path(where.parent))
    if where.parts[0] != "auditkit":
        return []
    rooms = [Path("tests", *where.parts[1:end]) for end in range(len(where.parts) - 1, 1, -1)]
    named = [room / f"test_{where.stem}.py" for room in rooms if where.suffix == ".py"]
    found = [file.as_posix() for file in named if (ROOT / file).is_file()]
    return found[:1] or next(filter(None, map(_in, rooms)), [])


def _in(room: Path) -> list[str]:
    """Test files that lie in a folder itself."""
    return sorted(file.relative_to(ROOT).as_posix() for file in (ROOT / room).glob("test_*.py"))


def main(*arguments: str) -> int:
    files = changed(arguments[0] if arguments else None)
    tests = sorted({test for path in files for test in tests_of(path)})
    left = [test for test in tests if WHOLE in PurePosixPath(test).parts]
    tests = [test for test in tests if test not in left]
    print(f"{len(files)} changed files, tests of {', '.join(tests) or 'no room'} (and the house rules)")
    if left:
        print(f"left to make test: {', '.join(left)}")
    workers = ("-n", "auto", "--maxprocesses", "4")
    command = [sys.executable, "-m", "pytest", "-q", "-m", "unit and not slow", *workers]
    return subprocess.run([*command, "tests/test_layers.py", *tests], cwd=ROOT).returncode


def _git(*arguments: str) -> list[str]:
    return subprocess.run(
        ["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.splitlines()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
