"""The attention tap on every family, against a twin that runs the family's own eager attention.

The twin is a copy of the module switched to eager, whose `eager_attention_forward` is replaced by ten plain lines: so
the reference depends neither on the dispatch that the tap stands in nor on how it computes probabilities.
"""

from __future__ import annotations

import copy
import inspect
import json
import re
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from listed import agrees
from torch import Tensor, nn
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask
from transformers.modeling_utils import AttentionInterface

from auditkit.adapters import open_model
from auditkit.adapters.chat import Prompt
from auditkit.adapters.hf import tap
from auditkit.adapters.hf.adapter import HFAdapter
from auditkit.adapters.loading.load import load
from auditkit.adapters.protocol import AttentionView, Batch, Component, Place, Touch
from auditkit.engine.attention import entropies

pytestmark = pytest.mark.unit

ROUNDING = 1e-5
"""Largest fp32 difference between sdpa and eager attention; the largest seen over all families is 2e-6."""

OWN = {
    "gpt_neo": "GPTNeoSelfAttention",
    "bloom": "BloomAttention",
    "mpt": "MptAttention",
    **dict.fromkeys(("falcon", "falcon_sequential", "falcon_new"), "FalconAttention"),
    "xglm": "XGLMAttention",
}
REFUSED = {
    **{
        family: f"attention is computed in {where} itself and never passes transformers' attention dispatch"
        for family, where in OWN.items()
    },
    "lfm2_hybrid": "the attention of layer 0, if it has any, never passes transformers' attention dispatch",
}
PROJECTIONS = {
    **dict.fromkeys(("phi", "persimmon"), "model.layers.{}.self_attn.dense"),
    "lfm2": "model.layers.{}.self_attn.out_proj",
    **dict.fromkeys(("gpt2", "gpt_bigcode"), "transformer.h.{}.attn.c_proj"),
    **dict.fromkeys(("gptj", "codegen"), "transformer.h.{}.attn.out_proj"),
    "gpt_neox": "gpt_neox.layers.{}.attention.dense",
    "biogpt": "biogpt.layers.{}.self_attn.out_proj",
    **dict.fromkeys(("opt", "opt_projected"), "model.decoder.layers.{}.self_attn.out_proj"),
}
GROUPS = {
    "gpt_bigcode": 1,
    **dict.fromkeys(("persimmon", "gpt2", "gptj", "codegen", "gpt_neox", "biogpt"), 4),
    **dict.fromkeys(("opt", "opt_projected", "deepseek_v3"), 4),
}
SIZES = {"deepseek_v3": (12, 12, 6), "gemma4_text": (16, 16, 16)}
"""Of a head's queries, keys and values in layer 1, where they are not 8."""
RECOMPUTED = (Component.Q, Component.K, Component.V, Component.PATTERN)


@pytest.fixture
def tapped(family: str, adapter: HFAdapter) -> HFAdapter:
    support = adapter.support()[Component.PATTERN]
    if family in REFUSED or not support:
        pytest.skip(REFUSED.get(family) or support.reason)
    return adapter


@pytest.fixture
def batch(tapped: HFAdapter) -> Batch:
    """Two prompts, longer than the families' windows, one of them padded."""
    ids = torch.randint(10, 290, (11,), generator=torch.Generator().manual_seed(3)).tolist()
    return tapped.batch([Prompt("", tuple(ids)), Prompt("", tuple(ids[::-1][3:]))])


def forward(module: Any, batch: Batch) -> Tensor:
    """The plain module, asked for exactly what the adapter asks for."""
    last = torch.tensor([batch.width - 1])
    asked = {
        "position_ids": (batch.mask.cumsum(-1) - 1).clamp(min=0), "logits_to_keep": last, "use_cache": False,
    }  # fmt: skip
    accepted = inspect.signature(module.forward).parameters
    options = {name: value for name, value in asked.items() if name in accepted}
    with torch.no_grad():
        return module(batch.ids, attention_mask=batch.mask, **options).logits[:, -1]


