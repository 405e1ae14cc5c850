"""The adapter for vLLM: texts and logits as hf gives them, everything inside refused, and one line where it cannot run.

Without a GPU a stand-in takes the place of both packages; `test_vllm_real.py` runs the packages themselves.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from engines import StandIn, StandInModel, stand_in

from auditkit.adapters import open_model
from auditkit.adapters.chat import Prompt
from auditkit.adapters.errors import IntegrityError, ModelError
from auditkit.adapters.loading.load import Loaded, load
from auditkit.adapters.protocol import Capability, Component
from auditkit.adapters.vllm import VLLMAdapter
from auditkit.claims.outcomes import Unsupported
from auditkit.data.prompts import Chat
from auditkit.engine.continuation.generation import generate
from auditkit.engine.edits import scale
from auditkit.engine.guards import GuardTripped
from auditkit.engine.pairs import answered
from auditkit.engine.sites import residual
from auditkit.engine.token_logits import token_logits
from auditkit.testing.conformance import CHECKS, example_prompts

pytestmark = pytest.mark.unit

ROUNDING = 1e-5
CHATS = (
    Chat(user="What is the capital of France?", system="You are a student."),
    Chat(user="Hello."),
    Chat(user="Hello, hello, what is it?", assistant="The capital"),
)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    return stand_in(monkeypatch)


@pytest.fixture(scope="module")
def opened(tiny_llama: Path) -> Iterator[Any]:
    """An adapter, opened once, and its stand-in."""
    with pytest.MonkeyPatch.context() as patching:
        made = stand_in(patching)
        yield open_model(str(tiny_llama), adapter="vllm", device="cpu"), made


@pytest.fixture
def adapter(opened: Any) -> Any:
    return opened[0]


def test_texts_and_log_probabilities_are_those_of_hf(adapter: Any, opened: Any, tiny_llama: Path) -> None:
    plain, engine = open_model(str(tiny_llama), device="cpu"), opened[1]
    prompts = [adapter.chat(chat) for chat in CHATS]
    assert [prompt.ids for prompt in prompts] == [plain.chat(chat).ids for chat in CHATS]
    ours, theirs = (generate(one, prompts, 12, stop=False) for one in (adapter, plain))
    assert (ours.texts, ours.tokens, ours.method) == (theirs.texts, theirs.tokens, "written")
    assert 0 <= ours.score_error <= ROUNDING
    asked = [(3, 4), (5, 6), (7, 8)]
    for got, expected in zip(
        (answered(adapter, prompts, asked).log_probability, adapter.predict(adapter.batch(prompts), tokens=3)),
        (answered(plain, prompts, asked).log_probability, plain.predict(plain.batch(prompts), tokens=3)),
        strict=True,
    ):
        torch.testing.assert_close(got, expected, rtol=0, atol=ROUNDING)
    assert engine.models[0].most == len(prompts), "prompts of a batch are not waited for one by one"
    for name in ("weights_sha256", "tokenizer_sha256", "identity", "parameters", "dtype"):
        assert getattr(adapter.info, name) == getattr(plain.info, name)
    assert (adapter.info.adapter, adapter.info.device) == ("vllm", "cuda")
    assert "run by" in adapter.info.source


def test_vllm_is_started_on_the_folder_that_was_digested_and_is_shut_down(
    engine: StandIn, tiny_llama: Path
) -> None:
    adapter = open_model(str(tiny_llama), adapter="vllm", device="cpu", dtype="float32")
    (asked,), (model,) = engine.asked, engine.models
    assert (asked["folder"], asked["backend"], asked["dtype"]) == (str(tiny_llama), "vllm", "float32")
    assert asked["trust_remote_code"] is False
    assert asked["extra_vllm_kwargs"]["load_format"] == "safetensors", "never a pickle"
    assert model.warm
    assert not model.shut
    longest = asked["max_model_len"]
    assert adapter.chat.context == adapter.context == adapter.info.context == longest - 1
    with pytest.raises(Unsupported, match="longer than the model's context"):
        adapter.batch([Prompt("", (5,) * longest)])
    del adapter
    gc.collect()
    assert model.shut


def test_work_is_counted(adapter: Any) -> None:
    prompts = [adapter.chat(chat) for chat in CHATS]
    before = adapter.meter.token_layers
    adapter.run(adapter.batch(prompts))
    assert adapter.meter.token_layers - before == sum(map(len, prompts)) * adapter.layers
    before = adapter.meter.token_layers
    adapter.write(prompts[:1], 4, ())
    assert adapter.meter.token_layers - before == (len(prompts[0]) + 3) * adapter.layers


def test_a_text_ends_at_the_ends_of_hf_and_not_at_those_of_vllm(adapter: Any) -> None:
    prompt = adapter.chat(CHATS[0])
    (whole,) = adapter.write([prompt], 10, ())
    (short,) = adapter.write([prompt], 10, {whole.tokens[3]})
    assert short.tokens == whole.tokens[: whole.tokens.index(whole.tokens[3]) + 1]
    assert len(short.log_probabilities) == len(short.tokens)


def test_the_checks_of_the_kit_are_green_where_they_need_nothing_inside(adapter: Any) -> None:
    found = {name: check(adapter, example_prompts(adapter)) for name, check in CHECKS.items()}
    green = {"batched = single", "right padding = left padding", "declared = works", "cached = uncached"}
    assert {name for name, result in found.items() if result.outcome == "green"} == green
    for name, result in found.items():
        assert name in green or (result.outcome, "process of its own" in result.reason) == ("refused", True), (
            result
        )


def test_the_kit_finds_a_text_that_runs_do_not_give(adapter: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    write = adapter.write
    monkeypatch.setattr(adapter, "write", lambda *args: [replace_last(text, 7) for text in write(*args)])
    result = CHECKS["cached = uncached"](adapter, example_prompts(adapter))
    assert result.outcome == "failed"


def replace_last(text: Any, token: int) -> Any:
    return text._replace(tokens=(*text.tokens[:-1], token))


def test_what_is_inside_is_refused_and_claims_do_not_apply(adapter: Any) -> None:
    support = adapter.support()
    assert set(support) == {*Component, *Capability}
    assert [name for name, offered in support.items() if offered] == [Capability.WRITING]
    assert all(offered.reason for offered in support.values() if not offered)
    prompt = adapter.chat(CHATS[0])
    with pytest.raises(Unsupported, match="cannot be touched on this model: vLLM runs the blocks"):
        token_logits(adapter, [prompt], [3, 4], {"less": [[scale(residual.layer(0), 0.5)]]})
    batch = adapter.batch([prompt])
    for kind in (Unsupported, ValueError):  # where a measurement asks the adapter itself
        with pytest.raises(kind, match="cannot be touched on this model"):
            adapter.run(batch, {(Component.RESIDUAL, 0): lambda value: None})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"wrong": 0.1}, "scores that differ by 0.1 logits"),
        ({"endless": True}, "does not end where it was to end"),
    ],
)
def test_texts_that_the_model_would_not_write_are_no_numbers(
    adapter: Any, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], said: str
) -> None:
    for name, value in change.items():
        monkeypatch.setattr(StandInModel, name, value)
    with pytest.raises(GuardTripped, match=said):
        generate(adapter, [adapter.chat(chat) for chat in CHATS], 6, stop=False)


def test_other_weights_than_those_in_memory_are_refused(
    engine: StandIn, tiny_llama: Path, save_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    loaded = load(str(tiny_llama), device="cpu")
    other = load(str(tiny_llama), device="cpu").module
    with torch.no_grad():
        for weight in other.parameters():
            weight.copy_(torch.randn_like(weight))
    other.save_pretrained(tmp_path / "other")
    engine.instead = str(tmp_path / "other")
    with pytest.raises(IntegrityError) as caught:
        VLLMAdapter(loaded)
    assert "\n" not in str(caught.value)


def test_in_sixteen_bits_rounding_does_not_explain_another_model(
    adapter: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rule for one engine would let pass any difference that logits can have."""
    monkeypatch.setattr(adapter, "_rounding", lambda logits: 1e9)
    assert adapter._checked("it") <= ROUNDING
    monkeypatch.setattr(adapter, "_plain", adapter._plain.flip(-1))
    with pytest.raises(IntegrityError, match="it does not run the same model"):
        adapter._checked("it")


