"""The contract between a model and everything that measures it.

An adapter runs a batch of prompts and lets *touches* see the activations on the way: a touch is a function of
the activation tensor at one component of one layer; it may return a replacement. Reading is a touch that
returns None. Everything else (sites, edits, sweeps) is built on that one primitive, above this layer.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple, Protocol, Self

from auditkit.adapters.chat import ChatEncoder, Prompt
from auditkit.record.schema import ModelInfo

if TYPE_CHECKING:
    from torch import Tensor


class Component(StrEnum):
    """Where in a model; the shape of a value is `Shape.STREAM` unless the component says another."""

    EMBEDDINGS = "embeddings"
    """What the input embedding module gives for each token; layer 0 only."""
    BLOCK_INPUT = "block_input"
    """Residual stream before the block."""
    MIDDLE = "middle"
    """Residual stream after attention and before the MLP, in blocks that have the two in this order."""
    RESIDUAL = "residual"
    """Residual stream after the block."""
    ATTENTION = "attention"
    """What attention adds to the residual stream (after a post-norm, where the family has one)."""
    MLP = "mlp"
    """What the MLP adds to the residual stream (likewise)."""
    Z = "z"
    """What each head has attended to, before the output projection: `Shape.HEADS`."""
    Q = "q"
    """Queries as they meet the keys (after rotation and norms): `Shape.HEADS`."""
    K = "k"
    """Keys, one for each group of heads that shares them (grouped-query attention): `Shape.GROUPS`."""
    V = "v"
    """Values, likewise: `Shape.GROUPS`."""
    PATTERN = "pattern"
    """Attention probabilities of every query over every key: `Shape.PATTERN`."""

    @property
    def shape(self) -> Shape:
        """The axes of this component's values."""
        return _SHAPES.get(self, Shape.STREAM)


class Shape(StrEnum):
    """Axes of an activation."""

    STREAM = "(batch, position, width)"
    HEADS = "(batch, position, head, size)"
    GROUPS = "(batch, position, group, size)"
    PATTERN = "(batch, head, query, key)"


_SHAPES = {
    Component.Z: Shape.HEADS,
    Component.Q: Shape.HEADS,
    Component.K: Shape.GROUPS,
    Component.V: Shape.GROUPS,
    Component.PATTERN: Shape.PATTERN,
}


Place = tuple[Component, int]
"""A component of one layer."""

Answers = tuple[int, ...]
"""Token ids of the answers to one prompt: the right one, then the wrong one or several."""

Touch = Callable[["Tensor"], "Tensor | None"]
"""Sees the activation at a place, in its component's shape; a returned tensor of that shape replaces it.

Some families (Falcon) go on to change the tensor in place, so a touch clones what it keeps and what it returns
but does not own."""


class Capability(StrEnum):
    """What an adapter may offer besides touching components, each with one line of `meaning`."""

    meaning: str

    BLOCKWISE = "blockwise", "A run starts again at any block, from the residual stream of a recorded run."
    SWAPS = "swaps", "Such a restarted run sees keys and values of another prompt in the first block it passes."
    GENERATION = "generation", "A run goes on with further tokens from its key-value cache, with edits in place."
    GRADIENTS = "gradients", "One backward pass gives the gradient of a logit difference at every component."
    WRITING = "writing", "An engine beside auditkit's writes whole texts, without edits."

    def __new__(cls, value: str, meaning: str) -> Self:
        member = str.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member


@dataclass(frozen=True)
class Support:
    """Whether an adapter can do something on this model, and if not, why.

    Attributes:
        unexpected: the test itself failed, so that the model may be able to do it; the run says so.
    """

    available: bool
    reason: str = ""
    unexpected: bool = False

    def __bool__(self) -> bool:
        return self.available


@dataclass(frozen=True)
class Batch:
    """Left-padded prompts.

    Attributes:
        ids: (batch, position) token ids.
        mask: (batch, position) 1 for tokens, 0 for padding.
        pads: number of padding tokens at the head of each row.
    """

    ids: Tensor
    mask: Tensor
    pads: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.pads)

    @property
    def width(self) -> int:
        """Padded length."""
        return int(self.ids.shape[1])

    def columns(self, first: int, last: int) -> Batch:
        """Positions [first, last) of the padded batch."""
        pads = tuple(min(max(pad - first, 0), last - first) for pad in self.pads)
        return Batch(self.ids[:, first:last], self.mask[:, first:last], pads)


