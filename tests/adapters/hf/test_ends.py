"""Which tokens end a text, and that a model that emits them stops."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from auditkit.adapters import open_model
from auditkit.adapters.chat import ChatEncoder
from auditkit.adapters.errors import ModelError
from auditkit.data.prompts import Chat
from auditkit.engine.continuation.generation import generate

pytestmark = pytest.mark.unit

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
EOS, IM_START, IM_END = 2, 299, 300


@pytest.fixture
def save(save_checkpoint: Callable[..., Path], make_tokenizer: Callable[..., Any]) -> Callable[..., Path]:
    """(generation config's eos_token_id, template, planted) -> folder of a llama that always emits `planted`."""

    def saved(stated: Any, template: str = CHATML, planted: int | None = None) -> Path:
        folder = save_checkpoint("llama")
        tokenizer = make_tokenizer("system")
        tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
        assert tokenizer.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"]) == [IM_START, IM_END]
        tokenizer.chat_template = template
        tokenizer.save_pretrained(folder)
        from transformers import AutoModelForCausalLM

        module = AutoModelForCausalLM.from_pretrained(folder)
        module.resize_token_embeddings(304)
        if planted is not None:  # the stream's first element is large, and one row of the head reads it
            with torch.no_grad():
                module.model.embed_tokens.weight[:, 0] = 40.0
                module.model.norm.weight[0] = 1.0
                module.lm_head.weight[:] = 0
                module.lm_head.weight[planted, 0] = 1.0
        module.save_pretrained(folder)
        for name in ("generation_config.json", "config.json"):
            settings = json.loads((folder / name).read_text())
            settings.pop("eos_token_id", None)
            (folder / name).write_text(json.dumps(settings))
        path = folder / "generation_config.json"
        settings = json.loads(path.read_text())
        if stated is not None:
            settings["eos_token_id"] = stated
        path.write_text(json.dumps(settings))
        return folder

    return saved


@pytest.mark.parametrize(
    ("stated", "ends"),
    [
        (None, (EOS, IM_END)),
        (EOS, (EOS, IM_END)),
        (IM_END, (IM_END, EOS)),
        ([7, EOS], (7, EOS, IM_END)),
        ("</s>", (EOS, IM_END)),
        (["<|im_end|>", 7], (IM_END, 7, EOS)),
    ],
)
def test_ends_are_those_of_generation_config_tokenizer_and_template(
    save: Callable[..., Path], stated: Any, ends: tuple[int, ...]
) -> None:
    assert open_model(str(save(stated)), device="cpu").ends == ends


@pytest.mark.parametrize(("planted", "stops"), [(EOS, True), (IM_END, True), (7, True), (8, False)])
def test_a_model_that_emits_an_end_stops(save: Callable[..., Path], planted: int, stops: bool) -> None:
    adapter = open_model(str(save([7], planted=planted)), device="cpu")
    prompt = adapter.chat(Chat(user="What is it?"))
    assert int(adapter.run(adapter.batch([prompt])).argmax()) == planted
    tokens = generate(adapter, [prompt], 5).tokens[0]
    assert tokens == ((planted,) if stops else (planted,) * 5)


@pytest.mark.parametrize("value", [-1, 304, 10**9, [EOS, -5], "<|no_such_end|>", "", 2.5, True])
def test_an_end_that_is_no_token_is_refused_in_one_line(save: Callable[..., Path], value: Any) -> None:
    with pytest.raises(ModelError) as refused:
        open_model(str(save(value)), device="cpu")
    message = str(refused.value)
    assert len(message.splitlines()) == 1
    assert "eos_token_id" in message


@pytest.mark.parametrize(
    ("template", "closing"),
    [
        (CHATML, IM_END),
        (CHATML.replace("{{ m.content }}", "{{ m.content }} \n"), IM_END),
        (CHATML.replace("<|im_end|>", "</s>"), EOS),
        (CHATML.replace("<|im_end|>", "###"), None),
        (CHATML.replace("<|im_end|>\n", ""), None),
        (
            CHATML.replace("{% for", "{% if messages|length > 1 %}{{ raise_exception('no') }}{% endif %}{% for"),
            None,
        ),
        (CHATML.replace("in messages", "in messages if m.role == 'user'"), None),
        (None, None),
    ],
)
def test_the_token_that_closes_a_turn(
    make_tokenizer: Callable[..., Any], template: str | None, closing: int | None
) -> None:
    tokenizer = make_tokenizer(None)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = template
    assert ChatEncoder(tokenizer).closing == closing


def test_a_text_in_the_config_of_the_model_is_refused_in_one_line(save: Callable[..., Path]) -> None:
    folder = save(None)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"eos_token_id": "</s>"}))
    with pytest.raises(ModelError, match=r"Validation error for field 'eos_token_id': TypeError") as refused:
        open_model(str(folder), device="cpu")
    assert len(str(refused.value).splitlines()) == 1