def test_a_model_without_a_chat_template_is_asked_as_by_hf(
    engine: StandIn, save_checkpoint: Callable[..., Path]
) -> None:
    folder = str(save_checkpoint(template=None))
    ours, plain = (open_model(folder, adapter=name, device="cpu") for name in ("vllm", "hf"))
    assert ours.info.prompt_format == plain.info.prompt_format != "chat template"
    assert ours.chat(CHATS[0]).ids == plain.chat(CHATS[0]).ids


# -- one line where it cannot run ------------------------------------------------------------------------------


def test_a_missing_package_is_named_with_its_extra_before_weights_are_read(
    monkeypatch: pytest.MonkeyPatch, engine: StandIn
) -> None:
    engine.installed = False
    with pytest.raises(ModelError) as caught:
        open_model("no-such-model", adapter="vllm")
    assert str(caught.value) == "the adapter vllm needs vLLM: pip install 'interp-auditkit[vllm]'"
    monkeypatch.setitem(sys.modules, "interp_engine", None)
    with pytest.raises(ModelError, match=r"^the adapter vllm needs interp-engine: pip install 'interp-auditkit"):
        open_model("no-such-model", adapter="vllm")


def test_a_machine_without_cuda_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, device="")
    with pytest.raises(ModelError) as caught:
        open_model("no-such-model", adapter="vllm")
    assert str(caught.value) == "vLLM finds no GPU with CUDA on this machine; leave out --adapter vllm"


