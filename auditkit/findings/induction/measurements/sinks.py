"""Attention sinks: how many heads and queries rest on the first token, in text and on random tokens.

A query of a head rests on a key that gets more than 0.3 of its attention (Gu et al. 2024, arXiv:2410.10781, with the
threshold of that work). The sink rate is the share of all queries of all heads that rest on the first token; the same
share is counted for each of the seven tokens after it. Only queries at least four tokens behind a key count for it, so
that attention which is spread evenly rests on nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from torch import Tensor

from auditkit.adapters.chat import Prompt
from auditkit.claims.evidence import note
from auditkit.claims.outcomes import Unsupported
from auditkit.claims.shared import SharedMeasurements, shared_measurement
from auditkit.engine.edits import Edited
from auditkit.findings.induction.measurements.repeats import Repeats
from auditkit.findings.induction.measurements.scores import KEYS, RESTING, Array, resting
from auditkit.findings.induction.prompts import Passages, passages
from auditkit.methods.head_search import map_of_means
from auditkit.methods.sequences import read_sequences
from auditkit.record.figures import Dots, Figure
from auditkit.stats.effects.mean import Estimate, mean_difference
from auditkit.stats.measurement import Measurement

BEGUN, BARE, RANDOM = FORMATS = ("text with BOS", "text without BOS", "random tokens")
"""Passages after the tokenizer's beginning-of-text (BOS) token, the same alone, and first copies of the sequences."""
UNIT = "of heads and queries"
PASSAGES = 16
"""By default; as many subjects, of which each is a cluster."""


class AttentionSinks:
    """Where the heads of one model rest.

    Args:
        repeats: the random tokens; their first copy is read.
        n_items: passages of text; `PASSAGES` where None.
    """

    def __init__(self, repeats: Repeats, *, n_items: int | None = None) -> None:
        self.repeats, self.adapter, self.seed = repeats, repeats.adapter, repeats.seed
        self.n_items = PASSAGES if n_items is None else n_items
        self._read = SharedMeasurements()

    def rate(self, format: str, key: int = 0) -> Estimate:
        """Share of heads and queries that rest on one of the first tokens; the first one where `key` is 0."""
        table = self._table(format)
        name = RESTING[key]
        return Estimate(f"{name}, {format}", UNIT, table, table.condition(name), shown_conditions=(name,))

    def over_others(self, format: str) -> tuple[Estimate, ...]:
        """By how much more heads and queries rest on the first token than on each of the seven after it."""
        table = self._table(format)
        return tuple(
            mean_difference(table, RESTING[0], RESTING[key], name=f"{RESTING[0]} minus token {key + 1}, {format}")
            for key in range(1, KEYS)
        )

    @property
    def formats(self) -> tuple[str, ...]:
        """Formats that this tokenizer allows: all, or those without a beginning-of-text token where it has none."""
        return FORMATS if self._passages.begun else (BARE, RANDOM)

    def rates(self, formats: Sequence[str]) -> Figure:
        """Sink rates by token."""
        return Dots.of(
            "share of heads and queries",
            "Share of all heads and queries that give more than 0.3 of their attention to one token at the beginning. "
            "A sink is a token on which they rest whatever it says.",
            {
                format: {f"token {key + 1}": self.rate(format, key).describe() for key in range(KEYS)}
                for format in formats
            },
            reference=0.0,
        ).titled("Where heads rest")

    def by_head(self, format: str) -> Figure:
        """Every head's share of queries that rest on the first token."""
        caption = "Share of each head's queries that give more than 0.3 of their attention to the first token"
        drawn = map_of_means(self._by_head(format)[:, 0], "share of queries", f"{caption}; {format}.")
        return drawn.titled("Heads that rest on the first token")

    # -- measuring ---------------------------------------------------------------------------------------------

    @shared_measurement
    def _passages(self) -> Passages:
        return passages(self.adapter.chat, self.seed, self.n_items)

    def _by_head(self, format: str) -> Array:
        """(item, key, layer, head) share of queries that rest on each of the first keys.

        Raises:
            Unsupported: the tokenizer has no beginning-of-text token; or as `Repeats.measured`.
        """
        if format == RANDOM:
            return np.stack([self.repeats.scores(name) for name in RESTING], 1)
        prompts = self._passages.begun if format == BEGUN else self._passages.plain
        if not prompts:
            raise Unsupported("this tokenizer has no BOS token")
        return self._read.get(format, lambda: self._attention(format, prompts))

    def _attention(self, format: str, prompts: Sequence[Prompt]) -> Array:
        note(f"{len(prompts)} passages of ordinary text, {len(prompts[0])} tokens each ({format})")
        runs = [Edited(prompt) for prompt in prompts]
        read = read_sequences(self.adapter, runs, _resting, format, losses_from=None)
        shares: Array = read.attention.double().numpy()
        return shares

    def _table(self, format: str) -> Measurement:
        rates = self._by_head(format).mean((2, 3))
        columns: Mapping[str, Array] = {name: rates[:, key] for key, name in enumerate(RESTING)}
        if format == RANDOM:
            return self.repeats.table(f"rest, {format}", UNIT, columns)
        ids = list(self._passages.ids)
        index = pd.Index(ids, name="item")
        texts = {item: {format: prompt.text} for item, prompt in zip(ids, self._passages.plain, strict=True)}
        clusters = pd.DataFrame({"passage": ids}, index=index)
        return Measurement(f"rest, {format}", UNIT, pd.DataFrame(dict(columns), index=index), clusters, texts)


def _resting(pattern: Tensor, _: Sequence[int]) -> Tensor:
    return resting(pattern)
