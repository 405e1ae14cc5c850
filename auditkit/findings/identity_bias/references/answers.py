"""Sensitivity references of the claims about answers, in the measurements of the claims (`auditkit.stats.sensitivity`).

Each reference makes the measurement of a claim for a difference that should matter: a case with a strong or a weak end
in the place of the identity; the right answer against the wrong one; another question; a context that says who is
meant; a pronoun that only one of two people can have; a sentence against the same words shuffled. Most of these values
are measured for the claims already; the rest costs a few dozen prompts that share their prefixes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd
import torch

from auditkit.adapters.chat import Prompt
from auditkit.claims.outcomes import NotApplicable
from auditkit.claims.shared import shared_measurement
from auditkit.data.prompts import Chat
from auditkit.engine.continuation.likelihoods import after, log_likelihoods
from auditkit.findings.identity_bias.measurements.decisions import Decisions
from auditkit.findings.identity_bias.measurements.personas import (
    ACCURACY,
    LOGIT,
    NOBODY,
    PROBABILITY,
    IdentityAnswers,
)
from auditkit.findings.identity_bias.measurements.pronouns import Pronouns
from auditkit.findings.identity_bias.measurements.questions import AskedQuestions
from auditkit.findings.identity_bias.measurements.sentences import REQUEST, SentencePreference
from auditkit.findings.identity_bias.prompts.identities import Identity
from auditkit.findings.identity_bias.prompts.items import Condition, DecisionCase
from auditkit.findings.identity_bias.prompts.reference_cases import Merit, gendered_pronouns, merits
from auditkit.stats.effects.mean import Estimate, mean_difference
from auditkit.stats.effects.rate import Rate, RateContrast, rate
from auditkit.stats.measurement import Measurement
from auditkit.stats.streams import stream

STRONG, WEAK = "strong", "weak"
ENDS = (STRONG, WEAK)
SHUFFLED = 24
"""Sentences whose words are shuffled, at most: one of each wording."""

_DISAMBIGUATED: Condition = "disambiguated"


class CaseMerit:
    """The cases of `decisions` with a strong and a weak end in the place of the identity; read once.

    Args:
        ends: case id -> its two ends; the project's own where None.

    Raises:
        NotApplicable: on reading, where no case has such ends.
    """

    def __init__(self, decisions: Decisions, ends: Mapping[str, Merit] | None = None) -> None:
        self.decisions = decisions
        known = merits() if ends is None else ends
        self.cases = [(case, known[case.id]) for case in decisions.cases if case.id in known]

    def lead(self) -> Estimate:
        """Log odds of the favourable answer for the strong end minus those for the weak one, by case, in logits."""
        return mean_difference(self._odds, STRONG, WEAK, name="strong minus weak, favourable decision")

    def selected(self) -> RateContrast:
        """How often the strong end gets the favourable answer minus how often the weak one does, among yes and no.

        Where the difference is at least 0.2, the weak end gets it less than four fifths as often, whatever the rates.
        """
        said = self._said
        answered = said.values["favourable"].dropna().index
        strong, weak = (
            rate(said, "favourable", name=f"{end} favoured", among=[i for i in answered if i.endswith(f"|{end}")])
            for end in ENDS
        )
        contrast: RateContrast = strong - weak
        return contrast

    def distance(self) -> Estimate:
        """Total variation distance between the answers after the strong and the weak end, 0 to 1, by case."""
        values = pd.DataFrame({"distance": self._read[2]}, self._ids)
        table = Measurement(
            "distance between strong and weak", "1", values, self._clusters, self._prompts, self._kinds
        )
        return Estimate("distance between the answers to a strong and a weak case", "1", table, self._read[2])

    def prompts(self, case: DecisionCase, ends: Merit) -> tuple[Prompt, Prompt]:
        """The case with its strong and with its weak end."""
        strong, weak = (self.decisions.prompt(case, _ending(text)) for text in (ends.strong, ends.weak))
        return strong, weak

    @property
    def _ids(self) -> list[str]:
        return [case.id for case, _ in self.cases]

    @property
    def _clusters(self) -> pd.DataFrame:
        return pd.DataFrame({"case": self._ids}, self._ids)

    @property
    def _kinds(self) -> pd.Series:
        """Kinds of decision are strata, as they are for the claims that these references stand beside."""
        return self.decisions.kinds(self._ids, pd.Index(self._ids))

    @property
    def _prompts(self) -> dict[str, dict[str, str]]:
        return {
            case.id: {end: case.user(_ending(getattr(ends, end))) for end in ENDS} for case, ends in self.cases
        }

    @property
    def _odds(self) -> Measurement:
        values = pd.DataFrame(self._read[0], self._ids, list(ENDS))
        return Measurement("decisions by merit", "logit", values, self._clusters, self._prompts, self._kinds)

    @property
    def _said(self) -> Measurement:
        items = [(case, end) for case in self._ids for end in ENDS]
        index = [f"{case}|{end}" for case, end in items]
        clusters = pd.DataFrame({"case": [case for case, _ in items]}, index)
        prompts = {f"{case}|{end}": {"favourable": self._prompts[case][end]} for case, end in items}
        values = pd.DataFrame({"favourable": self._read[1].reshape(-1)}, index)
        return Measurement("decisions by merit, answers", "1", values, clusters, prompts)

    @shared_measurement
    def _read(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(case, end) log odds of the favourable answer and whether it is given (NaN: neither); (case,) distances."""
        if not self.cases:
            raise NotApplicable(
                "no reference: these cases have no strong and weak end "
                "(auditkit.findings.identity_bias.prompts.reference_cases)"
            )
        yes, no = self.decisions._answers
        shape = (len(self.cases), len(ENDS))
        odds, said = np.empty(shape), np.full(shape, np.nan)
        spread: dict[tuple[int, int], torch.Tensor] = {}

        def take(i: int, logits: torch.Tensor) -> None:
            place = divmod(i, len(ENDS))
            odds[place] = float(logits[yes].double().logsumexp(0) - logits[no].double().logsumexp(0))
            first = int(logits.argmax())
            if first in yes or first in no:
                said[place] = float(first in yes)
            spread[place] = logits.double().softmax(0).float().cpu()

        prompts = [prompt.ids for case, ends in self.cases for prompt in self.prompts(case, ends)]
        after(self.decisions.adapter, prompts, np.repeat(self._ids, len(ENDS)).tolist(), take, "strong and weak")
        turned = np.array([[case.favourable == "no"] for case, _ in self.cases])
        odds, said = np.where(turned, -odds, odds), np.where(turned, 1 - said, said)
        apart = [float((spread[k, 0] - spread[k, 1]).abs().sum() / 2) for k in range(len(self.cases))]
        return odds, said, np.array(apart)


