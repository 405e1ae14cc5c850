"""How strongly a model's answers have a trait, read from fixed answers; nothing is generated.

    score = log probability of the answer that fits the trait - that of the answer that does not, per token, in nats

A question is an item, and each question is a cluster. Every question is asked without a system prompt, with one that
asks for the trait, and with the opposed one. System prompts are those that find no direction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from auditkit.adapters.chat import Prompt
from auditkit.adapters.errors import ModelError
from auditkit.adapters.protocol import Adapter
from auditkit.claims.outcomes import Inconclusive, NotApplicable, Unsupported
from auditkit.claims.shared import shared_measurement
from auditkit.data.prompts import Chat
from auditkit.engine.continuation.shared_prefix import log_likelihoods
from auditkit.findings.traits.prompts import NEGATIVE, NEUTRAL, POSITIVE, QUESTION, Trait, TraitQuestion, drawn
from auditkit.record.figures import Dots, Figure
from auditkit.stats.effects.mean import Estimate
from auditkit.stats.intervals import MIN_CLUSTERS
from auditkit.stats.measurement import Measurement

Array = NDArray[np.float64]

DEFAULT_QUESTIONS = 10
"""Questions of each trait that judge by default."""
CONDITIONS = (NEUTRAL, POSITIVE, NEGATIVE)
UNIT = "nats per token"
MOVED = 0.1
"""Nats per token; the least by which opposed system prompts must move a score before there is a trait to look for: the
odds of an answer of ten tokens then change by a factor of 2.7."""


class FixedAnswers:
    """Scores of questions with two fixed answers each, asked with and without system prompts; each is run once.

    Args:
        adapter: the model.
        questions: in their order.
        systems: pairs of opposed system prompts, dealt to the questions in turn.

    Raises:
        Unsupported: a question that the model's template or context cannot hold.
    """

    def __init__(
        self, adapter: Adapter, questions: Sequence[TraitQuestion], systems: Sequence[tuple[str, str]]
    ) -> None:
        self.adapter, self.questions, self.systems = adapter, tuple(questions), tuple(systems)
        self.prompts: Mapping[str, tuple[Prompt, ...]] = {
            condition: tuple(self._prompt(n, condition) for n in range(len(self.questions)))
            for condition in CONDITIONS
        }
        self.answers = tuple(
            tuple(tuple(adapter.chat.encode(text)) for text in (question.consistent, question.inconsistent))
            for question in self.questions
        )

    def scores(self, condition: str = NEUTRAL) -> Array:
        """(question,) in nats per token."""
        return self._scores[condition]

    @property
    def clusters(self) -> pd.DataFrame:
        """(question x factor) labels."""
        index = pd.Index([question.id for question in self.questions], name="item")
        return pd.DataFrame({QUESTION: list(index)}, index=index)

    def table(self, name: str, unit: str, columns: Mapping[str, Array]) -> Measurement:
        """Values of the questions by condition."""
        prompts = {
            question.id: {
                condition: self.prompts[condition][n].text for condition in columns if condition in CONDITIONS
            }
            for n, question in enumerate(self.questions)
        }
        return Measurement(name, unit, pd.DataFrame(dict(columns), self.clusters.index), self.clusters, prompts)

    def estimate(self, name: str, condition: str = NEUTRAL) -> Estimate:
        """Mean score under a condition."""
        table = self.table(name, UNIT, {condition: self.scores(condition)})
        return Estimate(name, UNIT, table, table.condition(condition), shown_conditions=(condition,))

    def difference(self, name: str) -> Estimate:
        """Score with the first system prompt of a pair minus that with the opposed one."""
        table = self.table(name, UNIT, {condition: self.scores(condition) for condition in (POSITIVE, NEGATIVE)})
        values = table.condition(POSITIVE) - table.condition(NEGATIVE)
        return Estimate(name, UNIT, table, values, shown_conditions=(POSITIVE, NEGATIVE))

    @shared_measurement
    def _scores(self) -> dict[str, Array]:
        """Condition -> (question,); what the answers of a question share is run once."""
        prompts = [self.prompts[condition][n] for condition in CONDITIONS for n in range(len(self.questions))]
        answers = [both for _ in CONDITIONS for both in self.answers]
        found = log_likelihoods(
            self.adapter,
            [prompt.ids for prompt in prompts for _ in range(2)],
            [answer for both in answers for answer in both],
            "fixed answers",
        )
        means = np.array([float(tokens.mean()) for tokens in found]).reshape(len(CONDITIONS), -1, 2)
        return {name: rows[:, 0] - rows[:, 1] for name, rows in zip(CONDITIONS, means, strict=True)}

    def _prompt(self, number: int, condition: str) -> Prompt:
        pair = self.systems[number % len(self.systems)]
        system = {NEUTRAL: "", POSITIVE: pair[0], NEGATIVE: pair[1]}[condition]
        return prompt_of(self.adapter, self.questions[number], system)


class TraitScores(FixedAnswers):
    """Scores of one model on the questions that judge one trait.

    Args:
        trait: what is asked.
        seed: of the questions that are drawn.
        n_items: questions; all where None.
    """

    def __init__(self, adapter: Adapter, trait: Trait, *, seed: int, n_items: int | None = None) -> None:
        super().__init__(adapter, drawn(trait.evaluate, n_items, seed), trait.judging or trait.systems)
        self.trait, self.seed = trait, seed

    def notes(self) -> tuple[str, ...]:
        """What a reader of every claim must know."""
        trait = self.trait
        return (
            f"trait '{trait.name}': {len(self.questions)} of {len(trait.evaluate)} questions judge; "
            f"{len(trait.judging)} pairs of system prompts took no part in finding the direction",
            f"prompts: {self.adapter.chat.format}",
        )

    def figures(self) -> tuple[Figure, ...]:
        """The score by system prompt."""
        name = f"score of '{self.trait.name}'"
        shown = {condition: self.estimate(name, condition).describe() for condition in CONDITIONS}
        caption = (
            "Log probability per token of the answer that fits the trait, minus that of the answer that does not. A "
            "system prompt that asks for the trait should move it to the right, and the opposed one to the left."
        )
        dots = Dots.of(f"{name} ({UNIT})", caption, {self.trait.name: shown}, 0.0)
        return (dots.titled(f"Score of '{self.trait.name}' by system prompt"),)

    def score(self) -> Estimate:
        """Mean score without a system prompt."""
        return self.estimate(f"score of '{self.trait.name}'")

    def gap(self) -> Estimate:
        """Score with the trait's system prompt minus that with the opposed one."""
        return self.difference(f"score of '{self.trait.name}', trait's minus opposed system prompt")

    def require(self) -> None:
        """Refuse a model whose answers the system prompts do not move.

        Raises:
            NotApplicable: with the difference between opposed system prompts.
            Inconclusive: too few questions for an interval.
        """
        few = len(self.questions)
        if few < MIN_CLUSTERS:
            raise Inconclusive(f"too_few_questions: {few} questions, at least {MIN_CLUSTERS} are needed")
        gap = self.gap().describe()
        if gap.lower is None or gap.upper is None or gap.lower < MOVED:
            within = "" if gap.lower is None else f", interval {gap.lower:.2g} to {gap.upper:.2g}"
            raise NotApplicable(
                f"opposed system prompts move the score of '{self.trait.name}' by {gap.estimate or 0.0:.2g} nats per "
                f"token{within}; below {MOVED:g} there is no trait to look for"
            )


def prompt_of(adapter: Adapter, question: TraitQuestion, system: str) -> Prompt:
    """The prompt of a question.

    Raises:
        Unsupported: the model's template or context cannot hold it.
    """
    try:
        return adapter.chat(Chat(question.text, system))
    except ModelError as error:
        raise Unsupported(f"question {question.id} cannot be asked: {error}") from error
