"""`make check` runs the tests of what changed, and never none in silence where there are some."""

from __future__ import annotations

from pathlib import Path

import pytest
from scripts import loaded

import auditkit

pytestmark = pytest.mark.unit

ROOT = Path(auditkit.__file__).parents[1]


CHECK = loaded(ROOT / "tools" / "check.py")


@pytest.mark.parametrize(
    ("path", "tests"),
    [
        ("auditkit/engine/patching/sweep.py", ["tests/engine/patching/test_sweep.py"]),
        ("auditkit/gate/waivers.py", ["tests/gate/test_waivers.py"]),
        (
            "auditkit/findings/persona_patching/measurements/heads.py",
            ["tests/findings/persona_patching/test_heads.py"],
        ),
        ("tests/gate/test_waivers.py", ["tests/gate/test_waivers.py"]),
        ("CHANGELOG.md", []),
        ("suites/persona_patching/conftest.py", []),
    ],
)
def test_a_file_stands_for_the_tests_of_its_name(path: str, tests: list[str]) -> None:
    assert (ROOT / path).is_file()
    assert CHECK.tests_of(path) == tests


@pytest.mark.parametrize(
    ("path", "room"),
    [
        ("auditkit/engine/patching/rows.py", "tests/engine/patching"),
        ("auditkit/findings/identity_bias/data/decisions.toml", "tests/findings/identity_bias"),
        ("auditkit/findings/asking/questions.py", "tests/findings/asking"),
        ("docs/engine.md", "tests/docs"),
        ("auditkit/report/templates/audit.py", "tests/report"),
    ],
)
def test_a_file_without_tests_of_its_name_stands_for_its_room(path: str, room: str) -> None:
    expected = sorted(file.relative_to(ROOT).as_posix() for file in (ROOT / room).glob("test_*.py"))
    assert CHECK.tests_of(path) == expected


def test_every_module_but_those_of_the_package_itself_stands_for_some_test() -> None:
    bare = [
        path
        for file in sorted((ROOT / "auditkit").rglob("*.py"))
        if not CHECK.tests_of(path := file.relative_to(ROOT).as_posix())
    ]
    assert {str(Path(path).parent) for path in bare} <= {"auditkit", "auditkit/findings"}
