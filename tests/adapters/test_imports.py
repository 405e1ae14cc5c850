"""Large libraries are imported without searches for garbage, and models are collected as before."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from types import ModuleType

import pytest

from auditkit.adapters import imports
from auditkit.adapters.imports import lasting_imports

pytestmark = pytest.mark.unit

LIBRARY = "a_large_library_of_this_test"


@pytest.fixture(autouse=True)
def _collected(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(imports, "_LARGE", frozenset({LIBRARY}))
    monkeypatch.delitem(sys.modules, LIBRARY, raising=False)
    gc.unfreeze()
    yield
    gc.unfreeze()


def test_what_a_new_library_made_is_frozen_and_collections_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    with lasting_imports():
        assert not gc.isenabled()
        monkeypatch.setitem(sys.modules, LIBRARY, ModuleType(LIBRARY))
    assert gc.isenabled()
    assert gc.get_freeze_count() > 0


def test_without_a_new_library_nothing_is_frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, LIBRARY, ModuleType(LIBRARY))
    with lasting_imports():
        pass
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


def test_an_import_that_fails_leaves_collections_as_they_were() -> None:
    with pytest.raises(ImportError), lasting_imports():
        raise ImportError("no such library")
    assert gc.isenabled()
    gc.disable()
    try:
        with lasting_imports():
            pass
        assert not gc.isenabled(), "whoever switched them off keeps them off"
    finally:
        gc.enable()
