"""Whether a candidate's components behind pronouns are those of its baseline: by rank, and by the strongest ones.

Rank correlation (Spearman's) is over all heads and MLPs; by chance it is 0. The *overlap* (Jaccard index) is of the
strongest components of both models; by chance, of n components with the k strongest of each, it is about k / (2 n - k).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from auditkit.claims.outcomes import Inconclusive
from auditkit.findings.identity_bias.measurements.pronoun_parts import TOGETHER, PronounParts
from auditkit.gate.changes import Counterpart
from auditkit.record.figures import Figure, Table
from auditkit.stats.effects.resampled import Resampled
from auditkit.stats.intervals import Array
from auditkit.stats.measurement import Measurement

NOW, THEN = "candidate", "baseline"
SHOWN = 12
"""Components in the table: the baseline's strongest."""


@dataclass(frozen=True)
class KeptParts:
    """What components carry in two models.

    Attributes:
        table: (component, model) with the components' layers as clusters.
        seed: of the draws of layers.
    """

    table: Measurement
    seed: int

    def agreement(self) -> Resampled:
        """Rank correlation of what components carry, over all of them, with whole layers drawn."""
        ranks = [rankdata(self.table.condition(name)) for name in (NOW, THEN)]
        name = "rank correlation of components, candidate and baseline"
        return Resampled(
            name,
            "",
            self.table,
            lambda weights: _correlation(weights, *ranks),
            self.seed,
            shown_conditions=(NOW, THEN),
        )

    def notes(self) -> tuple[str, ...]:
        """The overlap of the strongest components, and what chance gives."""
        now, then = (set(self._strongest(name)) for name in (NOW, THEN))
        n, k = len(self.table.values), len(now)
        shared = len(now & then)
        chance = k * k / n
        return (
            f"of the {k} strongest components of each model {shared} are the same (Jaccard "
            f"{shared / len(now | then):.2f}); chance gives {chance:.2g} of {n} components (Jaccard "
            f"{chance / (2 * k - chance):.2g})",
        )

    def figures(self) -> tuple[Figure, ...]:
        """The baseline's strongest components, before and after."""
        ranks = {name: len(self.table.values) + 1 - rankdata(self.table.condition(name)) for name in (NOW, THEN)}
        rows: list[list[str | float | None]] = []
        for name in self._strongest(THEN, SHOWN):
            row = self.table.values.index.get_loc(name)
            values = (round(float(self.table.condition(one)[row]), 3) for one in (THEN, NOW))
            rows.append([str(name), *values, *(float(ranks[one][row]) for one in (THEN, NOW))])
        drawn = Table(
            "Each row: one of the baseline's strongest components, what it carries of the stereotype there and here, "
            "in logits to first order, and its rank among all heads and MLPs. Exploratory.",
            ["component", "baseline", "candidate", "rank in the baseline", "rank in the candidate"],
            rows,
        )
        return (drawn.titled("Components behind pronouns, before and after"),)

    def _strongest(self, name: str, count: int = TOGETHER) -> list[str]:
        return [
            str(one) for one in self.table.values[name].sort_values(ascending=False, kind="stable").index[:count]
        ]


def kept_parts(parts: PronounParts, baseline: Counterpart) -> KeptParts:
    """What components carry, here and on the baseline, once that of this run was recorded.

    Raises:
        NotAsked: the run has no baseline.
        Inconclusive: the baseline was not asked the same, or has other components.
    """
    now = parts.by_component()
    then = baseline(now)
    if then.refused:
        raise Inconclusive(then.refused)
    here, there = now.measurement, then.measurement
    if set(here.values.index) != set(there.values.index):
        raise Inconclusive(
            f"not_comparable: the baseline has {len(there.values)} heads and MLPs and this model {len(here.values)}; "
            "those of different models do not correspond"
        )
    past = pd.Series(then.numerator, there.values.index)
    aligned: Array = np.asarray(past.loc[here.values.index], dtype=np.float64)
    values = {NOW: now.numerator, THEN: aligned}
    frame = pd.DataFrame(values, here.values.index)
    return KeptParts(Measurement("carried in both models", "logit", frame, here.clusters), parts.seed)


def _correlation(weights: Array, one: Array, other: Array) -> Array:
    """(draws,) weighted correlation of two rankings, for (draws, items) weights that sum to 1."""
    parts = []
    for values in (one, other):
        parts.append(values - (weights @ values)[:, None])
    both = (weights * parts[0] * parts[1]).sum(1)
    spread = np.sqrt((weights * parts[0] ** 2).sum(1) * (weights * parts[1] ** 2).sum(1))
    out: Array = both / spread
    return out
