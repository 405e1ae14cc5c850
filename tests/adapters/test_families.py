"""Every family: sizes, padding, contributions that add up, and touches against plain forward hooks.

The plain reference knows each family's module names by heart, so it is independent of how the adapter finds them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from auditkit.adapters.chat import Prompt
from auditkit.adapters.hf import HFAdapter
from auditkit.adapters.protocol import Batch, Component, Place
from auditkit.data.prompts import Chat

pytestmark = pytest.mark.unit

ROUNDING = 1e-5
"""Largest fp32 difference between one computation in another order; values here reach 8, and the largest difference
seen over all families is 4e-6."""

POST_NORMS = ("model.layers", "post_attention_layernorm", "post_feedforward_layernorm")
NAMES = {
    **dict.fromkeys(("gemma2", "gemma3_text", "olmo2", "olmo3", "exaone4"), POST_NORMS),
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
    "opt": ("model.decoder.layers", "self_attn", "fc2"),
}
UNSUPPORTED = {
    "granite_scaled": "in GraniteDecoderLayer no attention and MLP part (post_attention_layernorm, self_attn, mlp) "
    "add up with the block's input to its output",  # the block scales both by residual_multiplier
    "opt": "in OPTDecoderLayer no attention and MLP part (self_attn, fc2) add up with the block's input to its "
    "output",  # the block flattens batch and position before its two layers
    "lfm2_hybrid": "the Lfm2DecoderLayers have no part in common that is known as attention",  # some are conv
}
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


def offered(adapter: HFAdapter) -> list[Component]:
    return [component for component in Component if adapter.support()[component]]


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
    """(value at place, logits) by one plain hook."""
    blocks, attention, mlp = NAMES.get(family, ("model.layers", "self_attn", "mlp"))
    component, layer = place
    path = {Component.ATTENTION: f".{attention}", Component.MLP: f".{mlp}"}.get(component, "")
    module = adapter.module.get_submodule(f"{blocks}.{layer}{path}")
    kept: list[Tensor] = []

    def see(value: Tensor) -> Tensor:
        kept.append(value.clone())
        return value if change is None else change(value)

    if component is Component.BLOCK_INPUT:
        handle = module.register_forward_pre_hook(lambda m, args: (see(args[0]), *args[1:]))
    else:
        handle = module.register_forward_hook(
            lambda m, a, out: see(out) if isinstance(out, Tensor) else (see(out[0]), *out[1:])
        )
    try:
        logits = plain_logits(adapter, batch)
    finally:
        handle.remove()
    assert len(kept) == 1
    return kept[0], logits


def test_info_states_the_sizes_of_the_checkpoint(family: str, adapter: HFAdapter) -> None:
    info = adapter.info
    assert (info.layers, info.heads) == (adapter.layers, adapter.heads) == (3, 4)
    assert adapter.width == 32
    assert info.parameters == sum(p.numel() for p in adapter.module.parameters())
    assert (info.dtype, info.device, info.adapter) == ("float32", "cpu", "hf")
    assert info.family == family.removesuffix("_scaled").removesuffix("_hybrid").removesuffix("_new").removesuffix(
        "_sequential"
    )
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
    places = [(component, layer) for component in offered(adapter) for layer in range(3)]
    padded: dict[Place, Tensor] = {}
    alone: dict[Place, Tensor] = {}

    def keep(into: dict[Place, Tensor], place: Place) -> Callable[[Tensor], None]:
        return lambda value: into.__setitem__(place, value.clone())

    adapter.run(batch, {place: keep(padded, place) for place in places})
    adapter.run(adapter.batch(prompts[1:2]), {place: keep(alone, place) for place in places})
    assert batch.pads[1] > 0
    for place in places:
        torch.testing.assert_close(padded[place][1, batch.pads[1] :], alone[place][0], rtol=0, atol=ROUNDING)


def test_contributions_add_up_in_every_block(family: str, adapter: HFAdapter, one: Batch) -> None:
    support = adapter.support()
    assert set(support) >= set(Component)
    assert support[Component.BLOCK_INPUT]
    assert support[Component.RESIDUAL]
    for component in CONTRIBUTIONS:
        assert bool(support[component]) == (family not in UNSUPPORTED)
        assert support[component].reason == UNSUPPORTED.get(family, "")
    seen: dict[Place, Tensor] = {}
    for layer in range(3):
        for component in offered(adapter):
            adapter.run(one, {(component, layer): lambda v, p=(component, layer): seen.update({p: v.clone()})})
        if layer:
            assert torch.equal(seen[Component.BLOCK_INPUT, layer], seen[Component.RESIDUAL, layer - 1])
        if family not in UNSUPPORTED:
            whole = sum(seen[c, layer] for c in (Component.BLOCK_INPUT, *CONTRIBUTIONS))
            torch.testing.assert_close(whole, seen[Component.RESIDUAL, layer], rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("component", Component)
def test_capture_equals_a_plain_hook(family: str, adapter: HFAdapter, one: Batch, component: Component) -> None:
    if not adapter.support()[component]:
        with pytest.raises(ValueError, match=r"is not available on this model: ") as refused:
            adapter.run(one, {(component, 1): lambda value: None})
        assert UNSUPPORTED[family] in str(refused.value)
        return
    for layer in range(3):
        got: list[Tensor] = []
        adapter.run(one, {(component, layer): lambda value, got=got: got.append(value.clone())})
        assert len(got) == 1
        assert torch.equal(got[0], hooked(adapter, family, (component, layer), one)[0])


@pytest.mark.parametrize("component", Component)
def test_replacing_one_position_equals_a_plain_hook(
    family: str, adapter: HFAdapter, one: Batch, component: Component
) -> None:
    if not adapter.support()[component]:
        assert family in UNSUPPORTED
        return

    def change(value: Tensor) -> Tensor:
        value = value.clone()
        value[:, -2] = torch.linspace(-1, 1, 32)
        return value

    untouched = plain_logits(adapter, one)
    for layer in range(2):  # in the last block only the last position still matters
        got = adapter.run(one, {(component, layer): change})
        assert torch.equal(got, hooked(adapter, family, (component, layer), one, change)[1])
        assert not torch.equal(got, untouched)


def test_giving_back_the_own_value_changes_nothing(adapter: HFAdapter, one: Batch) -> None:
    touches = {
        (component, layer): lambda value: value.clone() for component in offered(adapter) for layer in (0, 2)
    }
    assert torch.equal(adapter.run(one, touches), plain_logits(adapter, one))


def test_hooks_are_gone_after_an_exception_inside_a_run(adapter: HFAdapter, one: Batch) -> None:
    def fail(value: Tensor) -> None:
        raise RuntimeError("from the touch")

    components = offered(adapter)
    with pytest.raises(RuntimeError, match="from the touch"):
        adapter.run(one, {(component, layer): fail for component in components for layer in range(3)})
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
