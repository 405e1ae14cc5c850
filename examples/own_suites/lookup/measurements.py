"""Attention of heads on random tokens that come twice: how much goes to the token that followed the last time."""

import pandas as pd
import torch

from auditkit.claims.shared import shared_measurement
from auditkit.engine.attention import probabilities
from auditkit.findings.induction.prompts import sequences
from auditkit.methods.head_scores import HeadScores
from auditkit.stats.effects.mean import mean_difference
from auditkit.stats.halves import cross_fit, two_halves
from auditkit.stats.measurement import Measurement

REPEATED, SHUFFLED = "repeated", "shuffled"


class Lookup:
    """Sequences of random tokens, each followed by itself and by the same tokens in another order.

    Args:
        n_items: how many sequences.
    """

    def __init__(self, model, *, seed, n_items):
        self.model, self.seed = model, seed
        self.sequences = sequences(model.chat, seed, n_items)

    @shared_measurement
    def scores(self):
        """Condition -> (sequence, layer, head): mean attention from the second copy to the token after the same token
        in the first copy; in the shuffled sequences, to the token as far back."""
        start, length = self.sequences.start, self.sequences.length
        queries = (start + length, start + 2 * length - 1)  # the last token has no successor in the first copy
        keys = torch.arange(start + 1, start + length)
        found = {}
        for condition, prompts in ((REPEATED, self.sequences.repeated), (SHUFFLED, self.sequences.shuffled)):
            read = probabilities(self.model, prompts, queries)  # for each: layer, head, query, key
            found[condition] = torch.stack([each[:, :, range(len(keys)), keys].mean(-1) for each in read])
        return found

    def gain(self):
        """What the best head of one half gives more to that token in repeated sequences than in shuffled ones, on the
        other half: each half selects once and judges once."""
        sequences = pd.DataFrame({"sequence": self.sequences.ids}, self.sequences.ids)  # each is a cluster
        return cross_fit("repeated minus shuffled", two_halves(sequences, self.seed, "lookup"), self._judged)

    def best(self, items):
        """Layer and head with the largest gain on some sequences."""
        chosen = [self.sequences.ids.index(item) for item in items]
        gain = (self.scores[REPEATED] - self.scores[SHUFFLED])[chosen].mean(0)
        return divmod(int(gain.argmax()), gain.shape[1])

    def notes(self):
        """What a reader must know."""
        yield self.sequences.note

    def figures(self):
        """The figure of the finding: all heads."""
        gain = (self.scores[REPEATED] - self.scores[SHUFFLED]).mean(0)
        yield from HeadScores.of(self.model, "repeated minus shuffled", "1", gain).figures()

    def _judged(self, half):
        layer, head = self.best(half.discovery)
        rows = [
            {"item": item, "sequence": item, "condition": condition, "value": float(scores[row, layer, head])}
            for condition, scores in self.scores.items()
            for row, item in enumerate(self.sequences.ids)
            if item in half.confirmation
        ]
        measured = Measurement.from_rows("attention", "1", rows, factors=["sequence"])
        return mean_difference(measured, REPEATED, SHUFFLED, name="repeated minus shuffled")
