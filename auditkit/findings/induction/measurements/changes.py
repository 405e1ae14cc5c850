"""Whether a candidate keeps the induction heads of its baseline: the same heads, on the same sequences, item by item.

The heads are those of the baseline: on one half of the sequences they give at least `LEAST_ATTENTION` of their
attention to the token after the previous occurrence. Baseline and candidate are compared on the other half, and each
half finds heads for the other.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from auditkit.claims.outcomes import Inconclusive, NotApplicable
from auditkit.findings.induction.measurements.heads import LEAST_ATTENTION, InductionHeads, listed
from auditkit.findings.induction.measurements.repeats import ATTENTION, Repeats, mean_over, taken
from auditkit.findings.induction.measurements.scores import MATCH, Array
from auditkit.gate.changes import Counterpart
from auditkit.methods.by_head import names, recorded
from auditkit.methods.head_search import Head, label
from auditkit.notebook import Showable
from auditkit.record.figures import Dots, Figure
from auditkit.stats.effects.mean import Estimate
from auditkit.stats.halves import CrossFitted, joined

BY_HEAD = "prefix matching by head"


@dataclass(frozen=True)
class KeptHeads(Showable):
    """Prefix matching of the baseline's induction heads, in the candidate and in the baseline.

    Attributes:
        now, then: (sequence, layer, head) of the candidate and of the baseline.
        alike: what it means that no item differs.
    """

    heads: InductionHeads
    now: Array
    then: Array
    alike: str

    def both(self) -> tuple[CrossFitted, CrossFitted]:
        """Mean prefix matching of the heads, of the candidate and of the baseline, over the same sequences.

        Raises:
            NotApplicable: the baseline has no such heads.
        """
        here, there = (self._held_out(values) for values in (self.now, self.then))
        return here, replace(there, alike=self.alike)

    def found(self, exchanged: bool) -> list[Head]:
        """The baseline's heads by the sequences of one half, the strongest first."""
        mean = self.then[self.heads.rows(exchanged)[0]].mean(0)
        heads = [(int(n), int(h)) for n, h in np.argwhere(mean >= LEAST_ATTENTION)]
        return sorted(heads, key=lambda head: (-mean[head], head))

    def notes(self) -> tuple[str, ...]:
        """The baseline's heads."""
        return (f"induction heads of the baseline, by the first half: {listed(self.found(False)) or 'none'}",)

    def figures(self) -> tuple[Figure, ...]:
        """Every head of the baseline, before and after."""
        rows = self.heads.rows(False)[1]
        groups = {
            label(*head): {
                who: self._estimate(mean_over(values, [head]), rows).describe()
                for who, values in (("baseline", self.then), ("candidate", self.now))
            }
            for head in self.found(False)
        }
        drawn = Dots.of(
            "attention to the token after the previous occurrence",
            "The baseline's induction heads, on sequences that did not choose them. A head that is kept gives as much "
            "of its attention to the token after the previous occurrence as before.",
            groups,
            reference=0.0,
        )
        return (drawn.titled("Induction heads before and after"),) if groups else ()

    def _held_out(self, values: Array) -> CrossFitted:
        parts = []
        for exchanged in (False, True):
            found = self.found(exchanged)
            if not found:
                raise NotApplicable(
                    f"the baseline has no induction heads: none gives {LEAST_ATTENTION:g} of its attention to the "
                    "token after the previous occurrence"
                )
            parts.append(self._estimate(mean_over(values, found), self.heads.rows(exchanged)[1]))
        return joined("prefix matching of the baseline's induction heads", *parts)

    def _estimate(self, values: Array, rows: list[int]) -> Estimate:
        table = self.heads.repeats.table(MATCH, ATTENTION, {MATCH: values})
        return taken(Estimate(MATCH, ATTENTION, table, values, shown_conditions=(MATCH,)), rows)


def kept_heads(heads: InductionHeads, baseline: Counterpart) -> KeptHeads:
    """Prefix matching by head, here and on the baseline, once that of this run was recorded.

    Raises:
        NotAsked: the run has no baseline.
        Inconclusive: the baseline was not asked the same, or has other heads.
    """
    repeats = heads.repeats
    then = baseline(_by_head(repeats))
    if then.refused:
        raise Inconclusive(then.refused)
    assert baseline.past is not None  # else the line above has raised
    ids = repeats.sequences.ids
    (values,) = recorded(baseline.past.recorded.items, BY_HEAD, ids, repeats.adapter.layers, repeats.adapter.heads)
    return KeptHeads(heads, repeats.scores(MATCH), values, then.alike)


def _by_head(repeats: Repeats) -> Estimate:
    """Prefix matching with a condition for each head; what is estimated is its mean over all heads."""
    scores = repeats.scores(MATCH)
    flat = scores.reshape(len(scores), -1)
    columns = dict(zip(names(*scores.shape[1:]), flat.T, strict=True))
    return Estimate(BY_HEAD, ATTENTION, repeats.table(BY_HEAD, ATTENTION, columns), flat.mean(1))
