"""PEFT adapters: merged they answer as peft answers with the adapter in place, and both ends are digested and named."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import IA3Config, LoHaConfig, PeftConfig
from transformers import LlamaForCausalLM

from auditkit.adapters import open_model
from auditkit.adapters.errors import ModelError
from auditkit.adapters.loading import load as loading
from auditkit.adapters.loading.load import load
from auditkit.adapters.loading.locating import base_of
from auditkit.adapters.loading.quiet import quiet
from auditkit.data.prompts import Chat
from tests.adapters.layouts import finetunes
from tests.adapters.layouts.finetunes import ROWS, lora

pytestmark = pytest.mark.unit

IDS = torch.tensor([[256, 3, 77, 5, 130, 9]])
TASK = {"task_type": "CAUSAL_LM"}
BOTH_ENDS = ["embed_tokens", "lm_head"]

CASES: dict[str, tuple[PeftConfig, bool, int | None]] = {
    "queries and values": (lora(), False, None),
    "DoRA": (lora(use_dora=True, use_rslora=True), False, None),
    "a whole head": (lora(modules_to_save=["lm_head"]), False, None),
    "both ends whole": (lora(modules_to_save=BOTH_ENDS), False, None),
    "a whole head that was tied": (lora(modules_to_save=["lm_head"]), True, None),
    "tied embeddings at one end": (lora(target_modules=["q_proj", "embed_tokens"]), True, None),
    "a tied head": (lora(target_modules=["q_proj", "lm_head"]), True, None),
    "tied, both ends": (lora(target_modules=BOTH_ENDS), True, None),
    "tied, kept tied": (lora(target_modules=BOTH_ENDS, ensure_weight_tying=True), True, None),
    "more rows": (lora(), False, ROWS + 2),
    "more rows, tied": (lora(), True, ROWS + 2),
    "fewer rows": (lora(), False, ROWS - 1),
    "tokens": (lora(trainable_token_indices=[3, 5]), False, None),
    "tokens, tied": (lora(trainable_token_indices=[3, 5]), True, None),
    "IA3": (
        IA3Config(target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"], **TASK),
        False,
        None,
    ),
    "LoHa": (LoHaConfig(r=4, target_modules=["q_proj"], **TASK), False, None),
    "PiSSA": (lora(init_lora_weights="pissa"), False, None),
}


@pytest.mark.parametrize("case", CASES)
def test_a_merged_adapter_answers_as_peft_does_with_the_adapter_in_place(case: str, tmp_path: Path) -> None:
    config, tied, rows = CASES[case]
    base = finetunes.base(tmp_path / "base", tied)
    wrapped = finetunes.trained(config, base, rows)
    with quiet():
        wrapped.save_pretrained(tmp_path / "lora")
        plain = LlamaForCausalLM.from_pretrained(base, dtype=torch.float32)
    with torch.no_grad():
        expected, without = wrapped(input_ids=IDS).logits, plain(input_ids=IDS).logits
        found = load(str(tmp_path / "lora"), device="cpu").module(input_ids=IDS).logits
    assert found.shape == expected.shape
    assert float((found - expected).abs().max()) < 1e-4
    shared = min(found.shape[-1], without.shape[-1])
    assert (
        float((found - without[..., :shared])[..., :shared].abs().max() if found.shape == without.shape else 1)
        > 1e-2
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a base, and an adapter of it in "lora"."""
    top = tmp_path_factory.mktemp("fine-tune")
    finetunes.adapter(lora())(top)
    return top


def test_base_and_adapter_are_digested_and_named(folder: Path, tmp_path: Path) -> None:
    info, base = (open_model(str(folder / name), device="cpu").info for name in ("lora", "base"))
    assert info.fine_tune.base == str(folder / "base")
    assert info.fine_tune.kind == "LORA"
    assert info.fine_tune.base_sha256 == base.weights_sha256
    assert base.fine_tune is None
    assert info.source == f"directory {folder}/lora, a LORA adapter merged into directory {folder}/base"
    assert len({info.weights_sha256, base.weights_sha256, info.fine_tune.sha256}) == 3
    moved = shutil.copytree(folder / "lora", tmp_path / "lora")
    assert load(str(moved), device="cpu").weights_sha256 == info.weights_sha256
    finetunes.stated(lora_alpha=17)(moved)
    changed = load(str(moved), device="cpu")
    assert changed.fine_tune is not None
    assert changed.weights_sha256 != info.weights_sha256
    assert changed.fine_tune.base_sha256 == info.fine_tune.base_sha256
    other = finetunes.base(tmp_path / "other", tied=True)
    finetunes.stated(lora_alpha=16, base_model_name_or_path=str(other))(moved)
    rebased = load(str(moved), device="cpu")
    assert rebased.fine_tune is not None
    assert rebased.fine_tune.sha256 == info.fine_tune.sha256
    assert rebased.weights_sha256 != info.weights_sha256


