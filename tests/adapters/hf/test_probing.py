"""A probe that raises: what is the family's answer, and what says nothing about the model."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch

from auditkit.adapters.errors import ModelError
from auditkit.adapters.hf import blockwise, continuing
from auditkit.adapters.hf.adapter import HFAdapter
from auditkit.adapters.hf.continuing import remembering
from auditkit.adapters.hf.probing import failed
from auditkit.adapters.loading.load import Loaded

pytestmark = pytest.mark.unit

FamilyAdapter = Callable[[str], HFAdapter]


def loaded(adapter: HFAdapter) -> Loaded:
    info = adapter.info
    return Loaded(
        info.spec,
        info.name,
        info.source,
        adapter.module,
        adapter.tokenizer,
        info.weights_sha256,
        info.tokenizer_sha256,
    )


@pytest.mark.parametrize("error", [IndexError("no layer"), TypeError("x"), RuntimeError("shapes\nmore")])
def test_what_a_family_runs_into_is_its_answer(error: Exception) -> None:
    support = failed("restarting", error)
    assert not support
    assert not support.unexpected
    assert support.reason == f"restarting fails: {type(error).__name__}: {str(error).splitlines()[0]}"


@pytest.mark.parametrize(
    "error",
    [FutureWarning("goes in 6"), torch.OutOfMemoryError("full"), MemoryError(), OSError(28, "No space left")],
)
def test_anything_else_says_nothing_about_the_model(error: Exception) -> None:
    support = failed("restarting", error)
    assert not support
    assert support.unexpected
    assert support.reason.startswith(f"restarting could not be tested: {type(error).__name__}")


def test_a_deprecation_is_no_missing_capability(
    open_family: FamilyAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = open_family("llama")
    own = continuing.extended

    def deprecated(*args: Any, **options: Any) -> Any:
        warnings.warn("the cache is called another name", FutureWarning, stacklevel=2)
        return own(*args, **options)

    monkeypatch.setattr(continuing, "extended", deprecated)
    monkeypatch.setattr(blockwise, "extended", deprecated)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        support = HFAdapter(loaded(plain)).support()
    for name, what in {"generation": "going on from a run", "blockwise": "restarting from a block"}.items():
        assert support[name].unexpected
        assert support[name].reason == (
            f"{what} could not be tested: FutureWarning: the cache is called another name"
        )
    assert support["swaps"].unexpected
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert all(HFAdapter(loaded(plain)).support().values())


def test_a_model_that_does_not_run_is_refused_in_one_line(
    open_family: FamilyAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = open_family("llama")

    def fails(*args: Any, **options: Any) -> None:
        raise FutureWarning("goes in 6\nsoon")

    monkeypatch.setattr(type(plain.module), "forward", fails)
    with pytest.raises(ModelError, match=r"does not run: FutureWarning: goes in 6$"):
        HFAdapter(loaded(plain))


@pytest.mark.parametrize(
    ("accepts", "name"),
    [({"cache", "use_cache"}, "cache"), ({"past_key_values"}, "past_key_values"), (set(), "past_key_values")],
)
def test_the_cache_goes_under_the_name_that_the_model_has_for_it(accepts: set[str], name: str) -> None:
    cache: Any = object()
    assert remembering(accepts, cache) == {name: cache}


def test_no_family_is_given_a_deprecated_argument(family: str, open_family: FamilyAdapter) -> None:
    adapter = open_family(family)
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        again = HFAdapter(loaded(adapter))
    assert again.support() == adapter.support()
    assert not any(support.unexpected for support in again.support().values())
