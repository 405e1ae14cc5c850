"""Losses and scores of heads on the sequences: measured once, used by every claim."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import pandas as pd
from torch import Tensor

from auditkit.adapters.chat import Prompt
from auditkit.adapters.protocol import Adapter, Attending
from auditkit.claims.evidence import note
from auditkit.claims.outcomes import Unsupported
from auditkit.claims.shared import shared_measurement
from auditkit.engine.attention import probabilities
from auditkit.engine.edits import Edited
from auditkit.findings.induction.measurements.scores import REPEATED, RESTING, SHUFFLED, Array, readers
from auditkit.findings.induction.prompts import SEQUENCES, Sequences, sequences
from auditkit.methods.copying import written
from auditkit.methods.head_search import Head
from auditkit.methods.sequences import read_sequences
from auditkit.stats.effects.mean import Estimate, mean_difference
from auditkit.stats.measurement import Measurement

FIRST, REPEAT, ORDER = LOSSES = ("first copy", "repeat", "the same tokens in another order")
"""Where losses are taken: the first copy, the second one, and the second copy of the shuffled sequence."""
NATS, ATTENTION = "nats", "of attention"
SEQUENCE = "sequence"
COPIED = 4
"""Sequences on which copying is shown; no claim rests on it."""


@dataclass(frozen=True)
class RepeatValues:
    """What the two passes gave.

    Attributes:
        losses: one of `LOSSES` -> (sequence, token) nats, of the second to the last token of that copy.
        scores: score -> (sequence, layer, head).
        outputs: (sequence, layer, head, size), what heads have attended to where the last token is predicted; None
            where the model does not show it.
    """

    losses: Mapping[str, Array]
    scores: Mapping[str, Array]
    outputs: Tensor | None


class Repeats:
    """One model on repeated random tokens and on their shuffled controls; each sequence is run once.

    Args:
        adapter: the model.
        seed: of everything drawn.
        n_items: sequences; `SEQUENCES` where None.
    """

    def __init__(self, adapter: Adapter, *, seed: int, n_items: int | None = None) -> None:
        self.adapter, self.seed = cast(Attending, adapter), seed
        self.n_items = SEQUENCES if n_items is None else n_items

    @shared_measurement
    def sequences(self) -> Sequences:
        """The sequences; a note says how many.

        Raises:
            NotApplicable: the vocabulary or the context is too small; see `prompts.sequences`.
        """
        made = sequences(self.adapter.chat, self.seed, self.n_items)
        note(made.note)
        return made

    @shared_measurement
    def measured(self) -> RepeatValues:
        """Losses and scores on all sequences.

        Raises:
            NotApplicable: as `sequences`, or the model does not show its attention.
            GuardTripped: as `read_sequences`.
        """
        made = self.sequences
        of_repeated, of_shuffled = readers(made)
        repeated = read_sequences(
            self.adapter, [Edited(prompt) for prompt in made.repeated], of_repeated, "repeated tokens", outputs_at=-2,
        )  # fmt: skip
        shuffled = read_sequences(
            self.adapter, [Edited(prompt) for prompt in made.shuffled], of_shuffled, "shuffled tokens",
            losses_from=made.start + made.length,
        )  # fmt: skip
        # The loss at position p is that of token p + 1, so these are of the tokens of a copy but its first.
        first, second = (slice(start, start + made.length - 1) for start in (made.start, made.start + made.length))
        losses = {
            FIRST: repeated.losses[:, first].numpy(),
            REPEAT: repeated.losses[:, second].numpy(),
            ORDER: shuffled.losses[:, second].numpy(),
        }
        names = ((*REPEATED, *RESTING), SHUFFLED)
        scores = {
            name: runs.attention[:, n].double().numpy()
            for some, runs in zip(names, (repeated, shuffled), strict=True)
            for n, name in enumerate(some)
        }
        return RepeatValues(losses, scores, repeated.outputs)

    @shared_measurement
    def copying(self) -> Array | None:
        """(sequence, layer, head) in logits: what each head writes for the last token of the repeat, against the other
        tokens of the sequence; below zero it suppresses the copy. None where the model does not show it.

        Only the first `COPIED` sequences are measured. A note says why there is nothing.
        """
        made, outputs = self.sequences, self.measured.outputs
        if outputs is None:
            note("copying is not measured: this model does not show the outputs of its heads")
            return None
        whole = [prompt.ids for prompt in made.repeated[:COPIED]]
        answers = [(ids[-1], *ids[-made.length : -1]) for ids in whole]
        try:
            values = written(self.adapter, [Prompt("", ids[:-1]) for ids in whole], answers, outputs[: len(whole)])
        except Unsupported as error:
            note(f"copying is not measured: {error}")
            return None
        copied: Array = values.double().numpy()
        return copied

    def loss(self, where: str = REPEAT) -> Estimate:
        """Mean loss of one copy."""
        values = self.measured.losses[where].mean(1)
        return Estimate(
            f"loss, {where}", NATS, self.table("loss", NATS, {where: values}), values, shown_conditions=(where,)
        )

    def gain(self, against: str = FIRST) -> Estimate:
        """How much lower the loss is on the repeat than on another copy."""
        columns = {where: self.measured.losses[where].mean(1) for where in LOSSES}
        table = self.table("loss", NATS, columns)
        return mean_difference(table, against, REPEAT, name=f"loss, {against} minus repeat")

    def by_token(self, where: str) -> list[Estimate]:
        """Loss of each token of a copy, from its second one on."""
        losses = self.measured.losses[where]
        return [
            Estimate(
                f"loss of token {n + 2}, {where}",
                NATS,
                self.table(f"loss of token {n + 2}", NATS, {where: losses[:, n]}),
                losses[:, n],
            )
            for n in range(losses.shape[1])
        ]

    def scores(self, name: str) -> Array:
        """(sequence, layer, head) of one score."""
        return self.measured.scores[name]

    def head(
        self, head: Head, score: str, minus: str | None = None, rows: Sequence[int] | None = None
    ) -> Estimate:
        """Score of one head, or its difference from another score, over some sequences (all where None)."""
        return self.mean([head], score, minus, rows)

    def every_head(self, score: str, minus: str, rows: Sequence[int]) -> dict[Head, Estimate]:
        """For each head what `head` gives, over some sequences, without the values of the two scores by themselves."""
        some = np.array(rows, dtype=np.intp)
        name, table = f"{score} minus {minus}", self.table(f"{score} minus {minus}", ATTENTION, {}).take(some)
        values = (self.scores(score) - self.scores(minus))[some]
        return {
            (layer, head): Estimate(name, ATTENTION, table, values[:, layer, head])
            for layer, head in np.ndindex(*values.shape[1:])
        }

    def mean(
        self, heads: Sequence[Head], score: str, minus: str | None = None, rows: Sequence[int] | None = None
    ) -> Estimate:
        """Mean score of some heads, or its mean difference from another score, over some sequences."""
        names = [score] if minus is None else [score, minus]
        columns = {name: mean_over(self.scores(name), heads) for name in names}
        values = columns[score] - columns[minus] if minus is not None else columns[score]
        what = f"{score} minus {minus}" if minus is not None else score
        table = self.table(what, ATTENTION, columns)
        estimate = Estimate(what, ATTENTION, table, values, shown_conditions=tuple(names))
        return estimate if rows is None else taken(estimate, rows)

    def table(self, name: str, unit: str, columns: Mapping[str, Array]) -> Measurement:
        """A table of (sequence,) values by condition; sequences share no token, so each is a cluster."""
        made = self.sequences
        index = pd.Index(made.ids, name="item")
        prompts = {item: {REPEAT: prompt.text} for item, prompt in zip(made.ids, made.repeated, strict=True)}
        clusters = pd.DataFrame({SEQUENCE: made.ids}, index=index)
        return Measurement(name, unit, pd.DataFrame(dict(columns), index=index), clusters, prompts)

    def pattern(self, head: Head, row: int = 0) -> Array:
        """(query, key) attention of one head on one repeated sequence."""
        (attention,) = probabilities(
            self.adapter, [self.sequences.repeated[row]], "all", layers=[head[0]], heads=[head[1]]
        )
        square: Array = attention[0, 0].double().numpy()
        return square


def mean_over(values: Array, heads: Sequence[Head]) -> Array:
    """(item,) mean over some heads of values (item, layer, head)."""
    layers, numbers = (np.array([head[axis] for head in heads]) for axis in (0, 1))
    mean: Array = values[:, layers, numbers].mean(1)
    return mean


def taken(estimate: Estimate, rows: Sequence[int]) -> Estimate:
    """The same estimate over the items in these rows."""
    return estimate._taken(np.array(rows, dtype=np.intp))
