"""Every row of `weights.LAYOUTS` opens, or is refused with its sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from auditkit.adapters import open_model
from auditkit.adapters.errors import ModelError
from tests.adapters.layouts.layout import READ, Layout
from tests.adapters.layouts.weights import LAYOUTS

pytestmark = pytest.mark.unit


def outcome(layout: Layout, folder: Path) -> tuple[str, str]:
    """What opening a layout comes to, and what the table says."""
    spec = layout.build(folder)
    parent = spec.parent if isinstance(spec, Path) else ""
    name = spec.name if isinstance(spec, Path) else ""
    expected = layout.outcome.format(path=spec, folder=parent, name=name)
    try:
        adapter = open_model(str(spec), device="cpu")
    except ModelError as error:
        return str(error), expected
    assert adapter.layers
    return READ, expected


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_a_layout_of_weights_is_read_or_refused_with_its_sentence(layout: Layout, tmp_path: Path) -> None:
    if "sentencepiece, without" in layout.name:
        pytest.importorskip("google.protobuf", reason="protobuf is not installed")
    found, expected = outcome(layout, tmp_path)
    assert found == expected


def test_no_two_layouts_have_one_name() -> None:
    assert len({layout.name for layout in LAYOUTS}) == len(LAYOUTS) >= 25
