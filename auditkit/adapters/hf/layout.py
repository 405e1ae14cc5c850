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
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from auditkit.adapters.errors import ModelError
from auditkit.adapters.hf.touches import keep, restore
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

TOLERANCE = {torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 6e-2}
"""What rounding explains when the same sum is made in another way, as a share of the largest number in it."""


@dataclass(frozen=True)
class Layout:
    """The blocks of a model and the part of each block that yields a component's contribution.

    Attributes:
        embeddings: the input embedding module.
        attention, mlp: names of the parts; None where they are not offered.
        reason: why attention and MLP are not offered; empty where they are.
        multiplier: what the block multiplies the parts' outputs with before adding them (Granite).
        embedded: whether the embedding module gives one vector for each token.
        embedding_size: elements of such a vector, before any projection to the stream's width.
        middle: whether there is a residual stream between attention and MLP.
    """

    blocks: nn.ModuleList
    embeddings: nn.Module
    attention: str | None
    mlp: str | None
    reason: str
    multiplier: float
    embedded: Support
    embedding_size: int
    middle: Support

    def support(self) -> dict[str, Support]:
        """Component -> whether it can be read and replaced."""
        contributions = Support(self.attention is not None, self.reason)
        return {
            Component.EMBEDDINGS: self.embedded,
            Component.BLOCK_INPUT: Support(True),
            Component.MIDDLE: self.middle,
            Component.RESIDUAL: Support(True),
            Component.ATTENTION: contributions,
            Component.MLP: contributions,
        }

    def sizes(self, width: int) -> dict[Place, int]:
        """Place -> length of the last axis of its values, in a stream of this width."""
        offered = [component for component, support in self.support().items() if support]
        return {
            (component, layer): self.embedding_size if component is Component.EMBEDDINGS else width
            for component in map(Component, offered)
            for layer in range(1 if component is Component.EMBEDDINGS else len(self.blocks))
        }

    @contextmanager
    def touching(self, touches: Mapping[Place, Touch]) -> Iterator[None]:
        """Call each touch when its place is reached, inside the block; hooks are removed whatever happens.

        Raises:
            ValueError: a layer that is out of range or a component that is not supported, before anything runs.
        """
        for place in touches:
            self._check(*place)
        handles = []
        try:
            # The middle comes last: it is made of a block input and a contribution that others may touch.
            for (component, layer), touch in sorted(
                touches.items(), key=lambda item: item[0][0] is Component.MIDDLE
            ):
                block = self.blocks[layer]
                if component is Component.EMBEDDINGS:
                    handles.append(self.embeddings.register_forward_hook(_after(touch)))
                elif component is Component.BLOCK_INPUT:
                    handles.append(block.register_forward_pre_hook(_before(touch), with_kwargs=True))
                elif component is Component.RESIDUAL:
                    handles.append(block.register_forward_hook(_after(touch)))
                else:
                    name = self.mlp if component is Component.MLP else self.attention
                    part = _Part(touch, self.multiplier, between=component is Component.MIDDLE)
                    handles.append(block.register_forward_pre_hook(_before(part.enter), with_kwargs=True))
                    handles.append(block.get_submodule(name or "").register_forward_hook(_after(part.leave)))
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _check(self, component: Component, layer: int) -> None:
        last = len(self.blocks) - 1
        if not 0 <= layer <= last:
            raise ValueError(f"{component} of layer {layer}: this model has layers 0 to {last}")
        if component is Component.EMBEDDINGS and layer:
            raise ValueError(f"{component} of layer {layer}: they come before the first block, use layer 0")
        offered = self.support()[component]
        if not offered:
            raise ValueError(f"{component} is not available on this model: {offered.reason}")


class _Part:
    """A touch of what a part of a block adds to the residual stream, or (`between`) of the stream after that.

    Where the part's own output is another tensor than the value (scaled, or with batch and position in one axis), what
    the touch gives back is turned into it; elements given back as they were are those of the part, to the last bit.
    """

    def __init__(self, touch: Touch, multiplier: float, between: bool) -> None:
        self.touch, self.multiplier, self.between = touch, multiplier, between
        self.entered: Tensor | None = None

    def enter(self, stream: Tensor) -> None:
        self.entered = stream.clone() if self.between else stream  # Falcon adds in place

    def leave(self, output: Tensor) -> Tensor | None:
        stream, self.entered = self.entered, None
        if stream is None:
            raise RuntimeError("a part of a block was reached without the block")
        added = output.reshape(stream.shape) if output.ndim < stream.ndim else output
        value = added if self.multiplier == 1 else added * self.multiplier
        if self.between:
            value = stream + value
        new = self.touch(value)
        if new is None or value is output:
            return new
        if self.between:
            moved = added + (new - value) / self.multiplier
        else:
            moved = new / self.multiplier
            if not moved.requires_grad:  # a gradient has to pass through what the touch gave back
                moved = torch.where(new == value, added, moved)
        return moved.reshape(output.shape)


