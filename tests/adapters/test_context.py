"""How much text a model can read at once, by its config, and what asks for more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from transformers import AutoConfig

from auditkit.adapters import open_model
from auditkit.adapters.chat import Prompt
from auditkit.adapters.common import context_of
from auditkit.adapters.errors import ModelError
from auditkit.adapters.hf.adapter import HFAdapter
from auditkit.claims.outcomes import Unsupported
from auditkit.data.prompts import Chat
from auditkit.engine.continuation.generation import generate

pytestmark = pytest.mark.unit

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128, "rope_theta": 10000.0}


@pytest.mark.parametrize(
    ("model_type", "options", "context"),
    [
        ("llama", {"max_position_embeddings": 128}, 128),
        ("gpt2", {"n_positions": 64}, 64),
        ("mpt", {"max_seq_len": 96}, 96),
        ("bloom", {}, None),
        ("gpt_neo", {"max_position_embeddings": 32}, 32),
        ("qwen2", {"max_position_embeddings": 128, "rope_parameters": YARN}, 512),
        ("llama", {"max_position_embeddings": 512, "rope_parameters": YARN}, 512),
    ],
)
def test_the_context_is_what_the_config_states(
    model_type: str, options: dict[str, Any], context: int | None
) -> None:
    assert context_of(AutoConfig.for_model(model_type, **options)) == context


def test_what_is_longer_than_the_context_is_not_run(llama: HFAdapter) -> None:
    assert llama.context == llama.chat.context == llama.info.context == 256
    full = Prompt("", (5,) * 256)
    assert llama.run(llama.batch([full])).shape[0] == 1
    for ask in (
        lambda: llama.chat(Chat(user="word " * 300)),
        lambda: llama.batch([full, Prompt("", (5,) * 257)]),
        lambda: llama.extend(llama.record(llama.batch([full]))[1], llama.batch([Prompt("", (5,))])),
    ):
        with pytest.raises(
            Unsupported, match=r"^a prompt of [\d,]+ tokens is longer than the model's context of 256"
        ):
            ask()


def test_generation_that_would_leave_the_context_is_refused_before_it_runs(llama: HFAdapter) -> None:
    prompt = Prompt("", (5,) * 250)
    runs = llama.meter.runs
    with pytest.raises(Unsupported) as refused:
        generate(llama, [prompt], 8)
    assert str(refused.value) == (
        "a prompt of 250 with 7 more, 257 tokens is longer than the model's context of 256 tokens, so it was not run"
    )
    assert llama.meter.runs == runs


def test_learned_positions_are_read_up_to_the_last(open_family: Callable[[str], HFAdapter]) -> None:
    gpt2 = open_family("gpt2")
    assert gpt2.run(gpt2.batch([Prompt("", (5,) * 256)])).isfinite().all()
    with pytest.raises(Unsupported):
        gpt2.batch([Prompt("", (5,) * 257)])


def test_a_context_too_short_to_be_checked_is_refused(save_checkpoint: Callable[..., Any]) -> None:
    folder = save_checkpoint("llama")
    config = folder / "config.json"
    config.write_text(config.read_text().replace('"max_position_embeddings": 256', '"max_position_embeddings": 8'))
    with pytest.raises(
        ModelError, match=r"cannot be checked when it is opened: a prompt of .* context of 8 tokens"
    ):
        open_model(str(folder), device="cpu")
