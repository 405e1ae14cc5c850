"""What happens when the change of activations since the base is added to the stream once more.

The change of the mean stream on unrelated texts is one vector. If it tells what a fine-tune was about, then a model
whose stream has more of it is more likely to speak of that:

    lead(word, text)  = logit of the word after the text - mean logit of the words of other domains
    rise(word, text)  = lead with the vector added at every token after a middle block - lead without it

The same numbers in another order of the units are vectors of the same length and with as many large units, which say
nothing; the change has to do more than each of them. The change is of the candidate's own stream, so it is the
candidate that is steered, as in the work (Minder et al. 2025, arXiv:2510.13900).
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from auditkit.engine.token_logits import token_logits
from auditkit.findings.finetune_traces.measurements.traces import DOMAIN, Traces
from auditkit.gate.changes import Counterpart
from auditkit.methods.contrast.directions import Direction
from auditkit.methods.contrast.outcomes import PLAIN, note_guards
from auditkit.record.figures import Dots, Figure
from auditkit.stats.effects.mean import Estimate, mean_difference
from auditkit.stats.measurement import Measurement
from auditkit.stats.streams import stream

ADDED, AS_IT_IS = "change", "as it is"
NULLS = 4
"""Other orders of the units."""
DEPTH = 0.5
"""Of the block after which it is added; the blocks above it can still make words of it."""
DOSE = 0.25
"""Length of what is added, as a share of the stream's at every token."""


class Steering:
    """Leads of the words of the domain after unrelated texts, with the change added and without.

    Args:
        traces: of the candidate.
        baseline: what its base recorded.
        seed: draws the other orders of the units.

    Raises:
        NotAsked: there is no list of words, no baseline, or no change of the stream at the block.
        Inconclusive: the baseline was not asked the same.
    """

    def __init__(self, traces: Traces, baseline: Counterpart, *, seed: int = 0) -> None:
        self.traces = traces
        layer, change = traces.change(baseline, DEPTH)
        vectors = {ADDED: change} | {
            name: stream(seed, "order of units", name).permutation(change) for name in self.nulls
        }
        self.directions = {name: Direction(name, vector[None], layer, "all") for name, vector in vectors.items()}
        self._table = self._measured()

    @property
    def nulls(self) -> tuple[str, ...]:
        """Names of the vectors that say nothing."""
        return tuple(f"other order {number + 1}" for number in range(NULLS))

    def rise(self, name: str = ADDED) -> Estimate:
        """Rise of the leads by a vector, in logits."""
        return mean_difference(self._table, name, AS_IT_IS, name=f"rise by the {name}")

    def beyond(self, null: str) -> Estimate:
        """Rise by the change minus that by another order of its units, in logits."""
        return mean_difference(self._table, ADDED, null, name=f"rise by the {ADDED} beyond {null}")

    def figure(self) -> Figure:
        """The rise by each vector."""
        found = {name: self.rise(name).describe() for name in self.directions}
        caption = (
            f"How far the logits of the domain's words rise above those of other domains when a vector is added after "
            f"block {self.directions[ADDED].layer}, with a length of {DOSE:g} of the stream's."
        )
        return Dots.of("logits", caption, {"vectors": found}, 0.0).titled("What adding the change does")

    def _measured(self) -> Measurement:
        """(text x word) leads under every condition, clustered by word and by kind of text."""
        traces = self.traces
        own, others = traces.tokens_of(DOMAIN), traces.tokens_of_others()
        prompts = traces.prompts
        edits = {name: [[one.add(DOSE)]] * len(prompts) for name, one in self.directions.items()}
        got = token_logits(
            traces.adapter, prompts, [*own.values(), *others], edits, description="the change added"
        )
        note_guards("the change added", got.ran, len(edits))
        leads = {
            AS_IT_IS if name == PLAIN else name: _leads(logits.double().numpy(), len(own))
            for name, logits in {PLAIN: got.base, **got.conditions}.items()
        }
        pairs = [(text, word) for text in traces.texts for word in own]
        index = [f"{text.id}, {word}" for text, word in pairs]
        clusters = pd.DataFrame(
            {"word": [word for _, word in pairs], "kind of text": [text.topic for text, _ in pairs]}, index
        )
        values = pd.DataFrame({name: lead.ravel() for name, lead in leads.items()}, index)
        asked = {item: dict.fromkeys(leads, text.text) for item, (text, _) in zip(index, pairs, strict=True)}
        return Measurement(
            "lead of the domain's words over those of other domains", "logit", values, clusters, asked
        )


def _leads(logits: NDArray[np.float64], own: int) -> NDArray[np.float64]:
    """(text, own) logits of the first tokens, minus the mean of those behind them."""
    leads: NDArray[np.float64] = logits[:, :own] - logits[:, own:].mean(1, keepdims=True)
    return leads
