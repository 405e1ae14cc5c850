"""How personas answer: accuracy and logit difference by persona word (finding D of Poonia & Jain 2025,
arXiv:2507.20936).

The same questions are asked without a persona, as "a student" without a word, and under words of several groups:
positive, negative, racial, colour, neutral and invented ones. Nothing is edited in the model. Two groups are compared
item by item. An item is one question under the i-th word of each group, so that the same questions are compared; an
interval generalises to other questions and other words. Each word is combined with some of the questions, and different
words with different ones: the width of an interval depends on the numbers of words and questions, and hardly on whether
every word is asked every question.

Words of a group make prompts of one length, so that groups do not differ by tokens per word. Invented words, which no
tokenizer has as one token, are the exception, and the table shows their length. Synonyms are the comparison: a swap of
two words with one meaning changes the tokens and not the persona.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from auditkit.claims.evidence import note
from auditkit.claims.outcomes import Unsupported
from auditkit.claims.shared import shared_measurement
from auditkit.data.order import shuffle_key
from auditkit.data.personas import Persona, PersonaPair, synonym_pairs, without_reuse
from auditkit.engine.pairs import right_and_wrong
from auditkit.findings.asking.formats import Question
from auditkit.findings.asking.questions import PersonaQuestions
from auditkit.methods.patching import difference
from auditkit.notebook import Showable
from auditkit.record.figures import Dot, DotGroup, Dots, Figure, Table
from auditkit.stats.design import incomplete_crossing
from auditkit.stats.effects.mean import Estimate, mean_difference
from auditkit.stats.effects.rate import rate
from auditkit.stats.intervals import MIN_CLUSTERS, Array
from auditkit.stats.measurement import Measurement

NOBODY, PLAIN = "no persona", "no attribute"
"""Names of the two arms without a word: no system turn, and "You are a student."."""

QUESTIONS, WORDS, EACH = 48, 16, 2
"""Defaults: questions, words of a group at most, and under how many of them a question is asked."""

LOGIT, ACCURACY, PROBABILITY = "logit difference", "accuracy", "log probability"
_UNITS = {LOGIT: "logit", ACCURACY: "1", PROBABILITY: "nat"}
_ARMS = (NOBODY, PLAIN)

Shift = tuple[float | None, float | None, float | None]
"""Logits from the answer without a persona, and the interval's ends."""


@dataclass(frozen=True)
class PersonaGroup:
    """Personas whose answers are pooled.

    Attributes:
        words: None is no persona at all.
        slots: a number for each word, which decides with which questions it is combined; empty: with every question.
        tokens: how many more each word's prompt has than that of a student without an attribute.
        note: which words are not used; empty where all are.
        among: of one word, the group that it is asked with; None: the group is asked by itself.
    """

    name: str
    words: tuple[Persona | None, ...]
    slots: tuple[int, ...]
    tokens: int
    note: str = ""
    among: PersonaGroup | None = None

    def single_words(self) -> list[PersonaGroup]:
        """One group for each word."""
        return [
            replace(self, name=word.word, words=(word,), slots=(slot,), among=self)
            for word, slot in zip(self.words, self.slots, strict=False)
            if word is not None
        ]