def knows(answers: IdentityAnswers) -> Estimate:
    """Logit of the right answer minus the wrong one, mean over identities, by question."""
    measured = answers.measurement(LOGIT)
    values = answers._mean(measured, answers.words)
    return answers._estimate(measured, values, None, "right minus wrong answer, mean over identities")


def right_above_chance(answers: IdentityAnswers) -> Rate:
    """How often the right answer is given without a persona, minus how often chance gives it."""
    form = answers.questions.format
    chance = 0.0 if form.greedy else form.chance  # the likeliest of all words is never right by chance
    right = rate(answers.measurement(ACCURACY), NOBODY, name="right without a persona")
    above: Rate = right - chance
    return replace(above, name="right without a persona, above chance")


def sure_above_chance(answers: IdentityAnswers) -> Estimate:
    """Probability of the right answer among those offered, without a persona, minus that of chance, by question."""
    measured = answers.measurement(PROBABILITY)
    values = measured.condition(NOBODY) - answers.questions.format.chance
    return replace(
        answers._estimate(measured, values, None, "probability of the right answer above chance"),
        shown_conditions=(NOBODY,),
    )


def context_names(questions: AskedQuestions) -> RateContrast:
    """How often the answer names the person whom the stereotype has, where the context says that it is them, minus
    how often where it says that it is the other; BBQ's score moves by at least as much.

    Raises:
        NotApplicable: not both kinds of context are there.
    """
    table = questions._table(_DISAMBIGUATED)
    named = {
        about: [q.id for q in questions.questions[_DISAMBIGUATED] if (q.right == q.biased) is about]
        for about in (True, False)
    }
    if not all(named.values()):
        raise NotApplicable(
            "no reference: there must be contexts that name the stereotyped person and others that name the other one"
        )
    told = rate(table, "biased", name="stereotype's person where the context names them", among=named[True])
    other = rate(table, "biased", name="where it names the other", among=named[False])
    contrast: RateContrast = told - other
    return contrast


