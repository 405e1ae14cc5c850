"""Adapters by name: built in and registered by other packages, and one line where there is none."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from auditkit.adapters import open_model, registry
from auditkit.adapters.errors import ModelError
from auditkit.adapters.hf.adapter import HFAdapter
from auditkit.adapters.nnterp import NnterpAdapter
from auditkit.adapters.registry import GROUP, adapter_factory, known_adapters, require_known

pytestmark = pytest.mark.unit


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, str]], None]:
    """Pretend that another package has registered these names."""

    def register(points: dict[str, str]) -> None:
        def found(group: str) -> list[EntryPoint]:
            assert group == GROUP
            return [EntryPoint(name, value, group) for name, value in points.items()]

        monkeypatch.setattr(registry, "entry_points", found)

    return register


@pytest.mark.parametrize(("name", "kind"), [("hf", HFAdapter), ("nnterp", NnterpAdapter)])
def test_a_model_opens_through_the_adapter_that_is_named(
    name: str, kind: type, save_checkpoint: Callable[..., Path]
) -> None:
    adapter = open_model(str(save_checkpoint()), adapter=name, device="cpu")
    assert isinstance(adapter, kind)
    assert adapter.info.adapter == name


def test_another_package_can_register_one(
    registered: Callable[[dict[str, str]], None], save_checkpoint: Callable[..., Path], monkeypatch
) -> None:
    made: list[Any] = []

    class Theirs:
        def __init__(self, loaded: Any) -> None:
            made.append(loaded)

    monkeypatch.setattr(sys.modules[__name__], "Theirs", Theirs, raising=False)
    registered({"theirs": f"{__name__}:Theirs"})
    assert isinstance(open_model(str(save_checkpoint()), adapter="theirs", device="cpu"), Theirs)
    assert made[0].module.config.model_type == "llama"


def test_one_that_reads_models_in_its_own_way_is_given_what_it_read(
    registered: Callable[[dict[str, str]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Remote:
        def __init__(self, loaded: Any) -> None:
            self.loaded = loaded

        @staticmethod
        def load(spec: str, **options: Any) -> Any:
            return SimpleNamespace(source="a server", asked=(spec, options))

    monkeypatch.setattr(sys.modules[__name__], "Remote", Remote, raising=False)
    registered({"theirs": f"{__name__}:Remote"})
    opened = open_model("owner/none", adapter="theirs", tokenizer="t")
    assert opened.loaded.asked == ("owner/none", {"device": "auto", "dtype": "auto", "tokenizer": "t"})


def test_the_names_of_this_package_stay_its_own(registered: Callable[[dict[str, str]], None]) -> None:
    registered({"hf": "somewhere.else:Adapter"})
    assert adapter_factory("hf") is HFAdapter
    assert sorted(known_adapters()) == ["hf", "ndif", "nnterp", "vllm"]


def test_an_unknown_name_lists_the_known_ones_before_anything_is_loaded(
    registered: Callable[[dict[str, str]], None],
) -> None:
    registered({"theirs": "somewhere:Adapter"})
    with pytest.raises(ModelError) as caught:
        open_model("no-such-model", adapter="nterp")
    assert str(caught.value) == "unknown adapter 'nterp'; known are hf, ndif, nnterp, theirs, vllm"
    assert require_known("theirs").value == "somewhere:Adapter"


@pytest.mark.parametrize("value", ["no_such_package:Adapter", "auditkit.adapters.hf.adapter:NoSuchAdapter"])
def test_one_that_cannot_be_imported_is_named(registered: Callable[[dict[str, str]], None], value: str) -> None:
    registered({"theirs": value})
    with pytest.raises(ModelError, match=rf"^adapter 'theirs' \({value}\) cannot be imported: .*[Nn]o"):
        adapter_factory("theirs")


def test_missing_nnterp_gives_one_line_by_name_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "auditkit.adapters.nnterp")
    monkeypatch.setitem(sys.modules, "nnterp", None)
    with pytest.raises(ModelError, match=r"pip install 'interp-auditkit\[nnterp\]'$"):
        adapter_factory("nnterp")
