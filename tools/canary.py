"""Run the adapters' tests with the installed versions and say what changed since the lock was made.

    python tools/canary.py requirements/lock.txt [pytest arguments]

Prints Markdown: which packages have other versions than the lock, which model families gained or lost a capability,
and which tests fail. In a GitHub workflow the same text goes into the job's summary. The exit code is pytest's: a
family that gained or lost a capability is told, a failing test fails.
"""

from __future__ import annotations

import os
import re
import sys
from importlib import metadata
from pathlib import Path

import pytest

_PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)(?: ; ([^\\]+?))? ?\\?$")


class Watch:
    """What pytest met that a person wants to know afterwards."""

    def __init__(self) -> None:
        self.changed: set[str] = set()
        self.failed: list[str] = []

    def pytest_warning_recorded(self, warning_message: object) -> None:
        message = warning_message.message  # type: ignore[attr-defined]  # a warnings.WarningMessage
        if type(message).__name__ == "ConformanceChanged":
            self.changed.add(str(message))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed.append(report.nodeid)


def locked(path: Path) -> dict[str, set[str]]:
    """Package -> its versions in the lock; more than one where they differ by Python or platform."""
    found: dict[str, set[str]] = {}
    for line in path.read_text().splitlines():
        if match := _PIN.match(line):
            found.setdefault(match[1], set()).add(match[2])
    return found


def version_changes(pins: dict[str, set[str]]) -> list[str]:
    """One line for each installed package whose version is not one of the lock's."""
    lines = []
    for name, versions in sorted(pins.items()):
        try:
            now = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # of another platform or Python
        if now not in versions:
            lines.append(f"{name}: {now}, locked {' or '.join(sorted(versions))}")
    return lines


def main(lock: str, *arguments: str) -> int:
    watch = Watch()
    code = pytest.main(
        ["tests/adapters", "-q", "-m", "not slow", "-n", "auto", "--dist", "loadfile", *arguments], [watch]
    )
    sections = (
        ("Versions that differ from the lock", version_changes(locked(Path(lock)))),
        ("Families that gained or lost a capability", sorted(watch.changed)),
        ("Failing tests", sorted(watch.failed)),
    )
    text = "\n".join(
        f"## {title}\n\n" + ("\n".join(f"- {line}" for line in lines) or "none") + "\n"
        for title, lines in sections
    )
    print(text)
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(summary).open("a") as page:
            page.write(text)
    return int(code)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
