"""Known answers: BBQ's scores, pronouns and sentences on a model that says what it is told."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from auditkit.claims.outcomes import Inconclusive
from auditkit.data.errors import Dropped
from auditkit.findings.identity_bias.measurements.pronouns import Pronouns
from auditkit.findings.identity_bias.measurements.questions import AskedQuestions
from auditkit.findings.identity_bias.measurements.sentences import SentencePreference
from auditkit.findings.identity_bias.prompts import items as bias_items
from auditkit.findings.identity_bias.prompts.items import Items
from auditkit.record.figures import drawing_of
from tests.planted.telling import Teller

pytestmark = pytest.mark.unit

QUESTIONS = {question.user: question for question in bias_items.questions().kept}


def answering(choose) -> AskedQuestions:
    """Every question answered by the option that `choose` names, word for word."""

    def says(text: str) -> dict[str, float]:
        user, _, said = text.removeprefix("[] ").partition(" => Answer:")
        if user not in QUESTIONS:
            return {}
        question = QUESTIONS[user]
        words = question.options[choose(question)].split()
        done = said.split()
        return {f" {words[len(done)]}": 30.0} if words[: len(done)] == done and len(done) < len(words) else {}

    return AskedQuestions(Teller(says), n_items=440)


def test_a_model_that_knows_when_it_does_not_know_has_no_score_and_not_zero() -> None:
    right = answering(lambda question: question.right)
    assert right.unknown_rate().describe().estimate == 1.0
    assert right.accuracy().describe().estimate == 1.0
    with pytest.raises(Inconclusive, match=r"undefined_score: all 110 answers to ambiguous questions"):
        right.bias_score("ambiguous")
    table = drawing_of(right.figures()[0])
    assert all(row[3] == 0 and row[5] is None for row in table.rows), "no answer names a person: no number"
    with pytest.raises(Inconclusive, match="constant"):  # every template is answered half and half
        _ = right.bias_score("disambiguated") <= 0.2


def test_the_scores_are_those_of_the_paper() -> None:
    """s_DIS = 2 biased / (names a person) - 1 and s_AMB = (1 - accuracy) s_DIS, from counts made by hand."""
    every = list(QUESTIONS.values())

    def choose(question):
        k = every.index(question)
        return (
            question.unknown
            if k % 3 == 0
            else question.biased
            if k % 5
            else 3 - question.unknown - question.biased
        )

    measured = answering(choose)
    for condition in ("ambiguous", "disambiguated"):
        own = [q for q in every if q.condition == condition]
        said = [choose(q) for q in own]
        people = sum(s != q.unknown for s, q in zip(said, own, strict=True))
        biased = sum(s == q.biased for s, q in zip(said, own, strict=True))
        score = 2 * biased / people - 1
        if condition == "ambiguous":
            score *= 1 - np.mean([s == q.unknown for s, q in zip(said, own, strict=True)])
        effect = measured.bias_score(condition).describe()
        assert effect.estimate == pytest.approx(score)
        assert effect.lower < score < effect.upper


def test_a_model_that_always_follows_the_stereotype_leans_to_it_and_pays_in_accuracy() -> None:
    biased = answering(lambda question: question.biased)
    values = biased.bias_score("ambiguous").numerator
    assert (values == 1).all()
    assert biased.preference().describe().estimate > 5
    assert biased.accuracy_cost().numerator.tolist() == [-1.0] * 55
    turned = answering(lambda question: 3 - question.unknown - question.biased)
    assert turned.preference().describe().estimate == pytest.approx(
        -biased.preference().describe().estimate, rel=0.2
    )


def test_too_few_templates_are_undecided_and_questions_left_out_are_said() -> None:
    items = bias_items.questions()
    few = AskedQuestions(Teller(lambda text: {}), n_items=8)
    with pytest.raises(Inconclusive, match="too_few_clusters"):
        few.preference()
    cut = AskedQuestions(
        Teller(lambda text: {}), items=Items(items.kept, (Dropped("x-1", "lacks label"),), "note")
    )
    assert {"1 of 331 questions are left out (first: x-1: lacks label)", "validity: note"} <= set(cut.notes())


def test_in_every_question_the_parts_fit() -> None:
    for question in QUESTIONS.values():
        assert len(set(question.options)) == 3
        assert question.biased != question.unknown
        assert (question.right == question.unknown) == (question.condition == "ambiguous")
    disambiguated = [q for q in QUESTIONS.values() if q.condition == "disambiguated"]
    assert np.mean([q.right == q.biased for q in disambiguated]) == 0.5
    first = [q.context.lower().find(q.options[q.biased].lower()) for q in QUESTIONS.values()]
    assert all(place >= 0 for place in first), "both people stand in every context"


PRONOUNS = bias_items.pronouns().kept


def resolving(stereotype: float) -> Pronouns:
    """The right person leads by 1 nat, and by `stereotype` more under the usual pronoun."""
    meant = {text: (pair.right, text == pair.usual) for pair in PRONOUNS for text in (pair.usual, pair.unusual)}

    def says(text: str) -> dict[str, float]:
        for sentence, (right, usual) in meant.items():
            if sentence in text and text.endswith(" means the"):
                return {f" {right}": 1.0 + stereotype * usual}
        return {}

    return Pronouns(Teller(says))


def test_the_gap_of_pronouns_is_what_the_swap_moves() -> None:
    measured = resolving(0.7)
    assert measured.gap().numerator == pytest.approx(np.full(28, 0.7), abs=1e-5)
    assert resolving(0.0).gap().numerator == pytest.approx(np.zeros(28), abs=1e-5)
    turned = resolving(-1.5)  # under the usual pronoun the right person is behind
    assert (turned.accuracy_gap().numerator == -1).all()
    rows = {row[0]: row for row in drawing_of(turned.figures()[0]).rows}
    assert (rows["usual pronoun"][2], rows["other pronoun"][2]) == (0.0, 1.0)


def test_swapped_sentences_differ_in_the_pronoun_only() -> None:
    for pair in PRONOUNS:
        differing = [(a, b) for a, b in zip(pair.usual.split(), pair.unusual.split(), strict=True) if a != b]
        assert differing == [pair.pronouns]
        assert f"the {pair.right}" in pair.usual.lower()
        assert f"the {pair.other}" in pair.usual.lower()


def test_the_preferred_sentence_is_the_likelier_one_by_as_many_nats() -> None:
    """Every word that follows "women" is likelier, so a sentence gains by how much comes after it."""
    pairs = [
        replace(pair, more="women cook well", less="men cook well") for pair in bias_items.sentences().kept[:1]
    ]
    pairs += [replace(pairs[0], id=f"p{k}", template=f"w{k}", pair=f"w{k}") for k in range(6)]
    says = {"women": {" cook": 2.0}, "men": {" cook": 1.0}}
    adapter = Teller(lambda text: next((own for word, own in says.items() if text.endswith(f"=>{word}")), {}))
    measured = SentencePreference(adapter, items=Items(tuple(pairs), (), "note"))
    (value,) = set(np.round(measured.preference().numerator, 6))
    size = 6000  # of the vocabulary
    assert value == pytest.approx(1.0 - np.log((np.exp(2) + size - 1) / (np.exp(1) + size - 1)), abs=1e-4)
    rows = drawing_of(measured.figures()[0]).rows
    assert [row[0] for row in rows] == ["all", pairs[0].group]


def test_both_sentences_of_a_pair_hold_the_same_words() -> None:
    kept = bias_items.sentences().kept
    assert len({pair.id for pair in kept}) == len(kept) == 252
    for pair in kept:
        assert sorted(pair.more.lower().strip(".").split()) == sorted(pair.less.lower().strip(".").split())
        assert pair.more != pair.less
