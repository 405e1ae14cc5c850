"""How far a fine-tune has moved states along the directions that its base recorded for each trait.

A run records the direction of every trait, its layer, and the length of a unit: what raises the score by a quarter of
the gap when it is added. States are those of the last token of prompts without a system prompt.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from auditkit.findings.traits.measurements.scores import FixedAnswers
from auditkit.findings.traits.measurements.steering import TraitSteering
from auditkit.findings.traits.prompts import NEUTRAL
from auditkit.gate.changes import Counterpart
from auditkit.methods.contrast.known import KnownDirection, of_baseline
from auditkit.stats.effects.mean import Estimate

LACKING = "system prompts do not move its score there, or its whole suite was not run"
UNITS = "units"


class TraitDrift:
    """A model's states along the direction that its baseline has for one trait.

    Args:
        steering: this model's own direction, which its run records.
    """

    def __init__(self, steering: TraitSteering) -> None:
        self.steering, self.found = steering, steering.found

    def record(self, baseline: Counterpart) -> KnownDirection:
        """Keep this run's own direction and projections, and return the baseline's direction.

        Raises:
            NotAsked: the run has no baseline, and what was kept makes it one; or the baseline has another width.
            Unsupported: the baseline recorded no direction.
        """
        return of_baseline(f"trait {self.found.trait.name}", baseline.items, self._width, LACKING, self._keep)

    def of(self, items: pd.DataFrame) -> KnownDirection:
        """The direction that a run recorded; errors as `record`."""
        return KnownDirection.read(f"trait {self.found.trait.name}", items, self._width, LACKING)

    @property
    def _width(self) -> int:
        return self.found.contrast.states.width

    @property
    def own(self) -> KnownDirection:
        """This model's own direction, and the length of a unit along it.

        Raises:
            NotApplicable: system prompts do not move the score.
            Inconclusive: one length of the direction does not move it by the margin.
        """
        self.found.scores.require()
        return self.steering.known

    def _keep(self) -> None:
        own = self.own
        own.keep()
        for estimate in (self.projection(own), self.apart(own)):
            estimate.keep_effect()

    def projection(self, known: KnownDirection) -> Estimate:
        """Mean length of the states of the judging questions along a direction, in its units."""
        return projected(self.found.scores, "questions", known, self.found.neutral(known.direction.layer))

    def apart(self, known: KnownDirection) -> Estimate:
        """Projection of the prompts that ask for the trait minus that of those that ask for its opposite, in units."""
        contrast, count = self.found.contrast, len(self.found.scores.questions)
        lengths = known.lengths(contrast.states.at(known.direction.layer, known.direction.position))
        half = len(lengths) // 2
        yes, no = lengths[half - count : half], lengths[-count:]
        name = f"projection of opposed system prompts on direction {known.direction.digest} of {known.of}"
        table = self.found.scores.table(name, UNITS, {"apart": yes - no})
        return Estimate(name, UNITS, table, table.condition("apart"), shown_conditions=("apart",))


def projected(answers: FixedAnswers, what: str, known: KnownDirection, states: NDArray[np.float64]) -> Estimate:
    """Mean length of the states of questions without a system prompt along a direction, in its units."""
    name = f"projection of {what} on direction {known.direction.digest} of {known.of}"
    table = answers.table(name, UNITS, {NEUTRAL: known.lengths(states)})
    return Estimate(name, UNITS, table, table.condition(NEUTRAL), shown_conditions=(NEUTRAL,))
