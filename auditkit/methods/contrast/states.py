"""States of prompts: activations of the residual stream at some layers and positions.

    after = after_instruction(model.chat)
    states = read_states(model, prompts, range(-after, 0))
    states.at(12, -1)  # (prompts, width)

Positions are counted from the end of the prompt, so that -1 is the same token of the chat template in every prompt, or
are spans that the caller names for each prompt; of a span the mean over its tokens is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from auditkit.adapters.chat import ChatEncoder, Prompt
from auditkit.adapters.protocol import Adapter, Component, Place, Shape, Touch
from auditkit.data.prompts import Chat
from auditkit.engine.batching import in_batches
from auditkit.engine.continuation.prefix_cached import Tails
from auditkit.engine.edits import layers_of, located
from auditkit.engine.exchange.turns import Divided
from auditkit.engine.forward import reached
from auditkit.engine.guards import costing
from auditkit.engine.sites import Position, Site, SiteError, Span
from auditkit.notebook import Showable

Array = NDArray[np.float32]

_TURNS = ("Where does the heron sleep?", "Count to 7", "a long list of birds:")
"""User turns with different ends; the last token of some may merge with what the template writes after it."""


class ContrastError(ValueError):
    """Data of which no direction, separation or drift can be measured; the message says what is missing."""


@dataclass(frozen=True, eq=False)
class States(Showable):
    """Activations of prompts.

    Attributes:
        values: (prompts, layers, positions, width).
        layers: the layer of each, counted from 0.
        positions: the position of each: an index from the end of the prompt, or the name of a span.

    Raises:
        ContrastError: values of another shape, or not finite.
    """

    values: Array
    layers: tuple[int, ...]
    positions: tuple[Position, ...]

    def __post_init__(self) -> None:
        shape = np.shape(self.values)
        if len(shape) != 4 or shape[1:3] != (len(self.layers), len(self.positions)):
            raise ContrastError(
                f"states of shape {shape}: give (prompts, {len(self.layers)} layers, {len(self.positions)} positions, "
                "width)"
            )
        if not np.isfinite(self.values).all():
            raise ContrastError("states hold NaN or infinity (try --dtype float32)")

    def in_words(self) -> str:
        prompts, layers, positions, width = self.values.shape
        return f"{prompts} prompts, {layers} layers, {positions} positions, width {width}"

    def to_frame(self) -> pd.DataFrame:
        """A row for each prompt, layer and position: the norm of the state."""
        norms = np.linalg.norm(self.values.astype(np.float64), axis=-1)
        names = [range(len(norms)), self.layers, self.positions]
        index = pd.MultiIndex.from_product(names, names=["prompt", "layer", "position"])
        return pd.Series(norms.ravel(), index, name="norm").reset_index()

    @property
    def width(self) -> int:
        """Length of a state."""
        return int(self.values.shape[-1])

    def place(self, layer: int, position: Position) -> tuple[int, int]:
        """The index of a layer and that of a position.

        Raises:
            ContrastError: one that was not read.
        """
        for what, wanted, there in (("layer", layer, self.layers), ("position", position, self.positions)):
            if wanted not in there:
                raise ContrastError(f"{what} {wanted} was not read, only {', '.join(map(str, there))}")
        return self.layers.index(layer), self.positions.index(position)

    def at(self, layer: int, position: Position) -> NDArray[np.float64]:
        """(prompts, width) at one place.

        Raises:
            ContrastError: a place that was not read.
        """
        one, other = self.place(layer, position)
        return np.asarray(self.values[:, one, other], dtype=np.float64)


def after_instruction(chat: ChatEncoder) -> int:
    """How many tokens the chat template writes after the user's text: 1 where it writes none."""
    found = []
    for turn in _TURNS:
        prompt = chat(Chat(user=turn))
        before = chat.encode(prompt.text[: prompt.text.rindex(turn) + len(turn)])
        both = zip(before, prompt.ids, strict=False)
        same = next((i for i, (a, b) in enumerate(both) if a != b), len(before))
        found.append(len(prompt) - same)
    return max(min(found), 1)