@dataclass(frozen=True)
class Memory:
    """A run as later restarts and continuations need it: keys and values (prompt, head, position, size) by block."""

    batch: Batch
    keys: Sequence[Tensor]
    values: Sequence[Tensor]

    def rows(self, rows: Sequence[int]) -> Memory:
        """The same run for some of its prompts, in the order given; one may come several times."""
        some, batch = list(rows), self.batch
        return Memory(
            Batch(batch.ids[some], batch.mask[some], tuple(batch.pads[row] for row in some)),
            [keys[some] for keys in self.keys],
            [values[some] for values in self.values],
        )


@dataclass
class Meter:
    """Counts the work done: `token_layers` is tokens (without padding) times blocks, summed over runs."""

    token_layers: int = 0
    runs: int = 0


class Adapter(Protocol):
    """What an adapter must offer.

    Attributes:
        layers, heads, width: sizes of the model.
        groups: groups of heads that share keys and values; as many as `heads` without grouped-query attention.
        sizes: place -> length of the last axis of its values: a stream's width, or the size of one head. Measured when
            the model is opened, since layers may differ (Gemma 4), values from queries and keys (DeepSeek), and
            embeddings from the stream (OPT). Attention probabilities have none: theirs is the number of keys.
        ends: token ids that end a text.
    """

    info: ModelInfo
    chat: ChatEncoder
    layers: int
    heads: int
    groups: int
    width: int
    sizes: Mapping[Place, int]
    ends: tuple[int, ...]
    meter: Meter

    def support(self) -> Mapping[str, Support]:
        """`Component` or `Capability` -> yes, or no with a reason; a capability that is left out is not offered."""
        ...

    def batch(self, prompts: Sequence[Prompt]) -> Batch:
        """Pad prompts on the left into one batch on the model's device."""
        ...

    def run(self, batch: Batch, touches: Mapping[Place, Touch] | None = None) -> Tensor:
        """Logits (batch, vocabulary) in float32 after the last token of each row.

        Position ids come from the mask, so that padding never changes a number.

        Raises:
            ValueError: a place that this model does not have.
        """
        ...

    def predict(self, batch: Batch, touches: Mapping[Place, Touch] | None = None, tokens: int = 1) -> Tensor:
        """Logits (batch, tokens, vocabulary) in float32 after each of the last `tokens` positions; else as `run`.

        Raises:
            ValueError: more tokens than the batch has positions, or as `run`.
        """
        ...


class Continuable(Adapter, Protocol):
    """What an adapter offers besides where its `support()[Capability.GENERATION]` says yes."""

    def extend(
        self,
        past: Memory | None,
        batch: Batch,
        touches: Mapping[Place, Touch] | None = None,
        tokens: int = 1,
        looks: Mapping[int, Look] | None = None,
    ) -> tuple[Tensor, Memory]:
        """Run `batch` on the keys and values of `past` (None: from the start).

        A batch that goes on has padding only where a prompt has not begun, so that its tokens always lie side by
        side. Touches see the new positions (of keys and values, all of them), and so do looks (see
        `Attending.attend`), whose queries are counted in `batch` and whose keys are those of the whole. `past` is left
        as it was and can be gone on from again.

        Returns:
            Logits (batch, tokens, vocabulary) in float32 after each of the last `tokens` positions, and the memory
            of the whole, from which the run can go on.

        Raises:
            ValueError: padding between tokens, another number of prompts, or as `predict`.
        """
        ...


class Swap(NamedTuple):
    """Keys or values that a row is shown in the first block that it passes, in place of its own.

    Attributes:
        row: of those that join together.
        component: `Component.K` or `Component.V`.
        groups: groups of heads that are swapped.
        start: first swapped position, counted in the padded prompt.
        value: (position, group, size) from there on.
    """

    row: int
    component: Component
    groups: Sequence[int]
    start: int
    value: Tensor


