"""All traits of one model: each is measured once, and the directions of the others are its nulls."""

from __future__ import annotations

from auditkit.adapters.protocol import Adapter
from auditkit.findings.traits.measurements.direction import TraitDirection
from auditkit.findings.traits.measurements.drift import TraitDrift
from auditkit.findings.traits.measurements.scores import TraitScores
from auditkit.findings.traits.measurements.steering import TraitSteering
from auditkit.findings.traits.prompts import Traits


class TraitsOfModel:
    """The measurements of one model by the name of a trait.

    Args:
        adapter: the model.
        traits: what is asked.
        seed: of everything drawn.
        n_items: judging questions of each trait; all where None.
    """

    def __init__(self, adapter: Adapter, traits: Traits, *, seed: int, n_items: int | None = None) -> None:
        self.traits = traits
        self.scores = {
            trait.name: TraitScores(adapter, trait, seed=seed, n_items=n_items) for trait in traits.traits
        }
        self.directions = {name: TraitDirection(scores) for name, scores in self.scores.items()}
        self.steering = {
            name: TraitSteering(found, {other: each for other, each in self.directions.items() if other != name})
            for name, found in self.directions.items()
        }
        self.drift = {name: TraitDrift(steering) for name, steering in self.steering.items()}

    @property
    def harmful_drift(self) -> dict[str, TraitDrift]:
        """Of the traits of which more is worse."""
        return {name: self.drift[name] for name in self.traits.harmful}
