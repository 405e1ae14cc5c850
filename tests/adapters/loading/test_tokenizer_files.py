"""Tokenizers and chat templates from whichever files a folder has, and checkpoints that take images as well."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from auditkit.adapters import open_model
from auditkit.adapters.errors import ModelError
from auditkit.adapters.loading import tokenizer_files
from auditkit.adapters.loading.load import load
from auditkit.data.prompts import Chat
from tests.adapters.layouts.weights import TURNS, changed, pieces, retokenized, seeing, wrote

pytestmark = pytest.mark.unit


def test_a_sentencepiece_model_gives_the_tokens_of_sentencepiece(tmp_path: Path) -> None:
    pytest.importorskip("google.protobuf", reason="protobuf is not installed")
    from sentencepiece import SentencePieceProcessor

    folder = pieces(tmp_path)
    own = SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    tokenizer = load(str(folder), device="cpu").tokenizer
    for text in ("What is the capital of France?", "Hello.", "Zürich, 東京"):
        assert tokenizer(text, add_special_tokens=False)["input_ids"] == own.encode(text)


@pytest.mark.parametrize(
    ("absent", "packages"),
    [
        ({"google.protobuf"}, "protobuf"),
        ({"sentencepiece"}, "sentencepiece"),
        ({"sentencepiece", "google.protobuf"}, "sentencepiece protobuf"),
    ],
)
def test_a_package_that_sentencepiece_needs_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, absent: set[str], packages: str
) -> None:
    folder = pieces(tmp_path)
    monkeypatch.setattr(tokenizer_files, "_installed", lambda name: name not in absent)
    with pytest.raises(ModelError) as refused:
        open_model(str(folder), device="cpu")
    assert str(refused.value) == (
        f"the tokenizer of directory {folder} is a sentencepiece model (tokenizer.model), which transformers reads "
        f"with the packages sentencepiece and protobuf: run 'pip install {packages}', or give a folder with "
        "tokenizer.json"
    )


@pytest.mark.parametrize("held", [TURNS, {"default": TURNS, "rag": "other"}])
def test_a_template_in_chat_template_json_is_used(tmp_path: Path, held: Any) -> None:
    folder = changed(wrote("chat_template.json", json.dumps({"chat_template": held})), template=None)(tmp_path)
    chat = open_model(str(folder), device="cpu").chat
    assert chat.format == "chat template"
    assert chat.render(Chat("What is it?")) == "user: What is it?\n"


def test_the_tokenizers_own_template_stands_before_chat_template_json(tmp_path: Path) -> None:
    folder = changed(wrote("chat_template.json", json.dumps({"chat_template": TURNS})))(tmp_path)
    assert "<|user|>" in open_model(str(folder), device="cpu").chat.render(Chat("What is it?"))


def test_one_named_template_is_used_whatever_its_name(tmp_path: Path) -> None:
    folder = changed(retokenized(chat_template=[{"name": "chat", "template": TURNS}]))(tmp_path)
    assert open_model(str(folder), device="cpu").chat.render(Chat("What is it?")) == "user: What is it?\n"


@pytest.mark.parametrize(
    ("model_type", "text_of"),
    [
        ("qwen2_5_vl", "Qwen2_5_VLForConditionalGeneration"),
        ("mistral3", "Mistral3ForConditionalGeneration"),
        ("llava", "LlavaForConditionalGeneration"),
        ("gemma3", "Gemma3ForConditionalGeneration"),
    ],
)
def test_the_text_model_of_a_checkpoint_with_images_is_measured(
    tmp_path: Path, model_type: str, text_of: str
) -> None:
    adapter = open_model(str(seeing(model_type, tmp_path)), device="cpu")
    assert all(adapter.support().values())
    whole = sum(parameter.numel() for parameter in adapter.module.parameters())
    towers = {name for name, _ in adapter.module.named_parameters() if "vision" in name or "visual" in name}
    assert towers
    assert adapter.info.text_of == text_of
    assert adapter.info.parameters < whole
    assert adapter.info.layers == 3


def test_a_model_of_text_alone_is_no_part_of_another(save_checkpoint: Callable[..., Path]) -> None:
    adapter = open_model(str(save_checkpoint("gemma3_text")), device="cpu")
    assert adapter.info.text_of == ""
    assert adapter.info.parameters == sum(parameter.numel() for parameter in adapter.module.parameters())


def test_a_checkpoint_that_reads_its_prompt_both_ways_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"is no causal language model: tokens that come later change the logits"):
        open_model(str(seeing("paligemma", tmp_path)), device="cpu")