class Joining(NamedTuple):
    """Rows that join the walk after one block.

    Attributes:
        prompts: (row,) index of the prompt in the memory that each row belongs to.
        stream: (row, token, width) the residual stream, for the restarted tokens.
        swaps: keys and values exchanged in the block that comes next.
    """

    prompts: Tensor
    stream: Tensor
    swaps: Sequence[Swap] = ()


class Restartable(Adapter, Protocol):
    """What an adapter offers besides where its `support()[Capability.BLOCKWISE]` says yes; swaps also need `SWAPS`."""

    def record(self, batch: Batch, touches: Mapping[Place, Touch] | None = None) -> tuple[Tensor, Memory]:
        """A whole run, as `run`, and what restarts need of it."""
        ...

    def reach(self, batch: Batch, touches: Mapping[Place, Touch], blocks: int) -> None:
        """Run the first `blocks` blocks only, for what touches see there."""
        ...

    def restart(
        self,
        memory: Memory,
        tokens: int,
        joining: Mapping[int, Joining],
        answers: Tensor,
        touches: Mapping[Place, Touch] | None = None,
    ) -> Tensor:
        """Logits (row, answers) of rows that join a walk on the last `tokens` positions; see `blockwise`.

        Touches, of what attention and MLPs add and of the stream before and after blocks, are given the rows that have
        joined so far, in order of joining.
        """
        ...

    def restart_window(
        self,
        memory: Memory,
        tokens: int,
        joining: Mapping[int, Joining],
        window: int,
        touches: Mapping[Place, Touch] | None = None,
    ) -> Tensor:
        """Logits (row, window, vocabulary) of such rows after each of the last `window` positions, in float32."""
        ...


class AttentionView(Protocol):
    """The attention of one layer during a run, with any touched queries and keys already in place."""

    def probabilities(self, queries: Tensor) -> Tensor:
        """Attention probabilities (batch, head, chosen query, key) in float32, as the model weighs the values.

        Costs memory for heads x chosen queries x keys, never the whole square. Keys that a query does not see have
        probability exactly 0. Where the family has attention sinks, what goes to the sink is missing from the sum.

        Args:
            queries: positions in the padded batch, (chosen,) for all rows alike or (batch, chosen).
        """
        ...


Look = Callable[[AttentionView], None]
"""Reads a layer's attention; the view is valid only during the call."""


class Attending(Adapter, Protocol):
    """What an adapter offers besides where its `support()[Component.PATTERN]` says yes."""

    @property
    def projections(self) -> Sequence[Tensor]:
        """For each layer, (head, size, width): what a value that a head attends to adds, in front of any norm.

        Raises:
            NotApplicable: not known on this model.
        """
        ...

    def attend(
        self, batch: Batch, looks: Mapping[int, Look], touches: Mapping[Place, Touch] | None = None
    ) -> Tensor:
        """A run, as `run`, in which the attention of some layers is looked at: layer -> look."""
        ...


class Differentiable(Adapter, Protocol):
    """What an adapter offers besides where its `support()[Capability.GRADIENTS]` says yes."""

    def gradients(
        self, batch: Batch, places: Collection[Place], answers: Sequence[Answers]
    ) -> tuple[Tensor, dict[Place, Tensor], dict[Place, Tensor]]:
        """A run, as `run`, with one pass back: logits, values and gradients by place.

        The gradient is that of each row's difference between the logit of its right answer and the mean logit of
        its wrong ones, in logits per unit of the value; rows do not mix.
        """
        ...


class Written(NamedTuple):
    """A text that an adapter's engine wrote.

    Attributes:
        tokens: token ids, up to and with the one that ended the text.
        log_probabilities: of each of these tokens, when it was chosen.
    """

    tokens: tuple[int, ...]
    log_probabilities: tuple[float, ...]


class Writing(Adapter, Protocol):
    """What an adapter offers besides where its `support()[Capability.WRITING]` says yes."""

    def write(self, prompts: Sequence[Prompt], tokens: int, ends: Collection[int]) -> Sequence[Written]:
        """Go on from every prompt by at most `tokens` tokens, the likeliest one each time, up to one of `ends`."""
        ...