def eagerly(
    module: Any, batch: Batch, changed: int = -1, component: Component | None = None, change: Any = None
) -> tuple[dict[Place, Tensor], Tensor]:
    """All q, k, v and probabilities of an eager twin, with one of them changed in layer `changed`; its logits."""
    twin = copy.deepcopy(module)
    twin.set_attn_implementation("eager")
    source = sys.modules[type(twin).__module__]
    own = source.eager_attention_forward
    seen: dict[Place, Tensor] = {}

    def attend(part, query, key, value, attention_mask, **options):
        layer = len(seen) // len(RECOMPUTED)
        given = ((Component.Q, query), (Component.K, key), (Component.V, value))
        parts = {name: x.transpose(1, 2).clone() for name, x in given}
        if layer == changed and component in parts:
            parts[component] = change(parts[component])
        seen.update({(name, layer): x for name, x in parts.items()})
        query, key, value = (parts[name].transpose(1, 2) for name in RECOMPUTED[:3])
        out, weights = own(part, query, key, value, attention_mask, **options)
        if layer == changed and component is Component.PATTERN:
            weights = change(weights)
            repeated = value.repeat_interleave(weights.shape[1] // value.shape[1], dim=1)
            out = (weights @ repeated).transpose(1, 2)
        seen[Component.PATTERN, layer] = weights.clone()
        return out, weights

    source.eager_attention_forward = attend
    try:
        return seen, forward(twin, batch)
    finally:
        source.eager_attention_forward = own


def keeping(into: dict[Place, Tensor], place: Place) -> Touch:
    return lambda value: into.__setitem__(place, value.clone())


def captured(adapter: HFAdapter, batch: Batch, components: tuple[Component, ...]) -> dict[Place, Tensor]:
    kept: dict[Place, Tensor] = {}
    places = [(component, layer) for component in components for layer in range(adapter.layers)]
    adapter.run(batch, {place: keeping(kept, place) for place in places})
    assert set(kept) == set(places)
    return kept


def test_heads_are_offered_or_refused_with_the_reason(family: str, adapter: HFAdapter) -> None:
    for component in tap.HEADED:
        support = adapter.support()[component]
        agrees(support.reason, REFUSED.get(family, ""), f"{component} of {family}")
        assert bool(support) == (not support.reason)
        if not support:
            touches: dict[Place, Touch] = {(component, 1): lambda value: None}
            with pytest.raises(ValueError, match=f"{component} is not available on this model: ") as refused:
                adapter.run(adapter.batch([Prompt("", (5, 6))]), touches)
            assert support.reason in str(refused.value)
    if support and family not in REFUSED:
        assert adapter.groups == GROUPS.get(family, 2)
        sizes = [adapter.sizes[component, 1] for component in (Component.Q, Component.K, Component.V)]
        assert tuple(sizes) == SIZES.get(family, (8, 8, 8))


def test_values_are_those_of_the_eager_twin(tapped: HFAdapter, batch: Batch) -> None:
    for given in (
        batch,
        tapped.batch([Prompt("", tuple(batch.ids[0].tolist()))]),
    ):  # the second has no mask in sdpa
        kept = captured(tapped, given, RECOMPUTED)
        reference, _ = eagerly(tapped.module, given)
        for row, pad in enumerate(given.pads):
            for place, value in kept.items():
                ours, theirs = value[row], reference[place][row]
                if place[0] is Component.PATTERN:
                    ours, theirs = ours[:, pad:], theirs[:, pad:]
                    assert not ours[..., :pad].any()
                    assert not ours[..., pad:].triu(1).any()
                else:
                    ours, theirs = ours[pad:], theirs[pad:]
                torch.testing.assert_close(ours, theirs, rtol=0, atol=ROUNDING)


def test_chosen_queries_are_rows_of_the_eager_twin(tapped: HFAdapter, batch: Batch) -> None:
    reference, _ = eagerly(tapped.module, batch)
    last = batch.width - 1
    each = torch.tensor([[last, 4], [3, 7]])  # row 1 has three tokens of padding
    seen: dict[int, tuple[Tensor, Tensor]] = {}

    def look(layer: int) -> Callable[[AttentionView], None]:
        def see(view: AttentionView) -> None:
            seen[layer] = (view.probabilities(torch.tensor([last])), view.probabilities(each))

        return see

    logits = tapped.attend(batch, {layer: look(layer) for layer in range(3)})
    assert torch.equal(logits, tapped.run(batch))
    for layer, (of_last, of_each) in seen.items():
        whole = reference[Component.PATTERN, layer]
        assert of_last.dtype == of_each.dtype == torch.float32
        torch.testing.assert_close(of_last, whole[:, :, -1:], rtol=0, atol=ROUNDING)
        rows = torch.stack([whole[i, :, each[i]] for i in range(2)])
        torch.testing.assert_close(of_each, rows, rtol=0, atol=ROUNDING)
    assert len(seen) == 3


def test_entropies_do_not_depend_on_the_batch(tapped: HFAdapter) -> None:
    generator = torch.Generator().manual_seed(4)
    prompts = [
        Prompt("", tuple(torch.randint(10, 290, (length,), generator=generator).tolist())) for length in (9, 4, 12)
    ]
    together = entropies(tapped, prompts, "all")
    for prompt, ours in zip(prompts, together, strict=True):
        assert ours.shape == (3, 4, len(prompt))
        torch.testing.assert_close(ours, entropies(tapped, [prompt], "all")[0], rtol=0, atol=ROUNDING)
        limits = torch.arange(1, len(prompt) + 1).log()
        assert (ours <= limits + 1e-6).all()
        assert (ours[..., 1:] > 0).all()


@pytest.mark.parametrize("component", RECOMPUTED)
def test_replacing_is_what_it_is_in_the_eager_twin(tapped: HFAdapter, batch: Batch, component: Component) -> None:
    def change(value: Tensor) -> Tensor:
        value = value.clone()
        if component is Component.PATTERN:
            value[:, 1, -2:] = 0.0
            value[:, 1, -2:, -3] = 0.75  # of another sum than 1: what comes back is used as it is
        else:
            value[:, -3, -1] = torch.linspace(-2, 3, value.shape[-1])
        return value

    plain = forward(tapped.module, batch)
    for layer in range(2):
        got = tapped.run(batch, {(component, layer): change})
        _, expected = eagerly(tapped.module, batch, layer, component, change)
        torch.testing.assert_close(got, expected, rtol=0, atol=ROUNDING)
        assert float((got - plain).abs().max()) > 5 * ROUNDING


def test_z_is_the_input_of_the_output_projection(family: str, tapped: HFAdapter, batch: Batch) -> None:
    kept = captured(tapped, batch, (Component.Z,))
    name = PROJECTIONS.get(family, "model.layers.{}.self_attn.o_proj")

    def change(value: Tensor) -> Tensor:
        value = value.clone()
        value[:, -2, 1] = torch.linspace(-1, 1, value.shape[-1])
        return value

    for layer in range(2):
        inputs: list[Tensor] = []

        def see(module: nn.Module, args: tuple[Tensor, ...], inputs: list[Tensor] = inputs) -> Tensor:
            inputs.append(args[0].clone())
            return change(args[0].unflatten(-1, (4, -1))).flatten(-2)

        handle = tapped.module.get_submodule(name.format(layer)).register_forward_pre_hook(see)
        expected = tapped.run(batch)
        handle.remove()
        assert torch.equal(inputs[0].view_as(kept[Component.Z, layer]), kept[Component.Z, layer])
        assert torch.equal(tapped.run(batch, {(Component.Z, layer): change}), expected)


def test_the_middle_is_what_the_norm_before_the_mlp_is_given(open_family: Callable[[str], HFAdapter]) -> None:
    for family in ("llama", "granite_scaled", "mixtral"):
        adapter = open_family(family)
        prompts = adapter.batch([Prompt("", (5, 6, 7, 8)), Prompt("", (9, 10))])
        kept = captured(adapter, prompts, (Component.MIDDLE,))
        for layer, block in enumerate(adapter.module.model.layers):
            inputs: list[Tensor] = []
            norm = block.post_attention_layernorm
            handle = norm.register_forward_pre_hook(lambda m, args, inputs=inputs: inputs.append(args[0]))
            adapter.run(prompts)
            handle.remove()
            assert torch.equal(inputs[0], kept[Component.MIDDLE, layer])


def test_touches_of_one_layer_see_each_other(llama: HFAdapter) -> None:
    prompts = llama.batch([Prompt("", (5, 6, 7, 8))])
    seen: dict[Place, Tensor] = {}
    llama.run(
        prompts,
        {
            (Component.MIDDLE, 1): keeping(seen, (Component.MIDDLE, 1)),
            (Component.ATTENTION, 1): lambda value: torch.zeros_like(value),
            (Component.BLOCK_INPUT, 1): lambda value: torch.ones_like(value),
            (Component.Z, 0): keeping(seen, (Component.Z, 0)),
            (Component.V, 0): lambda value: torch.full_like(value, 2.0),
            (Component.Q, 2): lambda value: torch.zeros_like(value),
            (Component.PATTERN, 2): keeping(seen, (Component.PATTERN, 2)),
        },
    )
    torch.testing.assert_close(seen[Component.MIDDLE, 1], torch.ones(1, 4, 32))
    torch.testing.assert_close(seen[Component.Z, 0], torch.full((1, 4, 4, 8), 2.0))
    uniform = torch.ones(4, 4).tril() / torch.arange(1, 5)[:, None]
    torch.testing.assert_close(seen[Component.PATTERN, 2], uniform.expand(1, 4, 4, 4))


def test_a_run_that_reads_attention_is_the_plain_run(tapped: HFAdapter, batch: Batch) -> None:
    looks = {layer: lambda view: view.probabilities(torch.tensor([0])) for layer in range(3)}
    reading: dict[Place, Touch] = {(c, layer): lambda value: None for c in tap.HEADED for layer in range(3)}
    plain = forward(tapped.module, batch)
    assert torch.equal(tapped.attend(batch, looks), plain)
    assert torch.equal(tapped.run(batch, reading), plain)


def test_only_touched_layers_are_reached(llama: HFAdapter) -> None:
    prompts = llama.batch([Prompt("", (5, 6, 7, 8))])
    own = AttentionInterface.get_interface
    inside: list[tuple[bool, set[nn.Module]]] = []

    def note(value: Tensor) -> None:
        inside.append((AttentionInterface.get_interface is own, set(tap._handlers)))

    llama.run(prompts, {(Component.RESIDUAL, 0): note})
    llama.run(prompts, {(Component.RESIDUAL, 0): note, (Component.V, 1): lambda value: None})
    assert inside == [(True, set()), (False, {llama.module.model.layers[1].self_attn})]


def test_nothing_is_left_after_an_exception(llama: HFAdapter) -> None:
    prompts = llama.batch([Prompt("", (5, 6, 7, 8))])
    own, plain = AttentionInterface.get_interface, llama.run(prompts)

    def fail(view: AttentionView) -> None:
        raise RuntimeError("from the look")

    with pytest.raises(RuntimeError, match="from the look"):
        llama.attend(prompts, {1: fail}, {(Component.MIDDLE, 0): lambda value: None})
    assert AttentionInterface.get_interface is own
    assert not tap._handlers
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in llama.module.modules())
    assert torch.equal(llama.run(prompts), plain)


