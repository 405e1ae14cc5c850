"""Known answers: what bias claims must react to, on models that react and on models that do not."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from auditkit.claims.outcomes import NotApplicable
from auditkit.findings.asking.questions import PersonaQuestions
from auditkit.findings.identity_bias.measurements.decisions import Decisions
from auditkit.findings.identity_bias.measurements.mechanism import IdentityMechanism
from auditkit.findings.identity_bias.measurements.personas import IdentityAnswers
from auditkit.findings.identity_bias.measurements.pronouns import Pronouns
from auditkit.findings.identity_bias.measurements.questions import AskedQuestions
from auditkit.findings.identity_bias.measurements.sentences import SentencePreference
from auditkit.findings.identity_bias.prompts import items as bias_items
from auditkit.findings.identity_bias.prompts.identities import Identity
from auditkit.findings.identity_bias.prompts.items import DecisionCase, Items
from auditkit.findings.identity_bias.prompts.reference_cases import Merit, gendered_pronouns, merits
from auditkit.findings.identity_bias.references import inside as bias_inner_references
from auditkit.findings.identity_bias.references.answers import (
    CaseMerit,
    PronounReference,
    SentenceReference,
    context_leads,
    context_names,
    knows,
    right_above_chance,
    sure_above_chance,
)
from auditkit.findings.identity_bias.references.inside import (
    attention_above_even,
    early_mlps_at_the_deciding_word,
    ends_apart,
)
from tests.planted.circuits import items
from tests.planted.telling import Teller

pytestmark = pytest.mark.unit

STRONG = {end.strong for end in merits().values()}
WEAK = {end.weak for end in merits().values()}
UNFAVOURABLE = {case.ask for case in bias_items.decisions().kept if case.favourable == "no"}


def chance(text: str) -> float:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") / 2**31 - 1


def merit(strong: float, weak: float) -> CaseMerit:
    """Log odds of the favourable answer by how the case ends, and a little chance."""

    def says(text: str) -> dict[str, float]:
        end = text.partition("Answer yes or no. ")[2].partition(" is ")[2].partition(".")[0]
        odds = strong if end in STRONG else weak if end in WEAK else 0.0
        turned = -1 if any(ask in text for ask in UNFAVOURABLE) else 1
        return {" Yes": 9.0 + turned * odds + 0.1 * chance(text), " No": 9.0}

    return CaseMerit(Decisions(Teller(says)))


def test_every_case_has_two_ends_that_differ_in_one_word() -> None:
    cases = bias_items.decisions().kept
    assert set(merits()) == {case.id for case in cases}
    for ends in merits().values():
        assert sum(a != b for a, b in zip(ends.strong.split(), ends.weak.split(), strict=True)) == 1
    kinds: dict[str, set[str]] = {}
    for case in cases:
        kinds.setdefault(case.domain, set()).update((merits()[case.id].strong, merits()[case.id].weak))
    assert len({*STRONG, *WEAK}) == sum(map(len, kinds.values())), "no two kinds have the same words"
    for seed in range(5):
        first = CaseMerit(Decisions(Teller(lambda _: {}), seed=seed)).cases[: bias_inner_references.LOOKED_AT]
        assert len({end for _, ends in first for end in (ends.strong, ends.weak)}) == 2 * len(first)


def test_the_lead_of_strong_cases_is_what_is_planted_and_costs_two_prompts_a_case() -> None:
    moving = merit(1.5, -0.5)
    effect = moving.lead().describe()
    assert effect.estimate == pytest.approx(2.0, abs=0.1)
    assert (effect.n, effect.clusters, effect.unit) == (30, 30, "logit")
    assert moving.decisions.adapter.read == 60
    moving.selected()
    moving.distance()
    assert moving.decisions.adapter.read == 60, "what was read once is not read again"
    dead = merit(0.0, 0.0).lead().describe()
    assert dead.lower < 0 < dead.upper < 0.25


def test_strong_cases_are_selected_more_often_and_answered_otherwise() -> None:
    effect = merit(2.0, -2.0).distance().describe()
    expected = 1 / (1 + np.exp(-2)) - 1 / (1 + np.exp(2))
    assert effect.estimate == pytest.approx(expected, abs=0.05)
    for always in ((3.0, 2.0), (-2.0, -3.0)):
        alike = merit(*always).selected().describe()
        assert alike.estimate == 0.0
        assert alike.lower < 0.0 < alike.upper, "who says the same to everybody is not shown to select"
    chosen = merit(2.0, -2.0)
    assert (chosen._read[1] == [1.0, 0.0]).all()
    assert chosen.selected().describe().estimate == 1.0
    assert chosen.selected().describe().lower > 0.2
    silent = CaseMerit(Decisions(Teller(lambda _: {" I": 9.0}))).selected().describe()
    assert silent.estimate is None


def test_cases_of_others_have_no_reference_and_say_so() -> None:
    cases = [DecisionCase(f"other-{k}", "d", "A case.", "applicant", "Hire?") for k in range(6)]
    with pytest.raises(NotApplicable, match="no reference: these cases have no strong and weak end"):
        CaseMerit(Decisions(Teller(lambda _: {}), cases=cases)).lead()


QUESTIONS = {question.user: question for question in bias_items.questions().kept}


def answering(choose) -> AskedQuestions:
    """Every question answered by the option that `choose` names, word for word, more or less surely."""

    def says(text: str) -> dict[str, float]:
        user, _, said = text.removeprefix("[] ").partition(" => Answer:")
        if user not in QUESTIONS:
            return {}
        words, done = QUESTIONS[user].options[choose(QUESTIONS[user])].split(), said.split()
        sure = 30.0 + chance(user)
        return {f" {words[len(done)]}": sure} if words[: len(done)] == done and len(done) < len(words) else {}

    return AskedQuestions(Teller(says), n_items=440)


def test_a_context_that_says_who_is_meant_moves_the_answer_of_who_reads_it_only() -> None:
    reads = answering(lambda question: question.right)
    assert context_names(reads).describe().estimate == 1.0
    assert context_names(reads).describe().lower > 0.2
    assert context_leads(reads).describe().lower > 0.25
    prejudiced = answering(lambda question: question.biased)
    assert context_names(prejudiced).describe().estimate == 0.0
    assert context_names(prejudiced).describe().upper < 0.5
    assert context_leads(prejudiced).describe().estimate == pytest.approx(0.0, abs=0.5)


def test_a_pronoun_that_only_one_of_two_people_can_have_moves_who_is_meant() -> None:
    pairs = gendered_pronouns().kept
    meant = {pair.usual: pair.right for pair in pairs} | {pair.unusual: pair.other for pair in pairs}

    def says(text: str) -> dict[str, float]:
        own = [who for sentence, who in meant.items() if sentence in text and text.endswith(" means the")]
        return {f" {who}": 1.0 + 0.1 * chance(text) for who in own}

    effect = PronounReference(Pronouns(Teller(says))).lead().describe()
    assert effect.estimate == pytest.approx(2.0, abs=0.1)
    assert effect.clusters == len(pairs) == 12
    dead = PronounReference(Pronouns(Teller(lambda text: {" woman": chance(text)}))).lead().describe()
    assert dead.lower < 0.5


def test_sentences_about_a_woman_and_a_man_differ_in_the_pronoun_only_and_name_both() -> None:
    for pair in gendered_pronouns().kept:
        differing = [(a, b) for a, b in zip(pair.usual.split(), pair.unusual.split(), strict=True) if a != b]
        assert len(differing) == 1
        assert pair.pronouns[0] in ("she", "her")
        assert f"the {pair.right} " in pair.usual.lower()
        assert f"the {pair.other} " in pair.usual.lower()


def test_a_sentence_is_likelier_than_its_words_shuffled_for_who_knows_their_order() -> None:
    texts = [pair.less for pair in bias_items.sentences().kept]
    follows = {(a, b) for text in texts for a, b in zip(text.split(), text.split()[1:], strict=False)}
    after = {a: [b for x, b in follows if x == a] for a, _ in follows}

    def says(text: str) -> dict[str, float]:
        return {f" {word}": 6.0 for word in after.get(text.split("=>")[-1].split(" ")[-1], ())}

    knowing = SentenceReference(SentencePreference(Teller(says)))
    for text, shuffled in knowing.texts.values():
        assert shuffled != text
        assert sorted(shuffled.removesuffix(".").split()) == sorted(text.removesuffix(".").split())
        assert shuffled.split()[0] == text.split()[0]
        assert shuffled.endswith(".")
    assert knowing.lead().describe().lower > 1.0
    assert 5 <= knowing.lead().describe().clusters <= 24
    again = SentenceReference(SentencePreference(Teller(says)))
    assert again.texts == knowing.texts
    one = [replace(bias_items.sentences().kept[0], more="Yes.", less="No.")]
    with pytest.raises(NotApplicable, match="no sentence has three words"):
        SentenceReference(SentencePreference(Teller(says), items=Items(tuple(one), (), ""))).lead()


# -- a model with a planted circuit ----------------------------------------------------------------------------------

WORDS = {"valence": ("good", "bad", "blue")}
PEOPLE = [Identity("valence", word, f"a {word} student", "word") for word in ("good", "bad", "blue")]
CASES = [
    DecisionCase(
        f"c{k}", f"d{k}", " ".join(f"word{(7 * k + j) % 40}" for j in range(4 + k % 3)), "word1", "word2 ?"
    )
    for k in range(8)
]
ENDS = {case.id: Merit("a good student", "a bad student") for case in CASES}


def test_answers_are_known_where_the_circuit_knows_them(circuit) -> None:
    answers = IdentityAnswers(PersonaQuestions(circuit, items=items(), n_items=16), words=WORDS)
    logit = answers.measurement("logit difference")
    lead = knows(answers)
    np.testing.assert_allclose(lead.numerator, np.mean([logit.condition(w) for w in answers.words], axis=0))
    right = right_above_chance(answers).describe().estimate
    assert right == pytest.approx(answers.measurement("accuracy").condition("no persona").mean())
    sure = answers.measurement("probability of the right answer").condition("no persona").mean()
    assert sure_above_chance(answers).describe().estimate == pytest.approx(sure - 0.5)
    apart = answers.question_distance()
    assert apart.logs.numerator.shape == (16,)
    assert 0 < apart.describe().estimate < 1


def test_inside_a_word_that_decides_moves_what_an_identity_is_read_by(circuit, monkeypatch) -> None:
    monkeypatch.setattr(bias_inner_references, "BAND", (0.1, 0.3))
    mechanism = IdentityMechanism(Decisions(circuit, cases=CASES, people=PEOPLE, n_items=12), ["valence"])
    merit = CaseMerit(mechanism.decisions, ENDS)
    effect = early_mlps_at_the_deciding_word(merit)
    table = effect.measurement
    np.testing.assert_allclose(effect.numerator, table.condition("strong") - table.condition("weak"), atol=1e-3)
    seen = mechanism.attention()
    even = seen.numerator - attention_above_even(mechanism, seen).numerator
    assert ((even > 0) & (even < 1)).all()
    apart = ends_apart(mechanism, merit)
    assert len(apart.numerator) == 2 * len(CASES)
    assert apart.describe().lower > 0.10, "the same two words end every case, so they lie apart"
    with pytest.raises(NotApplicable, match="no reference: only 4 cases"):
        ends_apart(mechanism, CaseMerit(mechanism.decisions, {case.id: ENDS[case.id] for case in CASES[:4]}))
