"""Directions of deference, of agreement with a right user and of praise: found on one half of the topics.

    deference = mean of the states at the wrong answer - mean of those at the right one, said to a user who is wrong
    agreement = mean of the states at the right answer - mean of those at the wrong one, said to a user who is right
    praise    = mean of the states at the end of a sentence that praises the user - the same of a plain sentence

So each is the contrast of an answer that follows the user with one that does not (contrastive activation addition:
Panickssery et al. 2023, arXiv:2312.06681). The layer is chosen on the discovery half by what adding its direction does
to deference there. The published finding is that these behaviours lie on directions of their own (arXiv:2509.21305).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from auditkit.adapters.chat import Prompt
from auditkit.claims.evidence import note
from auditkit.claims.outcomes import NotApplicable
from auditkit.claims.shared import shared_measurement
from auditkit.data.prompts import Chat
from auditkit.findings.asking.formats import Question
from auditkit.findings.sycophancy.measurements.deference import Deference
from auditkit.findings.sycophancy.prompts import PRAISE, RIGHT, WRONG, asked_by
from auditkit.methods.contrast.directions import Contrast, Direction
from auditkit.methods.contrast.states import States, read_last
from auditkit.methods.contrast.sweeps import KEPT
from auditkit.record.figures import Figure, Table
from auditkit.stats.effects.resampled import Resampled
from auditkit.stats.halves import Halves, two_halves
from auditkit.stats.measurement import Measurement

DEFERENCE, AGREEMENT, PRAISING = DIRECTIONS = ("deference", "agreement with a right user", "praise")
FITTED = 24
"""Known questions of each half on which directions are found."""
LAYERS = 6
"""Layers that are tried, evenly over the depth: neighbouring layers have nearly the same direction."""


class SycophancyDirections:
    """Directions of one model, by layer, from each half of the topics.

    Args:
        deference: the questions, and what the model answers to each speaker.
    """

    def __init__(self, deference: Deference) -> None:
        self.deference, self.adapter, self.seed = deference, deference.adapter, deference.seed

    def notes(self) -> tuple[str, ...]:
        """On what the directions were found."""
        halves = (self.questions(exchanged) for exchanged in (False, True))
        one, other = (len(some) for some in halves)
        return (f"directions of one half of the topics from {one} questions, and of the other half from {other}",)

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers that are tried."""
        last = round(KEPT * self.adapter.layers)
        return tuple(sorted(range(last - 1, -1, -max(1, round(last / LAYERS)))))

    @shared_measurement
    def split(self) -> Halves:
        """Known questions in two halves, by whole topics.

        Raises:
            NotApplicable: the model gives in to no user, or as `Deference`. Inconclusive: too few topics.
        """
        gives_in = self.deference.by(WRONG).describe()
        if not (gives_in.lower is not None and gives_in.lower > 0):
            raise NotApplicable(
                "no deference to find a direction of: a wrong user lowers the right answer's lead by "
                f"{gives_in.estimate or 0:.2g} logits, and the interval is not above zero"
            )
        return two_halves(self._table(self.deference.known), self.seed, "sycophancy")

    def questions(self, exchanged: bool = False) -> list[Question]:
        """The first known questions of the discovery half, or of the other one, spread over its topics."""
        chosen = set(self.split.both_ways[exchanged].discovery)
        return [question for question in self.deference.known if question.id in chosen][:FITTED]

    def contrast(self, name: str, exchanged: bool = False) -> Contrast:
        """The states of one behaviour against its opposite, on one half of the topics."""
        return self._contrasts[name, exchanged]

    def direction(self, name: str, layer: int, exchanged: bool = False) -> Direction:
        """The direction of one behaviour at a layer, from one half of the topics."""
        return self.contrast(name, exchanged).direction(layer, -1)

    def nearer(self, other: str, layer: int) -> Resampled:
        """By how much nearer deference of one half is to deference of the other half than to another behaviour of it.

        Nearness is the cosine, without its sign for another behaviour: what points the other way is no other direction.
        """
        own, strange = self._differences(DEFERENCE, layer), self._differences(other, layer)

        def statistic(weights: np.ndarray) -> np.ndarray:
            one, two = (_means(weights, own, half) for half in self._halves)
            first, second = (_means(weights, strange, half) for half in self._halves)
            across = (np.abs(_cosine(one, second)) + np.abs(_cosine(two, first))) / 2
            return np.asarray(_cosine(one, two) - across)

        name = f"cosine of deference with deference minus that with {other}"
        return Resampled(name, "", self._fitted, statistic, self.seed)

    def cosines(self, layer: int) -> Figure:
        """Cosines of all directions, those of one half with those of the other."""
        units = {
            (name, half): self.direction(name, layer, half).unit for name in DIRECTIONS for half in (False, True)
        }
        rows: list[list[str | float | None]] = []
        for one in DIRECTIONS:
            both = [
                float(units[one, False] @ units[other, True] + units[one, True] @ units[other, False]) / 2
                for other in DIRECTIONS
            ]
            rows.append([one, *(round(value, 3) for value in both)])
        return Table(
            "Each row: the cosine of one direction, from one half of the topics, with each direction from the other "
            f"half, at layer {layer} (mean over both ways). On the diagonal stands how well a direction is known from "
            "so many questions: 1 would be perfectly.",
            ["direction", *DIRECTIONS],
            rows,
        ).titled("Cosines of the directions")

    # -- measuring ---------------------------------------------------------------------------------------------

    @shared_measurement
    def _contrasts(self) -> Mapping[tuple[str, bool], Contrast]:
        """(behaviour, half) -> its contrast; both halves are read together."""
        halves = [self.questions(exchanged) for exchanged in (False, True)]
        every = [question for half in halves for question in half]
        out: dict[tuple[str, bool], Contrast] = {}
        for name in DIRECTIONS:
            pairs = [self._pair(name, question, number) for number, question in enumerate(every)]
            states = read_last(self.adapter, [prompt for pair in pairs for prompt in pair], self.layers)
            start = 0
            for exchanged, half in zip((False, True), halves, strict=True):
                rows = slice(2 * start, 2 * (start + len(half)))
                follows, not_ = (
                    States(states.values[rows][first::2], states.layers, states.positions) for first in (0, 1)
                )
                out[name, exchanged] = Contrast.of_pairs(name, follows, not_, self._table(half))
                start += len(half)
        note(f"states are read at {len(self.layers)} layers, at the answer or at the end of the praise")
        return out

    def _pair(self, name: str, question: Question, number: int) -> tuple[Prompt, Prompt]:
        """A prompt with what follows the user, and the same with what does not."""
        if name == PRAISING:
            return self._praised(question, number)
        speaker, answers = (WRONG, question.answers[1::-1]) if name == DEFERENCE else (RIGHT, question.answers[:2])
        asked = self.adapter.chat(asked_by(question, speaker).chat(""))
        follows, not_ = (Prompt("", (*asked.ids, answer)) for answer in answers)
        return follows, not_

    def _praised(self, question: Question, number: int) -> tuple[Prompt, Prompt]:
        praise, plain = (
            self.adapter.chat(Chat(user=question.user, assistant=text)) for text in PRAISE[number % len(PRAISE)]
        )
        return praise, plain

    @property
    def _fitted(self) -> Measurement:
        """The questions of both halves."""
        some = [*self.questions(False), *self.questions(True)]
        table = self._table(some)
        lead = pd.DataFrame({"known": np.ones(len(some))}, table.index)
        return Measurement("questions that directions come from", "1", lead, table)

    @property
    def _halves(self) -> tuple[np.ndarray, np.ndarray]:
        """(questions of both halves,) of which half each is."""
        first = np.arange(len(self._fitted.values)) < len(self.questions(False))
        return first, ~first

    def _differences(self, name: str, layer: int) -> np.ndarray:
        """(questions of both halves, width) what follows the user minus what does not."""
        parts = []
        for exchanged in (False, True):
            contrast = self.contrast(name, exchanged)
            states = contrast.states.at(layer, -1)
            parts.append(states[contrast.positive] - states[~contrast.positive])
        return np.concatenate(parts)

    def _table(self, questions: Sequence[Question]) -> pd.DataFrame:
        return pd.DataFrame(
            {"topic": [q.topic for q in questions]}, pd.Index([q.id for q in questions], name="item")
        )


def _means(weights: np.ndarray, values: np.ndarray, half: np.ndarray) -> np.ndarray:
    """(draws, width) weighted means of values over one half; 0 where a draw has none of it."""
    some = weights * half
    return np.asarray((some / np.maximum(some.sum(1, keepdims=True), 1e-12)) @ values)


def _cosine(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(draws,) cosines of rows; 0 where one of them has no length."""
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return np.asarray((one * other).sum(1) / np.maximum(lengths, 1e-300))
