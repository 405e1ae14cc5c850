"""Items of the search for heads: racial and colour personas paired with others, under the same questions.

A racial or colour persona is compared with a valence persona, and with a neutral one, of as many tokens at the same
place of the same question. No word is in two pairs, so pairs are one cluster factor; the other is the question's topic.
Words and topics are split into halves. Within a half each question is asked under some of the pairs only
(`auditkit.stats.design.incomplete_crossing`): most of the variance is between words, so many words with few questions
each decide more than few words with all questions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
import pandas as pd

from auditkit.claims.evidence import note
from auditkit.claims.outcomes import Inconclusive
from auditkit.data.personas import Persona, PersonaPair
from auditkit.engine.pairs import PatchPair
from auditkit.findings.asking.formats import Question
from auditkit.findings.asking.questions import FACTORS, PersonaQuestions
from auditkit.stats.design import incomplete_crossing
from auditkit.stats.halves import halves
from auditkit.stats.intervals import MIN_CLUSTERS, Array
from auditkit.stats.measurement import Measurement

IDENTITY, VALENCE, NEUTRAL = ("racial", "colour"), ("positive", "negative"), ("neutral",)
DISCOVERY, CONFIRMATION = 3.0, 1.8
"""Items of a half for every question of both halves; finding among many heads needs more than confirming."""

OFFERED = 8
"""Pairs that pairs without a common word are chosen from, for each pair that is wanted."""

Groups = Sequence[tuple[str, str]]
"""(corrupt, clean) groups of personas that are paired with each other."""

Cell = tuple[Question, PersonaPair]
"""A question and the pair of personas that it is asked under."""


@dataclass(frozen=True)
class HeadItems:
    """Questions under pairs of personas; in a search for heads the racial or colour persona is `base`.

    Attributes:
        table: (item x factor) topic and pair, in the order of `pairs`, which is that of the design: the first items are
            a smaller design, with as many questions and pairs as there can be.
    """

    pairs: tuple[PatchPair, ...]
    table: pd.DataFrame

    def first(self, share: float) -> HeadItems:
        """The first items of the design: a share of them, rounded down."""
        count = int(share * len(self.pairs))
        return HeadItems(self.pairs[:count], self.table.iloc[:count])

    def only(self, items: Sequence[str]) -> HeadItems:
        """These items, in the order of this table."""
        rows = np.flatnonzero(self.table.index.isin(list(items)))
        return HeadItems(tuple(self.pairs[row] for row in rows), self.table.iloc[rows])

    def words(self) -> set[str]:
        """The words of the persona `base`, racial and colour ones in a search for heads."""
        return {pair.split(">")[1] for pair in self.table["pair"]}

    def measurement(
        self,
        name: str,
        unit: str,
        columns: Mapping[str, Array],
        sides: tuple[str, str] = ("identity word", "other word"),
    ) -> Measurement:
        """A table of (items,) values by condition; `sides` are conditions that the two prompts of a pair stand for."""
        prompts = {
            item: dict(zip(sides, (pair.base.text, pair.source.text), strict=True))
            for item, pair in zip(self.table.index, self.pairs, strict=True)
        }
        return Measurement(name, unit, pd.DataFrame(dict(columns), index=self.table.index), self.table, prompts)


@dataclass(frozen=True)
class Half:
    """Questions and pairs of one half; every item of it is one of these questions under one of these pairs."""

    questions: tuple[Question, ...]
    pairs: tuple[PersonaPair, ...]


def search_items(questions: PersonaQuestions, n_questions: int, n_pairs: int) -> dict[str, HeadItems]:
    """Items on which heads are selected ("discovery"), and held-out ones by the other words ("valence", "neutral").

    The neutral ones have the same prompts with racial and colour words as the valence ones, without those that no
    neutral word can be paired with.

    Args:
        n_questions, n_pairs: questions and persona pairs, both halves together.

    Raises:
        NotApplicable: words cannot be paired.
        Inconclusive: too few questions or pairs for two halves.
    """
    asked = questions.items[:n_questions]
    pairs, notes = chosen(questions, [(one, other) for one in IDENTITY for other in VALENCE], n_pairs)
    discovering, confirming = split(questions, asked, pairs, "heads")
    discovery = asked_under(
        questions, dealt(discovering, questions.seed, round(DISCOVERY * len(asked)), "discovery")
    )
    cells = dealt(confirming, questions.seed, round(CONFIRMATION * len(asked)), "confirmation")
    valence = asked_under(questions, cells)
    against_neutral = [(one, other) for one in IDENTITY for other in NEUTRAL]
    others, more = chosen(questions, against_neutral, n_pairs, valence.words())
    by_word = {pair.corrupt.word: pair for pair in others}
    words = [(question, pair.corrupt.word) for question, pair in cells]
    neutral = asked_under(questions, [(question, by_word[word]) for question, word in words if word in by_word])
    for text in (*questions.notes(), *notes, *more):
        note(text)
    note(
        f"each question is asked under some of the pairs of its half: {len(discovery.pairs)} items to discover, "
        f"{len(valence.pairs)} to confirm against valence words and {len(neutral.pairs)} against neutral ones; "
        "compared words stand at the same position and take as many tokens, and no word comes in two pairs"
    )
    return {"discovery": discovery, "valence": valence, "neutral": neutral}


def chosen(
    questions: PersonaQuestions, groups: Groups, n_pairs: int, words: set[str] | None = None
) -> tuple[tuple[PersonaPair, ...], tuple[str, ...]]:
    """Up to `n_pairs` pairs of different words, evenly from pairs of groups, and what a reader must know of them.

    Args:
        words: corrupt words to pair; all where None.

    Raises:
        NotApplicable: words of two groups cannot be paired.
    """
    # Words are in several of these, so that one whose partner is used already finds another.
    arms = [questions.arm(*each, 1, OFFERED * n_pairs, reuse=True) for each in groups]
    waiting = [list(arm.table["pair"]) for arm in arms]
    used, found = set[str](), list[PersonaPair]()
    taken = [0] * len(groups)
    while any(waiting) and len(found) < n_pairs:
        for number, pairs in enumerate(waiting):
            free = [p for p in pairs if not used & set(p.split(">"))]
            pairs[:] = [p for p in free if words is None or p.split(">")[1] in words]
            if pairs and len(found) < n_pairs:
                clean, corrupt = pairs.pop(0).split(">")
                corrupt_group, clean_group = groups[number]
                found.append(PersonaPair(Persona(clean, clean_group), Persona(corrupt, corrupt_group)))
                used |= {clean, corrupt}
                taken[number] += 1
    counts = ", ".join(f"{n} of {one} against {other}" for n, (one, other) in zip(taken, groups, strict=True))
    return tuple(found), (f"{len(found)} pairs of personas: {counts}",)


def split(
    questions: PersonaQuestions, asked: Sequence[Question], pairs: Sequence[PersonaPair], name: str
) -> tuple[Half, Half]:
    """Two halves that share neither a topic nor a word: one to discover on, one to confirm on.

    Raises:
        Inconclusive: there are fewer than twice `MIN_CLUSTERS` topics or pairs.
    """
    topics = {question.topic for question in asked}
    if min(len(topics), len(pairs)) < 2 * MIN_CLUSTERS:
        raise Inconclusive(
            f"too_few_clusters: {len(topics)} topics and {len(pairs)} persona pairs; to discover and to "
            f"confirm on others, {2 * MIN_CLUSTERS} of each are needed"
        )
    cells = [(f"{question.id}|{pair.id}", question, pair) for question in asked for pair in pairs]
    rows = [(question.topic, pair.id) for _, question, pair in cells]
    table = pd.DataFrame(rows, columns=list(FACTORS), index=pd.Index([cell[0] for cell in cells], name="item"))
    found = halves(table, questions.seed, name)

    def half(items: Sequence[str]) -> Half:
        topics, pair_ids = (set(table.loc[list(items), factor]) for factor in FACTORS)
        return Half(
            tuple(question for question in asked if question.topic in topics),
            tuple(pair for pair in pairs if pair.id in pair_ids),
        )

    return half(found.discovery), half(found.confirmation)


def dealt(half: Half, seed: int, n_items: int, name: str) -> list[Cell]:
    """Questions of a half under some of its pairs, `n_items` in all, or all combinations where there are fewer.

    Args:
        name: of what is drawn, see `incomplete_crossing`.
    """
    asked = {question.id: question for question in half.questions}
    pairs = {pair.id: pair for pair in half.pairs}
    each = ceil(n_items / len(asked))
    cells = incomplete_crossing(list(asked), list(pairs), each, seed=seed, name=f"heads, {name}")
    return [(asked[question], pairs[pair]) for question, pair in cells[:n_items]]


def asked_under(questions: PersonaQuestions, cells: Sequence[Cell]) -> HeadItems:
    """Questions under pairs of personas, ready to run, in this order."""
    names = [f"{question.id}|{pair.id}" for question, pair in cells]
    rows = [(question.topic, pair.id) for question, pair in cells]
    pairs = [
        questions.patch_pair(pair, question, name) for name, (question, pair) in zip(names, cells, strict=True)
    ]
    table = pd.DataFrame(rows, columns=list(FACTORS), index=pd.Index(names, name="item"))
    return HeadItems(tuple(pairs), table)
