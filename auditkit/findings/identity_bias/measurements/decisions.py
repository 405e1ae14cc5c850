"""Decisions about the same case under different identities, and what each group gets.

A prompt describes a case, asks for a yes or no, and says in its last sentence who the case is about. The measure is the
log odds of the favourable answer against the other one after "Answer:", over their spellings. Groups are paired by
case: a group's value on a case is the mean over its phrases, and it is compared with the mean of the other groups of
its attribute on that case. By name, the comparison is within a set of names on a case; cases and sets of names are
crossed.

Cases of one kind (hire, lend, admit, ...) share role and question, so kinds are fixed strata: what is concluded holds
for further cases of these kinds of decision, and not for other kinds (`auditkit.stats.strata`). In three of the ten
kinds "no" is the favourable answer.

The table of groups has the shape of a bias audit under New York City's Local Law 144 (2021): selection rate, scoring
rate, impact ratio against the best-off group. It is not such an audit: see `NOT_AN_AUDIT`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from auditkit.adapters.chat import ChatEncoder, Prompt
from auditkit.adapters.protocol import Adapter
from auditkit.claims.evidence import note
from auditkit.claims.outcomes import Inconclusive, Unsupported
from auditkit.claims.shared import shared_measurement
from auditkit.data.items import select, single_token
from auditkit.data.prompts import Chat
from auditkit.engine.continuation.likelihoods import Taken, after
from auditkit.findings.identity_bias.measurements.groups import NOT_AN_AUDIT, decidable, differences, impact_table
from auditkit.findings.identity_bias.prompts import items as bias_items
from auditkit.findings.identity_bias.prompts.identities import Identity, identities, validity
from auditkit.findings.identity_bias.prompts.items import DecisionCase
from auditkit.findings.identity_bias.prompts.names import allotted, name_sets
from auditkit.notebook import Showable
from auditkit.record.figures import Dots, Figure, Table
from auditkit.stats.effects.mean import Estimate
from auditkit.stats.effects.rate import RateContrast, rate
from auditkit.stats.measurement import Measurement

START = "Answer:"
YES, NO = ("Yes", "yes", "YES"), ("No", "no", "NO")
KIND = "kind of decision"
CASES = 30
"""Packaged cases that are decided where a run does not say how many: three of each of the ten kinds, the fewest that
leave a variance within each kind (`auditkit.stats.strata.MIN_PER_STRATUM`)."""


@dataclass(frozen=True)
class DecisionAnswers:
    """What was answered: (case, identity) -> log odds of the favourable answer, NaN where a case was not asked with
    that name, and what was said."""

    odds: pd.DataFrame
    said: pd.DataFrame
    """1 favourable, 0 not, NaN where the likeliest token is neither yes nor no: a refusal, or something else; and
    where the case was not asked."""

    @property
    def count(self) -> int:
        return int(self.odds.notna().to_numpy().sum())


class Decisions:
    """Cases decided by one model under every identity.

    Args:
        adapter: the model.
        n_items: cases, spread over kinds; where None `CASES`, and all of cases that are given.
        cases, people: to use instead of the project's own.

    Raises:
        NotApplicable: "yes" or "no" is no single token for this tokenizer.
        ValueError: groups of an attribute with different numbers of names.
    """

    def __init__(
        self,
        adapter: Adapter,
        *,
        seed: int = 0,
        n_items: int | None = None,
        cases: Sequence[DecisionCase] | None = None,
        people: Sequence[Identity] | None = None,
    ) -> None:
        self.adapter, self.seed = adapter, seed
        packaged = bias_items.decisions()
        every = packaged.kept if cases is None else tuple(cases)
        default = CASES if cases is None else len(every)
        self.cases = select(every, min(n_items or default, len(every)), seed=seed)
        self._validity = (packaged.validity if cases is None else "", validity() if people is None else "")
        self.people = identities() if people is None else tuple(people)
        self._sets = {a: name_sets([p for p in self.people if p.attribute == a]) for a in self.attributes}
        self._allotted = {a: allotted(self.cases, list(sets), seed) for a, sets in self._sets.items() if sets}
        self._answers = self._answer_ids()

    def _answer_ids(self) -> tuple[list[int], list[int]]:
        """Ids of the tokens that are read as yes and as no."""
        return answer_tokens(self.adapter.chat)

    @property
    def attributes(self) -> tuple[str, ...]:
        """What groups are compared by, in the order of the identities."""
        return tuple(dict.fromkeys(one.attribute for one in self.people))

    def prompt(self, case: DecisionCase, identity: Identity) -> Prompt:
        return self.adapter.chat(Chat(user=case.user(identity), assistant=START))

    def kinds(self, cases: Sequence[str], index: pd.Index) -> pd.Series:
        """(items,) kind of decision of the cases with these ids: the strata of a measurement on them."""
        known = {case.id: case.domain for case in self.cases}
        return pd.Series([known[case] for case in cases], index, name=KIND)

    # -- effects -----------------------------------------------------------------------------------------------

    def contrasts(self, attribute: str, *, pairwise: bool = False, favourable: str = "") -> list[Estimate]:
        """For each group of an attribute: its log odds of the favourable answer minus the mean of the other groups'
        on the same case, in logits; below 0 the group is worse off.

        Args:
            pairwise: minus each other group's instead.
            favourable: "yes" or "no" takes the cases of which this is the favourable answer alone.

        Raises:
            KeyError: no such attribute.
        """
        measured = self.measurement(attribute)
        if favourable:
            taken = {case.id for case in self.cases if case.favourable == favourable}
            rows = [n for n, (_, case, _, _) in enumerate(self._rows(attribute)) if case in taken]
            measured = measured.take(np.array(rows, dtype=np.intp))
        return differences(measured, pairwise=pairwise)

    def losses(self, attribute: str) -> list[Estimate]:
        """As `contrasts`, for both of two groups: what "no worse than the baseline" is asked of."""
        made = self.contrasts(attribute)
        if len(made) > 1:
            return made
        first, second = made[0].measurement.conditions
        turned = Estimate(
            f"{second} minus {first}, favourable decision",
            "logit",
            made[0].measurement,
            -made[0].numerator,
            shown_conditions=made[0].shown_conditions,
        )
        return [made[0], turned]

    def measurement(self, attribute: str) -> Measurement:
        """(case x group) log odds, mean over the phrases of a group, in logits; by name, (case and set of names x
        group). Kinds of decision are strata."""
        members = self._members(attribute)
        if len(members) < 2:
            raise Unsupported(f"{attribute}: one group only, there is nothing to compare it with")
        cases, odds, rows = {case.id: case for case in self.cases}, self.asked.odds, {}
        for item, case, _, asked in self._rows(attribute):
            rows[item] = {group: float(np.mean([odds.at[case, i] for i in ids])) for group, ids in asked.items()}
        values = pd.DataFrame(rows).T[list(members)]
        prompts = {
            item: {group: cases[case].user(self._people[ids[0]]) for group, ids in asked.items()}
            for item, case, _, asked in self._rows(attribute)
        }
        labels = [(case, names) for _, case, names, _ in self._rows(attribute)]
        clusters, strata = self._design(labels, values.index, attribute)
        return Measurement(f"decisions by {attribute}", "logit", values, clusters, prompts, strata)

    def four_fifths(self, attribute: str) -> list[RateContrast]:
        """Selection rate of every decidable group divided by that of every other one, all on all cases.

        All ratios reach four fifths exactly when each group's rate is four fifths of the highest one, whichever group
        has it: nobody must be found best off first, on other cases or on these.

        Raises:
            Inconclusive: too few answers, or no group gets the favourable answer, so that there is no ratio.
        """
        said, members = self._said(attribute), self._members(attribute)
        of_phrase = {phrase: group for group, ids in members.items() for phrase in ids}
        answered = said.values["favourable"].dropna()
        groups = pd.Series({item: of_phrase[item.split("|", 1)[1]] for item in answered.index}, dtype=object)
        sizes = groups.value_counts()
        able = decidable({group: int(sizes.get(group, 0)) for group in members})
        if left := [group for group in members if group not in able]:
            note(f"too few answers, shown and not compared: {', '.join(left)}")
        if len(able) < 2:
            raise Inconclusive(
                f"too_few_answers: {len(able)} groups of {attribute} have enough answers to be compared"
            )
        if not answered[groups.isin(able)].any():
            raise Inconclusive(f"undefined_ratio: no group of {attribute} gets the favourable answer in any case")
        rates = {g: rate(said, "favourable", name=g, among=list(groups.index[groups == g])) for g in able}
        return [rates[one] / rates[other] for one in able for other in able if other != one]

    # -- report ------------------------------------------------------------------------------------------------

    def by(self, attribute: str) -> DecisionsBy:
        """What the report shows of the groups of an attribute."""
        return DecisionsBy(self, attribute)

    def notes(self) -> Iterator[str]:
        """What a reader of a claim on decisions must know."""
        for text in filter(None, self._validity):
            yield f"validity: {text}"
        missing = self.asked.count - int(self.asked.said.notna().to_numpy().sum())
        yield (
            f"prompts: {self.adapter.chat.format}; items are paired by their id and shown as the text of the user's "
            "turn, so that models with different templates can be compared"
        )
        yield (
            f"{len(self.cases)} cases under {len(self.people)} identities; in {missing} of {self.asked.count} prompts "
            "the likeliest token is neither yes nor no: such an answer is missing from rates and part of the log odds"
        )
        if self._validity[0] and len(self.cases) < (pool := len(bias_items.decisions().kept)):
            yield f"{len(self.cases)} of {pool} cases are decided, spread over kinds (--items N for more)"
        kinds = dict.fromkeys(case.domain for case in self.cases)
        yield (
            f"the target is decisions of these kinds: {', '.join(kinds)}; kinds are fixed, cases are sampled in each"
        )
        for attribute, by_case in self._allotted.items():
            twice = sum(len(own) > 1 for own in by_case.values())
            some = f" and a second one in {twice} of them" if twice else ""
            yield (
                f"{attribute}: all {len(self._sets[attribute])} names of a group are used, one of them in each case"
                f"{some}; names are sampled as cases are, and the two cross"
            )

    def group_table(self, attribute: str) -> Table:
        """n, missing, selection and scoring rate with intervals, and impact ratios, by group."""
        return impact_table(self._said(attribute), self._above(attribute), self._members(attribute))

    # -- asking ------------------------------------------------------------------------------------------------

    @shared_measurement
    def asked(self) -> DecisionAnswers:
        """Every case under every identity by word, and with its share of the names, asked once."""
        pairs = [(case, one) for case in self.cases for one in self.people if self._is_asked(case, one)]
        prompts = [self.prompt(case, one).ids for case, one in pairs]
        odds, said = self._favourable([case for case, _ in pairs], prompts)
        index, columns = [case.id for case in self.cases], [one.id for one in self.people]
        row, place = ({name: i for i, name in enumerate(names)} for names in (index, columns))
        at = [row[case.id] for case, _ in pairs], [place[one.id] for _, one in pairs]
        tables = np.full((2, len(index), len(columns)), np.nan)
        tables[0][at], tables[1][at] = odds, said
        return DecisionAnswers(pd.DataFrame(tables[0], index, columns), pd.DataFrame(tables[1], index, columns))

    def _favourable(
        self, cases: Sequence[DecisionCase], prompts: Sequence[tuple[int, ...]]
    ) -> tuple[np.ndarray, np.ndarray]:
        """(prompts,) log odds of the favourable answer, and whether it is the likeliest token, NaN for neither."""
        odds, said = log_odds(self.adapter, prompts, [case.id for case in cases], self._answers, "decisions")
        turned = np.array([case.favourable == "no" for case in cases])
        return np.where(turned, -odds, odds), np.where(turned, 1 - said, said)

    def _is_asked(self, case: DecisionCase, one: Identity) -> bool:
        if one.how != "name":
            return True
        sets = self._sets[one.attribute]
        return any(one in sets[label] for label in self._allotted[one.attribute][case.id])

    def _rows(self, attribute: str) -> list[tuple[str, str, str, dict[str, list[str]]]]:
        """What groups of an attribute are compared on: item, case, set of names ("" by word), group -> identities."""
        members = self._members(attribute)
        sets = self._sets[attribute]
        if not sets:
            return [(case.id, case.id, "", members) for case in self.cases]
        found = []
        for case, labels in self._allotted[attribute].items():
            for label in labels:
                found.append((f"{case}|{label}", case, label, {one.group: [one.id] for one in sets[label]}))
        return found

    def _design(
        self, labels: Sequence[tuple[str, str]], index: pd.Index, attribute: str
    ) -> tuple[pd.DataFrame, pd.Series]:
        """Clusters and strata of items from their (case, set of names)."""
        clusters = pd.DataFrame({"case": [case for case, _ in labels]}, index)
        if self._sets[attribute]:
            clusters["names"] = [names for _, names in labels]
        return clusters, self.kinds([case for case, _ in labels], index)

    @shared_measurement
    def _people(self) -> dict[str, Identity]:
        return {one.id: one for one in self.people}

    def _members(self, attribute: str) -> dict[str, list[str]]:
        """Group -> ids of its identities."""
        found: dict[str, list[str]] = {}
        for one in self.people:
            if one.attribute == attribute:
                found.setdefault(one.group, []).append(one.id)
        if not found:
            raise KeyError(f"no attribute {attribute!r}; there are {', '.join(self.attributes)}")
        return found

    def _said(self, attribute: str) -> Measurement:
        return self._long(attribute, "favourable", self.asked.said)

    def _above(self, attribute: str) -> Measurement:
        """Whether the log odds are above the median of the attribute's identities on the same case."""
        columns = [phrase for ids in self._members(attribute).values() for phrase in ids]
        odds = self.asked.odds[columns]
        return self._long(attribute, "above the median", odds.gt(odds.median(axis=1), axis=0).astype(float))

    def _long(self, attribute: str, name: str, table: pd.DataFrame) -> Measurement:
        """One item per case and phrase that was asked; cases are clusters, and by name sets of names across them."""
        cases = {case.id: case for case in self.cases}
        asked = [
            (case, names, phrase)
            for _, case, names, groups in self._rows(attribute)
            for ids in groups.values()
            for phrase in ids
        ]
        order = {phrase: n for n, phrase in enumerate(i for ids in self._members(attribute).values() for i in ids)}
        asked.sort(key=lambda one: order[one[2]])
        index = pd.Index([f"{case}|{phrase}" for case, _, phrase in asked])
        values = pd.DataFrame({name: [table.at[case, phrase] for case, _, phrase in asked]}, index)
        clusters, strata = self._design([(case, names) for case, names, _ in asked], index, attribute)
        prompts = {f"{case}|{p}": {name: cases[case].user(self._people[p])} for case, _, p in asked}
        return Measurement(f"decisions by {attribute}, answers", "1", values, clusters, prompts, strata)


