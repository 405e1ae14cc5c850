"""Every layout of the table opens or is refused with its sentence, and the table in docs/models.md is made from it."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

from auditkit.adapters import open_model
from auditkit.adapters.errors import ModelError
from tests.adapters.layouts.layout import READ, Layout

pytestmark = pytest.mark.unit

HERE = Path(__file__).parent / "layouts"
PAGE = Path(__file__).parents[2] / "docs" / "models.md"
START, END = "<!-- layouts -->", "<!-- end of layouts -->"
MODULES = sorted(
    file.stem for file in HERE.glob("*.py") if file.stem not in ("layout", "__init__") and "test" not in file.stem
)
LAYOUTS: dict[str, list[Layout]] = {
    name: import_module(f"tests.adapters.layouts.{name}").LAYOUTS for name in MODULES
}


@pytest.mark.parametrize(
    "layout", [one for rows in LAYOUTS.values() for one in rows], ids=lambda layout: layout.name
)
def test_a_layout_is_read_or_refused_with_its_sentence(layout: Layout, tmp_path: Path) -> None:
    if "sentencepiece, without" in layout.name:
        pytest.importorskip("google.protobuf", reason="protobuf is not installed")
    spec = layout.build(tmp_path)
    parent, name = (spec.parent, spec.name) if isinstance(spec, Path) else ("", "")
    try:
        found = READ if open_model(str(spec), device="cpu").layers else "a model without layers"
    except ModelError as error:
        found = str(error)
    assert found == layout.outcome.format(path=spec, folder=parent, name=name)


def test_no_two_layouts_have_one_name() -> None:
    names = [layout.name for rows in LAYOUTS.values() for layout in rows]
    assert len(set(names)) == len(names)


def test_the_table_in_the_docs_is_what_the_layouts_come_to(pytestconfig: pytest.Config) -> None:
    before, rest = PAGE.read_text().split(START)
    written, after = rest.split(END)
    if pytestconfig.getoption("write_layouts"):
        written = table()
        PAGE.write_text(f"{before}{START}{written}{END}{after}")
    assert written == table(), "the table is out of date; run: make layouts"


def table() -> str:
    """The rows of docs/models.md: a layout, and whether it is read or the sentence that refuses it."""
    lines = ["", "| layout | what becomes of it |", "|---|---|"]
    for rows in LAYOUTS.values():
        for layout in rows:
            words = layout.outcome.format(path="PATH", folder="FOLDER", name="NAME").replace("|", "\\|")
            lines.append(f"| {layout.name} | {words if words == READ else f'refused: {words}'} |")
    return "\n".join([*lines, ""])
