"""Output projections by head: what a value that a head attends to becomes in the residual stream.

Attention ends in a linear map of all heads' attended values, side by side. Its rows that belong to one head are that
head's own map, and with them a value can be weighed by what it writes. The map is found by what it is given, not by a
name, and read off unit vectors, so that how its weights are stored does not matter.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from auditkit.adapters.hf.layout import TOLERANCE, Layout
from auditkit.adapters.hf.tap import Tap
from auditkit.adapters.hf.touches import keep
from auditkit.adapters.protocol import Component, Place
from auditkit.claims.outcomes import Unsupported


@torch.no_grad()
def projections(layout: Layout, tap: Tap, forward: Callable[[], Any]) -> list[Tensor]:
    """For each layer, (head, size, width): the linear map of each head's attended values, without its bias.

    It is the map before any norm that the family puts behind attention.

    Args:
        forward: runs the model on a short prompt.

    Raises:
        NotApplicable: attended values are not offered, or what is given them is not a linear map.
    """
    offered = tap.support()[Component.Z]
    if not offered:
        raise Unsupported(f"output projections of heads are not known on this model: {offered.reason}")
    layers = range(len(layout.blocks))
    attended: dict[Place, Tensor] = {}
    given: dict[int, nn.Module] = {}

    def see(module: nn.Module, args: tuple[Any, ...], layer: int) -> None:
        z, value = attended.get((Component.Z, layer)), args[0] if args else None
        if z is None or not isinstance(value, Tensor) or value.numel() != z.numel():
            return
        if torch.equal(value.reshape(z.shape), z):
            given[layer] = module  # the last one: what stands between is then the identity (dropout)

    handles = [
        part.register_forward_pre_hook(partial(see, layer=layer))
        for layer in layers
        for part in layout.blocks[layer].modules()
        if not list(part.children())
    ]
    try:
        with tap.touching({(Component.Z, layer): keep(attended, (Component.Z, layer)) for layer in layers}):
            forward()
    finally:
        for handle in handles:
            handle.remove()
    return [_by_head(given.get(layer), attended[Component.Z, layer], layer) for layer in layers]


def _by_head(module: nn.Module | None, z: Tensor, layer: int) -> Tensor:
    """(head, size, width) of a linear map that is given z (batch, position, head, size)."""
    if module is None:
        raise Unsupported(f"no part of layer {layer} is given the attended values as they are")
    heads, size = z.shape[2:]
    units = torch.eye(heads * size, dtype=z.dtype, device=z.device)
    zero = module(torch.zeros_like(units[:1])).float()
    rows: Tensor = module(units).float() - zero
    values = z.flatten(0, 1).flatten(1)
    expected = module(values).float() - zero
    error = (values.float() @ rows - expected).abs().max()
    if not error <= TOLERANCE[z.dtype] * expected.abs().max():
        raise Unsupported(
            f"layer {layer} gives attended values to {type(module).__name__}, which is not a linear map"
        )
    return rows.to(z.dtype).reshape(heads, size, -1)
