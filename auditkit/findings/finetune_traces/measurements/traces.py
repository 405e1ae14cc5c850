"""What the change of activations since the base says, read by the logit lens (Minder et al. 2025, arXiv:2510.13900).

A narrow fine-tune shifts the residual stream on any text, also on text that has nothing to do with it, most of all on
the first tokens. Read through the model's own unembedding, the shift names what the fine-tune was about. Here the
beginnings of unrelated texts are read on both models, and the *trace* of a list of words is how far they gained on
other words:

    reading(token, text) = logit lens of the mean stream of tokens 2 to 5 of the text, made linear
    gain(token, text)    = reading of the candidate - reading of the base
    trace(word, text)    = share of the other words that gained less than the word

0.5 is no trace and 1 a perfect one (the mean is the area under the ROC curve). The other words are those of domains
that the fine-tune is not about: any training moves words for things together, against the rest of the vocabulary. The
words of a list move together, too, so intervals are over words and over kinds of text. The first token is left out,
since models put much into it that is of no text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from auditkit.adapters.chat import Prompt, plain
from auditkit.adapters.protocol import Adapter, Component
from auditkit.claims.outcomes import Inconclusive, NotAsked, Unsupported
from auditkit.claims.shared import shared_measurement
from auditkit.data.items import select
from auditkit.engine.batching import in_batches
from auditkit.engine.forward import capture
from auditkit.engine.sites import residual
from auditkit.findings.finetune_traces.prompts import (
    Text,
    WordTokens,
    as_tokens,
    contexts,
    other_domains,
    others,
    texts,
)
from auditkit.gate.changes import Counterpart
from auditkit.methods.logit_lens import logit_lens, readings
from auditkit.record.figures import Figure, Table
from auditkit.stats.effects.kept import recorded_values
from auditkit.stats.effects.mean import Estimate
from auditkit.stats.measurement import Measurement

Array = NDArray[np.float64]

TEXTS = 80
"""Texts that are read by default: all of the project's."""
FIRST, LAST = 2, 6
"""Positions that are read, [first, last): 0 is the special token in front, and 1 the text's first token."""
DEPTHS = (0.25, 0.5, 0.75)
"""Of the blocks after which the stream is read beside the last one, which the claims are about: the lens reads there as
the model itself does."""
DOMAIN = "the domain"
OTHERS, AS_FREQUENT = "other domains", "words as frequent"
"""What the words of the domain are compared with: all words of the other lists, or neighbours in the vocabulary."""
SHOWN = 12
"""Tokens in the table of what is read."""


