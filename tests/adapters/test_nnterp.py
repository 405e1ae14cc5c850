"""The second adapter: agrees with the first on every family, and each known defect of its libraries is repaired."""

from __future__ import annotations

import builtins
import copy
import dataclasses
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import pytest
import torch
from listed import agrees
from torch import Tensor

from auditkit.adapters.chat import Prompt
from auditkit.adapters.errors import ModelError
from auditkit.adapters.hf.adapter import HFAdapter
from auditkit.adapters.loading.load import Loaded
from auditkit.adapters.nnterp import NnterpAdapter, standardized_transformer
from auditkit.adapters.protocol import Batch, Component, Place
from auditkit.data.prompts import Chat

pytestmark = pytest.mark.unit

ROUNDING = 1e-5
"""Largest fp32 difference between one computation in another order; values here reach 8."""

STREAM = (Component.EMBEDDINGS, Component.BLOCK_INPUT, Component.RESIDUAL)
NO_SUM = "do not add up with the block's input to its output"
WITHOUT_CONTRIBUTIONS = {
    # post-norms
    **dict.fromkeys(("gemma2", "gemma3_text", "gemma4_text", "olmo2", "olmo3", "exaone4", "glm4"), NO_SUM),
    **dict.fromkeys(("bloom", "mpt"), NO_SUM),  # these modules add the residual themselves
    "granite_scaled": NO_SUM,
    **dict.fromkeys(("lfm2", "xglm", "opt", "opt_projected"), "nnterp finds no mlp in every"),
    "lfm2_hybrid": "nnterp finds no self_attn and no mlp in every Lfm2DecoderLayer",
}
UNOPENED = {"biogpt": "nnterp 1.3.0 does not know the parts of BioGptForCausalLM by name"}
WITHOUT_Z = ("bloom", "lfm2_hybrid")
PROMPTS = (
    Chat(user="What is the capital of France?", system="You are a student."),
    Chat(user="Hello."),
    Chat(user="Hello, hello, what is it?", assistant="The capital"),
)


@pytest.fixture
def nnterp(open_nnterp: Callable[[str], NnterpAdapter]) -> NnterpAdapter:
    return open_nnterp("llama")


@pytest.fixture
def batch(nnterp: NnterpAdapter) -> Batch:
    return nnterp.batch([nnterp.chat(chat) for chat in PROMPTS])


@pytest.fixture
def open_copy(open_family: Callable[[str], HFAdapter]) -> Callable[..., NnterpAdapter]:
    """(family, change) -> a new adapter on a module of its own, after `change(module)`."""

    def open_one(family: str, change: Callable[[Any], Any] = lambda module: module) -> NnterpAdapter:
        plain = open_family(family)
        module = change(copy.deepcopy(plain.module))
        return NnterpAdapter(
            Loaded(family, family, "test", module, plain.tokenizer, weights_sha256="", tokenizer_sha256="")
        )

    return open_one


def plain_logits(adapter: NnterpAdapter, prompts: list[Prompt]) -> Tensor:
    """The module itself, one unpadded prompt at a time."""
    with torch.no_grad():
        return torch.stack([adapter.module(torch.tensor([p.ids])).logits[0, -1] for p in prompts])


# -- the same numbers as the first adapter ---------------------------------------------------------------------


def test_it_reads_and_edits_what_the_first_adapter_does(
    family: str, adapter: HFAdapter, open_nnterp: Callable[[str], NnterpAdapter]
) -> None:
    try:
        second = open_nnterp(family)
    except ModelError as error:
        agrees(str(error).startswith(UNOPENED.get(family, "nothing")), True, f"nnterp: {family}: {error}")
        return
    agrees(family in UNOPENED, False, f"nnterp: {family} opens")
    batch = adapter.batch([adapter.chat(chat) for chat in PROMPTS])
    plain = adapter.run(batch)
    torch.testing.assert_close(second.run(batch), plain, rtol=0, atol=ROUNDING)
    common = [c for c in Component if adapter.support()[c] and second.support()[c]]
    assert set(common) >= {Component.BLOCK_INPUT, Component.RESIDUAL}
    for component in common:
        for layer in range(1 if component is Component.EMBEDDINGS else 3):
            seen: list[Tensor] = []

            def change(value: Tensor, seen: list[Tensor] = seen) -> Tensor:
                seen.append(value.clone())
                value = value.clone()
                value[:, -2:] = value[:, -2:].flip(-1)  # a norm after the part would undo a factor
                return value

            edited = [one.run(batch, {(component, layer): change}) for one in (adapter, second)]
            torch.testing.assert_close(edited[1], edited[0], rtol=0, atol=ROUNDING)
            torch.testing.assert_close(seen[1], seen[0], rtol=0, atol=ROUNDING)
            assert len(seen) == 2
            if (component, layer) != (Component.RESIDUAL, 2):
                assert not torch.allclose(edited[1], plain, rtol=0, atol=1e-4)