def test_another_model_in_another_thread_is_left_alone(open_family: Callable[[str], HFAdapter]) -> None:
    llama, other = open_family("llama"), open_family("qwen2")
    prompts = llama.batch([Prompt("", (5, 6, 7, 8))])
    plain, reached, others = other.run(prompts), [], []

    def meanwhile(value: Tensor) -> None:
        touches: dict[Place, Touch] = {(Component.V, layer): lambda v: v.clone() for layer in range(3)}
        thread = threading.Thread(target=lambda: others.append(other.run(prompts, touches)))
        thread.start()
        thread.join()

    touches: dict[Place, Touch] = {(Component.Q, 0): meanwhile}
    llama.run(prompts, {**touches, (Component.Q, 2): lambda value: reached.append(2)})
    assert reached == [2]
    assert torch.equal(others[0], plain)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ((Component.Z, 3), "z of layer 3: this model has layers 0 to 2"),
        ((Component.PATTERN, -1), "pattern of layer -1: this model has layers 0 to 2"),
        ((Component.EMBEDDINGS, 1), "embeddings of layer 1: they come before the first block, use layer 0"),
        ((Component.MIDDLE, 9), "middle of layer 9: this model has layers 0 to 2"),
    ],
)
def test_a_place_that_is_not_there_is_refused_before_anything_runs(
    llama: HFAdapter, place: Place, message: str
) -> None:
    ran: list[int] = []
    touches: dict[Place, Touch] = {
        (Component.EMBEDDINGS, 0): lambda value: ran.append(0),
        place: lambda value: None,
    }
    with pytest.raises(ValueError, match=message):
        llama.run(llama.batch([Prompt("", (5, 6))]), touches)
    assert not ran
    assert not tap._handlers


