"""Going on from a run that was already made: further tokens on the keys and values of the earlier ones.

The cache given to the model keeps every position in every layer, also where attention looks through a sliding
window: where a window ends is a matter of the mask, which the model makes for as many positions as the cache says
it holds. So one form of cache serves all families that keep keys and values; a family that keeps a state of
another kind (convolutions, recurrences), or none, is refused when the model is opened (`checked`).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from auditkit.adapters.hf.probing import failed
from auditkit.adapters.hf.products import multiplying
from auditkit.adapters.protocol import Batch, Memory, Support

_EPSILONS = 160
"""Rounding of the same sums in another order, in units of the dtype's epsilon times the largest logit."""


def extended(
    module: PreTrainedModel, layers: int, accepts: set[str], past: Memory | None, batch: Batch, tokens: int
) -> tuple[Tensor, Memory]:
    """Run `batch` after `past`: logits (prompt, tokens, vocabulary) in float32, and the memory of the whole.

    Raises:
        ValueError: padding between tokens, another number of prompts, more tokens than there are, or a model that
            does not keep keys and values (prompt, head, position, size) for every block.
    """
    whole = batch if past is None else _joined(past.batch, batch)
    if not 1 <= tokens <= batch.width:
        raise ValueError(
            f"logits after the last {tokens} tokens asked for, this batch has {batch.width} positions"
        )
    cache = _Growing(past)
    with multiplying(module.get_output_embeddings()):
        output = module(
            input_ids=batch.ids,
            attention_mask=whole.mask,
            use_cache=True,
            **remembering(accepts, cache),
            **placed(accepts, whole.mask, batch.width, tokens),
        )
    if sorted(cache.seen) != list(range(layers)):
        raise ValueError(f"{len(cache.seen)} of {layers} blocks keep keys and values")
    keys, values = zip(*(cache.seen[layer] for layer in range(layers)), strict=True)
    if any((t.shape[0], t.shape[2]) != (len(whole), whole.width) for t in (*keys, *values)):
        raise ValueError("keys and values are not (prompt, head, position, size)")
    logits: Tensor = output.logits[:, -tokens:]
    return logits.float(), Memory(whole, keys, values)


def remembering(accepts: set[str], cache: DynamicCache) -> dict[str, object]:
    """The cache under the name that the model's forward has for it; transformers renamed the argument in 5.24."""
    return {"cache" if "cache" in accepts else "past_key_values": cache}


def placed(accepts: set[str], mask: Tensor, width: int, tokens: int) -> dict[str, object]:
    """Options of a forward on the last `width` positions of `mask`: position ids from it, and the logits wanted."""
    options: dict[str, object] = {}
    if "position_ids" in accepts:
        options["position_ids"] = (mask.cumsum(-1) - 1).clamp(min=0)[:, -width:]
    if "logits_to_keep" in accepts:
        # Given a number, models slice, and torch makes one product per prompt from a slice, reading the whole matrix
        # of the vocabulary each time (in bfloat16 even copying it). Rows that are picked make one product. A list has
        # no device, and so suits whichever GPU the last block of a spread model is on.
        options["logits_to_keep"] = [*range(width - tokens, width)]
    return options


def allowed(logits: Tensor, dtype: torch.dtype) -> float:
    """How far logits may move when the same sums are made in another order."""
    return _EPSILONS * torch.finfo(dtype).eps * float(logits.abs().max())


def checked(
    module: PreTrainedModel, layers: int, accepts: set[str], batch: Batch, plain: Tensor
) -> tuple[Support, float]:
    """Whether going on gives the module's own logits: two tokens at once, then one; and the largest difference.

    Args:
        batch: two prompts of different length, of at least three columns, the last three without padding.
        plain: the module's own logits (prompt, vocabulary) for them.
    """
    start = batch.width - 3
    try:
        past: Memory | None = None
        got = plain
        for first, last in ((0, start), (start, start + 2), (start + 2, batch.width)):
            got, past = extended(module, layers, accepts, past, batch.columns(first, last), 1)
    except Exception as error:  # a family may do anything with what it is given; whole runs remain
        return failed("going on from a run", error), float("nan")
    difference = float((got[:, 0] - plain).abs().max())
    if not difference <= allowed(plain, module.dtype):
        reason = f"going on from a run misses the model's logits by {difference:.2g}, not by rounding"
        return Support(False, reason), difference
    return Support(True), difference


def _joined(past: Batch, new: Batch) -> Batch:
    if len(past) != len(new):
        raise ValueError(f"{len(new)} prompts cannot go on from a run of {len(past)}")
    if any(pad and before < past.width for pad, before in zip(new.pads, past.pads, strict=True)):
        # Windows and linear position biases count columns: a gap would shift them.
        raise ValueError("padding between the tokens of a prompt; run each length on its own")
    pads = tuple(before + pad for before, pad in zip(past.pads, new.pads, strict=True))
    return Batch(torch.cat([past.ids, new.ids], 1), torch.cat([past.mask, new.mask], 1), pads)


class _Growing(DynamicCache):
    """Shows every block the keys and values of `past` before the new ones; what it showed is kept in `seen`."""

    def __init__(self, past: Memory | None) -> None:
        super().__init__()
        self.past = past
        self.seen: dict[int, tuple[Tensor, Tensor]] = {}

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        if self.past is None:
            self.seen[layer_idx] = (key_states.clone(), value_states.clone())
            return key_states, value_states
        self.seen[layer_idx] = (
            torch.cat([self.past.keys[layer_idx], key_states], dim=2),
            torch.cat([self.past.values[layer_idx], value_states], dim=2),
        )
        return self.seen[layer_idx]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return 0 if self.past is None else self.past.batch.width

    def get_query_offset(self, layer_idx: int = 0) -> int:
        return self.get_seq_length(layer_idx)

    def get_mask_sizes(self, query_length: int, layer_idx: int) -> tuple[int, int]:
        return self.get_seq_length(layer_idx) + query_length, 0