def test_what_is_missing_is_refused_with_the_reason(
    family: str, open_nnterp: Callable[[str], NnterpAdapter]
) -> None:
    try:
        adapter = open_nnterp(family)
    except ModelError:
        return  # judged above
    support = adapter.support()
    assert set(support) == {*Component, "blockwise", "generation", "gradients"}
    assert all(support[component] for component in STREAM)
    for component in (Component.ATTENTION, Component.MLP):
        offer = support[component]
        agrees(
            bool(offer), family not in WITHOUT_CONTRIBUTIONS, f"nnterp: {component} of {family} ({offer.reason})"
        )
        agrees(WITHOUT_CONTRIBUTIONS.get(family, "") in offer.reason, True, f"nnterp: {family}: {offer.reason}")
    agrees(bool(support[Component.Z]), family not in WITHOUT_Z, f"nnterp: z of {family}")
    assert all(bool(offered) != bool(offered.reason) for offered in support.values())
    batch = adapter.batch([adapter.chat(PROMPTS[1])])
    for component in Component:
        if not support[component]:
            with pytest.raises(ValueError, match=f"{component} is not available on this model: "):
                adapter.run(batch, {(component, 0): lambda value: None})


PROJECTIONS = {
    "llama": "model.layers.{}.self_attn.o_proj",
    "gemma2": "model.layers.{}.self_attn.o_proj",
    "gpt_oss": "model.layers.{}.self_attn.o_proj",
    "gpt2": "transformer.h.{}.attn.c_proj",
    "gpt_neo": "transformer.h.{}.attn.attention.out_proj",
    "gpt_neox": "gpt_neox.layers.{}.attention.dense",
    "falcon": "transformer.h.{}.self_attention.dense",
    "mpt": "transformer.blocks.{}.attn.out_proj",
    "opt": "model.decoder.layers.{}.self_attn.out_proj",
}