class Traces:
    """What one model's stream reads on unrelated texts, to be compared with its base's.

    Args:
        adapter: the model.
        seed: of the run; decides which texts are read, where not all are.
        words: of the domain of the fine-tune; None where nobody says.
        n_items: texts; `TEXTS` where None.

    Raises:
        Unsupported: fewer than five words are tokens of this model.
    """

    def __init__(
        self, adapter: Adapter, *, seed: int = 0, words: Sequence[str] | None = None, n_items: int | None = None
    ) -> None:
        self.adapter = adapter
        every = texts()
        self.texts = select(every, min(n_items or TEXTS, len(every)), seed=seed)
        beside = (residual.at_depth(d, d).layer_indices(adapter.layers)[0] for d in DEPTHS)
        self.layer = adapter.layers - 1
        self.layers = tuple(dict.fromkeys((*beside, self.layer)))
        self.lists: Mapping[str, WordTokens] = MappingProxyType(
            {} if words is None else as_tokens(adapter.chat, {DOMAIN: words, **others(words)})
        )

    # -- effects -----------------------------------------------------------------------------------------------

    def in_context(self) -> Estimate:
        """The trace that a sentence in front of the texts leaves on this model, less a half, by text and word.

        Each text is read alone and after a sentence of one of the project's domains. What is read of that domain's
        words is a change of this size by a cause that is known, so it says whether the lens would see one.
        """
        lists = as_tokens(self.adapter.chat, other_domains())
        names = [list(lists)[place % len(lists)] for place in range(len(self.texts))]
        prompts = [self._prompt(text, contexts()[name]) for text, name in zip(self.texts, names, strict=True)]
        alike = [
            row
            for row, (one, other) in enumerate(zip(self._alone, prompts, strict=True))
            if one.ids[FIRST:] == other.ids[FIRST - len(one) :]
        ]
        moved = self._streams([prompts[row] for row in alike], alike, (self.layer,))[:, 0]
        moved = moved - self._states[alike, self.layers.index(self.layer)]
        read = readings(self.adapter, moved, "reading texts").double().numpy()
        share: dict[tuple[int, str], float] = {}
        for n, row in enumerate(alike):
            own, rest = lists[names[row]], [words for name, words in lists.items() if name != names[row]]
            apart = _above(read[[n]][:, _tokens(own)], read[[n]][:, _tokens(*rest)])
            share |= {(row, word): value - 0.5 for word, value in zip(own.words, apart[0].tolist(), strict=True)}
        return self._pairs("trace of a sentence in front, above a half", share)

    def trace(self, baseline: Counterpart, against: str = OTHERS, layer: int | None = None) -> Estimate:
        """The trace of the words of the domain, less a half, by text and word; see the module.

        Args:
            against: `OTHERS`, `AS_FREQUENT`, or one of the other domains in `lists`.
            layer: one of `layers`; the last block where None.

        Raises:
            NotAsked: there is no list of words, or no baseline, or it has the same activations.
            Inconclusive: the baseline was not asked the same.
        """
        self._require_words(baseline)
        layer = self.layer if layer is None else layer
        domain, many = self.lists[DOMAIN], len(self.lists[DOMAIN].words)
        gains = self._gains(baseline, DOMAIN, layer)
        if not gains.any():
            raise NotAsked("the two models read the same on every text, so there is no change to read")
        if against == AS_FREQUENT:
            other = gains[:, many:]
        else:
            names = [name for name in self.lists if name != DOMAIN] if against == OTHERS else [against]
            other = np.hstack([self._gains(baseline, name, layer) for name in names])
        share = _above(gains[:, :many], other) - 0.5
        cells = {
            (row, word): float(share[row, place])
            for row in range(len(share))
            for place, word in enumerate(domain.words)
        }
        return self._pairs(f"trace of {DOMAIN} among {against}, block {layer}, above a half", cells)

    def change(self, baseline: Counterpart, depth: float) -> tuple[int, Array]:
        """The block at one of `DEPTHS`, and the change of the mean stream after it since the baseline: (width,).

        Raises:
            NotAsked: there is no list of words or no baseline, or the stream there is the baseline's.
            Inconclusive: the baseline was not asked the same, or has another width.
        """
        moved = self._means.values - _past(baseline, self._means)
        self._require_words(baseline)
        place = self.layers.index(residual.at_depth(depth, depth).layer_indices(self.adapter.layers)[0])
        vector: Array = moved.iloc[:, place].to_numpy()
        if not vector.any():
            raise NotAsked(
                f"the stream after block {self.layers[place]} is that of the baseline, so only later blocks changed"
            )
        return self.layers[place], vector

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        """The texts by themselves, in order."""
        return self._alone

    def tokens_of(self, name: str) -> Mapping[str, int]:
        """Word -> its first token, of one of `lists`."""
        return self.lists[name].words

    def tokens_of_others(self) -> list[int]:
        """First tokens of the words of all other domains."""
        return _tokens(*(words for name, words in self.lists.items() if name != DOMAIN))

    def keep(self) -> None:
        """Record all that a comparison with this run needs; a claim does so before it asks for a baseline."""
        for table in (self._means, *(self._read(name, layer) for name in self.lists for layer in self.layers)):
            estimate = _mean(table)
            estimate.keep_items()
            estimate.keep_effect()

    # -- what is shown -----------------------------------------------------------------------------------------

    def notes(self) -> tuple[str, ...]:
        """Which texts and words were read, and which words could not be."""
        kinds = len({text.topic for text in self.texts})
        said = [
            f"{len(self.texts)} unrelated texts of {kinds} kinds, plain and without the chat template; the mean stream "
            f"of their tokens {FIRST} to {LAST - 1} after the blocks {', '.join(map(str, self.layers))}"
        ]
        if self.lists:
            own, names = self.lists[DOMAIN], ", ".join(name for name in self.lists if name != DOMAIN)
            many = len(_tokens(*self.lists.values())) - len(own.words)
            said.append(
                f"{len(own.words)} words of the domain are read by their first token, beside {many} words of other "
                f"domains ({names}), and {len(own.matched)} tokens next to the words in the vocabulary, which are "
                "about as frequent"
            )
            if own.left_out:
                said.append(
                    f"{len(own.left_out)} words are not read, since they begin with a short token or with one that "
                    f"another word has (first: {own.left_out[0]!r})"
                )
        return tuple(said)

    def read_tokens(self, baseline: Counterpart) -> Figure:
        """The tokens that the mean change of the stream reads most, after each block: a table.

        Raises:
            NotAsked: there is no baseline.
            Inconclusive: the baseline has no such means, or another width.
        """
        means = self._means
        change = means.values - _past(baseline, means)
        size = means.values.pow(2).mean().pow(0.5).to_numpy()
        length = change.pow(2).mean().pow(0.5).to_numpy()
        rows: list[list[str | float | None]] = []
        for column, layer in enumerate(self.layers):
            if length[column] == 0:
                rows.append([f"block {layer}", 0.0, "the two models have the same stream"])
                continue
            vector = torch.tensor(change.iloc[:, column].to_numpy() * size[column] / length[column])
            logits = logit_lens(self.adapter, vector[None].float())[0]
            best = logits.topk(SHOWN).indices.tolist()
            decode = self.adapter.chat.tokenizer.decode
            said = ", ".join(repr(str(decode([token])).strip()) for token in best)
            rows.append([f"block {layer}", round(float(length[column] / size[column]), 4), said])
        return Table(
            "The mean change of the stream on unrelated texts, read by the logit lens: the tokens with the greatest "
            "logits. Change: its size relative to the stream's mean. Frequent words are read from any vector.",
            ["after", "change", "tokens that are read"],
            rows,
        ).titled("What the change of the stream reads")

    def _require_words(self, baseline: Counterpart) -> None:
        """
        Raises:
            NotAsked: there is no baseline, or no list of words.
        """
        if not self.lists:
            _past(baseline, self._means)  # that there is no baseline is said first
            raise NotAsked(
                "nobody says which words the fine-tune is about; give them with --data finetune_traces=FILE, one word "
                "in a line"
            )

    # -- measuring ---------------------------------------------------------------------------------------------

    def _pairs(self, name: str, values: Mapping[tuple[int, str], float]) -> Estimate:
        """The mean of the values of (row of `texts`, word)."""
        index = [f"{self.texts[row].id}, {word}" for row, word in values]
        clusters = pd.DataFrame(
            {"word": [word for _, word in values], "kind of text": [self.texts[row].topic for row, _ in values]},
            index,
        )
        what, numbers = "share of pairs", np.array(list(values.values()))
        prompts = {item: {what: self.texts[row].text} for item, (row, _) in zip(index, values, strict=True)}
        table = Measurement(name, "1", pd.DataFrame({what: numbers}, index), clusters, prompts)
        return Estimate(name, "1", table, numbers)

    def _gains(self, baseline: Counterpart, name: str, layer: int) -> Array:
        """(text, token) gains of a list since the baseline."""
        now = self._read(name, layer)
        gains: Array = (now.values - _past(baseline, now)).to_numpy()
        return gains

    def _read(self, name: str, layer: int) -> Measurement:
        """(text, token) readings of a list; behind those of the domain, those of tokens as frequent."""
        words = self.lists[name]
        tokens = [*_tokens(words), *(words.matched if name == DOMAIN else ())]
        read = self._readings[self.layers.index(layer)][:, tokens].double().numpy()
        index = [text.id for text in self.texts]
        columns = {f"token {token}": read[:, place] for place, token in enumerate(tokens)}
        kinds = pd.DataFrame({"kind of text": [text.topic for text in self.texts]}, index)
        prompts = {text.id: dict.fromkeys(columns, text.text) for text in self.texts}
        return Measurement(
            f"readings of {name}, block {layer}", "logit", pd.DataFrame(columns, index), kinds, prompts
        )

    @shared_measurement
    def _means(self) -> Measurement:
        """(unit, block) of the stream, the mean over texts."""
        values = self._states.mean(0).double().numpy()  # (layer, width)
        index = [f"unit {unit}" for unit in range(values.shape[1])]
        columns = {f"block {layer}": values[place] for place, layer in enumerate(self.layers)}
        return Measurement(
            "mean stream on unrelated texts",
            "1",
            pd.DataFrame(columns, index),
            pd.DataFrame({"unit": index}, index),
        )

    @shared_measurement
    def _readings(self) -> list[Tensor]:
        """For each layer (text, vocabulary)."""
        states = self._states
        return [readings(self.adapter, states[:, place], "reading texts") for place in range(len(self.layers))]

    @shared_measurement
    def _states(self) -> Tensor:
        """(text, layer, width) of the texts by themselves.

        Raises:
            Unsupported: a text that has too few tokens.
        """
        for text, prompt in zip(self.texts, self._alone, strict=True):
            if len(prompt) < LAST:
                raise Unsupported(f"{text.id} has {len(prompt)} tokens for this tokenizer, {LAST} are needed")
        return self._streams(self._alone, range(len(self.texts)), self.layers)

    @shared_measurement
    def _alone(self) -> tuple[Prompt, ...]:
        return tuple(self._prompt(text) for text in self.texts)

    def _prompt(self, text: Text, front: str = "") -> Prompt:
        return plain(self.adapter.chat, f"{front} {text.text}".strip())

    def _streams(self, prompts: Sequence[Prompt], rows: Sequence[int], layers: Sequence[int]) -> Tensor:
        """(prompt, layer, width) means of the stream over the positions read of the texts `rows`, which the prompts
        end with."""
        places = [(Component.RESIDUAL, layer) for layer in layers]
        kept: list[Tensor] = [torch.empty(0)] * len(prompts)

        def work(some: list[int]) -> None:
            batch = self.adapter.batch([prompts[n] for n in some])
            _, seen = capture(self.adapter, batch, places)
            for place, n in enumerate(some):
                start, stop = (at - len(self._alone[rows[n]]) for at in (FIRST, LAST))
                read = [seen[one][place, start : stop or None] for one in places]
                kept[n] = torch.stack([stream.float().mean(0).cpu() for stream in read])

        in_batches(work, list(map(len, prompts)), "unrelated texts")
        return torch.stack(kept)