def test_a_look_at_a_layer_that_is_not_there_is_refused(llama: HFAdapter) -> None:
    with pytest.raises(ValueError, match="pattern of layer 7: this model has layers 0 to 2"):
        llama.attend(llama.batch([Prompt("", (5, 6))]), {7: lambda view: None})


@pytest.mark.parametrize("component", tap.HEADED)
def test_a_replacement_of_another_shape_is_refused(llama: HFAdapter, component: Component) -> None:
    touches: dict[Place, Touch] = {(component, 1): lambda value: value[..., :1]}
    with pytest.raises(
        ValueError, match=rf"{component} of layer 1: a touch returned shape \(1, .*1\), the value has"
    ):
        llama.run(llama.batch([Prompt("", (5, 6))]), touches)


# -- probabilities -------------------------------------------------------------------------------------------------


def attention(**options: Any) -> tap.Attention:
    generator = torch.Generator().manual_seed(0)
    query, key = (torch.randn(2, heads, 5, 4, generator=generator) for heads in (4, 2))
    return tap.Attention(query, key, **{"mask": None, "causal": False, "scaling": 0.5} | options)


def test_a_query_that_sees_nothing_attends_to_nothing() -> None:
    mask = torch.ones(2, 1, 5, 5, dtype=torch.bool).tril()
    mask[1, :, :2] = False
    mask[1, ..., :2] = False
    rows = attention(mask=mask).probabilities()
    assert torch.equal(rows[1, :, :2], torch.zeros(4, 2, 5))
    assert torch.equal(rows[1, :, 2:, :2], torch.zeros(4, 3, 2))
    torch.testing.assert_close(rows.sum(-1)[0], torch.ones(4, 5))