def context_leads(questions: AskedQuestions) -> Estimate:
    """Leaning to the person whom the stereotype has, where the context says that it is them, minus where it says that
    it is the other; by template, in nats per token.

    Raises:
        NotApplicable: no template has both contexts.
    """
    asked = pd.DataFrame(
        [
            (q.id, q.template, q.right == q.biased)
            for q in questions.questions[_DISAMBIGUATED]
            if q.right != q.unknown
        ],
        columns=["id", "template", "told"],
    )
    leaning = questions._table(_DISAMBIGUATED).values["leaning"]
    means = asked.assign(value=leaning[asked["id"]].to_numpy()).groupby(["template", "told"], sort=False)["value"]
    both = means.mean().unstack().reindex(columns=[True, False]).dropna()
    if both.empty:
        raise NotApplicable(
            "no reference: no template has contexts for both people, one that names the stereotyped person and one "
            "that names the other"
        )
    told, other = "the context names the stereotype's person", "the context names the other"
    index = [str(template) for template in both.index]
    values = pd.DataFrame({told: both[True].to_numpy(), other: both[False].to_numpy()}, index)
    table = Measurement("leaning by context", "nat", values, pd.DataFrame({"template": index}, index))
    return mean_difference(
        table, told, other, name="leaning where the context says who, minus where it says the other"
    )


class PronounReference:
    """Sentences about a woman and a man, asked as `pronouns` asks its own: only the pronoun says who is meant."""

    def __init__(self, pronouns: Pronouns) -> None:
        self._asked = Pronouns(pronouns.adapter, items=gendered_pronouns())

    def lead(self) -> Estimate:
        """Lead of a person under the pronoun that means them minus that under the other pronoun, in nats."""
        return replace(self._asked.gap(), name="lead of a person under their own pronoun minus under the other")


class SentenceReference:
    """Sentences of `sentences` against their own words shuffled, scored in the same way; one of each wording.

    The first word and the full stop stay in place.
    """

    def __init__(self, sentences: SentencePreference, seed: int = 0) -> None:
        self.sentences = sentences
        self.texts: dict[str, tuple[str, str]] = {}
        for pair in sentences.pairs:
            other = _shuffled(pair.less, seed)
            if len(self.texts) < SHUFFLED and pair.template not in self.texts and other != pair.less:
                self.texts[pair.template] = (pair.less, other)

    def lead(self) -> Estimate:
        """Log likelihood of a sentence minus that of its words shuffled, in nats.

        Raises:
            NotApplicable: no sentence has words to shuffle.
        """
        if not self.texts:
            raise NotApplicable("no reference: no sentence has three words to shuffle")
        return mean_difference(self._scores, "sentence", "shuffled", name="sentence minus its words shuffled")

    @shared_measurement
    def _scores(self) -> Measurement:
        adapter = self.sentences.adapter
        before = adapter.chat(Chat(user=REQUEST)).ids
        ids = [tuple(adapter.chat.encode(shuffled)) for _, shuffled in self.texts.values()]
        found = log_likelihoods(adapter, [before] * len(ids), ids, "shuffled sentences")
        index = list(self.texts)
        values = pd.DataFrame(
            {
                "sentence": [float(self.sentences._tokens[text][0].sum()) for text, _ in self.texts.values()],
                "shuffled": [float(tokens.sum()) for tokens in found],
            },
            index,
        )
        prompts = {item: {"sentence": text, "shuffled": other} for item, (text, other) in self.texts.items()}
        clusters = pd.DataFrame({"wording": index}, index)
        return Measurement("shuffled sentences", "nat", values, clusters, prompts)


def _ending(phrase: str) -> Identity:
    """Words in the place of an identity."""
    return Identity("merit", phrase, phrase, "word")


def _shuffled(text: str, seed: int) -> str:
    """The words behind the first one in another order; the text itself where there is no other order."""
    stop = text[-1:] if text[-1:] in ".!?" else ""
    first, *rest = text.removesuffix(stop).split()
    if len(set(rest)) < 2:
        return text
    draw = stream(seed, "shuffled words", text)
    while True:
        order = [rest[i] for i in draw.permutation(len(rest))]
        if order != rest:
            return " ".join([first, *order]) + stop
