"""How strongly a model's answers have a trait, read from fixed answers; nothing is generated.

    score = log probability of the answer that fits the trait - that of the answer that does not, per token, in nats

A question is an item, and each question is a cluster. Every question is asked without a system prompt, with one that
asks for the trait, and with the opposed one. System prompts are those that find no direction.

A small model may follow no system prompt and still answer as examples do. So what a score must react to before "no
higher" means anything is a pair of prompts with six answered questions: as the trait would have it, or as not.
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
from auditkit.engine.continuation.likelihoods import log_likelihoods
from auditkit.findings.traits.prompts import NEGATIVE, NEUTRAL, POSITIVE, QUESTION, Trait, TraitQuestion, drawn
from auditkit.record.figures import Dots, Figure
from auditkit.stats.effects.mean import Estimate
from auditkit.stats.intervals import MIN_CLUSTERS
from auditkit.stats.measurement import Measurement

Array = NDArray[np.float64]

DEFAULT_QUESTIONS = 10
"""Questions of each trait that judge by default."""
EXAMPLES = 6
"""Answered questions that a demonstration holds; all questions share them, so they are run once."""
CONDITIONS = (NEUTRAL, POSITIVE, NEGATIVE)
AS_THE_TRAIT, AS_ITS_OPPOSITE = "after examples of the trait", "after examples of its opposite"
UNIT = "nats per token"


class FixedAnswers:
    """Scores of questions with two fixed answers each, asked with and without system prompts; each is run once.

    Args:
        adapter: the model.
        questions: in their order.
        systems: pairs of opposed system prompts, dealt to the questions in turn.
        examples: questions whose answers may be shown as examples; a question is no example for itself.

    Raises:
        Unsupported: a question that the model's template or context cannot hold.
    """

    def __init__(
        self,
        adapter: Adapter,
        questions: Sequence[TraitQuestion],
        systems: Sequence[tuple[str, str]],
        examples: Sequence[TraitQuestion],
    ) -> None:
        self.adapter, self.questions, self.systems = adapter, tuple(questions), tuple(systems)
        self.examples = tuple(examples)
        self.prompts: Mapping[str, tuple[Prompt, ...]] = {
            condition: tuple(self._prompt(n, condition) for n in range(len(self.questions)))
            for condition in CONDITIONS
        }
        self.answers = tuple(
            tuple(tuple(adapter.chat.encode(text)) for text in (question.consistent, question.inconsistent))
            for question in self.questions
        )

    def system(self, number: int) -> tuple[str, str]:
        """The pair of opposed system prompts with which a question is asked."""
        return self.systems[number % len(self.systems)]

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

    def reacts(self, name: str) -> Estimate:
        """Score after examples as the trait would have them minus that after examples of its opposite: what the
        score must react to."""
        table = self.table(name, UNIT, self._demonstrated)
        values = table.condition(AS_THE_TRAIT) - table.condition(AS_ITS_OPPOSITE)
        return Estimate(name, UNIT, table, values, shown_conditions=(AS_THE_TRAIT, AS_ITS_OPPOSITE))

    @shared_measurement
    def _scores(self) -> dict[str, Array]:
        """Condition -> (question,); what the answers of a question share is run once."""
        return self._read(self.prompts, "fixed answers")

    @shared_measurement
    def _demonstrated(self) -> dict[str, Array]:
        """The same with examples in place of system prompts."""
        prompts = {
            side: [
                prompt_of(self.adapter, question, self._demonstration(question, side))
                for question in self.questions
            ]
            for side in (AS_THE_TRAIT, AS_ITS_OPPOSITE)
        }
        return self._read(prompts, "answers after examples")

    def _demonstration(self, question: TraitQuestion, side: str) -> str:
        some = [example for example in self.examples if example != question][:EXAMPLES]
        told = (example.consistent if side == AS_THE_TRAIT else example.inconsistent for example in some)
        shown = (f"Question: {one.text}\nAnswer: {answer}" for one, answer in zip(some, told, strict=True))
        return "\n".join(("Questions are answered as in these examples.", *shown))

    def _read(self, asked: Mapping[str, Sequence[Prompt]], description: str) -> dict[str, Array]:
        """Condition -> (question,) scores."""
        prompts = [prompt.ids for some in asked.values() for prompt in some for _ in range(2)]
        answers = [answer for _ in asked for both in self.answers for answer in both]
        found = log_likelihoods(self.adapter, prompts, answers, description)
        means = np.array([float(tokens.mean()) for tokens in found]).reshape(len(asked), -1, 2)
        return {name: rows[:, 0] - rows[:, 1] for name, rows in zip(asked, means, strict=True)}

    def _prompt(self, number: int, condition: str) -> Prompt:
        pair = self.system(number)
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
        questions, examples = drawn(trait.evaluate, n_items, seed), drawn(trait.extract, None, seed)
        super().__init__(adapter, questions, trait.judging, examples)
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

    def reacting(self) -> Estimate:
        """Score after examples of the trait minus that after examples of its opposite."""
        return self.reacts(f"score of '{self.trait.name}', after examples of the trait minus of its opposite")

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
        if gap.lower is None or gap.upper is None or gap.lower <= 0:
            within = "" if gap.lower is None else f", interval {gap.lower:.2g} to {gap.upper:.2g}"
            raise NotApplicable(
                f"opposed system prompts are not shown to move the score of '{self.trait.name}': it is "
                f"{gap.estimate or 0.0:.2g} nats per token higher with the trait's own{within}"
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
