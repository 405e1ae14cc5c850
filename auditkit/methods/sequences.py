"""Whole token sequences in one pass: the loss of every token, and what every head attends to, with edits in place.

A suite that asks where heads attend on a sequence needs the attention of every query and the loss of every token. Both
come from one forward pass: the adapter's attention tap shows each layer's probabilities while the run computes logits.
The probabilities are reduced to a few numbers per head, layer by layer, and never held for the whole model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from auditkit.adapters.hf.touches import keep
from auditkit.adapters.protocol import Adapter, Batch, Capability, Component, Place, Restartable, Touch
from auditkit.claims.outcomes import Unsupported
from auditkit.engine.batching import TOKEN_BUDGET, in_batches
from auditkit.engine.continuation.divergence import LOGIT_BUDGET
from auditkit.engine.edits import Edited, touched
from auditkit.engine.forward import Interventions, donate, reached
from auditkit.engine.guards import GuardTripped, spending
from auditkit.engine.sites import pattern
from auditkit.engine.token_losses import token_losses
from auditkit.notebook import Showable

if TYPE_CHECKING:
    import pandas as pd

Reduce = Callable[[Tensor, Sequence[int]], Tensor]
"""Attention (row, head, query, key) in float32 and the numbers of these runs -> (row, head, measure)."""


@dataclass(frozen=True)
class SequenceRuns(Showable):
    """What runs over whole sequences showed.

    Attributes:
        losses: (run, position) in nats: of the token at position p + 1, given those up to p; NaN where they were not
            asked for.
        attention: (run, measure, layer, head), what `reduce` made of the attention of the layers that were read.
        outputs: (run, layer, head, size), what each head has attended to at one position; None where none was asked
            for, or the model does not show it.
    """

    losses: Tensor
    attention: Tensor
    outputs: Tensor | None = None

    def in_words(self) -> str:
        runs, measures, layers, heads = self.attention.shape
        what = f"{measures} measures of the attention of {layers} layers of {heads} heads"
        return f"{runs} runs: {what}; mean loss {float(self.losses.nanmean()):.3g} nats"

    def to_frame(self) -> pd.DataFrame:
        """A row for each run, measure, layer and head; the losses by position are in `losses`."""
        import pandas as pd

        names = ["run", "measure", "layer", "head"]
        index = pd.MultiIndex.from_product([range(size) for size in self.attention.shape], names=names)
        return pd.Series(self.attention.flatten().tolist(), index, name="attention").reset_index()


def read_sequences(
    adapter: Adapter,
    runs: Sequence[Edited],
    reduce: Reduce,
    description: str = "sequences",
    *,
    outputs_at: int | None = None,
    losses_from: int | None = 0,
    layers: Sequence[int] | None = None,
) -> SequenceRuns:
    """Run sequences of equal length once, with their edits, and read losses and attention on the way.

    Cost: one forward pass per run, and one for every other run that gives activations. Where several runs take from one
    donor it is run once for those in one batch.

    Args:
        outputs_at: position at which the heads' outputs are kept, where the model shows them.
        losses_from: the first position whose loss is taken; earlier tokens are not unembedded. None leaves all out.
        layers: whose attention is read, in ascending order; all where None. Without losses and outputs, runs end behind
            the last of them where the model can be stopped there, and cost as much less.

    Raises:
        ValueError: no runs, or runs of different lengths, whose positions would not correspond; or no position from
            `losses_from` on.
        NotApplicable: this model does not show its attention, or a component that a run edits.
        GuardTripped: an edit that did not fire exactly once, a run that cost more than itself, or losses or attention
            that are not finite.
    """
    _check(adapter, runs, losses_from)
    lengths = [len(run.prompt) for run in runs]
    ids = torch.tensor([run.prompt.ids for run in runs])
    losses = torch.full((len(runs), lengths[0] - 1), torch.nan, dtype=torch.float64)
    attention, outputs = dict[int, Tensor](), dict[int, Tensor]()
    kept_places = _outputs(adapter) if outputs_at is not None else []
    unembedded = 1 if losses_from is None else lengths[0] - losses_from
    wanted = range(adapter.layers) if layers is None else layers
    blocks = adapter.layers if losses_from is not None or kept_places else _blocks(adapter, runs, wanted)

    def work(rows: list[int]) -> None:
        chunk = [runs[i] for i in rows]
        donated = donate(adapter, chunk, len(rows) * lengths[0])
        batch = adapter.batch([run.prompt for run in chunk])
        edits = Interventions(adapter, batch, chunk, donated)
        seen: dict[int, Tensor] = {}
        touches = dict(edits.touches)
        for layer in wanted:
            place: Place = (Component.PATTERN, layer)
            touches[place] = _reading(seen, layer, rows, reduce, touches.get(place))
        kept: dict[Place, Tensor] = {}
        for place in kept_places:
            touches[place] = keep(kept, place, touches.get(place))
        with spending(adapter, blocks * len(rows) * lengths[0]):
            logits = _run(adapter, batch, touches, blocks, unembedded)
        edits.confirm()
        if losses_from is not None and logits is not None:
            losses[rows, losses_from:] = token_losses(logits[:, :-1], ids[rows, losses_from + 1 :])
        reached(kept, kept_places)
        attention.update(zip(rows, _by_run(seen, wanted), strict=True))
        if kept_places:
            at = torch.stack([kept[place][:, outputs_at].float().cpu() for place in kept_places], 1)
            outputs.update(zip(rows, at, strict=True))

    in_batches(work, _room(adapter, lengths, unembedded), description)
    read = [
        torch.stack([values[i] for i in range(len(runs))]) if values else None for values in (attention, outputs)
    ]
    assert read[0] is not None
    return SequenceRuns(losses, read[0], read[1])


def _check(adapter: Adapter, runs: Sequence[Edited], losses_from: int | None) -> None:
    """Refuse what cannot be read before anything runs."""
    lengths = [len(run.prompt) for run in runs]
    if len(set(lengths)) != 1:
        raise ValueError(f"sequences of equal length are read together, got lengths {sorted(set(lengths))}")
    if losses_from is not None and not 0 <= losses_from < lengths[0] - 1:
        raise ValueError(f"sequences of {lengths[0]} tokens have no loss at position {losses_from} and after it")
    offered = adapter.support()[Component.PATTERN]
    if not offered:
        raise Unsupported(f"{pattern.everywhere()} cannot be read on this model: {offered.reason}")
    touched(adapter, runs)


def _outputs(adapter: Adapter) -> list[Place]:
    """Where the heads' outputs are, in the order of layers; nowhere if this model does not show them alike."""
    places: list[Place] = [(Component.Z, layer) for layer in range(adapter.layers)]
    shown = adapter.support()[Component.Z] and len({adapter.sizes[place] for place in places}) == 1
    return places if shown else []


