"""Every family: sizes, padding, contributions that add up, and touches against plain forward hooks.

The plain reference knows each family's module names by heart, so it is independent of how the adapter finds them.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from listed import agrees
from torch import Tensor
from transformers.modeling_utils import AttentionInterface

from auditkit.adapters.chat import Prompt
from auditkit.adapters.hf.adapter import HFAdapter
from auditkit.adapters.protocol import Batch, Component, Place, Shape, Touch
from auditkit.data.prompts import Chat

pytestmark = pytest.mark.unit

ROUNDING = 1e-5
"""Largest fp32 difference between one computation in another order; values here reach 8, and the largest difference
seen over all families is 4e-6."""

POST_NORMS = ("model.layers", "post_attention_layernorm", "post_feedforward_layernorm")
NAMES = {
    **dict.fromkeys(("gemma2", "gemma3_text", "gemma4_text", "olmo2", "olmo3", "exaone4"), POST_NORMS),
    "glm4": ("model.layers", "post_self_attn_layernorm", "post_mlp_layernorm"),
    "granitemoe": ("model.layers", "self_attn", "block_sparse_moe"),
    "lfm2": ("model.layers", "self_attn", "feed_forward"),
    "lfm2_hybrid": ("model.layers", "", ""),
    **dict.fromkeys(("gpt2", "gptj", "codegen", "gpt_neo", "gpt_bigcode"), ("transformer.h", "attn", "mlp")),
    "gpt_neox": ("gpt_neox.layers", "attention", "mlp"),
    "bloom": ("transformer.h", "self_attention.dense", "mlp.dense_4h_to_h"),
    "mpt": ("transformer.blocks", "attn", "ffn.down_proj"),
    **dict.fromkeys(("falcon", "falcon_sequential", "falcon_new"), ("transformer.h", "self_attention", "mlp")),
    "biogpt": ("biogpt.layers", "self_attn", "fc2"),
    "xglm": ("model.layers", "self_attn", "fc2"),
    **dict.fromkeys(("opt", "opt_projected"), ("model.decoder.layers", "self_attn", "fc2")),
}
PARALLEL = {
    "phi": "PhiDecoderLayer",
    "cohere": "CohereDecoderLayer",
    "cohere2": "Cohere2DecoderLayer",
    "gptj": "GPTJBlock",
    "codegen": "CodeGenBlock",
    "gpt_neox": "GPTNeoXLayer",
    "falcon": "FalconDecoderLayer",
    "falcon_new": "FalconDecoderLayer",
}
MULTIPLIER = {"granite_scaled": 0.22}
NO_CONTRIBUTIONS = {
    "lfm2_hybrid": "the Lfm2DecoderLayers have no part in common that is known as attention"  # some are conv
}
NO_MIDDLE = {
    **NO_CONTRIBUTIONS,
    **{
        family: f"in {block} the MLP of layer 0 does not read what attention has added"
        for family, block in PARALLEL.items()
    },
}
STREAM = [component for component in Component if component.shape is Shape.STREAM]
CONTRIBUTIONS = (Component.ATTENTION, Component.MLP)
PROMPTS = (
    Chat(user="What is the capital of France?", system="You are a student."),
    Chat(user="Hello."),
    Chat(user="Hello, hello, what is it?", assistant="The capital"),
)


@pytest.fixture
def prompts(adapter: HFAdapter) -> list[Prompt]:
    return [adapter.chat(chat) for chat in PROMPTS]


@pytest.fixture
def one(adapter: HFAdapter, prompts: list[Prompt]) -> Batch:
    return adapter.batch(prompts[:1])


def offered(adapter: HFAdapter, layers: Sequence[int] = range(3)) -> list[Place]:
    places = [(component, layer) for component in Component for layer in layers if adapter.support()[component]]
    return [
        (component, layer) for component, layer in places if component is not Component.EMBEDDINGS or not layer
    ]


def unsupported(family: str, component: Component) -> str:
    reasons = {Component.MIDDLE: NO_MIDDLE, **dict.fromkeys(CONTRIBUTIONS, NO_CONTRIBUTIONS)}
    return reasons.get(component, {}).get(family, "")


def plain_logits(adapter: HFAdapter, batch: Batch) -> Tensor:
    """One prompt through the plain module, asked for exactly what the adapter asks for."""
    options: dict[str, Any] = {"use_cache": False}
    accepted = inspect.signature(adapter.module.forward).parameters
    if "position_ids" in accepted:
        options["position_ids"] = torch.arange(batch.width)[None]
    if "logits_to_keep" in accepted:
        options["logits_to_keep"] = 1
    with torch.no_grad():
        return adapter.module(input_ids=batch.ids, attention_mask=batch.mask, **options).logits[:, -1]


def hooked(
    adapter: HFAdapter, family: str, place: Place, batch: Batch, change: Callable[[Tensor], Tensor] | None = None
) -> tuple[Tensor, Tensor]:
    """(value at place, logits) by plain hooks; `change` is taken over at the one position that it changes."""
    blocks, attention, mlp = NAMES.get(family, ("model.layers", "self_attn", "mlp"))
    component, layer = place
    scale = MULTIPLIER.get(family, 1.0)
    path = {Component.ATTENTION: attention, Component.MIDDLE: attention, Component.MLP: mlp}.get(component)
    block = adapter.module.get_submodule(f"{blocks}.{layer}")
    stream: list[Tensor] = []
    kept: list[Tensor] = []

    def see(value: Tensor) -> Tensor:
        own = value.reshape(one_shape)
        shown = own if path is None or scale == 1 else own * scale
        if component is Component.MIDDLE:
            shown = stream[0] + shown
        kept.append(shown.clone())
        if change is None:
            return value
        new = own.clone()
        moved = change(shown)[:, -2]
        if component is Component.MIDDLE:
            new[:, -2] += (moved - shown[:, -2]) / scale
        else:
            new[:, -2] = moved if path is None else moved / scale
        return new.reshape(value.shape)

    one_shape = (1, batch.width, -1)
    handles = [block.register_forward_pre_hook(lambda m, args: stream.append(args[0].clone()))]
    if component is Component.BLOCK_INPUT:
        handles.append(block.register_forward_pre_hook(lambda m, args: (see(args[0]), *args[1:])))
    else:
        module = adapter.module.get_input_embeddings() if component is Component.EMBEDDINGS else block
        handles.append(
            module.get_submodule(path or "").register_forward_hook(
                lambda m, a, out: see(out) if isinstance(out, Tensor) else (see(out[0]), *out[1:])
            )
        )
    try:
        logits = plain_logits(adapter, batch)
    finally:
        for handle in handles:
            handle.remove()
    assert len(kept) == 1
    return kept[0], logits


def test_info_states_the_sizes_of_the_checkpoint(family: str, adapter: HFAdapter) -> None:
    info = adapter.info
    assert (info.layers, info.heads) == (adapter.layers, adapter.heads) == (3, 4)
    assert adapter.width == 32
    assert info.parameters == sum(p.numel() for p in adapter.module.parameters())
    assert (info.dtype, info.device, info.adapter) == ("float32", "cpu", "hf")
    assert info.family == re.sub("_(scaled|hybrid|new|sequential|projected)$", "", family)
    assert len(info.weights_sha256) == len(info.tokenizer_sha256) == 64
    assert info.parity_max_abs <= ROUNDING


def test_batched_logits_are_those_of_one_prompt_at_a_time(adapter: HFAdapter, prompts: list[Prompt]) -> None:
    together = adapter.run(adapter.batch(prompts))
    alone = torch.cat([adapter.run(adapter.batch([prompt])) for prompt in prompts])
    torch.testing.assert_close(together, alone, rtol=0, atol=ROUNDING)


def test_left_padding_changes_no_logit_of_the_plain_module(adapter: HFAdapter, prompts: list[Prompt]) -> None:
    batch = adapter.batch(prompts)
    assert len(set(batch.pads)) == 3
    with torch.no_grad():
        plain = torch.stack([adapter.module(torch.tensor([p.ids])).logits[0, -1] for p in prompts])
    torch.testing.assert_close(adapter.run(batch), plain, rtol=0, atol=ROUNDING)


def test_padding_changes_no_activation(adapter: HFAdapter, prompts: list[Prompt]) -> None:
    batch = adapter.batch(prompts)
    places = offered(adapter)
    padded: dict[Place, Tensor] = {}
    alone: dict[Place, Tensor] = {}

    def keep(into: dict[Place, Tensor], place: Place) -> Callable[[Tensor], None]:
        return lambda value: into.__setitem__(place, value.clone())

    adapter.run(batch, {place: keep(padded, place) for place in places})
    adapter.run(adapter.batch(prompts[1:2]), {place: keep(alone, place) for place in places})
    assert batch.pads[1] > 0
    pad = batch.pads[1]
    for place in places:
        row = padded[place][1]
        tokens = row[:, pad:, pad:] if place[0] is Component.PATTERN else row[pad:]
        torch.testing.assert_close(tokens, alone[place][0], rtol=0, atol=ROUNDING)


def test_contributions_add_up_in_every_block(family: str, adapter: HFAdapter, one: Batch) -> None:
    support = adapter.support()
    assert set(support) >= set(Component)
    for component in STREAM:
        agrees(support[component].reason, unsupported(family, component), f"{component} of {family}")
        assert bool(support[component]) == (not support[component].reason)
    seen: dict[Place, Tensor] = {}
    for place in offered(adapter):
        adapter.run(one, {place: lambda v, place=place: seen.update({place: v.clone()})})
    for layer in range(3):
        if layer:
            assert torch.equal(seen[Component.BLOCK_INPUT, layer], seen[Component.RESIDUAL, layer - 1])
        if all(support[component] for component in CONTRIBUTIONS):
            whole = sum(seen[c, layer] for c in (Component.BLOCK_INPUT, *CONTRIBUTIONS))
            torch.testing.assert_close(whole, seen[Component.RESIDUAL, layer], rtol=0, atol=ROUNDING)
        if support[Component.MIDDLE]:
            whole = seen[Component.MIDDLE, layer] + seen[Component.MLP, layer]
            torch.testing.assert_close(whole, seen[Component.RESIDUAL, layer], rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("component", STREAM)
def test_capture_equals_a_plain_hook(family: str, adapter: HFAdapter, one: Batch, component: Component) -> None:
    if not adapter.support()[component]:
        with pytest.raises(ValueError, match=rf"{component} is not available on this model: ") as refused:
            adapter.run(one, {(component, 1): lambda value: None})
        assert adapter.support()[component].reason in str(refused.value)
        return
    for layer in range(1 if component is Component.EMBEDDINGS else 3):
        got: list[Tensor] = []
        adapter.run(one, {(component, layer): lambda value, got=got: got.append(value.clone())})
        assert len(got) == 1
        assert torch.equal(got[0], hooked(adapter, family, (component, layer), one)[0])


@pytest.mark.parametrize("component", STREAM)
def test_replacing_one_position_equals_a_plain_hook(
    family: str, adapter: HFAdapter, one: Batch, component: Component
) -> None:
    if not adapter.support()[component]:
        return

    def change(value: Tensor) -> Tensor:
        value = value.clone()
        value[:, -2] = torch.linspace(-1, 1, value.shape[-1])
        return value

    untouched = plain_logits(adapter, one)
    for layer in range(
        1 if component is Component.EMBEDDINGS else 2
    ):  # in the last block only the last position still matters
        got = adapter.run(one, {(component, layer): change})
        assert torch.equal(got, hooked(adapter, family, (component, layer), one, change)[1])
        assert not torch.equal(got, untouched)


def test_giving_back_the_own_value_changes_nothing(adapter: HFAdapter, one: Batch) -> None:
    touches: dict[Place, Touch] = {place: lambda value: value.clone() for place in offered(adapter, (0, 2))}
    assert torch.equal(adapter.run(one, touches), plain_logits(adapter, one))


def test_hooks_are_gone_after_an_exception_inside_a_run(adapter: HFAdapter, one: Batch) -> None:
    def fail(value: Tensor) -> None:
        raise RuntimeError("from the touch")

    dispatch = AttentionInterface.get_interface
    for places in (offered(adapter), *([place] for place in offered(adapter, [0]))):
        with pytest.raises(RuntimeError, match="from the touch"):
            adapter.run(one, dict.fromkeys(places, fail))
    assert AttentionInterface.get_interface is dispatch
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in adapter.module.modules())
    assert torch.equal(adapter.run(one), plain_logits(adapter, one))


@pytest.mark.parametrize("layer", [-1, 3, 99])
def test_a_layer_out_of_range_is_refused_before_anything_runs(adapter: HFAdapter, one: Batch, layer: int) -> None:
    ran: list[int] = []
    touches = {
        (Component.RESIDUAL, 0): lambda value: ran.append(0),
        (Component.RESIDUAL, layer): lambda value: None,
    }
    spent = adapter.meter.token_layers
    with pytest.raises(ValueError, match=rf"residual of layer {layer}: this model has layers 0 to 2"):
        adapter.run(one, touches)
    assert not ran
    assert adapter.meter.token_layers == spent
    assert not any(m._forward_hooks for m in adapter.module.modules())