@dataclass(frozen=True)
class DecisionsBy(Showable):
    """Groups of one attribute as the report shows them."""

    decisions: Decisions
    attribute: str

    def notes(self) -> Iterator[str]:
        """What a reader of a claim on these groups must know."""
        yield from self.decisions.notes()
        yield NOT_AN_AUDIT

    def figures(self) -> tuple[Figure, ...]:
        """The table of groups, and their differences."""
        losses = self.decisions.losses(self.attribute)
        differences = Dots.of(
            "favourable decision, minus the other groups (logit)",
            "Each line: how far a group's log odds of the favourable answer are from the mean of the other groups on "
            "the same cases, with its 95 % interval; left of the dashed line it is worse off.",
            {self.attribute: {one.name.split(" minus")[0]: one.describe() for one in losses}},
            reference=0.0,
        )
        return (
            self.decisions.group_table(self.attribute).titled(f"Groups by {self.attribute}"),
            differences.titled(f"Who gets better decisions, by {self.attribute}"),
        )


def answer_tokens(chat: ChatEncoder) -> tuple[list[int], list[int]]:
    """Ids of the spellings of yes and of no after `START` that are single tokens.

    Raises:
        NotApplicable: there is none of one of them.
    """
    prefix = chat.render(Chat(user="Is it so? Answer yes or no.", assistant=START))
    found = [[single_token(chat.encode, prefix, f" {word}") for word in words] for words in (YES, NO)]
    whole = [[token for token in side if isinstance(token, int)] for side in found]
    # A token on both sides, such as that of unknown words, tells nothing.
    yes, no = (
        [token for token in dict.fromkeys(one) if token not in other] for one, other in (whole, whole[::-1])
    )
    for word, side in (("yes", yes), ("no", no)):
        if not side:
            raise Unsupported(f"'{word}' is no single token of its own after '{START}' for this tokenizer")
    return yes, no


def log_odds(
    adapter: Adapter, prompts: Sequence[tuple[int, ...]], families: Sequence[object],
    answers: tuple[Sequence[int], Sequence[int]], description: str,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """(prompts,) log odds of yes against no over their spellings, and 1 or 0 for what is likeliest of all tokens, NaN
    where that is neither."""
    odds, said = np.empty(len(prompts)), np.full(len(prompts), np.nan)
    yes, no = (torch.tensor(list(side)) for side in answers)

    def take(i: int, logits: torch.Tensor) -> None:
        odds[i] = float(logits[yes].double().logsumexp(0) - logits[no].double().logsumexp(0))
        first = int(logits.argmax())
        if first in answers[0] or first in answers[1]:
            said[i] = float(first in answers[0])

    taken = Taken(("log odds", answers), {"odds": torch.from_numpy(odds), "said": torch.from_numpy(said)})
    after(adapter, prompts, families, take, description, taken)
    return odds, said
