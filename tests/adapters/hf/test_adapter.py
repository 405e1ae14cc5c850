"""The adapter itself: what it counts, what it refuses, and that positions come from the mask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import MambaConfig, MambaForCausalLM

from auditkit.adapters import open_model
from auditkit.adapters.chat import Prompt
from auditkit.adapters.errors import IntegrityError, ModelError
from auditkit.adapters.hf.adapter import HFAdapter
from auditkit.adapters.loading.load import Loaded, load
from auditkit.adapters.protocol import Component
from auditkit.data.prompts import Chat

pytestmark = pytest.mark.unit

OpenFamily = Callable[[str], HFAdapter]


@pytest.fixture
def tiny(save_checkpoint: Callable[..., Path]) -> Loaded:
    return load(str(save_checkpoint()), device="cpu")


def prompt(*ids: int) -> Prompt:
    return Prompt("", ids)


def test_opening_costs_no_claim_anything(tiny: Loaded) -> None:
    adapter = HFAdapter(tiny)
    assert (adapter.meter.token_layers, adapter.meter.runs) == (0, 0)


def test_meter_counts_tokens_times_layers_without_padding(tiny: Loaded) -> None:
    adapter = HFAdapter(tiny)
    adapter.run(adapter.batch([prompt(5, 6, 7, 8, 9), prompt(5), prompt(7, 8)]))
    assert (adapter.meter.token_layers, adapter.meter.runs) == (8 * 3, 1)
    adapter.run(adapter.batch([prompt(5, 6)]), {(Component.MLP, 1): lambda value: None})
    assert (adapter.meter.token_layers, adapter.meter.runs) == (8 * 3 + 2 * 3, 2)


def test_batches_are_padded_on_the_left(llama: HFAdapter) -> None:
    batch = llama.batch([prompt(5, 6, 7), prompt(8)])
    assert batch.ids.tolist() == [[5, 6, 7], [0, 0, 8]]
    assert batch.mask.tolist() == [[1, 1, 1], [0, 0, 1]]
    assert (batch.pads, len(batch), batch.width) == ((0, 2), 2, 3)


@pytest.mark.parametrize("prompts", [[], [prompt()], [prompt(5), prompt()]])
def test_nothing_to_run_is_refused(llama: HFAdapter, prompts: list[Prompt]) -> None:
    with pytest.raises(ValueError, match="at least one prompt, and every prompt at least one token"):
        llama.batch(prompts)


@pytest.mark.parametrize("where", ["model.embed_tokens", "model.layers.1.mlp.down_proj", "lm_head"])
def test_damaged_weights_are_refused_in_one_line(tiny: Loaded, where: str) -> None:
    tiny.module.get_submodule(where).weight.data.fill_(float("nan"))
    with pytest.raises(IntegrityError, match=r"^the model's own logits contain NaN or infinity in float32; .*\Z"):
        HFAdapter(tiny)


def test_one_infinite_weight_is_refused(tiny: Loaded) -> None:
    tiny.module.lm_head.weight.data[7, 3] = float("inf")
    with pytest.raises(IntegrityError, match="NaN or infinity"):
        HFAdapter(tiny)


def test_a_model_that_looks_at_padding_is_refused(tiny: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = tiny.module.forward

    def blind(input_ids: Any = None, attention_mask: Any = None, position_ids: Any = None, **options: Any) -> Any:
        return forward(input_ids=input_ids, **options)

    monkeypatch.setattr(tiny.module, "forward", blind)
    with pytest.raises(IntegrityError, match=r"^batched logits differ from one-at-a-time logits by .*\Z"):
        HFAdapter(tiny)


def test_a_model_whose_positions_count_padding_is_refused(
    save_checkpoint: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load(str(save_checkpoint("gpt2")), device="cpu")
    forward = loaded.module.forward
    monkeypatch.setattr(
        loaded.module,
        "forward",
        lambda input_ids=None, attention_mask=None, use_cache=True: forward(
            input_ids, attention_mask=attention_mask
        ),
    )
    with pytest.raises(IntegrityError, match="padding changes numbers on this model"):
        HFAdapter(loaded)


def test_learned_positions_start_at_the_first_token_and_not_at_the_padding(open_family: OpenFamily) -> None:
    adapter = open_family("gpt2")
    batch = adapter.batch([prompt(5, 6, 7), prompt(*range(10, 30))])
    with torch.no_grad():
        plain = adapter.module(torch.tensor([[5, 6, 7]])).logits[0, -1]
        careless = adapter.module(batch.ids, attention_mask=batch.mask).logits[0, -1]
    torch.testing.assert_close(adapter.run(batch)[0], plain, rtol=0, atol=1e-5)
    assert (careless - plain).abs().max() > 1e-3  # so this test would notice


def test_opt_is_right_under_left_padding(open_family: OpenFamily) -> None:
    adapter = open_family("opt")
    with torch.no_grad():
        plain = adapter.module(torch.tensor([[5, 6, 7]])).logits[0, -1]
    got = adapter.run(adapter.batch([prompt(5, 6, 7), prompt(*range(10, 30))]))[0]
    torch.testing.assert_close(got, plain, rtol=0, atol=1e-5)


def test_a_model_without_attention_is_refused_in_one_line(tiny: Loaded) -> None:
    config = MambaConfig(vocab_size=300, hidden_size=32, num_hidden_layers=3, state_size=8)
    with pytest.raises(ModelError, match=r"^MambaConfig has no num_attention_heads: .*\Z"):
        HFAdapter(replace(tiny, module=MambaForCausalLM(config).eval()))


def test_a_module_without_blocks_is_refused_in_one_line(tiny: Loaded) -> None:
    tiny.module.config.num_hidden_layers = 7
    with pytest.raises(ModelError, match=r"^LlamaForCausalLM has no module list of 7 blocks.*\Z"):
        HFAdapter(tiny)


def test_the_tokenizer_of_another_model_is_refused(tiny: Loaded) -> None:
    tiny.module.resize_token_embeddings(100)
    with pytest.raises(
        ModelError, match=r"^the tokenizer gives token id \d+, but the model embeds 100 tokens.*\Z"
    ):
        HFAdapter(tiny)


def test_a_massive_activation_does_not_let_a_wrong_part_pass(tiny: Loaded) -> None:
    """The first token's residual is often thousands of times the others'; the sum is checked at each position."""
    tiny.module.model.embed_tokens.weight.data[1] *= 1e5  # the beginning-of-text token
    assert HFAdapter(tiny).support()[Component.MLP]
    for block in tiny.module.model.layers:
        block.register_forward_hook(lambda module, args, output: output + 0.1)
    assert not HFAdapter(tiny).support()[Component.MLP]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", ["llama", "gemma3_text", "gpt2"])
def test_half_precision_opens_and_offers_every_component(
    save_checkpoint: Callable[..., Path], name: str, dtype: str
) -> None:
    adapter = open_model(str(save_checkpoint(name)), device="cpu", dtype=dtype)
    assert adapter.info.dtype == dtype
    assert all(adapter.support().values())
    batch = adapter.batch([adapter.chat(Chat(user="Hello."))])
    logits = adapter.run(batch)
    assert logits.dtype == torch.float32
    for made in (logits, adapter.extend(None, batch)[0], adapter.record(batch)[0]):
        assert (made.to(adapter.module.dtype).float() != made).any(), "logits are not rounded to the model's type"


def test_the_record_says_how_chats_were_written(tiny: Loaded, make_tokenizer: Callable[..., Any]) -> None:
    assert HFAdapter(tiny).info.prompt_format == "chat template"
    plain = HFAdapter(replace(tiny, tokenizer=make_tokenizer(None)))
    assert plain.info.chat_template_sha256 is None
    assert plain.info.prompt_format.startswith("no chat template")
