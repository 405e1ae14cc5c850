"""Decisions on the cases of a user's table, measured like the project's own: log odds of the favourable answer.

The answers are the user's words. The answer tokens are the first tokens of each word after "Answer:", in the spellings
of the table, in lower case and capitalised; tokens with which both answers begin are left out. The sensitivity
reference is the user's strong and weak words in the place of the group or, where there are none, a last sentence that
states the answer: it must move the log odds by at least the margin of the claim.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from auditkit.adapters.chat import ChatEncoder
from auditkit.adapters.protocol import Adapter
from auditkit.claims.outcomes import Unsupported
from auditkit.claims.shared import shared_measurement
from auditkit.data.prompts import Chat
from auditkit.findings.identity_bias.measurements.decisions import START, Decisions, log_odds
from auditkit.findings.identity_bias.prompts.items import DecisionCase
from auditkit.findings.identity_bias.prompts.own import OwnCase, OwnDecisionData, filled
from auditkit.stats.effects.mean import Estimate, mean_difference
from auditkit.stats.effects.rate import RateContrast, rate
from auditkit.stats.measurement import Measurement

FAVOURABLE, UNFAVOURABLE = "the favourable answer is called for", "the other one is"


class OwnDecisions(Decisions):
    """The cases of one attribute of a user's table, decided by one model for every group.

    Args:
        adapter: the model.
        data: what `read_own_decisions` or `own_decisions` gives.
        attribute: one of `data.attributes`.
        n_items: cases, spread over domains; all where None.

    Raises:
        NotApplicable: two answers of a case begin with the same tokens for this tokenizer.
        KeyError: the data have no such attribute.
    """

    def __init__(
        self, adapter: Adapter, data: OwnDecisionData, attribute: str, *, seed: int = 0, n_items: int | None = None
    ) -> None:
        self._own = {case.id: case for case in data.cases[attribute]}
        super().__init__(
            adapter, seed=seed, n_items=n_items, cases=data.cases[attribute], people=data.people[attribute]
        )
        self.attribute = attribute
        pairs = {self._own[case.id].answers for case in self.cases}
        self._tokens: Mapping[tuple[str, str], tuple[list[int], list[int]]] = {
            pair: first_tokens(adapter.chat, *pair) for pair in sorted(pairs)
        }

    def reference(self) -> Estimate:
        """Log odds of the favourable answer where it is called for minus those where the other one is, by case, in
        logits."""
        return mean_difference(self._called_for, FAVOURABLE, UNFAVOURABLE, name="favourable answer called for")

    def called_for(self) -> RateContrast:
        """How often the favourable answer is given where it is called for minus how often where the other one is."""
        said = self._said_where_called_for
        answered = said.values["favourable"].dropna().index
        one, other = (
            rate(
                said, "favourable", name=f"favourable, {end}", among=[i for i in answered if i.endswith(f"|{end}")]
            )
            for end in (FAVOURABLE, UNFAVOURABLE)
        )
        contrast: RateContrast = one - other
        return contrast

    def notes(self) -> Iterator[str]:
        """What a reader of a claim on these decisions must know: also the words of the answers, and what is read."""
        yield from super().notes()
        pairs = ", ".join(f"{one!r} or {other!r}" for one, other in self._tokens)
        yield (
            f"own data: {len(self.cases)} cases about {len(self.people)} groups; the answers are {pairs} (favourable "
            "first), of which the first token is read; where notes and tables say yes and no, these are meant"
        )
        yield "validity: the cases are the user's own; what a difference on them stands for is for their author to say"

    @shared_measurement
    def _asked_where_called_for(self) -> tuple[list[str], np.ndarray, np.ndarray]:
        """Texts, log odds and answers of each case where its favourable answer is called for and where it is not."""
        cases = [self._own[case.id] for case in self.cases]
        texts = [text for case in cases for text in _called(case, self.people[0].phrase)]
        prompts = [self.adapter.chat(Chat(user=text, assistant=START)).ids for text in texts]
        odds, said = self._favourable([case for case in cases for _ in range(2)], prompts)
        return texts, odds, said

    @property
    def _said_where_called_for(self) -> Measurement:
        texts, _, said = self._asked_where_called_for
        items = [(case.id, end) for case in self.cases for end in (FAVOURABLE, UNFAVOURABLE)]
        index = pd.Index([f"{case}|{end}" for case, end in items])
        clusters = pd.DataFrame({"case": [self._own[case].cluster for case, _ in items]}, index)
        shown = {item: {"favourable": text} for item, text in zip(index, texts, strict=True)}
        return Measurement(
            "own decisions called for, answers", "1", pd.DataFrame({"favourable": said}, index), clusters, shown
        )

    @property
    def _called_for(self) -> Measurement:
        texts, odds, _ = self._asked_where_called_for
        index = pd.Index([case.id for case in self.cases])
        values = pd.DataFrame(odds.reshape(-1, 2), index, [FAVOURABLE, UNFAVOURABLE])
        shown = {
            case.id: {FAVOURABLE: texts[2 * k], UNFAVOURABLE: texts[2 * k + 1]}
            for k, case in enumerate(self.cases)
        }
        clusters, strata = self._design([(case.id, "") for case in self.cases], index, self.attribute)
        return Measurement("own decisions called for", "logit", values, clusters, shown, strata)

    def _answer_ids(self) -> tuple[list[int], list[int]]:
        return [], []  # each case has its own

    def _favourable(
        self, cases: Sequence[DecisionCase], prompts: Sequence[tuple[int, ...]]
    ) -> tuple[np.ndarray, np.ndarray]:
        odds, said = np.empty(len(cases)), np.full(len(cases), np.nan)
        for pair, tokens in self._tokens.items():
            rows = [i for i, case in enumerate(cases) if self._own[case.id].answers == pair]
            families = [cases[i].id for i in rows]
            if rows:
                odds[rows], said[rows] = log_odds(
                    self.adapter, [prompts[i] for i in rows], families, tokens, f"{pair[0]} or {pair[1]}"
                )
        return odds, said

    def _design(
        self, labels: Sequence[tuple[str, str]], index: pd.Index, attribute: str
    ) -> tuple[pd.DataFrame, pd.Series]:
        """Wordings of one case are one cluster."""
        clusters, strata = super()._design(labels, index, attribute)
        return clusters.assign(case=[self._own[case].cluster for case, _ in labels]), strata


def first_tokens(chat: ChatEncoder, favourable: str, unfavourable: str) -> tuple[list[int], list[int]]:
    """The tokens with which each of two answers begins after "Answer:", without those of the other one.

    Raises:
        NotApplicable: nothing is left of one of them.
    """
    prefix = chat.render(Chat(user="Decide.", assistant=START))
    before = list(chat.encode(prefix))
    found: list[list[int]] = []
    for word in (favourable, unfavourable):
        spellings = dict.fromkeys((word, word.lower(), word[:1].upper() + word[1:]))
        ids = [list(chat.encode(f"{prefix} {spelling}")) for spelling in spellings]
        found.append([one[len(before)] for one in ids if one[: len(before)] == before and len(one) > len(before)])
    one, other = (
        [token for token in dict.fromkeys(own) if token not in not_in] for own, not_in in (found, found[::-1])
    )
    if not one or not other:
        raise Unsupported(
            f"the answers {favourable!r} and {unfavourable!r} begin with the same tokens after '{START}' for this "
            "tokenizer; choose words that begin differently"
        )
    return one, other


def _called(case: OwnCase, phrase: str) -> tuple[str, str]:
    """The case where its favourable answer is called for, and where the other one is."""
    if case.ends:
        return filled(case.case, case.ends[0]), filled(case.case, case.ends[1])
    favourable, unfavourable = (
        f"{filled(case.case, phrase)} The right answer is: {word}." for word in case.answers
    )
    return favourable, unfavourable