def discover(module: PreTrainedModel, forward: Callable[[], Any]) -> Layout:
    """Find the layout of `module`; `forward` runs it on a short prompt.

    Raises:
        ModelError: no list of blocks of the length that the config states.
    """
    blocks = blocks_of(module)
    embeddings: Any = module.get_input_embeddings()
    first = blocks[0]
    candidates = {
        component: [name for name in names if all(_has(block, name) for block in blocks)]
        for component, names in ((Component.ATTENTION, _ATTENTION_NAMES), (Component.MLP, _MLP_NAMES))
    }
    seen: dict[tuple[int, str], Tensor] = {}
    vectors: list[Tensor] = []
    handle = embeddings.register_forward_hook(_after(vectors.append))
    with _recording(blocks, {*candidates[Component.ATTENTION], *candidates[Component.MLP]}, seen):
        forward()
    handle.remove()
    fits = [vector.shape[:2] for vector in vectors] == [seen[0, "input"].shape[:2]]
    embedded = Support(
        fits, "" if fits else f"{type(embeddings).__name__} does not give one vector for each token"
    )
    stated = getattr(module.config.get_text_config(), "residual_multiplier", None)
    size = vectors[0].shape[-1] if fits else 0
    multiplier = float(stated) if isinstance(stated, (int, float)) and stated else 1.0
    for attention, mlp in product(candidates[Component.ATTENTION], candidates[Component.MLP]):
        if all(adds_up(seen, layer, attention, mlp, multiplier) for layer in range(len(blocks))):
            layout = Layout(blocks, embeddings, attention, mlp, "", multiplier, embedded, size, Support(False))
            return replace(layout, middle=_middle(layout, mlp, seen, forward))
    reason = _reason(type(first).__name__, candidates)
    return Layout(blocks, embeddings, None, None, reason, multiplier, embedded, size, Support(False, reason))


def _middle(
    layout: Layout, mlp: str, seen: Mapping[tuple[int, str], Tensor], forward: Callable[[], Any]
) -> Support:
    """Whether the MLP of every block reads what the attention has added.

    Every block is given its input of the plain run, so that one run with other attention tells for all layers.

    Args:
        seen: what the plain run showed, by layer and part.
    """
    inputs, attentions, mlps = (
        [(component, layer) for layer in range(len(layout.blocks))]
        for component in (Component.BLOCK_INPUT, Component.ATTENTION, Component.MLP)
    )
    plain: dict[Place, Tensor] = {place: seen[place[1], "input"] for place in inputs}
    changed: dict[Place, Tensor] = {}

    def other(value: Tensor) -> Tensor:
        slope = torch.linspace(-1, 1, value.shape[-1], dtype=value.dtype, device=value.device)
        return value + slope * plain[inputs[0]].abs().max().to(value.device)  # a constant would vanish in a norm

    touches = {place: restore(plain, place) for place in inputs} | {place: keep(changed, place) for place in mlps}
    with layout.touching({**touches, **dict.fromkeys(attentions, other)}):
        forward()
    for place in mlps:
        own = seen[place[1], mlp].reshape(changed[place].shape) * layout.multiplier
        if torch.equal(own, changed[place]):
            block = type(layout.blocks[0]).__name__
            return Support(False, f"in {block} the MLP of layer {place[1]} does not read what attention has added")
    return Support(True)


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


def blocks_of(module: PreTrainedModel) -> nn.ModuleList:
    """The list of a model's blocks.

    Raises:
        ModelError: there is none.
    """
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
    def noting(layer: int, name: str) -> Touch:
        return lambda value: seen.__setitem__((layer, name), value.detach().clone())

    handles = []
    try:
        for layer, block in enumerate(blocks):
            handles.append(block.register_forward_pre_hook(_before(noting(layer, "input")), with_kwargs=True))
            handles.append(block.register_forward_hook(_after(noting(layer, "output"))))
            for name in names:
                handles.append(block.get_submodule(name).register_forward_hook(_after(noting(layer, name))))
        yield
    finally:
        for handle in handles:
            handle.remove()


def adds_up(
    seen: Mapping[tuple[int, str], Tensor], layer: int, attention: str, mlp: str, multiplier: float = 1.0
) -> bool:
    """Whether input + multiplier x (attention + MLP) of a block, as seen at (layer, part), give its output."""
    parts = [seen.get((layer, name)) for name in ("input", attention, mlp, "output")]
    if any(part is None for part in parts) or len({part.numel() for part in parts if part is not None}) != 1:
        return False
    dtype, place = seen[layer, "output"].dtype, seen[layer, "output"].device
    # A block's input may still be on the device of the block before.
    before, att, ffn, after = (part.to(place).float() for part in parts if part is not None)
    added = (att.reshape(before.shape) + ffn.reshape(before.shape)) * multiplier
    error = (before + added - after).abs().amax(-1)
    scale = after.abs().amax(-1).clamp(min=1e-6)  # by position: the first token's is often far larger
    return bool((error <= TOLERANCE.get(dtype, 1e-4) * scale).all())


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
