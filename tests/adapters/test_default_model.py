"""The default model, real weights."""

from __future__ import annotations

import pytest
import torch

from auditkit.adapters import open_model
from auditkit.adapters.hf.adapter import HFAdapter
from auditkit.adapters.loading.catalogue import DEFAULT_MODEL, SMOLLM2_WHEEL
from auditkit.adapters.loading.locating import cached
from auditkit.adapters.protocol import Component, Place
from auditkit.data.prompts import Chat
from auditkit.engine.continuation.generation import generate

pytestmark = pytest.mark.model

CAPITAL = Chat(user="What is the capital of France?", assistant="The capital of France is")


@pytest.fixture(scope="module")
def smollm2() -> HFAdapter:
    return open_model(DEFAULT_MODEL, device="cpu")


def token(adapter: HFAdapter, text: str) -> int:
    (only,) = adapter.chat.encode(text)
    return only


def test_it_is_the_model_of_the_catalogue(smollm2: HFAdapter) -> None:
    info = smollm2.info
    assert info.weights_sha256 == SMOLLM2_WHEEL.sha256
    assert info.source == f"package {SMOLLM2_WHEEL.requirement}"
    assert (info.family, info.layers, info.heads, smollm2.width) == ("llama", 30, 9, 576)
    assert info.parameters == 134_515_008
    assert (info.dtype, info.prompt_format) == ("float32", "chat template")
    assert cached(DEFAULT_MODEL)


def test_padding_and_touching_stay_within_rounding(smollm2: HFAdapter) -> None:
    assert 0 <= smollm2.info.parity_max_abs < 1e-3


def test_every_component_is_offered(smollm2: HFAdapter) -> None:
    assert {str(name) for name, support in smollm2.support().items() if support} >= set(Component)
    assert not any(support.reason for support in smollm2.support().values())


def test_it_knows_the_capital_of_france(smollm2: HFAdapter) -> None:
    logits = smollm2.run(smollm2.batch([smollm2.chat(CAPITAL)]))[0]
    assert logits[token(smollm2, " Paris")] > logits[token(smollm2, " London")]
    assert int(logits.argmax()) == token(smollm2, " Paris")


def test_contributions_add_up_in_every_block(smollm2: HFAdapter) -> None:
    seen: dict[Place, torch.Tensor] = {}
    parts = (Component.BLOCK_INPUT, Component.ATTENTION, Component.MLP)
    places = [(component, layer) for component in (*parts, Component.RESIDUAL) for layer in range(30)]
    batch = smollm2.batch([smollm2.chat(CAPITAL)])
    smollm2.run(batch, {place: lambda v, place=place: seen.update({place: v.clone()}) for place in places})
    for layer in range(30):
        whole = sum(seen[component, layer] for component in parts)
        after = seen[Component.RESIDUAL, layer]
        # fp32 rounding of two additions, by position
        assert ((whole - after).abs().amax(-1) <= 1e-6 * after.abs().amax(-1)).all()


def test_greedy_text_is_that_of_transformers(smollm2: HFAdapter) -> None:
    prompts = [smollm2.chat(CAPITAL), smollm2.chat(Chat(user="Name a colour."))]
    got = generate(smollm2, prompts, 8)
    for prompt, tokens in zip(prompts, got.tokens, strict=True):
        ids = torch.tensor([prompt.ids])
        out = smollm2.module.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=8)
        assert out[0, len(prompt) :].tolist() == list(tokens)
