"""Keys and values that heads share: the same bits as repeated ones, and no copies of them where the engine runs."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import pytest
import torch
from transformers import DynamicCache, LlamaConfig, LlamaModel
from transformers.integrations import sdpa_attention

from auditkit.adapters.hf import sharing
from auditkit.adapters.hf.continuing import remembering
from auditkit.adapters.hf.products import multiplying

pytestmark = pytest.mark.unit

offered = pytest.mark.skipif(
    sharing._own is None or not sharing._same(torch.float32),
    reason="this torch or transformers always repeats them",
)


@pytest.fixture
def copies(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one for each copy of keys or values."""
    made: list[int] = []
    real: Callable[..., torch.Tensor] = sdpa_attention.repeat_kv

    def repeat(states: torch.Tensor, times: int) -> torch.Tensor:
        made.append(times)
        return real(states, times)

    monkeypatch.setattr(sdpa_attention, "repeat_kv", repeat)
    return made


@pytest.fixture(scope="module")
def model() -> LlamaModel:
    sizes = {"hidden_size": 96, "num_attention_heads": 6, "num_key_value_heads": 2, "intermediate_size": 64}
    config = LlamaConfig(vocab_size=50, num_hidden_layers=2, **sizes, attn_implementation="sdpa")
    torch.manual_seed(0)
    return LlamaModel(config).eval()


def run(model: LlamaModel, queries: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Padded prompts, of which the last few tokens go on from the others."""
    ids = torch.arange(36).reshape(3, 12)
    mask = torch.ones_like(ids)
    mask[0, :5] = 0
    accepts, cache = set(inspect.signature(model.forward).parameters), DynamicCache()
    model.to(dtype)(ids[:, :-queries], attention_mask=mask[:, :-queries], **remembering(accepts, cache))
    found: torch.Tensor = model(
        ids[:, -queries:], attention_mask=mask, **remembering(accepts, cache)
    ).last_hidden_state
    return found


@offered
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_nothing_is_copied_and_no_bit_changes(copies: list[int], model: LlamaModel, dtype: torch.dtype) -> None:
    with torch.no_grad():
        plain = run(model, 4, dtype)
        repeated = len(copies)
        with multiplying():
            shared = run(model, 4, dtype)
        assert repeated == len(copies) > 0, "the engine's run copies nothing, where the plain one does"
        assert torch.equal(shared, plain)
        run(model, 4, dtype)
    assert len(copies) > repeated, "behind the engine's run transformers decides again"


@offered
def test_a_single_query_and_a_run_with_gradients_are_left_to_transformers(
    copies: list[int], model: LlamaModel
) -> None:
    with torch.no_grad():
        plain = run(model, 1)
        with multiplying():
            assert torch.equal(run(model, 1), plain)
    before = len(copies)
    with multiplying():
        run(model, 4)
    assert len(copies) > before


def test_a_kernel_that_rounds_differently_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    real = sharing.scaled_dot_product_attention

    def rounding(*args: torch.Tensor, enable_gqa: bool = False, **options: torch.Tensor) -> torch.Tensor:
        return real(*args, enable_gqa=enable_gqa, **options) + (1e-6 if enable_gqa else 0)

    monkeypatch.setattr(sharing, "scaled_dot_product_attention", rounding)
    assert not sharing._same.__wrapped__(torch.float32)