@pytest.mark.parametrize("name", PROJECTIONS)
def test_a_head_equals_a_plain_hook_before_the_output_projection(
    name: str, open_nnterp: Callable[[str], NnterpAdapter]
) -> None:
    adapter = open_nnterp(name)
    batch = adapter.batch([adapter.chat(PROMPTS[0])])
    seen: list[Tensor] = []

    def change(value: Tensor) -> Tensor:
        seen.append(value.clone())
        value = value.clone()
        value[:, -1, 2] = 0
        return value

    ours = adapter.run(batch, {(Component.Z, 1): change})

    def before(module: Any, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        value = args[0].clone()
        seen.append(value.clone())
        size = value.shape[-1] // 4
        value[:, -1, 2 * size : 3 * size] = 0
        return (value,)

    handle = adapter.module.get_submodule(PROJECTIONS[name].format(1)).register_forward_pre_hook(before)
    theirs = adapter.run(batch)
    handle.remove()
    assert seen[0].shape == (1, batch.width, 4, seen[1].shape[-1] // 4)
    assert torch.equal(seen[0].flatten(-2), seen[1])
    assert torch.equal(ours, theirs)
    assert not torch.equal(ours, adapter.run(batch))


def test_info_and_meter(nnterp: NnterpAdapter, batch: Batch) -> None:
    assert nnterp.info.adapter == "nnterp"
    assert (nnterp.layers, nnterp.heads, nnterp.groups, nnterp.width) == (3, 4, 2, 32)
    assert 0 <= nnterp.info.parity_max_abs <= ROUNDING
    spent = nnterp.meter.token_layers
    nnterp.run(batch)
    assert nnterp.meter.token_layers - spent == int(batch.mask.sum()) * 3


def test_the_module_is_not_changed(open_copy, open_family) -> None:
    plain = open_family("llama").module
    adapter = open_copy("llama")
    for (name, ours), (other, theirs) in zip(
        adapter.module.named_parameters(), plain.named_parameters(), strict=True
    ):
        assert name == other
        assert torch.equal(ours, theirs)
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        assert torch.equal(adapter.module(ids).logits, plain(ids).logits)


def test_the_first_adapter_opens_a_module_that_the_second_has_used(open_copy, open_family) -> None:
    used = open_copy("gpt2")
    loaded = Loaded("gpt2", "gpt2", "test", used.module, used.tokenizer, weights_sha256="", tokenizer_sha256="")
    first, plain = HFAdapter(loaded), open_family("gpt2")
    batch = plain.batch([plain.chat(chat) for chat in PROMPTS])
    double = {(Component.MLP, 1): lambda value: value * 2}
    assert torch.equal(first.run(batch, double), plain.run(batch, double))
    assert first.support() == plain.support()


# -- known defects of nnterp 1.3 and nnsight 0.7 ---------------------------------------------------------------


def refusing(monkeypatch: pytest.MonkeyPatch, error: ImportError) -> None:
    real = builtins.__import__

    def refuse(name: str, *args: Any, **options: Any) -> Any:
        if name == "nnterp":
            raise error
        return real(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)


def test_a_pair_of_versions_that_cannot_be_imported_gives_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    refusing(
        monkeypatch,
        ModuleNotFoundError("No module named 'nnsight.intervention.tracing'", name="nnsight.intervention.tracing"),
    )
    monkeypatch.setattr("auditkit.adapters.nnterp.version", {"nnterp": "1.3.0", "nnsight": "0.8.1"}.__getitem__)
    with pytest.raises(ModelError) as caught:
        standardized_transformer()
    assert str(caught.value) == (
        "nnterp 1.3.0 and nnsight 0.8.1 do not go together (No module named 'nnsight.intervention.tracing'); "
        "nnterp 1.3.0 needs nnsight 0.7: pip install 'interp-auditkit[nnterp]'"
    )


def test_missing_nnterp_gives_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    refusing(monkeypatch, ModuleNotFoundError("No module named 'nnterp'", name="nnterp"))
    with pytest.raises(ModelError) as caught:
        standardized_transformer()
    assert str(caught.value) == "the adapter nnterp needs nnterp: pip install 'interp-auditkit[nnterp]'"


@pytest.mark.parametrize("name", ["gpt2", "opt", "gpt_neo"])
def test_left_padding_is_right_where_positions_are_absolute(
    name: str, open_nnterp: Callable[[str], NnterpAdapter]
) -> None:
    adapter = open_nnterp(name)
    prompts = [adapter.chat(chat) for chat in PROMPTS]
    batch = adapter.batch(prompts)
    plain = plain_logits(adapter, prompts)
    torch.testing.assert_close(adapter.run(batch), plain, rtol=0, atol=ROUNDING)
    if name == "gpt2":  # the defect itself, as long as it is there: what nnsight passes on its own is wrong
        found: list[Tensor] = []
        with torch.no_grad(), adapter._model.trace({"input_ids": batch.ids, "attention_mask": batch.mask}):
            found.append(adapter._model.output.logits[:, -1])
        assert float((found[0] - plain).abs().max()) > 1e-2


def test_touches_may_be_given_in_any_order(nnterp: NnterpAdapter, batch: Batch) -> None:
    components = (Component.RESIDUAL, Component.MLP, Component.Z, Component.ATTENTION, Component.BLOCK_INPUT)
    places: list[Place] = [(component, layer) for component in components for layer in (2, 0, 1)]
    places.append((Component.EMBEDDINGS, 0))
    reached: list[Place] = []
    nnterp.run(batch, {place: lambda value, place=place: reached.append(place) for place in places})
    block = (Component.BLOCK_INPUT, Component.Z, Component.ATTENTION, Component.MLP, Component.RESIDUAL)
    assert reached == [(Component.EMBEDDINGS, 0), *((c, layer) for layer in range(3) for c in block)]


def test_inference_mode_of_the_caller_does_no_harm(nnterp: NnterpAdapter, batch: Batch) -> None:
    def in_place(value: Tensor) -> None:
        value[:, -1] = 0

    def copied(value: Tensor) -> Tensor:
        value = value.clone()
        value[:, -1] = 0
        return value

    expected = nnterp.run(batch, {(Component.MLP, 1): copied})
    with torch.inference_mode():
        assert torch.equal(nnterp.run(batch, {(Component.MLP, 1): copied}), expected)
        assert torch.equal(nnterp.run(batch, {(Component.MLP, 1): in_place}), expected)
    assert not torch.is_inference(nnterp.run(batch))


def test_softcapped_logits_are_the_models_own(open_copy) -> None:
    def cap(module: Any) -> Any:
        module.config.final_logit_softcapping = 0.5
        return module

    adapter = open_copy("gemma2", cap)
    prompts = [adapter.chat(chat) for chat in PROMPTS]
    logits = adapter.run(adapter.batch(prompts))
    torch.testing.assert_close(logits, plain_logits(adapter, prompts), rtol=0, atol=ROUNDING)
    assert 0.2 < float(logits.abs().max()) <= 0.5


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_opens(open_copy, dtype: torch.dtype) -> None:
    """nnterp's own row-sum test would refuse a bfloat16 model by chance; it is not asked."""
    adapter = open_copy("llama", lambda module: module.to(dtype))
    assert adapter.info.dtype == str(dtype).removeprefix("torch.")
    assert adapter.support()[Component.MLP]
    seen: list[Tensor] = []
    logits = adapter.run(adapter.batch([adapter.chat(PROMPTS[0])]), {(Component.MLP, 0): seen.append})
    assert seen[0].dtype == dtype
    assert (logits.to(dtype).float() != logits).any(), "logits are not rounded to the model's type"


def test_a_value_kept_by_a_touch_stays_what_it_was(open_nnterp: Callable[[str], NnterpAdapter]) -> None:
    """Reads are live tensors: Falcon changes its MLP output in place afterwards, so a touch clones what it keeps."""
    adapter = open_nnterp("falcon_sequential")
    batch = adapter.batch([adapter.chat(PROMPTS[0])])
    kept: list[Tensor] = []
    adapter.run(batch, {(Component.MLP, 1): lambda value: kept.append(value.clone())})
    again = adapter.run(batch, {(Component.MLP, 1): lambda value: kept[0].clone()})
    assert torch.equal(again, adapter.run(batch))


# -- touches in nnsight's thread -------------------------------------------------------------------------------


class _OfATouch(Exception):
    """With a constructor that nnsight's wrapping could not repeat."""

    def __init__(self, layer: int, *, what: str) -> None:
        super().__init__(f"{what} at {layer}")


@pytest.mark.parametrize(
    "error", [_OfATouch(1, what="guard"), KeyboardInterrupt("stop"), SystemExit(3)], ids=lambda e: type(e).__name__
)
@pytest.mark.parametrize("component", [Component.EMBEDDINGS, Component.MLP, Component.RESIDUAL])
def test_what_a_touch_raises_arrives_as_itself_and_nothing_is_left(
    nnterp: NnterpAdapter, batch: Batch, error: BaseException, component: Component
) -> None:
    def fail(value: Tensor) -> None:
        raise error

    before = nnterp.run(batch)
    hooks = {name: len(m._forward_hooks) + len(m._forward_pre_hooks) for name, m in nnterp.module.named_modules()}
    threads = threading.active_count()
    runs = nnterp.meter.runs
    after: list[int] = []
    with pytest.raises(type(error)) as caught:
        nnterp.run(batch, {(component, 0): fail, (Component.RESIDUAL, 2): lambda value: after.append(1)})
    assert caught.value is error
    assert not after
    assert nnterp.meter.runs == runs
    assert torch.equal(nnterp.run(batch), before)
    assert hooks == {
        name: len(m._forward_hooks) + len(m._forward_pre_hooks) for name, m in nnterp.module.named_modules()
    }
    assert threading.active_count() <= threads


def test_an_error_of_the_model_arrives_as_itself(nnterp: NnterpAdapter, batch: Batch) -> None:
    wrong = dataclasses.replace(batch, ids=batch.ids + 10_000)
    with pytest.raises(IndexError, match="index out of range"):
        nnterp.run(wrong, {(Component.MLP, 1): lambda value: None})
    with pytest.raises(RuntimeError, match="size of tensor"):
        nnterp.run(batch, {(Component.MLP, 1): lambda value: value[:, :-1]})
    assert torch.isfinite(nnterp.run(batch)).all()


_setting: ContextVar[str] = ContextVar("setting", default="none")


@pytest.fixture
def setting() -> Iterator[str]:
    token = _setting.set("of the caller")
    yield "of the caller"
    _setting.reset(token)


def test_touches_run_in_the_callers_context_and_without_gradients(
    nnterp: NnterpAdapter, batch: Batch, setting: str
) -> None:
    seen: list[tuple[str, bool]] = []
    nnterp.run(batch, {(Component.MLP, 1): lambda value: seen.append((_setting.get(), torch.is_grad_enabled()))})
    assert seen == [(setting, False)]


@pytest.mark.parametrize("place", [(Component.RESIDUAL, 3), (Component.MLP, -1), (Component.EMBEDDINGS, 1)])
def test_a_layer_out_of_range_is_refused_before_anything_runs(
    nnterp: NnterpAdapter, batch: Batch, place: Place
) -> None:
    runs = nnterp.meter.runs
    with pytest.raises(ValueError, match=rf"{place[0]} of layer {place[1]}: this model has layers 0 to "):
        nnterp.run(batch, {place: lambda value: None})
    assert nnterp.meter.runs == runs
