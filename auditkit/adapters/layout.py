"""Where a model's blocks and their parts are, found by looking and proved by adding up.

Families name their modules differently, and some put a norm between a module and the residual stream. So no
table of families decides here: the list of blocks is the module list as long as the config says, the candidates
for attention and MLP are the block's parts by their usual names, and the ones taken are those for which
`block output = block input + attention + MLP` holds in every block on a real forward pass. What does not add up
is not offered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from auditkit.adapters.errors import ModelError
from auditkit.adapters.protocol import Component, Place, Support, Touch

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_ATTENTION_NAMES = (
    "post_self_attn_layernorm",
    "post_attention_layernorm",
    "self_attn",
    "self_attention",
    "attn",
    "attention",
    "self_attention.dense",  # BLOOM: the module around it adds the residual itself
)
_MLP_NAMES = (
    "post_mlp_layernorm",
    "post_feedforward_layernorm",
    "mlp",
    "feed_forward",
    "block_sparse_moe",
    "ffn",
    "mlp.dense_4h_to_h",  # BLOOM, as above
    "ffn.down_proj",  # MPT, as above
    "fc2",  # BioGPT, XGLM: the block holds the MLP's layers itself
)

_TOLERANCE = {torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 6e-2}


@dataclass(frozen=True)
class Layout:
    """The blocks of a model and the part of each block that yields a component's contribution."""

    blocks: nn.ModuleList
    attention: str | None
    mlp: str | None
    reason: str
    """Why attention and MLP are not offered; empty where they are."""

    def support(self) -> dict[str, Support]:
        """Component -> whether it can be read and replaced."""
        contributions = Support(self.attention is not None, self.reason)
        later = Support(False, "not measured by this version")
        return {
            **dict.fromkeys(Component, later),
            Component.BLOCK_INPUT: Support(True),
            Component.RESIDUAL: Support(True),
            Component.ATTENTION: contributions,
            Component.MLP: contributions,
        }

    @contextmanager
    def touching(self, touches: dict[Place, Touch]) -> Iterator[None]:
        """Call each touch when its place is reached, inside the block; hooks are removed whatever happens.

        Raises:
            ValueError: a layer that is out of range or a component that is not supported, before anything runs.
        """
        handles = []
        try:
            for (component, layer), touch in touches.items():
                module = self._module(component, layer)
                if component is Component.BLOCK_INPUT:
                    handles.append(module.register_forward_pre_hook(_before(touch), with_kwargs=True))
                else:
                    handles.append(module.register_forward_hook(_after(touch)))
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _module(self, component: Component, layer: int) -> nn.Module:
        if not 0 <= layer < len(self.blocks):
            raise ValueError(f"{component} of layer {layer}: this model has layers 0 to {len(self.blocks) - 1}")
        block = self.blocks[layer]
        if component in (Component.BLOCK_INPUT, Component.RESIDUAL):
            return block
        name = {Component.ATTENTION: self.attention, Component.MLP: self.mlp}.get(component)
        if name is None:
            raise ValueError(f"{component} is not available on this model: {self.reason}")
        return block.get_submodule(name)


def discover(module: PreTrainedModel, forward: Callable[[], Any]) -> Layout:
    """Find the layout of `module`; `forward` runs it once on a short prompt.

    Raises:
        ModelError: no list of blocks of the length that the config states.
    """
    blocks = _blocks(module)
    first = blocks[0]
    candidates = {
        component: [name for name in names if all(_has(block, name) for block in blocks)]
        for component, names in ((Component.ATTENTION, _ATTENTION_NAMES), (Component.MLP, _MLP_NAMES))
    }
    seen: dict[tuple[int, str], Tensor] = {}
    with _recording(blocks, {*candidates[Component.ATTENTION], *candidates[Component.MLP]}, seen):
        forward()
    for attention, mlp in product(candidates[Component.ATTENTION], candidates[Component.MLP]):
        if all(adds_up(seen, layer, attention, mlp) for layer in range(len(blocks))):
            return Layout(blocks, attention, mlp, "")
    return Layout(blocks, None, None, _reason(type(first).__name__, candidates))


def _has(block: nn.Module, name: str) -> bool:
    try:
        block.get_submodule(name)
    except AttributeError:
        return False
    return True


def _reason(block: str, candidates: dict[Component, list[str]]) -> str:
    absent = [component for component, names in candidates.items() if not names]
    if absent:
        return f"the {block}s have no part in common that is known as {' or '.join(absent)}"
    tried = ", ".join(name for names in candidates.values() for name in names)
    return f"in {block} no attention and MLP part ({tried}) add up with the block's input to its output"


def _blocks(module: PreTrainedModel) -> nn.ModuleList:
    config = module.config.get_text_config()
    depth = int(config.num_hidden_layers)
    lists = [child for child in module.modules() if isinstance(child, nn.ModuleList) and len(child) == depth]
    if not lists:
        raise ModelError(
            f"{type(module).__name__} has no module list of {depth} blocks, so auditkit cannot find its layers"
        )
    return max(lists, key=lambda child: sum(p.numel() for p in child.parameters()))


@contextmanager
def _recording(blocks: nn.ModuleList, names: set[str], seen: dict[tuple[int, str], Tensor]) -> Iterator[None]:
    def keep(layer: int, name: str) -> Touch:
        return lambda value: seen.__setitem__((layer, name), value.detach().clone())

    handles = []
    try:
        for layer, block in enumerate(blocks):
            handles.append(block.register_forward_pre_hook(_before(keep(layer, "input")), with_kwargs=True))
            handles.append(block.register_forward_hook(_after(keep(layer, "output"))))
            for name in names:
                handles.append(block.get_submodule(name).register_forward_hook(_after(keep(layer, name))))
        yield
    finally:
        for handle in handles:
            handle.remove()


def adds_up(seen: Mapping[tuple[int, str], Tensor], layer: int, attention: str, mlp: str) -> bool:
    """Whether input + attention + MLP of a block, as seen at (layer, part), give its output within rounding."""
    parts = [seen.get((layer, name)) for name in ("input", attention, mlp, "output")]
    if any(part is None for part in parts) or len({part.shape for part in parts if part is not None}) != 1:
        return False
    before, att, ffn, after = (part for part in parts if part is not None)
    error = (before.float() + att.float() + ffn.float() - after.float()).abs().amax(-1)
    scale = after.float().abs().amax(-1).clamp(min=1e-6)  # by position: the first token's is often far larger
    return bool((error <= _TOLERANCE.get(after.dtype, 1e-4) * scale).all())


def _before(touch: Touch) -> Callable[..., Any]:
    """A forward pre-hook that shows the module's first input to `touch`."""

    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        name = None if args else "hidden_states"
        new = touch(args[0] if name is None else kwargs[name])
        if new is None:
            return None
        return ((new, *args[1:]), kwargs) if name is None else (args, {**kwargs, name: new})

    return hook


def _after(touch: Touch) -> Callable[..., Any]:
    """A forward hook that shows the module's output, or the first part of it, to `touch`."""

    def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        value = output if isinstance(output, Tensor) else output[0]
        new = touch(value)
        if new is None:
            return None
        return new if isinstance(output, Tensor) else (new, *output[1:])

    return hook