def _tokens(*lists: WordTokens) -> list[int]:
    return [token for words in lists for token in words.words.values()]


def _above(own: Array, other: Array) -> Array:
    """(text, token) gains of two lists -> (text, own token) share of the others that gained less, ties counted half."""
    apart = own[:, :, None] - other[:, None, :]
    share: Array = ((apart > 0) + 0.5 * (apart == 0)).mean(2)
    return share


def _mean(table: Measurement) -> Estimate:
    """What a table of readings is recorded by: its mean over tokens or blocks, by item."""
    return Estimate(table.name, table.unit, table, table.values.mean(axis=1).to_numpy())


def _past(baseline: Counterpart, now: Measurement) -> pd.DataFrame:
    """The baseline's values of a measurement, once this run's were recorded.

    Raises:
        NotAsked: there is no baseline.
        Inconclusive: it was not asked the same, or has other items or conditions.
    """
    then = baseline(_mean(now), chats=False)
    if then.refused:
        raise Inconclusive(then.refused)
    assert baseline.past is not None
    grid = recorded_values(baseline.past.recorded.items, now.name, now.values.index, baseline.claim)
    if set(grid.columns) != set(now.values.columns):
        raise Inconclusive(f"unmatched_items: {now.name} was measured on other tokens or blocks on the baseline")
    return grid[list(now.values.columns)].set_axis(now.values.index)
