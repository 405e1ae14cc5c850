"""What the run says of a model that is not what it seems, and of a probe that could not find out."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from auditkit.adapters.hf import blockwise, continuing
from auditkit.record.store import read_run

pytestmark = pytest.mark.unit

CLAIM = '''
def test_holds(model):
    """The model has three layers."""
    assert model.layers == 3
'''


@pytest.fixture
def folder(tiny_llama: Path, tmp_path: Path, pytester: pytest.Pytester) -> Path:
    pytester.makepyfile(CLAIM)
    return Path(shutil.copytree(tiny_llama, tmp_path / "copy"))


def _classifier(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    save_file(tensors | {"score.weight": torch.ones(2, 32)}, folder / "model.safetensors", {"format": "pt"})


def _both_ways(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"is_causal": False}))


def _template(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("{{ raise_exception('never') }}")


def _end(folder: Path) -> None:
    config = json.loads((folder / "generation_config.json").read_text())
    (folder / "generation_config.json").write_text(json.dumps(config | {"eos_token_id": "<nope>"}))


def _python(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("{{ ''.__class__.__mro__ }}")


def _nothing(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("{{ '' }}")


def _memory(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("{{ 'a' * 10**9 }}")


def _layers(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 10**6}))


def _panic(folder: Path) -> None:
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    split = {"type": "Split", "pattern": {"Regex": "((a+)+)+$(?=b)"}, "behavior": "Isolated", "invert": False}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer | {"pre_tokenizer": split}))


def _pickle(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "w.bin")
    (folder / "model.safetensors").rename(folder / "decoy.safetensors")
    index = {"weight_map": dict.fromkeys(load_file(folder / "decoy.safetensors"), "w.bin")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def _adapter(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{}")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_classifier, "has no place for (score.weight, ...)"),
        (_both_ways, "is no causal language model"),
        (_template, "the chat template fails on the turns user"),
        (_python, "SecurityError: access to attribute '__class__'"),
        (_nothing, "the chat template writes nothing for the turns user"),
        (_memory, "MemoryError: it needs more memory than a chat template may have"),
        (_layers, "says num_hidden_layers 1e+06; possible are 1 to 2,000"),
        (_panic, "tokenizer.json cannot be read (PanicException: Onig"),
        (_pickle, "names 'w.bin'; weights are read from safetensors only, since a pickle can run code"),
        (_end, "names '<nope>' as the end of a text"),
        (_adapter, "holds an adapter (adapter_config.json) beside full weights"),
    ],
)
def test_a_model_that_is_not_what_it_seems_ends_the_run_before_any_claim(
    pytester: pytest.Pytester, folder: Path, change: Any, words: str
) -> None:
    change(folder)
    result = pytester.runpytest_inprocess("--model", str(folder))
    assert result.ret == 4
    lines = [line for line in (*result.outlines, *result.errlines) if words in line]
    assert len(lines) == 1
    assert "Traceback" not in result.stdout.str() + result.stderr.str()
    assert not list(pytester.path.glob("reports/*/audit.json"))


def test_a_probe_that_could_not_find_out_is_told_and_recorded(
    pytester: pytest.Pytester, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = continuing.extended

    def deprecated(*args: Any, **options: Any) -> Any:
        warnings.warn("the cache goes by another name", FutureWarning, stacklevel=2)
        return own(*args, **options)

    monkeypatch.setattr(continuing, "extended", deprecated)
    monkeypatch.setattr(blockwise, "extended", deprecated)
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        result = pytester.runpytest_inprocess("--model", str(folder))
    why = "could not be tested: FutureWarning: the cache goes by another name"
    result.stdout.fnmatch_lines_random(
        [f"*generation: going on from a run {why}; this run goes without it*", f"*blockwise: * {why}; *"]
    )
    untested = {one.what: one.reason for one in read_run(pytester.path / "reports" / "latest").untested}
    assert untested["generation"] == f"going on from a run {why}"
    assert untested["blockwise"] == untested["swaps"] == f"restarting from a block {why}"
