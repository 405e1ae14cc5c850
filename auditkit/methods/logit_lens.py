"""The logit lens: what the model's own norm and unembedding read from a vector of the residual stream (nostalgebraist
2020, "interpreting GPT: the logit lens").

No norm and no unembedding is looked for by name: a one-token prompt runs with the vector in the place of the last
block's output, and its logits are the reading. That is another way to look at a vector, and no edit of a run. A norm
divides by the length of what it is given, so the reading of a difference of two streams is not the difference of their
readings. `readings` undoes that division: they are linear in the vector, so that readings can be recorded for each
model and subtracted afterwards.
"""

from __future__ import annotations

import torch
from torch import Tensor

from auditkit.adapters.chat import plain
from auditkit.adapters.protocol import Adapter, Component, Place
from auditkit.engine.batching import in_batches
from auditkit.engine.guards import GuardTripped, costing

ROWS = 64
"""Vectors that are read at once, since each has a row of logits over the vocabulary."""
_SHIFT = 0.5
"""What is added to every unit to see whether the norm takes the mean off, relative to the units' size."""
_SAME = 0.05
"""Change of logits under that, relative to their spread, below which the norm takes the mean off."""


def logit_lens(adapter: Adapter, vectors: Tensor, description: str = "logit lens") -> Tensor:
    """(vectors, width) of the residual stream -> (vectors, vocabulary) logits, in float32.

    Cost: one token through the model for each vector.

    Raises:
        ValueError: vectors of another shape, or with values that are not finite.
        GuardTripped: the model never ran its last block.
    """
    if vectors.ndim != 2 or not torch.isfinite(vectors).all():
        raise ValueError(f"the logit lens reads finite (vectors, width) tensors, got {tuple(vectors.shape)}")
    end: Place = (Component.RESIDUAL, adapter.layers - 1)
    prompt = plain(adapter.chat, "")
    read: list[Tensor] = []

    def work(rows: list[int]) -> None:
        reached = []

        def put(value: Tensor) -> None:
            reached.append(end)
            value[:, -1] = some[rows].to(value)

        batch = adapter.batch([prompt] * len(rows))
        with costing(adapter, len(prompt) * len(rows)):
            read.append(adapter.run(batch, {end: put}).float().cpu())
        if len(reached) != 1:
            raise GuardTripped(
                f"the logit lens was read {len(reached)} times and not once: the last block never ran"
            )

    for some in torch.split(vectors, ROWS):
        in_batches(work, [len(prompt)] * len(some), description)
    return torch.cat(read)


def readings(adapter: Adapter, vectors: Tensor, description: str = "logit lens") -> Tensor:
    """(vectors, width) -> (vectors, vocabulary) logits times the length that the norm divides by: linear in a vector.

    Where the norm takes the mean off (LayerNorm), that length is the one around the mean. The unit is that of logits at
    a stream of root mean square 1. Models whose logits are capped (Gemma 2) are linear as far as the cap is.
    """
    wide = vectors.double()
    logits = logit_lens(adapter, vectors, description)
    centred = wide - wide.mean(1, keepdim=True) if _takes_the_mean_off(adapter, vectors, logits) else wide
    size = centred.square().mean(1, keepdim=True).sqrt()
    made: Tensor = (logits.double() * size).float()
    return made


def _takes_the_mean_off(adapter: Adapter, vectors: Tensor, logits: Tensor) -> bool:
    one = vectors[:1]
    moved = logit_lens(adapter, one + _SHIFT * one.square().mean().sqrt(), "logit lens")
    return bool((moved - logits[:1]).std() < _SAME * logits[:1].std())
