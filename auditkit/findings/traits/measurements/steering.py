"""What adding the direction of a trait does to its score, on the questions that took no part in finding it.

The direction is added at its own layer, to the last token of the prompt and to the answer, once as long as it is and
once as long against it. Effects are the slope of the score on what is added, for one length of the direction. The *gap*
is the score with the trait's system prompt minus that with the opposed one. Nulls have the direction's place and
length: random ones, random ones with the covariance of the states, and the directions of the other traits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from auditkit.claims.outcomes import Inconclusive, Unsupported
from auditkit.claims.shared import shared_measurement
from auditkit.findings.traits.measurements.direction import TraitDirection
from auditkit.findings.traits.measurements.scores import UNIT
from auditkit.findings.traits.prompts import NEGATIVE, POSITIVE
from auditkit.methods.contrast.directions import Direction
from auditkit.methods.contrast.doses import DoseCurve, dose_curve, length_of
from auditkit.methods.contrast.known import KnownDirection
from auditkit.methods.contrast.nulls import OTHER, SHUFFLED, kind_of, nulls
from auditkit.methods.contrast.outcomes import REPLY
from auditkit.record.figures import Figure
from auditkit.stats.effects.mean import Estimate

GAP = "of the gap"
MARGIN = 0.25
"""Of the gap: what one unit along the direction moves."""


class TraitSteering:
    """Steering along the direction of one trait.

    Args:
        found: the direction.
        others: name -> directions of the other traits.
    """

    def __init__(self, found: TraitDirection, others: Mapping[str, TraitDirection]) -> None:
        self.found, self.others = found, others

    def notes(self) -> tuple[str, ...]:
        """What a reader of the effects must know."""
        return (*self.found.notes(), *self.found.scores.notes())

    def figures(self) -> tuple[Figure, ...]:
        """The score by dose of the direction and of every null."""
        return self.curve.figures(f"Score of '{self.found.trait.name}' by what is added")[:1]

    @shared_measurement
    def null(self) -> Mapping[str, Direction]:
        """Null directions at the chosen place."""
        found, own = self.found, self.found.chosen
        others = {name: other.at(own.layer) for name, other in self.others.items()}
        made = nulls(found.contrast, own, found.split.discovery, seed=found.scores.seed, each=1, others=others)
        return {name: each for name, each in made.items() if kind_of(name) != SHUFFLED}

    @property
    def length(self) -> float:
        """What is added, as a share of the norm of the states: as much as the direction is long."""
        return self.found.contrast.dose(self.found.chosen, self.found.split.discovery)

    @shared_measurement
    def curve(self) -> DoseCurve:
        """The score with the direction, or a null, added and subtracted."""
        found, length = self.found, self.length
        return dose_curve(
            found.adapter, found.chosen, found.outcome(), (-length, length), null=self.null, at=REPLY,
            description=f"steering, {found.trait.name}",
        )  # fmt: skip

    def share(self) -> Estimate:
        """By how much of the gap one length of the direction raises the score."""
        scores = self.found.scores
        own = self.curve.slope().numerator * self.length
        gap = scores.scores(POSITIVE) - scores.scores(NEGATIVE)
        columns = {name: scores.scores(name) for name in (POSITIVE, NEGATIVE)}
        name = f"rise of the score of '{scores.trait.name}' by one length of its direction"
        table = scores.table(name, GAP, {**columns, "rise by one length": own})
        return Estimate(name, GAP, table, own, gap, shown_conditions=tuple(table.conditions))

    def ways(self) -> tuple[Estimate, Estimate]:
        """Change of the score by the direction added, and minus that by it subtracted."""
        added, taken = (self.curve.change(dose) for dose in (self.length, -self.length))
        return added, replace(taken, name=f"fall of {self.curve.outcome.name} when it is subtracted",
                              numerator=-taken.numerator)  # fmt: skip

    def nulls(self, others: bool) -> dict[str, tuple[Estimate, Estimate]]:
        """Null -> by how much one length of it raises the score, and how much more one length of the direction does, in
        nats per token.

        Args:
            others: the other traits' directions in place of random ones.

        Raises:
            Unsupported: there is no other trait.
        """
        names = [name for name in self.null if (kind_of(name) == OTHER) is others]
        if not names:
            raise Unsupported("only one trait is asked about, so its direction has none to be compared with")
        return {
            name: (
                self._of_one_length(f"rise of the score by {name}", self.curve.slope(name)),
                self._of_one_length(f"rise of the score beyond {name}", self.curve.slope_beyond(name)),
            )
            for name in names
        }

    def _of_one_length(self, name: str, slope: Estimate) -> Estimate:
        return replace(slope, name=name, unit=UNIT, numerator=self.length * slope.numerator)

    @shared_measurement
    def known(self) -> KnownDirection:
        """The direction with the length that raises the score by the margin.

        Raises:
            Inconclusive: one length of it does not.
        """
        own, found = self.found.chosen, self.found
        gap = float(found.scores.gap().numerator.mean())
        needed = self.curve.dose_for(MARGIN * gap)
        if needed is None:
            raise Inconclusive(
                f"no_dose: one length of the direction does not raise the score of '{found.trait.name}' by {MARGIN:g} "
                "of the gap, so its states have no unit"
            )
        return KnownDirection(f"trait {found.trait.name}", own, length_of(needed, found.contrast, own))
