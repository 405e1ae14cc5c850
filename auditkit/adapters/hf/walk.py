"""Rows on their way through a model's blocks, and the cache that shows them what came before.

A walk holds the rows that have joined so far. The cache stands in for the model's own: it puts the base run's keys and
values before those of the restarted tokens, and exchanges the ones that a row is to be shown instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from auditkit.adapters.protocol import Component, Joining, Memory, Swap

Path = tuple[int | str, ...]
"""Where a tensor is in nested arguments."""


class Reached(Exception):
    """The output embeddings were reached; nothing after them is wanted."""

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.value = value


@dataclass
class Walk:
    """The rows on their way through the blocks."""

    joining: Mapping[int, Joining]
    tokens: Tensor
    """(prompt,) restarted tokens without padding."""
    sizes: dict[Path, int] | None = None
    """Where wanted: leading size of every tensor that a block is given."""
    window: int = 1
    """Last tokens whose logits are read."""
    whole: bool = False
    """Nothing of the last block is spared."""
    blocks: int = 0
    token_layers: int = 0
    swaps: list[Swap] = field(default_factory=list)
    """Of the block that is being passed."""
    prompts: Tensor = field(init=False)
    stream: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.prompts = self.tokens.new_empty(0, dtype=torch.long)

    def join(self, layer: int) -> None:
        self.swaps = []
        new = self.joining.get(layer)
        if new is None:
            return
        before = len(self.prompts)
        self.swaps = [swap._replace(row=before + swap.row) for swap in new.swaps]
        # Blocks of a spread model are on several devices; rows go where the walk has arrived.
        self.stream = torch.cat([self.stream, new.stream.to(self.stream.device)]) if before else new.stream.clone()
        self.prompts = torch.cat([self.prompts, new.prompts])


class Cache(DynamicCache):
    """Shows a block the base run's keys and values for the tokens before the restarted ones; keeps none itself.

    It has no sliding layers: where a window ends is a matter of the mask, which the model makes for as many positions
    as `get_mask_sizes` says.

    Args:
        memory: the base run.
        used: those of its prompts that rows belong to.
        prefix: padded positions before the restarted ones.
    """

    def __init__(self, memory: Memory, used: Tensor, prefix: int, walk: Walk) -> None:
        super().__init__()
        self.memory, self.used, self.prefix, self.walk = memory, used, prefix, walk

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        if not self.prefix and not self.walk.swaps:
            return key_states, value_states
        rows = self.used[self.walk.prompts]
        keys = torch.cat([self._before(self.memory.keys[layer_idx], rows), key_states], dim=2)
        values = torch.cat([self._before(self.memory.values[layer_idx], rows), value_states], dim=2)
        for row, component, groups, start, value in self.walk.swaps:
            shown = keys if component is Component.K else values
            shown[row, list(groups), start : start + len(value)] = value.transpose(0, 1).to(shown.device)
        return keys, values

    def _before(self, whole: Tensor, rows: Tensor) -> Tensor:
        head = whole[:, :, : self.prefix]
        return head.expand(len(rows), -1, -1, -1) if len(whole) == 1 else head[rows.to(whole.device)]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return self.prefix

    def get_query_offset(self, layer_idx: int = 0) -> int:
        return self.prefix

    def get_mask_sizes(self, query_length: int, layer_idx: int) -> tuple[int, int]:
        return self.prefix + query_length, 0


def leading(path: Path, value: Any) -> dict[Path, int]:
    """Path -> leading size of every tensor in nested arguments."""
    parts: Iterable[tuple[Any, Any]]
    if isinstance(value, dict):
        parts = value.items()
    elif isinstance(value, (tuple, list)):
        parts = enumerate(value)
    else:
        return {path: len(value)} if isinstance(value, Tensor) and value.ndim else {}
    return {p: size for key, part in parts for p, size in leading((*path, key), part).items()}
