"""What an adapter may offer has one name and one meaning, in code, in what a run records, and in the docs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import auditkit
from auditkit.adapters import protocol as contract
from auditkit.adapters.protocol import Capability, Component, Support

pytestmark = pytest.mark.unit

PAGE = Path(auditkit.__file__).parents[1] / "docs" / "adapters.md"


def test_the_page_says_what_each_means_and_names_its_methods() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.+) \| `(\w+)` \|$", PAGE.read_text(), re.MULTILINE)
    assert {name: meaning for name, meaning, _ in rows} == {str(one): one.meaning for one in Capability}
    assert all(hasattr(contract, methods) for _, _, methods in rows)


def test_a_capability_is_found_by_its_name() -> None:
    """Records and adapters of others hold names."""
    offered: dict[str, Support] = {"blockwise": Support(True)}
    assert offered[Capability.BLOCKWISE]
    assert Capability("swaps") is Capability.SWAPS
    assert not {*map(str, Capability)} & {*map(str, Component)}


@pytest.mark.parametrize("kind", ["hf", "nnterp"])
def test_adapters_offer_nothing_without_a_name(tiny_llama: Path, kind: str) -> None:
    if kind == "nnterp":
        pytest.importorskip("nnterp")
    adapter = auditkit.open_model(str(tiny_llama), adapter=kind)
    assert set(adapter.support()) <= {*Component, *Capability}
