"""Names of the code in the docs: modules, attributes, files, and the table of rooms."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from types import ModuleType

import pytest
from docpages import PAGES, ROOT, named
from scripts import loaded

pytestmark = pytest.mark.unit

PLACEHOLDERS = {"X", "NAME", "politeness"}
"""Names that CONTRIBUTING invents."""

NO_CODE = {"auditkit.gates"}
"""A name of the JUnit file."""

ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def _resolve(name: str) -> object:
    """A module, or what is reached from one by attributes."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        where = getattr(found, "__file__", None)
        assert Path(where or "/").is_relative_to(ROOT), f"{name} is no module of this repository"
        for part in parts[length:]:
            found = getattr(found, part)
        return found
    raise ModuleNotFoundError(name)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_dotted_names_resolve(page: Path) -> None:
    for name in sorted(
        set(re.findall(r"(?<![\w./-])auditkit(?:\.[A-Za-z_]\w*)+", page.read_text(encoding="utf-8")))
    ):
        if name not in NO_CODE and PLACEHOLDERS.isdisjoint(name.split(".")):
            _resolve(name)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_files_that_pages_name_exist(page: Path) -> None:
    tops = "auditkit|suites|tests|tools|examples|benchmarks|requirements"
    for path in re.findall(rf"`((?:{tops})/[\w./-]*)`", page.read_text(encoding="utf-8")):
        if PLACEHOLDERS.isdisjoint(re.split(r"[/._]", path)):
            assert (ROOT / path).exists(), f"{named(page)} names {path}"


def _rows(heading: str) -> list[list[str]]:
    """Cells of the first table under a heading of the architecture page, without its head."""
    section = re.split(r"^#+ ", ARCHITECTURE.split(heading, 1)[1], maxsplit=1, flags=re.M)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def _layers() -> ModuleType:
    return loaded(ROOT / "tests" / "test_layers.py")


def test_the_table_of_rooms_is_the_rule() -> None:
    stated = {}
    for rooms, allowed in _rows("### Who may import whom"):
        plain = re.split(r"[;(]", allowed)[0].strip()
        named_rooms = set() if plain.startswith("nothing") else {room.strip() for room in plain.split(",")}
        stated |= dict.fromkeys(re.findall(r"`([\w.]+)`", rooms), named_rooms)
    rule = {room: set(allowed) for room, allowed in _layers().ALLOWED.items()}
    assert rule.pop("stats.simulations") == {"gate", "stats", "notebook", "record"}, (
        "the row of stats says so in brackets"
    )
    assert stated == rule


def test_the_limits_are_those_of_the_rule() -> None:
    layers = _layers()
    limits = re.search(
        r"at most (\d+) files, modules at most (\d+) lines and (\d+) imports of the package, functions at most (\d+)",
        " ".join(ARCHITECTURE.split()),
    )
    assert limits is not None
    found = layers.MOST_FILES, layers.MOST_LINES, layers.MOST_IMPORTS, layers.MOST_OF_A_FUNCTION
    assert tuple(map(int, limits.groups())) == found


def test_every_room_is_described() -> None:
    described = {room.split("/")[0] for row in _rows("## Rooms") for room in re.findall(r"`([\w/]+)", row[0])}
    assert described == {room for room in _layers().ALLOWED if "." not in room}