def test_opening_an_adapter_leaves_random_numbers_alone(folder: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    load(str(folder / "lora"), device="cpu")
    assert torch.equal(torch.rand(2), expected)


def test_without_peft_one_line_names_the_extra_before_anything_is_loaded(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = load(str(folder / "base"), device="cpu").weights_sha256
    found = importlib.util.find_spec
    monkeypatch.setattr(
        "auditkit.adapters.loading.causal.find_spec", lambda name: None if name == "peft" else found(name)
    )
    monkeypatch.setattr(loading, "locate", lambda *_: pytest.fail("something was looked for"))
    with pytest.raises(ModelError) as caught:
        load(str(folder / "lora"))
    assert str(caught.value) == (
        f"directory '{folder}/lora' holds a PEFT adapter (adapter_config.json), which is opened with the package peft: "
        "run 'pip install \"interp-auditkit[peft]\"'"
    )
    monkeypatch.undo()
    monkeypatch.setattr("auditkit.adapters.loading.causal.find_spec", lambda name: None)
    assert load(str(folder / "base"), device="cpu").weights_sha256 == whole


Break = Callable[[Path], Any]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda f: (f / "adapter_model.safetensors").write_bytes(b"\0" * 40),
            "adapter_model.safetensors of directory",
        ),
        (lambda f: (f / "adapter_config.json").write_text("{"), "adapter_config.json of directory"),
        (finetunes.stated(peft_type="TOMORROW"), "peft cannot read adapter_config.json of directory"),
        (finetunes.stated(r=8), "does not fit its base"),
        (finetunes.stated(target_modules=["nothing"]), "does not fit its base"),
        (finetunes.stated(base_model_name_or_path="nothing-like-it"), "the base of directory"),
    ],
)
def test_a_damaged_adapter_is_refused_in_one_line(folder: Path, tmp_path: Path, change: Break, words: str) -> None:
    broken = shutil.copytree(folder / "lora", tmp_path / "lora")
    change(broken)
    with pytest.raises(ModelError) as caught:
        load(str(broken), device="cpu")
    assert words in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_an_adapter_of_an_adapter_is_refused(folder: Path, tmp_path: Path) -> None:
    second = shutil.copytree(folder / "lora", tmp_path / "second")
    finetunes.stated(base_model_name_or_path=str(folder / "lora"))(second)
    with pytest.raises(ModelError, match="is an adapter too: merge that one first"):
        load(str(second), device="cpu")


def test_the_base_of_a_fine_tune_is_read_from_its_files(folder: Path, tmp_path: Path) -> None:
    assert base_of(str(folder / "lora")) == str(folder / "base")
    whole = finetunes.checkpoint(finetunes.named("{base}"))(tmp_path / "one")
    assert base_of(str(whole)) == str(tmp_path / "one" / "base")
    carded = finetunes.checkpoint(finetunes.card)(tmp_path / "two")
    assert base_of(str(carded)) == str(tmp_path / "two" / "base")
    with pytest.raises(ModelError, match="names no base: neither a PEFT adapter"):
        base_of(str(folder / "base"))
    with pytest.raises(ModelError, match="smollm2-135m-instruct names no base"):
        base_of("smollm2-135m-instruct")


@pytest.mark.parametrize("kind", ["list", "quoted", "elsewhere", "two"])
def test_a_model_card_names_a_base_only_in_its_front_matter(tmp_path: Path, kind: str) -> None:
    text = {
        "list": "---\nbase_model:\n- owner/base\ntags: [x]\n---\n",
        "quoted": "---\nbase_model: 'owner/base'\n---\n",
        "elsewhere": "# A model\nbase_model: owner/base\n",
        "two": "---\nbase_model:\n- owner/base\n- owner/other\n---\n",
    }[kind]
    whole = finetunes.checkpoint(finetunes.wrote("README.md", text))(tmp_path)
    if kind in ("list", "quoted"):
        assert base_of(str(whole)) == "owner/base"
    else:
        with pytest.raises(ModelError, match="names no base"):
            base_of(str(whole))


def test_the_tokenizer_that_is_named_wins_and_is_said(folder: Path, tmp_path: Path) -> None:
    named = tmp_path / "named"
    other = finetunes.tokenizer()
    other.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}?"
    other.save_pretrained(named)
    for name in ("base", "lora"):
        opened = load(str(folder / name), device="cpu", tokenizer=str(named))
        assert opened.tokenizer.chat_template == other.chat_template
        assert opened.source.endswith(f", with the tokenizer of {named}")
    with pytest.raises(ModelError, match="holds no tokenizer"):
        load(str(folder / "base"), device="cpu", tokenizer=str(tmp_path))


def test_a_pad_token_without_an_embedding_is_never_given_to_the_model(tmp_path: Path) -> None:
    model = open_model(str(finetunes.padded(tmp_path)), device="cpu")
    prompts = [model.chat(chat) for chat in (Chat(user="Hello."), Chat(user="What is the capital of France?"))]
    batch = model.batch(prompts)
    assert int(batch.ids.max()) < ROWS <= model.tokenizer.pad_token_id
    apart = torch.cat([model.run(model.batch([prompt])) for prompt in prompts])
    assert float((model.run(batch) - apart).abs().max()) < 1e-4


def test_a_prompt_with_an_added_token_without_an_embedding_is_refused(tmp_path: Path) -> None:
    model = open_model(str(finetunes.padded(tmp_path)), device="cpu")
    with pytest.raises(ModelError, match="token id 260"):
        model.batch([model.chat(Chat(user="Hello <pad>"))])
