"""The attention tap: queries, keys, values, attended values and probabilities under the model's own attention.

Attention modules of transformers ask a dispatch (`AttentionInterface.get_interface`) for the function that attends:
SDPA, a flash kernel, or the family's own eager one. For the length of a `with` block the tap stands between the two:
it hands out a function that calls the very one that was asked for, with the mask that the model made for it, and on
the way shows queries, keys, values and result to touches. So nothing is switched to eager, and a run in which nobody
touches anything is the plain run. Probabilities are computed a second time, from queries and keys, for as many
queries as are wanted.

Families with arithmetic of their own never reach the dispatch. Which do, and whether the second computation agrees
with the model's, is looked up on a real forward pass when a model is opened (`opened`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers.modeling_utils import AttentionInterface

from auditkit.adapters.hf.layout import TOLERANCE, Layout
from auditkit.adapters.hf.touches import keep, restore
from auditkit.adapters.protocol import Batch, Component, Look, Place, Support, Touch

HEADED = (Component.Q, Component.K, Component.V, Component.PATTERN, Component.Z)
"""Components of the tap, in the order in which a layer reaches them."""


@dataclass(frozen=True)
class Attention:
    """One call of the attention function; an `AttentionView`.

    Attributes:
        query: (batch, head, query, size).
        key: (batch, group, key, size).
        mask: what the model passes: None, booleans (True: seen), or numbers added to the scores.
        causal: without a mask, whether a query sees earlier keys only.
        softcap: scores are capped to +- this by tanh (Gemma 2).
        sinks: (head,) score of a key without a value that every query sees (gpt-oss).
    """

    query: Tensor
    key: Tensor
    mask: Tensor | None
    causal: bool
    scaling: float
    softcap: float | None = None
    sinks: Tensor | None = None

    def probabilities(self, queries: Tensor | None = None) -> Tensor:
        """(batch, head, chosen query, key) in float32; all queries if None. See `AttentionView`."""
        batch, heads, positions, size = self.query.shape
        groups, keys = self.key.shape[1:3]
        if queries is None:
            queries = torch.arange(positions, device=self.query.device)
        rows = queries.to(self.query.device).expand(batch, -1)
        picked = self.query.gather(2, rows[:, None, :, None].expand(-1, heads, -1, size)).float()
        # Heads of a group are rows of one product with their keys, so that keys are not repeated.
        scores = picked.reshape(batch, groups, -1, size) @ self.key.float().transpose(2, 3)
        scores = scores.reshape(batch, heads, -1, keys) * self.scaling
        if self.softcap is not None:
            scores = torch.tanh(scores / self.softcap) * self.softcap
        if self.mask is not None:
            mask = self.mask[..., :keys].expand(batch, -1, -1, -1)
            mask = mask.gather(2, rows[:, None, :, None].expand(-1, mask.shape[1], -1, keys))
            scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
        elif self.causal:
            later = torch.arange(keys, device=rows.device) > rows[..., None]
            scores = scores.masked_fill(later[:, None], -torch.inf)
        if self.sinks is not None:
            sink = self.sinks.float().reshape(1, -1, 1, 1).expand(*scores.shape[:3], 1)
            return torch.cat([scores, sink], -1).softmax(-1)[..., :-1]
        return scores.softmax(-1).nan_to_num_(0.0)  # a padding token may see no key at all

    def attended(self, pattern: Tensor, value: Tensor) -> Tensor:
        """(batch, query, head, size): what each head gets of values (batch, group, key, size) by `pattern`."""
        batch, heads, queries, keys = pattern.shape
        weights = pattern.to(value.dtype).reshape(batch, value.shape[1], -1, keys)
        return (weights @ value).reshape(batch, heads, queries, -1).transpose(1, 2)


Function = Callable[..., tuple[Tensor, Any]]
"""An attention function of transformers."""


class _Call(NamedTuple):
    """What an attention module asks the dispatch for, and what it passes to the function it gets."""

    function: Function
    implementation: str
    module: nn.Module
    query: Tensor
    key: Tensor
    value: Tensor
    mask: Tensor | None
    options: Mapping[str, Any]

    def attend(self) -> tuple[Tensor, Any]:
        return self.function(self.module, self.query, self.key, self.value, self.mask, **self.options)

    def attention(self) -> Attention:
        options, positions = self.options, self.query.shape[2]
        causal = options.get("is_causal")
        if causal is None:
            causal = getattr(self.module, "is_causal", True)
        scaling = options.get("scaling")
        return Attention(
            self.query,
            self.key,
            self.mask,
            # As SDPA decides it; an eager function without a mask sees everything.
            causal=bool(causal) and self.implementation != "eager" and self.mask is None and positions > 1,
            scaling=float(self.query.shape[-1] ** -0.5 if scaling is None else scaling),
            softcap=options.get("softcap"),
            sinks=options.get("s_aux"),
        )


Handler = Callable[[_Call], tuple[Tensor, Any]]

_handlers: dict[nn.Module, Handler] = {}
_lock = threading.Lock()
_dispatch: Any = AttentionInterface
_own: Any = getattr(_dispatch, "get_interface", None)


def _get_interface(self: AttentionInterface, implementation: str, default: Function) -> Function:
    """Stands in for `AttentionInterface.get_interface` while a handler is there."""
    function: Function = _own(self, implementation, default)

    def attend(
        module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
    ) -> tuple[Tensor, Any]:
        handler = _handlers.get(module)
        if handler is None:
            return function(module, query, key, value, attention_mask, **options)
        return handler(_Call(function, implementation, module, query, key, value, attention_mask, options))

    return attend


@contextmanager
def _handling(handlers: Mapping[nn.Module, Handler]) -> Iterator[None]:
    """Let the calls of these modules go through their handlers; the dispatch is as before afterwards."""
    if not handlers:
        yield
        return
    with _lock:  # models in other threads share the dispatch
        _handlers.update(handlers)
        _dispatch.get_interface = _get_interface
    try:
        yield
    finally:
        with _lock:
            for module in handlers:
                _handlers.pop(module, None)
            if not _handlers:
                _dispatch.get_interface = _own


@dataclass(frozen=True)
class Tap:
    """Where the tap reaches a model's attention.

    Attributes:
        modules: the module of each layer that asks the dispatch.
        groups: groups of heads that share keys and values; 0 where the tap does not reach.
        sizes: place -> size of one head there.
        reason: why queries, keys, values and attended values are not offered; empty where they are.
        pattern_reason: why probabilities are not offered; empty where they are.
    """

    modules: Sequence[nn.Module] = ()
    groups: int = 0
    sizes: Mapping[Place, int] = field(default_factory=dict)
    reason: str = ""
    pattern_reason: str = ""

    def support(self) -> dict[str, Support]:
        """Component -> whether it can be read and replaced."""
        reasons = dict.fromkeys(HEADED, self.reason) | {Component.PATTERN: self.reason or self.pattern_reason}
        return {component: Support(not reason, reason) for component, reason in reasons.items()}

    @contextmanager
    def touching(self, touches: Mapping[Place, Touch], looks: Mapping[int, Look] | None = None) -> Iterator[None]:
        """Call each touch and look when its place is reached, inside the block.

        Raises:
            ValueError: a layer that is out of range or a component that is not supported, before anything runs;
                during the run, a replacement of another shape.
        """
        wanted = {**touches, **dict.fromkeys((Component.PATTERN, layer) for layer in looks or {})}
        layers: dict[int, dict[Component, Touch]] = {layer: {} for _, layer in wanted}
        for component, layer in wanted:
            offered = self.support()[component]
            if not offered:
                raise ValueError(f"{component} is not available on this model: {offered.reason}")
            if not 0 <= layer < len(self.modules):
                raise ValueError(
                    f"{component} of layer {layer}: this model has layers 0 to {len(self.modules) - 1}"
                )
        for (component, layer), touch in touches.items():
            layers[layer][component] = touch
        handlers = {
            self.modules[layer]: _handler(layer, own, (looks or {}).get(layer)) for layer, own in layers.items()
        }
        with _handling(handlers):
            yield


def _handler(layer: int, touches: Mapping[Component, Touch], look: Look | None) -> Handler:
    """The attention of one layer with its touches."""

    def touched(component: Component, value: Tensor) -> Tensor | None:
        touch = touches.get(component)
        new = None if touch is None else touch(value)
        if new is not None and new.shape != value.shape:
            raise ValueError(
                f"{component} of layer {layer}: a touch returned shape {tuple(new.shape)}, "
                f"the value has {tuple(value.shape)}"
            )
        return new

    def headed(component: Component, value: Tensor) -> Tensor:
        """`value` (batch, head, position, size) after its touch, in the same layout of memory."""
        new = touched(component, value.transpose(1, 2))
        return value if new is None else torch.empty_like(value).copy_(new.transpose(1, 2))

    def handle(call: _Call) -> tuple[Tensor, Any]:
        call = call._replace(
            query=headed(Component.Q, call.query),
            key=headed(Component.K, call.key),
            value=headed(Component.V, call.value),
        )
        z, weights = call.attend()
        if look is not None:
            look(call.attention())
        if Component.PATTERN in touches:
            attention = call.attention()
            pattern = attention.probabilities()
            new = touched(Component.PATTERN, pattern.clone())
            if new is not None:
                # Rows that come back as they were keep the model's own sum, to the last bit.
                changed = (new != pattern).any(-1).transpose(1, 2)[..., None]
                z = torch.where(changed, attention.attended(new, call.value), z)
        new = touched(Component.Z, z)
        return (z if new is None else torch.empty_like(z).copy_(new)), weights

    return handle


# -- opening -------------------------------------------------------------------------------------------------------


@dataclass
class _Reached:
    """What was seen of the calls of one layer.

    Attributes:
        counts: numbers of heads and of groups.
        sizes: size of one head, by component.
        unused: components whose replacement changes nothing that the function gives.
        miss: why the second computation cannot be trusted; empty where it agrees.
    """

    modules: list[nn.Module] = field(default_factory=list)
    counts: set[tuple[int, int]] = field(default_factory=set)
    sizes: dict[Component, int] = field(default_factory=dict)
    shapes_fit: bool = True
    unused: set[Component] = field(default_factory=set)
    miss: str = ""

    def handle(self, call: _Call, tokens: Tensor) -> tuple[Tensor, Any]:
        """The model's own result, after looking at it; `tokens` (batch, position) is 1 where there is no padding."""
        self.modules.append(call.module)
        z, weights = call.attend()
        heads, groups = call.query.shape[1], call.key.shape[1]
        self.counts.add((heads, groups))
        parts = {Component.Q: call.query, Component.K: call.key, Component.V: call.value, Component.Z: z}
        self.sizes = {component: part.shape[-1] for component, part in parts.items()}
        self.shapes_fit &= z.shape == (*tokens.shape, heads, call.value.shape[-1])
        self.shapes_fit &= call.key.shape[:3] == call.value.shape[:3] and heads % groups == 0
        if self.shapes_fit:
            self.miss = self.miss or _miss(call, tokens.to(z.device))
            for component, name in ((Component.Q, "query"), (Component.K, "key"), (Component.V, "value")):
                if torch.equal(call._replace(**{name: getattr(call, name).flip(2)}).attend()[0], z):
                    self.unused.add(component)
        return z, weights