class PersonaAnswers(Showable):
    """What one model answers under each persona; each prompt is run once.

    Args:
        questions: the model and what it is asked.
        n_items: questions; `QUESTIONS` where None.
        n_words: words of each group at most. A question is asked under `EACH` of them.
        synonyms: pairs of words with one meaning, to use instead of the project's own.
    """

    def __init__(
        self,
        questions: PersonaQuestions,
        *,
        n_items: int | None = None,
        n_words: int = WORDS,
        synonyms: Sequence[PersonaPair] | None = None,
    ) -> None:
        self.questions, self.n_words = questions, n_words
        self.asked = questions.items[: n_items or QUESTIONS]
        slots = [str(slot) for slot in range(min(n_words, max(map(len, questions.groups.values()))))]
        names = [question.id for question in self.asked]
        self._dealt = incomplete_crossing(names, slots, EACH, seed=questions.seed, name="answers")
        self._synonyms = synonym_pairs() if synonyms is None else tuple(synonyms)

    # -- claims ------------------------------------------------------------------------------------------------

    def compare(self, group: str, *, against: str, outcome: str = LOGIT) -> Estimate:
        """Mean over paired items of an outcome under one group minus that under another; negative: `group` is worse.

        Args:
            group, against: names of groups of words, `NOBODY` or `PLAIN`.
            outcome: `LOGIT`, `ACCURACY` (right as the questions' format says) or `PROBABILITY` (of the right answer).

        Raises:
            NotApplicable: too few words of a group can be asked.
        """
        one, other = self._named(group), self._named(against)
        measurement = self._measured([one, other], outcome)
        if outcome == ACCURACY:
            better, worse = (measurement.condition(name) for name in (against, group))
            note(f"an answer is right when {self.questions.format.right}")
            note("intervals of accuracy are those of paired differences: McNemar's comparison, clustered")
            note(
                f"right under {against} alone in {int((better > worse).sum())} of {len(better)} items, under {group} "
                f"alone in {int((worse > better).sum())}"
            )
        return mean_difference(measurement, group, against, name=f"{outcome}, {group} minus {against}")

    def swaps(self, group: str, *, against: str) -> tuple[Estimate, Estimate]:
        """How far swapping a word moves the logit difference, in either direction.

        The first estimate swaps a word for its synonym, the second a word of one group for one of the other: means of
        absolute differences over the same items, in logits. No word is in both, since intervals over words would count
        a word twice that stands in the labels of two items.

        Raises:
            NotApplicable: too few words, or synonyms of equal token length.
        """
        synonyms = self._synonym_sides
        used = {word.word for side in synonyms for word in side.words if word is not None}
        sides = [*synonyms, *(self._without(self._named(name), used) for name in (group, against))]
        measured = self._measured(sides, LOGIT)
        values = [measured.condition(side.name) for side in sides]
        sizes = {
            "synonyms": np.abs(values[0] - values[1]),
            f"{group} and {against}": np.abs(values[2] - values[3]),
        }
        table = pd.DataFrame(sizes, index=measured.values.index)
        swapped = Measurement("size of a swap", "logit", table, measured.clusters, measured.prompts)
        same, opposites = (
            Estimate(f"change by a swap, {name}", "logit", swapped, size, shown_conditions=(name,))
            for name, size in sizes.items()
        )
        return same, opposites

    def notes(self) -> tuple[str, ...]:
        """What a reader of the figures must know."""
        return self.questions.notes()

    def figures(self) -> tuple[Figure, Figure]:
        """A table of all groups and words, and a dot plot of how far they move the answer."""
        rows, drawn = [], []
        for group in (group for group in self._groups.values() if group.name in _ARMS or self._enough(group)):
            words = [
                word for word in group.single_words() if self._asked_in(word.slots[0])
            ]  # few items leave some out
            listed = [group, *(words if len(words) > 1 else ())]
            shifts = [self._shift(each) for each in listed]
            for each, shift in zip(listed, shifts, strict=True):
                rows.append(self._row(each, group.name if each is group else f"· {each.name}", shift))
            if group.name != NOBODY:
                names = ["all", *(each.name for each in listed[1:])]
                drawn.append(
                    DotGroup(group.name, [Dot(name, *shift) for name, shift in zip(names, shifts, strict=True)])
                )
        table = Table(
            "Each row: questions under one persona, or under all of a group. Tokens: how many more than in "
            f'"a student". Right: {self.questions.format.right}. Difference: logit of the right answer minus that of '
            "the wrong one, or the mean of several. The last columns compare it with the same questions without a "
            "persona, for which the chat template may have a default. Intervals are 95 %, over topics and words.",
            [
                *("persona", "tokens", "answers", "right", "right from", "right to"),
                *("logit difference", "minus none", "minus none from", "minus none to"),
            ],
            rows,
        )
        dots = Dots(
            "logit difference minus that without a persona (logit)",
            "Each line: how far a persona moves the answer from where it is without one (dashed), with its 95 % "
            'interval; "all" pools the words of a group. Single words are exploratory: of twenty words without an '
            "effect, one interval excludes the line by chance.",
            drawn,
            reference=0.0,
        )
        return table.titled("Answers by persona"), dots.titled("How far each persona moves the answer")

    # -- groups ------------------------------------------------------------------------------------------------

    def _named(self, name: str) -> PersonaGroup:
        """A group that can be compared; what was left out of it is noted."""
        if name not in self._groups:
            raise KeyError(f"no group {name!r}; there are {', '.join(self._groups)}")
        group = self._groups[name]
        if name not in _ARMS and not self._enough(group):
            raise Unsupported(
                f"only {len(group.words)} {name} words make prompts of one length, {MIN_CLUSTERS} are needed"
                + (f" ({group.note})" if group.note else "")
            )
        for text in self.questions.notes():
            note(text)
        if group.note:
            note(group.note)
        return group

    def _enough(self, group: PersonaGroup) -> bool:
        return len(group.words) >= MIN_CLUSTERS

    def _without(self, group: PersonaGroup, used: set[str]) -> PersonaGroup:
        """The group of other words than these."""
        words = [word for word in self.questions.groups[group.name] if word.word not in used]
        left = self._group(group.name, words) if words else replace(group, words=())
        if not self._enough(left):
            raise Unsupported(
                f"only {len(left.words)} {group.name} words that are no synonym make prompts of one length, "
                f"{MIN_CLUSTERS} are needed"
            )
        return left

    @shared_measurement
    def _groups(self) -> dict[str, PersonaGroup]:
        plain = Persona("", PLAIN)
        arms = (
            PersonaGroup(NOBODY, (None,), (), self._length(None) - self._length(plain)),
            PersonaGroup(PLAIN, (plain,), (), 0),
        )
        grouped = (self._group(name, words) for name, words in self.questions.groups.items())
        return {group.name: group for group in (*arms, *grouped)}

    @shared_measurement
    def _common(self) -> int:
        """Tokens of most words' prompts."""
        lengths = (self._length(word) for words in self.questions.groups.values() for word in words)
        return Counter(lengths).most_common(1)[0][0]

    def _group(self, name: str, words: Sequence[Persona]) -> PersonaGroup:
        """Words of one prompt length, that of most words where it leaves enough, in an order fixed by the seed."""
        order = sorted(words, key=lambda word: shuffle_key(self.questions.seed, word.word))
        lengths, common = [self._length(word) for word in order], self._common
        if lengths.count(common) < MIN_CLUSTERS:
            common = Counter(lengths).most_common(1)[0][0]
        fitting = [word for word, length in zip(order, lengths, strict=True) if length == common]
        others = [(word.word, length) for word, length in zip(order, lengths, strict=True) if length != common]
        left = ""
        if others:
            left = (
                f"{name}: {len(others)} of {len(order)} words not used, since prompts of one length are compared "
                f"(first: {others[0][0]!r} makes {others[0][1]} tokens, not {common})"
            )
        words = tuple(fitting[: self.n_words])
        return PersonaGroup(name, words, tuple(range(len(words))), common - self._length(Persona("", PLAIN)), left)

    @shared_measurement
    def _synonym_sides(self) -> tuple[PersonaGroup, PersonaGroup]:
        """First and second words of the synonyms whose prompts have one length."""
        pairs = [pair for pair in self._synonyms if self._length(pair.clean) == self._length(pair.corrupt)]
        if len(pairs) < MIN_CLUSTERS:
            raise Unsupported(
                f"only {len(pairs)} of {len(self._synonyms)} pairs of synonyms have equal token length, {MIN_CLUSTERS} "
                "are needed"
            )
        pairs = sorted(pairs, key=lambda pair: shuffle_key(self.questions.seed, pair.id))
        pairs = list(without_reuse(pairs, lambda pair: (pair.clean.word, pair.corrupt.word)))[: self.n_words]
        slots = tuple(range(len(pairs)))
        return (
            PersonaGroup("a word", tuple(pair.clean for pair in pairs), slots, 0),
            PersonaGroup("its synonym", tuple(pair.corrupt for pair in pairs), slots, 0),
        )

    def _length(self, persona: Persona | None) -> int:
        return len(self.questions.prompt(persona, self.asked[0]))

    # -- measuring ---------------------------------------------------------------------------------------------

    def _measured(self, groups: Sequence[PersonaGroup], outcome: str) -> Measurement:
        """One condition per group; items are questions under the i-th words, and groups of one word repeat it."""
        several = [group.slots for group in groups if group.slots]
        slots: Sequence[int | None] = min(several, key=len) if several else (None,)
        words = {g.name: [g.words[i if g.slots else 0] for i in range(len(slots))] for g in groups}
        columns = zip(*words.values(), strict=True)
        labels = ["/".join(word.word or PLAIN if word else NOBODY for word in column) for column in columns]
        cells = [(i, question) for i, slot in enumerate(slots) for question in self._asked_in(slot)]
        items = [f"{question.id}|{labels[i]}" for i, question in cells]
        clusters = pd.DataFrame({"topic": [question.topic for _, question in cells]}, index=items)
        if len(slots) > 1:
            clusters["words"] = [labels[i] for i, _ in cells]
        asked = {name: [(under[i], question) for i, question in cells] for name, under in words.items()}
        said = {group.name: self._values(group, asked[group.name], outcome) for group in groups}
        values = pd.DataFrame(said, index=items)
        texts = {name: [self.questions.prompt(*cell).text for cell in mine] for name, mine in asked.items()}
        prompts = {item: {name: texts[name][k] for name in words} for k, item in enumerate(items)}
        return Measurement(f"{outcome} by persona", _UNITS[outcome], values, clusters, prompts)

    def _asked_in(self, slot: int | None) -> Sequence[Question]:
        """Questions that the words of a slot are combined with; all of them for None."""
        if slot is None:
            return self.asked
        dealt = {question for question, word in self._dealt if word == str(slot)}
        return [question for question in self.asked if question.id in dealt]

    def _values(
        self, group: PersonaGroup, cells: Sequence[tuple[Persona | None, Question]], outcome: str
    ) -> Array:
        """(cells,) of one outcome, among all that the group is asked: so they are the same in every comparison."""
        whole = group.among or group
        if whole.slots:
            words = zip(whole.words, whole.slots, strict=True)
            every = [(word, question) for word, slot in words for question in self._asked_in(slot)]
        else:
            every = [(word, question) for word in whole.words for question in self.asked]
        places = {cell: place for place, cell in enumerate(every)}
        got = self.questions.ask(every, "personas").taken([places[cell] for cell in cells])
        if outcome == PROBABILITY:
            return got.log_probability.double().numpy()
        if outcome == LOGIT:
            return difference(right_and_wrong(got.logits))
        right = got.said if self.questions.format.greedy else got.logits[:, 0] > got.logits[:, 1:].amax(1)
        return right.double().numpy()

    def _row(self, group: PersonaGroup, name: str, shift: Shift) -> list[str | float | None]:
        right = rate(self._measured([group], ACCURACY), group.name, name="right").describe()
        logit = float(self._measured([group], LOGIT).condition(group.name).mean())
        return [name, group.tokens, right.n, right.estimate, right.lower, right.upper, logit, *shift]

    def _shift(self, group: PersonaGroup) -> Shift:
        """Logit difference minus that without a persona, with its interval."""
        if group.name == NOBODY:
            return None, None, None
        measured = self._measured([group, self._groups[NOBODY]], LOGIT)
        effect = mean_difference(measured, group.name, NOBODY, name="shift").describe()
        return effect.estimate, effect.lower, effect.upper
