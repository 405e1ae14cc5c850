"""Output projections by head, against the weights of every family that has them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from auditkit.adapters.chat import Prompt
from auditkit.adapters.hf.adapter import HFAdapter
from auditkit.adapters.protocol import Component
from auditkit.claims.outcomes import NotApplicable

pytestmark = pytest.mark.unit


def test_heads_add_up_to_what_the_projection_gives(adapter: HFAdapter) -> None:
    """Summed over heads, attended values times their maps are the projection's output but for its bias."""
    if not adapter.support()[Component.Z]:
        with pytest.raises(NotApplicable, match="output projections of heads are not known on this model: "):
            _ = adapter.projections
        return
    maps = adapter.projections
    batch = adapter.batch([Prompt("", (5, 6, 7, 8, 9)), Prompt("", (12, 11, 10))])
    kept: dict[int, torch.Tensor] = {}
    outputs: dict[int, list[torch.Tensor]] = {n: [] for n in range(adapter.layers)}
    blocks = adapter._layout.blocks
    linear = [
        [part for part in block.modules() if type(part).__name__ in ("Linear", "Conv1D")] for block in blocks
    ]
    handles = [
        part.register_forward_hook(
            lambda module, args, output, n=n: outputs[n].append(
                output - (module.bias if getattr(module, "bias", None) is not None else 0)
            )
        )
        for n, parts in enumerate(linear)
        for part in parts
    ]
    adapter.run(batch, {(Component.Z, n): lambda z, n=n: kept.__setitem__(n, z.clone()) for n in outputs})
    for handle in handles:
        handle.remove()
    assert len(maps) == adapter.layers
    for n, rows in enumerate(maps):
        assert tuple(rows.shape) == (*kept[n].shape[-2:], outputs[n][-1].shape[-1])
        whole = torch.einsum("bphs,hsw->bpw", kept[n], rows)
        misses = [
            float((whole - output.reshape(whole.shape)).abs().max())
            for output in outputs[n]
            if output.numel() == whole.numel()
        ]
        assert min(misses) < 1e-5


def test_a_part_that_is_not_linear_is_not_taken(llama: HFAdapter, monkeypatch: pytest.MonkeyPatch) -> None:
    attention = llama._layout.blocks[1].self_attn
    before = attention.o_proj
    llama.__dict__.pop("projections", None)
    try:
        attention.o_proj = nn.LayerNorm(32)
        with pytest.raises(
            NotApplicable, match="layer 1 gives attended values to LayerNorm, which is not a linear"
        ):
            _ = llama.projections
    finally:
        attention.o_proj = before
        llama.__dict__.pop("projections", None)
