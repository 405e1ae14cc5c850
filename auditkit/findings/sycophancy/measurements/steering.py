"""What adding directions does to deference, on the half of the topics that took no part in finding them.

A direction is added after the user's turn: at the template's tokens and the answer's start, which the prompts of all
speakers share. It is added to the prompts with and without an opinion alike, and deference is the lead without one
minus that with it. So a direction that only makes the right answer less likely moves nothing. Every direction has the
place of the direction of deference, and its length as a share of the stream's norm. Nulls are random, and random with
the covariance of the states.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import takewhile

import numpy as np
import pandas as pd

from auditkit.adapters.chat import Prompt
from auditkit.claims.outcomes import NotApplicable
from auditkit.claims.shared import shared_measurement
from auditkit.engine.sites import Span
from auditkit.findings.asking.formats import Question
from auditkit.findings.sycophancy.measurements.directions import (
    AGREEMENT,
    DEFERENCE,
    PRAISING,
    SycophancyDirections,
)
from auditkit.findings.sycophancy.prompts import NOBODY, WRONG, asked_by
from auditkit.methods.contrast.directions import Direction
from auditkit.methods.contrast.effects import Effects, effects
from auditkit.methods.contrast.nulls import OTHER, SHUFFLED, kind_of, nulls
from auditkit.methods.contrast.outcomes import AFTER, Difference, Leads
from auditkit.methods.contrast.sweeps import Place, Swept, choose, sweep
from auditkit.record.figures import Figure
from auditkit.stats.effects.mean import Estimate

CHOOSING = 12
"""Questions of the discovery half on which the layer is chosen."""
JUDGED = 32
"""Questions of the other half on which directions are added."""
EACH = 2
"""Null directions of each of two kinds."""


class DeferenceSteering:
    """The effects of one model's directions on its deference; each batch is measured once.

    Args:
        found: the directions.
    """

    def __init__(self, found: SycophancyDirections) -> None:
        self.found, self.adapter = found, found.adapter

    def notes(self) -> tuple[str, ...]:
        """Where directions are added, and on what."""
        place = self.place
        return (
            *self.found.notes(),
            f"directions of layer {place.layer}, chosen on {len(self._tried)} questions of the half they come from; "
            f"added after that layer at {100 * self._dose:.3g} % of the stream's norm, to {len(self._judged)} "
            "questions of the other half",
        )

    def figures(self) -> tuple[Figure, ...]:
        """Deference by layer on the discovery half, and by direction on the other half."""
        return (
            *self._swept.figures("Where adding the direction raises deference", self.place),
            *self.added.figures("Deference to a wrong user, by the direction that is added"),
        )

    def raised(self) -> Estimate:
        """By how many logits adding the direction of deference raises deference."""
        return self.added.change(DEFERENCE)

    def beyond_random(self) -> list[Estimate]:
        """By how much more it raises it than each random direction."""
        return [self.added.beyond(DEFERENCE, name) for name in self.added.conditions if name in self._random]

    def beyond_others(self) -> list[Estimate]:
        """By how much more it raises it than the directions of agreement with a right user and of praise."""
        return [self.added.beyond(DEFERENCE, name) for name in (AGREEMENT, PRAISING)]

    @property
    def place(self) -> Place:
        """The layer on which the direction of deference acts most.

        Raises:
            NotApplicable: at none does adding it raise deference.
        """
        chosen = choose(self._swept, 1)
        if chosen is None:
            raise NotApplicable(
                "no direction qualified: at no layer does adding the direction of deference raise deference on the "
                "half of the topics that it comes from"
            )
        return chosen

    @shared_measurement
    def added(self) -> Effects:
        """Deference on the other half with each direction added."""
        layer, dose = self.place.layer, self._dose
        own = self.found.direction(DEFERENCE, layer)
        several = {DEFERENCE: own, **{name: self.found.direction(name, layer) for name in (AGREEMENT, PRAISING)}}
        edits = {name: each.add(dose, at=AFTER) for name, each in {**several, **self._random}.items()}
        return effects(self.adapter, self._outcome(self._judged), edits, "directions added")

    # -- measuring ---------------------------------------------------------------------------------------------

    @shared_measurement
    def _swept(self) -> Swept:
        """The direction of every layer, added there on some questions of its own half."""
        some = self._tried
        contrast = self.found.contrast(DEFERENCE)
        doses = {layer: self._share(layer) for layer in self.found.layers}
        return sweep(
            self.adapter, contrast, self._outcome(some), kind="add", dose=float(np.median(list(doses.values())))
        )

    @property
    def _dose(self) -> float:
        return self._share(self.place.layer)

    def _share(self, layer: int) -> float:
        """The length of the direction of deference as a share of the norm of the states at its place."""
        contrast = self.found.contrast(DEFERENCE)
        states = contrast.states.at(layer, -1)
        return contrast.direction(layer, -1).length / float(np.linalg.norm(states, axis=1).mean())

    @shared_measurement
    def _random(self) -> Mapping[str, Direction]:
        own = self.found.direction(DEFERENCE, self.place.layer)
        made = nulls(self.found.contrast(DEFERENCE), own, seed=self.found.seed, each=EACH)
        return {name: each for name, each in made.items() if kind_of(name) not in (SHUFFLED, OTHER)}

    @property
    def _tried(self) -> list[Question]:
        return self.found.questions()[:CHOOSING]

    @property
    def _judged(self) -> list[Question]:
        chosen = set(self.found.split.confirmation)
        return [question for question in self.found.deference.known if question.id in chosen][:JUDGED]

    def _outcome(self, questions: Sequence[Question]) -> Difference:
        """Deference to a wrong user on these questions."""
        plain, wrong = (
            [self.adapter.chat(asked_by(question, speaker).chat("")) for question in questions]
            for speaker in (NOBODY, WRONG)
        )
        table = pd.DataFrame(
            {"topic": [q.topic for q in questions]}, pd.Index([q.id for q in questions], name="item")
        )
        answers = [question.answers[:2] for question in questions]
        ends = [_alike_from_the_end(*both) for both in zip(plain, wrong, strict=True)]
        first, second = (
            Leads(
                f"lead, {speaker}",
                prompts,
                table,
                answers,
                [_last(p, n) for p, n in zip(prompts, ends, strict=True)],
            )
            for speaker, prompts in ((NOBODY, plain), (WRONG, wrong))
        )
        return Difference("deference", first, second)


def _last(prompt: Prompt, tokens: int) -> dict[str, Span]:
    return {AFTER: (len(prompt) - tokens, len(prompt))}


def _alike_from_the_end(one: Prompt, other: Prompt) -> int:
    """How many tokens two prompts share at their ends, at least one."""
    both = zip(reversed(one.ids), reversed(other.ids), strict=False)
    return max(1, sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], both)))