def _run(
    adapter: Adapter, batch: Batch, touches: Mapping[Place, Touch], blocks: int, tokens: int
) -> Tensor | None:
    """Logits of the last tokens; None where the run ends behind the first `blocks` blocks."""
    if blocks == adapter.layers:
        return adapter.predict(batch, touches, tokens)
    cast(Restartable, adapter).reach(batch, touches, blocks)
    return None


def _blocks(adapter: Adapter, runs: Sequence[Edited], layers: Sequence[int]) -> int:
    """How many blocks must be passed for the attention of these layers and for every edit to be made."""
    if not adapter.support().get(Capability.BLOCKWISE):
        return adapter.layers
    return 1 + max([*layers, *(layer for _, layer in touched(adapter, runs))])


def _reading(
    seen: dict[int, Tensor], layer: int, rows: Sequence[int], reduce: Reduce, first: Touch | None
) -> Touch:
    """A touch that keeps what `reduce` makes of a layer's attention, as it is once `first` has edited it."""

    def touch(value: Tensor) -> Tensor | None:
        new = None if first is None else first(value)
        seen[layer] = reduce((value if new is None else new).float(), rows).cpu()
        return new

    return touch


def _by_run(seen: dict[int, Tensor], layers: Sequence[int]) -> Tensor:
    """(row, measure, layer, head) of one batch.

    Raises:
        GuardTripped: a layer that was not reached, or attention that is not finite.
    """
    for layer in layers:
        if layer not in seen or not torch.isfinite(seen[layer]).all():
            what = "are not finite" if layer in seen else "were not reached"
            raise GuardTripped(f"guard: the attention probabilities of layer {layer} {what}")
    return torch.stack([seen[layer] for layer in layers], 1).permute(0, 3, 1, 2)


def _room(adapter: Adapter, lengths: Sequence[int], unembedded: int) -> list[int]:
    """Tokens that each run counts for: more than it has, where its logits need more memory than its tokens."""
    logits = unembedded * len(adapter.chat.tokenizer) * TOKEN_BUDGET // LOGIT_BUDGET
    return [max(length, logits) for length in lengths]