def test_masks_of_booleans_and_of_numbers_and_none_agree() -> None:
    seen = torch.ones(2, 1, 5, 5, dtype=torch.bool).tril()
    numbers = torch.zeros(2, 1, 5, 5).masked_fill(~seen, torch.finfo(torch.float32).min)
    whole = attention(causal=True).probabilities()
    assert torch.equal(whole, attention(mask=seen).probabilities())
    assert torch.equal(whole, attention(mask=numbers).probabilities())
    assert not whole.triu(1).any()
    assert torch.equal(attention(causal=True).probabilities(torch.tensor([3, 0])), whole[:, :, [3, 0]])


def test_a_sink_takes_its_share() -> None:
    sinks = torch.tensor([0.0, 1.0, -1.0, 30.0])
    rows = attention(sinks=sinks, scaling=0.0).probabilities()  # every key scores 0
    expected = 1 / (5 + sinks.exp())
    torch.testing.assert_close(rows, expected[None, :, None, None].expand_as(rows))


# -- opening -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt_oss", "granite_scaled", "opt"])
def test_the_proof_holds_in_half_precision(save_checkpoint: Callable[..., Path], name: str, dtype: str) -> None:
    adapter = open_model(str(save_checkpoint(name)), device="cpu", dtype=dtype)
    assert all(adapter.support()[component] for component in Component)
    prompts = adapter.batch([Prompt("", (5, 6, 7, 8)), Prompt("", (9, 10))])
    touches: dict[Place, Touch] = {
        (component, layer): lambda value: value.clone()
        for component in Component
        for layer in range(1 if component is Component.EMBEDDINGS else 3)
    }
    assert torch.equal(adapter.run(prompts, touches), adapter.run(prompts))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("name", "option"), [("gpt_oss", "s_aux"), ("gemma2", "softcap")])
