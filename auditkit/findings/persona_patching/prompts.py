"""Items of the search for heads: racial and colour personas paired with others, under the same questions.

A racial or colour persona is compared with a valence persona, and with a neutral one, of as many tokens at the same
place of the same question. No word is in two pairs, so pairs are one cluster factor; the other is the question's topic.
Words and topics are split into halves. Within a half a pair is asked only some of the questions: most of the variance
is between words, so many words with few questions each decide more than few words with all questions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from auditkit.claims.evidence import note
from auditkit.claims.outcomes import Inconclusive
from auditkit.engine.pairs import PatchPair
from auditkit.findings.asking.questions import FACTORS, PairedQuestions, PersonaQuestions
from auditkit.stats.halves import halves
from auditkit.stats.intervals import MIN_CLUSTERS, Array
from auditkit.stats.measurement import Measurement

IDENTITY, VALENCE, NEUTRAL = ("racial", "colour"), ("positive", "negative"), ("neutral",)
DISCOVERY, CONFIRMATION = 2, 3
"""Of the questions of its half, a pair meets one in so many; finding among many heads needs more than confirming."""


@dataclass(frozen=True)
class HeadItems:
    """Questions under pairs of personas; in each pair `base` is the racial or colour persona.

    Attributes:
        table: (item x factor) topic and pair, in the order of `pairs`.
    """

    pairs: tuple[PatchPair, ...]
    table: pd.DataFrame

    def only(self, items: Sequence[str]) -> HeadItems:
        """These items, in the order of this table."""
        rows = np.flatnonzero(self.table.index.isin(list(items)))
        return HeadItems(tuple(self.pairs[row] for row in rows), self.table.iloc[rows])

    def thinned(self, step: int) -> HeadItems:
        """Every pair with one of `step` topics, and every topic with one of `step` pairs."""
        ranks = sum(pd.factorize(self.table[factor], sort=True)[0] for factor in FACTORS)
        return self.only(list(self.table.index[np.asarray(ranks) % step == 0]))

    def require_halves(self) -> None:
        """Refuse items whose topics or pairs are too few to be split in halves.

        Raises:
            Inconclusive: there are fewer than twice `MIN_CLUSTERS` of either.
        """
        counts = self.table.nunique()
        if counts.min() < 2 * MIN_CLUSTERS:
            raise Inconclusive(
                f"too_few_clusters: {counts['topic']} topics and {counts['pair']} persona pairs; to discover and to "
                f"confirm on others, {2 * MIN_CLUSTERS} of each are needed"
            )

    def words(self) -> set[str]:
        """The racial and colour words."""
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


def search_items(questions: PersonaQuestions, n_questions: int, n_pairs: int) -> dict[str, HeadItems]:
    """Items on which heads are selected ("discovery"), and held-out ones by the other words ("valence", "neutral").

    Args:
        n_questions, n_pairs: questions and persona pairs, both halves together.

    Raises:
        NotApplicable: words cannot be paired.
        Inconclusive: too few questions or pairs for two halves.
    """
    items, arms = crossed(questions, VALENCE, n_questions, n_pairs)
    items.require_halves()
    split = halves(items.table, questions.seed, "heads")
    discovery = items.only(split.discovery).thinned(DISCOVERY)
    valence = items.only(split.confirmation).thinned(CONFIRMATION)
    others, more = crossed(questions, NEUTRAL, n_questions, n_pairs, valence.words())
    held = others.table.index[others.table["topic"].isin(set(valence.table["topic"]))]
    neutral = others.only(list(held)).thinned(CONFIRMATION)
    for arm in (*arms, *more):
        for text in questions.notes(arm):
            note(text)
    note(
        f"a pair is asked one in {DISCOVERY} or {CONFIRMATION} questions of its half: {len(discovery.pairs)} items "
        f"to discover, {len(valence.pairs)} to confirm against valence words and {len(neutral.pairs)} against "
        "neutral ones; compared words stand at the same position and take as many tokens, and no word comes in "
        "two pairs"
    )
    return {"discovery": discovery, "valence": valence, "neutral": neutral}


def crossed(
    questions: PersonaQuestions,
    others: Sequence[str],
    n_questions: int,
    n_pairs: int,
    words: set[str] | None = None,
) -> tuple[HeadItems, list[PairedQuestions]]:
    """Up to `n_pairs` pairs of different words, evenly from racial and colour against each of `others`.

    Args:
        words: racial and colour words to pair; all where None.
    """
    groups = [(one, other) for one in IDENTITY for other in others]
    known = [list(questions.arm(*each, 1, 2 * n_pairs, reuse=True).table["pair"]) for each in groups]
    waiting = [list(pairs) for pairs in known]
    used, chosen = set[str](), set[str]()
    while any(waiting) and len(chosen) < n_pairs:
        for pairs in waiting:
            free = [p for p in pairs if not used & set(p.split(">"))]
            pairs[:] = [p for p in free if words is None or p.split(">")[1] in words]
            if pairs and len(chosen) < n_pairs:
                chosen.add(pairs[0])
                used |= set(pairs.pop(0).split(">"))
    # Arms are nested, so all questions are written out for as many pairs as hold the chosen ones.
    needed = [max((n + 1 for n, pair in enumerate(pairs) if pair in chosen), default=0) for pairs in known]
    arms = [
        questions.arm(*each, n_questions, max(n, MIN_CLUSTERS), reuse=True)
        for each, n in zip(groups, needed, strict=True)
    ]
    table = pd.concat([arm.table for arm in arms]).set_index("item")[list(FACTORS)]
    rows = np.flatnonzero(table["pair"].isin(chosen))
    pairs_of = [pair for arm in arms for pair in arm.pairs]
    return HeadItems(tuple(pairs_of[row] for row in rows), table.iloc[rows]), arms
