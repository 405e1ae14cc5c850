"""The reference for edits of the stream: the module itself with plain forward hooks, and nothing of the engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from auditkit.adapters.chat import Prompt

Change = Callable[[Tensor], Tensor | None]
"""Sees the stream (1, position, width) after a block; what it returns takes its place."""


def hooked_logits(
    module: Any, layers: int, prompt: Prompt, tokens: Sequence[int], changes: Mapping[int, Change]
) -> Tensor:
    """(tokens,) logits after a prompt that is run by itself, in float32.

    Args:
        layers: blocks of the module.
        changes: layer -> what is done to the stream after its block.
    """
    lists = [part for part in module.modules() if isinstance(part, nn.ModuleList) and len(part) == layers]
    blocks = max(lists, key=lambda blocks: sum(p.numel() for p in blocks.parameters()))

    def after(change: Change) -> Callable[..., Any]:
        def hook(block: nn.Module, args: Any, output: Any) -> Any:
            whole = isinstance(output, Tensor)
            new = change(output if whole else output[0])
            return None if new is None else new if whole else (new, *output[1:])

        return hook

    handles = [blocks[layer].register_forward_hook(after(change)) for layer, change in changes.items()]
    try:
        with torch.no_grad():
            logits: Tensor = module(torch.tensor([prompt.ids], device=module.device)).logits[0, -1].float()
    finally:
        for handle in handles:
            handle.remove()
    return logits.cpu()[list(tokens)]