def _miss(call: _Call, tokens: Tensor) -> str:
    """How probabilities times values miss what the model's own function gives; empty if they agree.

    Both are computed in float32, whatever the dtype of the model, so that rounding does not hide another formula.
    """
    if call.implementation not in ("sdpa", "eager"):
        return f"probabilities are known for sdpa and eager attention only, this model runs {call.implementation}"
    mask = call.mask.float() if call.mask is not None and call.mask.is_floating_point() else call.mask
    exact = call._replace(query=call.query.float(), key=call.key.float(), value=call.value.float(), mask=mask)
    own, attention = exact.attend()[0], exact.attention()
    error = (
        (attention.attended(attention.probabilities(), exact.value) - own).abs().amax((2, 3))[tokens.bool()].max()
    )
    allowed = TOLERANCE[torch.float32] * exact.value.abs().max()
    if error <= allowed:
        return ""
    return (
        f"probabilities computed again from queries and keys miss the model's own attended values by {error:.2g} "
        f"(rounding explains {allowed:.2g})"
    )


def opened(layout: Layout, heads: int, forward: Callable[[Batch], Any], batches: Sequence[Batch]) -> Tap:
    """The tap of a model, proved on short batches.

    In every layer the dispatch must be reached once in each run, always by the same module, with the number of heads
    that the config states. Replaced queries, keys and values must change the attended values, and replaced attended
    values the block's output. Probabilities computed again must give the attended values of the model's own function.

    Args:
        forward: runs the model on a batch.
        batches: with and without padding, because a model may pass no mask where nothing is padded.
    """
    layers = range(len(layout.blocks))
    inputs, outputs = ([(end, layer) for layer in layers] for end in (Component.BLOCK_INPUT, Component.RESIDUAL))
    reached = [_Reached() for _ in layers]
    plain: dict[Place, Tensor] = {}
    for batch in reversed(batches):
        inside: dict[nn.Module, Handler] = {}
        for block, found in zip(layout.blocks, reached, strict=True):
            inside |= dict.fromkeys(block.modules(), partial(found.handle, tokens=batch.mask))
        with layout.touching({place: keep(plain, place) for place in (*inputs, *outputs)}), _handling(inside):
            forward(batch)
    reason = _unreached(layout, reached, len(batches), heads)
    if reason:
        return Tap(reason=reason)
    miss = next((f"layer {layer}: {found.miss}" for layer, found in enumerate(reached) if found.miss), "")
    sizes = {(component, layer): n for layer, found in enumerate(reached) for component, n in found.sizes.items()}
    tap = Tap([found.modules[0] for found in reached], min(reached[0].counts)[1], sizes, "", miss)
    # Every block is given its input of the plain run, so that one run tells for all layers.
    changed: dict[Place, Tensor] = {}
    touches = {place: restore(plain, place) for place in inputs} | {
        place: keep(changed, place) for place in outputs
    }
    with layout.touching(touches), tap.touching({(Component.Z, layer): lambda z: z.flip(1) for layer in layers}):
        forward(batches[0])
    ignoring = [place[1] for place in outputs if torch.equal(changed[place], plain[place])]
    return Tap(reason=f"replacing z of layer {ignoring[0]} changes nothing") if ignoring else tap


def _unreached(layout: Layout, reached: Sequence[_Reached], runs: int, heads: int) -> str:
    """Why the tap does not stand in every layer; empty if it does."""
    dispatch = "transformers' attention dispatch"
    without = [layer for layer, found in enumerate(reached) if not found.modules]
    if len(without) == len(reached):
        block = layout.blocks[0]
        names = [type(part).__name__ for part in (block, *block.modules()) if "Attention" in type(part).__name__]
        where = names[-1] if names else type(block).__name__
        return f"attention is computed in {where} itself and never passes {dispatch}"
    if without:
        return f"the attention of layer {without[0]}, if it has any, never passes {dispatch}"
    for layer, found in enumerate(reached):
        if len(found.modules) != runs or len(set(found.modules)) != 1:
            return f"layer {layer} passes {dispatch} {len(found.modules)} times in {runs} runs"
        if not found.shapes_fit or {own for own, _ in found.counts} != {heads}:
            return f"attention of layer {layer} is not that of {heads} heads at every position"
        if found.unused:
            return f"replacing {' and '.join(sorted(found.unused))} of layer {layer} changes nothing"
    if len({count for found in reached for count in found.counts}) != 1:
        return "layers differ in the number of groups that share keys and values"
    return ""