def read_states(
    adapter: Adapter,
    prompts: Sequence[Prompt],
    positions: Iterable[Position] = (-1,),
    *,
    layers: Iterable[int] | None = None,
    spans: Sequence[Mapping[str, Span]] | None = None,
    component: Component = Component.RESIDUAL,
) -> States:
    """Read every prompt at some layers and positions, in one run each.

    Args:
        positions: indices from the end of each prompt (-1 is its last token), or names of spans.
        layers: all of them where None.
        spans: for each prompt, its named spans of tokens.
        component: a component of the stream.

    Raises:
        ContrastError: no prompts, positions that are no index from the end and no name, or a position that a prompt
            lacks.
        SiteError, NotApplicable: a layer or component that this model does not have.
    """
    wanted, where = tuple(positions), Site(component)
    if component.shape is not Shape.STREAM:
        raise ContrastError(f"a state is one vector of the stream; {component} has heads")
    if not prompts or not wanted:
        raise ContrastError(f"states need prompts and positions, got {len(prompts)} and {len(wanted)}")
    for position in wanted:
        if not isinstance(position, str) and not (isinstance(position, int) and position < 0):
            raise ContrastError(
                f"position {position}: give an index from the end, such as -1, or the name of a span"
            )
    chosen = tuple(layers_of(adapter, where)) if layers is None else tuple(layers)
    places = [(component, layer) for layer in chosen]
    for layer in chosen:
        located(adapter, Site(component, layer, layer), len(prompts[0]), {})
    found = [_spans(i, prompt, wanted, spans[i] if spans else {}) for i, prompt in enumerate(prompts)]
    values = np.empty((len(prompts), len(chosen), len(wanted), adapter.sizes[places[0]]), dtype=np.float32)

    def some(rows: list[int]) -> None:
        batch = adapter.batch([prompts[i] for i in rows])
        kept: dict[Place, Tensor] = {}
        at = [[(pad + a, pad + b) for a, b in found[i]] for pad, i in zip(batch.pads, rows, strict=True)]
        with costing(adapter, sum(len(prompts[i]) for i in rows)):
            adapter.run(batch, {place: _means(kept, place, at) for place in places})
        reached(kept, places)
        for number, place in enumerate(places):
            values[rows, number] = kept[place].cpu().numpy()

    divided = Divided(adapter, ("states", prompts, places, found), {"values": torch.from_numpy(values)})
    in_batches(some, [len(prompt) for prompt in prompts], "states", divided=divided)
    return States(values, chosen, wanted)


def read_last(adapter: Adapter, prompts: Sequence[Prompt], layers: Sequence[int]) -> States:
    """Read the stream at the last token of pairs of prompts that begin alike; their beginning is run once.

    Args:
        prompts: rows 2i and 2i + 1 are a pair.

    Raises:
        ContrastError: no prompts, an odd number of them, or one token alone.
        SiteError, NotApplicable: a layer that this model does not have.
    """
    if not prompts or len(prompts) % 2 or min(map(len, prompts)) < 2:
        raise ContrastError(
            f"states of pairs need two prompts of two tokens or more each, got {len(prompts)} prompts"
        )
    cuts = []
    for one, other in zip(prompts[::2], prompts[1::2], strict=True):
        both = zip(one.ids[:-1], other.ids[:-1], strict=False)
        cuts += [max(1, sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], both)))] * 2
    for layer in layers:
        located(adapter, Site(Component.RESIDUAL, layer, layer), len(prompts[0]), {})
    # What continues a tail is not run.
    tails = Tails(adapter, prompts, [[0]] * len(prompts), cuts)
    places = [(Component.RESIDUAL, layer) for layer in layers]
    rows = [[read[place][-1].float().cpu().numpy() for place in places] for read in tails.read(places)]
    return States(np.asarray(rows, dtype=np.float32)[:, :, None], tuple(layers), (-1,))


def _spans(number: int, prompt: Prompt, positions: Sequence[Position], named: Mapping[str, Span]) -> list[Span]:
    """The half-open span of each position in one prompt."""
    out = []
    for position in positions:
        try:
            out.append(Site(Component.RESIDUAL, 0, 0, position=position).span(len(prompt), named))
        except SiteError as error:
            lacks = f"prompt {number} of {len(prompt)} tokens lacks position {position}"
            raise ContrastError(f"{lacks}: {str(error).split(': ', 1)[1]}") from None
    return out


def _means(kept: dict[Place, Tensor], place: Place, at: Sequence[Sequence[Span]]) -> Touch:
    """A touch that keeps (row, position, width): the mean over each span, in float32."""
    single = all(stop - start == 1 for row in at for start, stop in row)
    columns = torch.tensor([[start for start, _ in row] for row in at])

    def touch(value: Tensor) -> None:
        if single:
            rows = torch.arange(len(at), device=value.device)[:, None]
            kept[place] = value[rows, columns.to(value.device)].detach().float()
            return
        wide = value.detach().float()
        means = [torch.stack([wide[k, start:stop].mean(0) for start, stop in row]) for k, row in enumerate(at)]
        kept[place] = torch.stack(means)

    return touch
