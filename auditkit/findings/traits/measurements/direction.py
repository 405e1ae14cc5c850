"""The direction of a trait: found with some questions and system prompts, for others to judge.

    direction = mean of the states of prompts that ask for the trait - mean of those that ask for its opposite

States are those of the prompt's last token (persona vectors, arXiv:2507.21509). Half of the questions and three of five
pairs of system prompts find the direction. Its layer is the one at which adding it raises the score most, on questions
of the same half. The other questions and system prompts judge.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from auditkit.claims.evidence import note
from auditkit.claims.outcomes import NotApplicable
from auditkit.claims.shared import shared_measurement
from auditkit.findings.traits.measurements.scores import TraitScores, prompt_of
from auditkit.findings.traits.prompts import NEGATIVE, NEUTRAL, POSITIVE, QUESTION, TraitQuestion, drawn
from auditkit.methods.contrast.directions import Contrast, Direction
from auditkit.methods.contrast.nulls import nulls
from auditkit.methods.contrast.outcomes import REPLY, Statements
from auditkit.methods.contrast.separation import Separated, separation
from auditkit.methods.contrast.states import States, read_states
from auditkit.methods.contrast.sweeps import KEPT, Swept, choose, sweep
from auditkit.record.figures import Figure
from auditkit.stats.effects.mean import Estimate
from auditkit.stats.halves import Halves

CHOOSING, LAYERS = 6, 8
"""Questions on which the layer is chosen, and layers that are tried, evenly over the depth: neighbouring layers have
nearly the same direction."""
LAST = -1
"""Position of the states: the last token of the prompt."""


class TraitDirection:
    """The direction of one trait in one model.

    Args:
        scores: the trait, and the questions that judge.
    """

    def __init__(self, scores: TraitScores) -> None:
        self.scores, self.adapter, self.trait = scores, scores.adapter, scores.trait
        self.found_on = drawn(self.trait.extract, None, scores.seed)

    def notes(self) -> tuple[str, ...]:
        """Where the direction was found, and on what."""
        return (
            f"direction of layer {self.chosen.layer} at the last token of the prompt, found on {len(self.found_on)} "
            f"questions with {len(self.trait.extracting)} pairs of system prompts, judged on "
            f"{len(self.scores.questions)} other questions",
        )

    def figures(self) -> tuple[Figure, ...]:
        """The change of the score by the direction of every layer that was tried."""
        return self._swept.figures(f"Where adding the direction of '{self.trait.name}' raises its score")

    # -- states ------------------------------------------------------------------------------------------------

    @shared_measurement
    def contrast(self) -> Contrast:
        """States of the prompts that find the direction, and of those that judge it."""
        ids = [question.id for question in (*self.found_on, *self.scores.questions)]
        table = pd.DataFrame({QUESTION: ids}, index=pd.Index(ids, name="item"))
        positive, negative = (self._part(n * len(ids), len(ids)) for n in range(2))
        return Contrast.of_pairs(self.trait.name, positive, negative, table)

    @property
    def split(self) -> Halves:
        """The prompts that find, and those that judge, by their names in the contrast."""
        found, judging = (
            tuple(f"{question.id} {sign}" for question in some for sign in "+-")
            for some in (self.found_on, self.scores.questions)
        )
        return Halves(found, judging, ())

    def neutral(self, layer: int) -> NDArray[np.float64]:
        """(question, width) states of the judging questions without a system prompt."""
        count = len(self.scores.questions)
        return self._part(len(self._states.values) - count, count).at(layer, LAST)

    def at(self, layer: int) -> Direction:
        """The direction at a layer."""
        return self.contrast.direction(layer, LAST, self.split.discovery)

    @property
    def chosen(self) -> Direction:
        """The direction at the chosen layer.

        Raises:
            NotApplicable: adding it raises the score at no layer.
        """
        return self.at(self._layer)

    def outcome(self, questions: Sequence[TraitQuestion] | None = None) -> Statements:
        """The score of questions without a system prompt; of those that judge where None."""
        some = self.scores.questions if questions is None else tuple(questions)
        index = pd.Index([question.id for question in some], name="item")
        encode = self.adapter.chat.encode
        return Statements(
            f"score of '{self.trait.name}'",
            [prompt_of(self.adapter, question, "") for question in some],
            pd.DataFrame({QUESTION: list(index)}, index=index),
            [encode(question.consistent) for question in some],
            [encode(question.inconsistent) for question in some],
        )

    # -- projection --------------------------------------------------------------------------------------------

    def separated(self) -> Separated:
        """How far the judging prompts that ask for the trait lie from those that ask for its opposite."""
        return separation(self.contrast, self.split)

    def gap(self, direction: Direction) -> Estimate:
        """Distance of the two kinds of judging prompts along a direction, in standard deviations within a kind."""
        return self.separated().gap(direction.layer, direction.position, direction)

    def auc(self, direction: Direction) -> Estimate:
        """Chance that a judging prompt for the trait lies above one for its opposite."""
        return self.separated().auc(direction.layer, direction.position, direction)

    @shared_measurement
    def in_the_user_turn(self) -> Estimate:
        """The same distance where the instruction heads the user turn in place of a system prompt: another template of
        the same prompts."""
        own, scores = self.chosen, self.scores
        sides = {POSITIVE: 0, NEGATIVE: 1}
        prompts = [
            prompt_of(self.adapter, replace(question, text=f"{scores.system(n)[side]}\n\n{question.text}"), "")
            for side in sides.values()
            for n, question in enumerate(scores.questions)
        ]
        states = read_states(self.adapter, prompts, (LAST,), layers=[own.layer])
        values, count = self.contrast.states.values.copy(), len(scores.questions)
        layer, half = self.contrast.states.place(own.layer, LAST)[0], len(values) // 2
        values[half - count : half, layer], values[-count:, layer] = (
            states.values[:count, 0],
            states.values[count:, 0],
        )
        other = replace(self.contrast, states=replace(self.contrast.states, values=values))
        gap = separation(other, self.split).gap(own.layer, own.position, own)
        return replace(gap, name=f"{gap.name}, instruction in the user turn")

    @shared_measurement
    def null(self) -> Mapping[str, Direction]:
        """Null directions at the chosen place: a random one, one with the covariance of the states, and the difference
        of means after the two kinds were dealt anew within each question."""
        return nulls(self.contrast, self.chosen, self.split.discovery, seed=self.scores.seed, each=1)

    # -- choosing ----------------------------------------------------------------------------------------------

    @shared_measurement
    def _layer(self) -> int:
        place = choose(self._swept, 1)
        if place is None:
            raise NotApplicable(
                f"no layer's direction raises the score of '{self.trait.name}' when it is added, so there is none to "
                "judge"
            )
        return place.layer

    @shared_measurement
    def _swept(self) -> Swept:
        """The score with each layer's direction added, as long as it is, where the answer is predicted."""
        some = self.found_on[:CHOOSING]
        note(f"the layer is chosen on {len(some)} of the questions that find the direction")
        last = round(KEPT * self.adapter.layers)
        layers = range(last - 1, -1, -max(1, round(last / LAYERS)))
        return sweep(
            self.adapter, self.contrast, self.outcome(some), self.split.discovery, kind="add", dose=None, at=REPLY,
            layers=sorted(layers),
        )  # fmt: skip

    @shared_measurement
    def _states(self) -> States:
        """All prompts at all layers: of the trait, of its opposite, and judging questions without a system prompt."""
        judging = self.scores.prompts
        prompts = []
        for side, condition in enumerate((POSITIVE, NEGATIVE)):
            for number, question in enumerate(self.found_on):
                pair = self.trait.extracting[number % len(self.trait.extracting)]
                prompts.append(prompt_of(self.adapter, question, pair[side]))
            prompts += judging[condition]
        return read_states(self.adapter, [*prompts, *judging[NEUTRAL]], (LAST,))

    def _part(self, start: int, count: int) -> States:
        whole = self._states
        return States(whole.values[start : start + count], whole.layers, whole.positions)
