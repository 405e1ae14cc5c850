"""The lock holds an exact, hashed version of all that pyproject.toml asks for, and names no place to fetch it from."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from scripts import loaded

import auditkit

pytestmark = pytest.mark.unit

ROOT = Path(auditkit.__file__).parents[1]
LOCKS = (
    "lock.txt",
    "bench.txt",
    "docs.txt",
    "notebooks.txt",
    "fleet.txt",
    "track.txt",
    "exports.txt",
    "engine.txt",
)


@pytest.fixture(scope="module")
def canary() -> ModuleType:
    return loaded(ROOT / "tools" / "canary.py")


def wanted(*extras: str) -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    texts = [*project["dependencies"], *(t for extra in extras for t in project["optional-dependencies"][extra])]
    return [Requirement(text) for text in texts]


@pytest.mark.parametrize(
    ("name", "extras"),
    [
        ("lock.txt", ("dev", "nnterp")),
        ("bench.txt", ("dev", "nnterp", "bench")),
        ("fleet.txt", ("dev", "nnterp", "fleet")),
        ("track.txt", ("dev", "nnterp", "track")),
    ],
)
def test_every_requirement_is_locked_to_a_version_that_it_allows(
    name: str, extras: tuple[str, ...], canary: ModuleType
) -> None:
    pins = canary.locked(ROOT / "requirements" / name)
    assert len(pins) > 100
    for requirement in wanted(*extras):
        if requirement.name != "torch":
            versions = pins[canonicalize_name(requirement.name)]
            assert all(requirement.specifier.contains(version) for version in versions), requirement


@pytest.mark.parametrize("name", LOCKS)
def test_every_pin_has_hashes_and_no_address(name: str) -> None:
    text = (ROOT / "requirements" / name).read_text()
    for entry in re.split(r"\n(?=[a-z])", text)[1:]:
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), entry.splitlines()[0]
    assert not re.search(r"://|--index-url|--extra-index-url|--find-links| @ ", text)


def test_torch_is_named_by_version_alone_and_brings_nothing_else_unlocked(canary: ModuleType) -> None:
    assert "torch==2.13.0" in (ROOT / "constraints.txt").read_text().splitlines()
    pins = canary.locked(ROOT / "requirements" / "lock.txt")
    assert not {name for name in pins if name == "torch" or name.startswith(("nvidia", "triton", "cuda"))}
    needs = [
        line for line in (ROOT / "requirements" / "torch-needs.in").read_text().splitlines() if line[0] != "#"
    ]
    assert set(needs) <= pins.keys()


def test_what_is_installed_under_make_is_what_is_locked(canary: ModuleType) -> None:
    """Under another environment than `make setup`'s the versions may differ; then there is nothing to compare."""
    changes = canary.version_changes(canary.locked(ROOT / "requirements" / "lock.txt"))
    if not (ROOT / ".venv" / ".ready").exists():
        pytest.skip(f"this environment was not made by `make setup`: {len(changes)} versions differ")
    assert changes == []


def test_a_version_beside_the_lock_is_named(canary: ModuleType, tmp_path: Path) -> None:
    lock = tmp_path / "lock.txt"
    lock.write_text(
        "pytest==1.0 \\\n    --hash=sha256:00\nnumpy==1.0 ; python_full_version < '3.12' \\\nno-such-one==2 \\\n"
    )
    assert canary.locked(lock) == {"pytest": {"1.0"}, "numpy": {"1.0"}, "no-such-one": {"2"}}
    named = [line.split(":")[0] for line in canary.version_changes(canary.locked(lock))]
    assert named == ["numpy", "pytest"]


def test_every_locked_package_has_a_licence(canary: ModuleType) -> None:
    """What other systems need alone (Windows, macOS) is not installed here, and so has no line."""
    text = (ROOT / "docs" / "licenses.md").read_text()
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("| ")
    ]
    licences = {canonicalize_name(name): licence for name, _, licence, *_ in rows[1:]}
    assert not [name for name, licence in licences.items() if licence in ("", "UNKNOWN")]
    lock = (ROOT / "requirements" / "lock.txt").read_text()
    conditional = {canonicalize_name(name) for name in re.findall(r"^([a-z0-9._-]+)==[^;\n]*;", lock, flags=re.M)}
    assert {"torch", *canary.locked(ROOT / "requirements" / "lock.txt")} - conditional <= set(licences)