def test_what_vllm_says_of_a_model_or_an_option_is_one_line(engine: StandIn, tiny_llama: Path) -> None:
    engine.fails = TypeError("AsyncEngineArgs got an unexpected keyword argument 'load_format'\nand a second line")
    with pytest.raises(ModelError, match=r"cannot open directory .*: AsyncEngineArgs got an unexpected") as caught:
        open_model(str(tiny_llama), adapter="vllm", device="cpu")
    assert "\n" not in str(caught.value)


def spread(loaded: Loaded) -> Loaded:
    loaded.module.hf_device_map = {"": 0}  # type: ignore[assignment]
    return loaded


def quantized(loaded: Loaded) -> Loaded:
    loaded.module.config.quantization_config = SimpleNamespace()
    return loaded


def crowded(loaded: Loaded) -> Loaded:
    assert loaded.folder is not None
    (loaded.folder / "other.safetensors").write_bytes(b"")
    return loaded


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda loaded: replace(loaded, folder=None), "its weights were merged in memory"),
        (lambda loaded: replace(loaded, code_sha256="00"), "it runs code of its own"),
        (spread, "it was spread over several devices"),
        (quantized, "it is quantized"),
        (crowded, "its folder holds further safetensors files"),
    ],
)
def test_weights_that_vllm_would_not_read_as_they_are_in_memory_are_refused(
    engine: StandIn, save_checkpoint: Callable[..., Path], change: Callable[[Loaded], Loaded], said: str
) -> None:
    loaded = change(load(str(save_checkpoint()), device="cpu"))
    with pytest.raises(ModelError, match=f"cannot be opened with --adapter vllm: {said}") as caught:
        VLLMAdapter(loaded)
    assert "\n" not in str(caught.value)
    assert not engine.asked