def test_a_formula_that_misses_the_models_is_not_offered(
    save_checkpoint: Callable[..., Path], name: str, option: str, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save_checkpoint(name)
    config = json.loads((folder / "config.json").read_text())
    capped = (
        {"attn_logit_softcapping": 0.05} if name == "gemma2" else {}
    )  # scores of a tiny random model are small
    (folder / "config.json").write_text(json.dumps(config | capped))
    own = tap._Call.attention
    monkeypatch.setattr(
        tap._Call, "attention", lambda call: own(call._replace(options={**call.options, option: None}))
    )
    support = open_model(str(folder), device="cpu", dtype=dtype).support()
    expected = (
        r"layer 0: probabilities computed again from queries and keys miss the model's own attended values by "
    )
    assert re.match(rf"{expected}[\d.e-]+ \(rounding explains [\d.e-]+\)$", support[Component.PATTERN].reason)
    assert all(support[component] for component in (Component.Q, Component.K, Component.V, Component.Z))


def opened_after(folder: Path, change: Callable[[Any], None]) -> HFAdapter:
    """The checkpoint's adapter, opened after something was done to its module."""
    loaded = load(str(folder), device="cpu")
    change(loaded.module)
    return HFAdapter(loaded)


def test_an_implementation_with_masks_of_its_own_shows_no_probabilities(
    save_checkpoint: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(AttentionInterface._global_mapping, "other", AttentionInterface._global_mapping["sdpa"])
    monkeypatch.setitem(AttentionMaskInterface._global_mapping, "other", sdpa_mask)
    adapter = opened_after(save_checkpoint(), lambda module: module.set_attn_implementation("other"))
    assert adapter.support()[Component.PATTERN].reason == (
        "layer 0: probabilities are known for sdpa and eager attention only, this model runs other"
    )
    kept = captured(adapter, adapter.batch([Prompt("", (5, 6, 7))]), (Component.Q, Component.V, Component.Z))
    assert kept[Component.Z, 2].shape == (1, 3, 4, 8)
    with pytest.raises(ValueError, match="pattern is not available on this model: layer 0: "):
        adapter.attend(adapter.batch([Prompt("", (5, 6))]), {0: lambda view: None})


def twice(module: Any) -> None:
    attention = module.model.layers[1].self_attn
    once = attention.forward
    attention.forward = lambda *args, **kwargs: (once(*args, **kwargs), once(*args, **kwargs))[1]


def without_output(module: Any) -> None:
    nn.init.zeros_(module.model.layers[2].self_attn.o_proj.weight)


def without_values(module: Any) -> None:
    nn.init.zeros_(module.model.layers[1].self_attn.v_proj.weight)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (twice, "layer 1 passes transformers' attention dispatch 4 times in 2 runs"),
        (without_output, "replacing z of layer 2 changes nothing"),
        (without_values, "replacing k and q and v of layer 1 changes nothing"),
    ],
)
def test_attention_that_is_not_proved_is_refused(
    save_checkpoint: Callable[..., Path], change: Callable[[Any], None], reason: str
) -> None:
    adapter = opened_after(save_checkpoint(), change)
    assert {adapter.support()[component].reason for component in tap.HEADED} == {reason}
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in adapter.module.modules())
    assert not tap._handlers
