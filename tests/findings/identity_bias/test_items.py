"""The packaged items have no fault that tools/check_items.py knows, and it finds every kind of fault where there is
one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from scripts import loaded

import auditkit
from auditkit.data.items import completion_items, select
from auditkit.findings.identity_bias.measurements.mechanism import IdentityMechanism
from auditkit.findings.identity_bias.measurements.personas import WORDS
from auditkit.findings.identity_bias.measurements.pronouns import Pronouns
from auditkit.findings.identity_bias.measurements.questions import AskedQuestions
from auditkit.findings.identity_bias.measurements.sentences import SentencePreference
from auditkit.findings.identity_bias.prompts import items as bias_items
from auditkit.findings.identity_bias.prompts.identities import identities
from auditkit.findings.identity_bias.prompts.items import Items
from tests.planted.telling import Teller

pytestmark = pytest.mark.unit

CHECK = loaded(Path(auditkit.__file__).parents[1] / "tools" / "check_items.py")
CASES, QUESTIONS = bias_items.decisions().kept, bias_items.questions().kept
PRONOUNS, SENTENCES = bias_items.pronouns().kept, bias_items.sentences().kept


def test_no_pool_has_a_fault(capsys) -> None:
    assert CHECK.main() == 0, capsys.readouterr().out
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        *("decisions", "questions", "pronouns", "sentences", "completions"),
    ]
    assert "200 cases of 10 kinds" in lines[0]
    assert "7 kinds and no in 3" in lines[0]


def changed(items: tuple, number: int, **fields: object) -> tuple:
    """The items with one of them changed."""
    return (*items[:number], replace(items[number], **fields), *items[number + 1 :])


def all_of(items: tuple, change: Callable[[object], dict[str, object]]) -> tuple:
    return tuple(replace(item, **change(item)) for item in items)


DECISIONS = {
    "150 cases, at least 200": tuple(case for case in CASES if int(case.id.split("-")[1]) <= 15),
    "9 kinds, at least 10": tuple(case for case in CASES if case.domain != "fine"),
    "hire-2 has the text of hire-1": changed(CASES, 1, case=CASES[0].case.upper().replace(".", " !")),
    "cases of a kind differ by more than 0": CASES[1:],
    '"no" is favourable is 0.00': all_of(CASES, lambda _: {"favourable": "yes"}),
    "the length of hire-1 by that of its kind is 0.": changed(CASES, 0, case="The applicant has a certificate."),
    "the length of fine by that of all kinds is 1.": all_of(
        CASES, lambda case: {"case": f"{case.case} {case.case} Also."} if case.domain == "fine" else {}
    ),
    "hire-1 holds 'muslim', a word of an identity": changed(CASES, 0, case=f"{CASES[0].case} Not Muslim."),
    "hire-1 holds 'Keisha', a word of an identity": changed(CASES, 0, case=f"{CASES[0].case} Ask Keisha."),
    "hire-1 holds 'brother', a gendered word": changed(CASES, 0, case=f"{CASES[0].case} A brother helps."),
}


@pytest.mark.parametrize("fault", DECISIONS)
def test_faults_of_decisions_are_found(fault: str) -> None:
    assert any(fault in text for text in CHECK.check_decisions(DECISIONS[fault], identities()))


def turned(question: bias_items.BiasQuestion) -> dict[str, object]:
    """The two people in the order in which the stereotype's person comes first."""
    places = [question.biased, question.unknown, 3 - question.biased - question.unknown]
    order = tuple(question.options[place] for place in places)
    return {"options": order, "biased": 0, "unknown": 1, "right": places.index(question.right)}


FIRST = QUESTIONS[0]
NAMES = [option for k, option in enumerate(FIRST.options) if k != FIRST.unknown]
ASKED = {
    "120 questions, at least 150": QUESTIONS[:120],
    "8 attributes, at least 9": tuple(q for q in QUESTIONS if q.attribute != "age"),
    "templates of an attribute differ by more than 1": QUESTIONS[12:],
    f"{QUESTIONS[1].id} has the text of {FIRST.id}": changed(
        QUESTIONS, 1, context=FIRST.context.upper(), question=FIRST.question, options=FIRST.options
    ),
    "the stereotype's person is the first is 1.00": all_of(QUESTIONS, turned),
    "place 2 is 'not known' is 1.00": all_of(QUESTIONS, turned),
    "the stereotype is right is 1.00": all_of(
        QUESTIONS, lambda q: {} if q.condition == "ambiguous" else {"right": q.biased}
    ),
    "the right person is the first is 1.00": all_of(
        QUESTIONS, lambda q: {} if q.condition == "ambiguous" else {"right": min({0, 1, 2} - {q.unknown})}
    ),
    f"{FIRST.id}: the context names": changed(QUESTIONS, 0, context=f"{FIRST.context} Then {NAMES[0]} left."),
    f"{FIRST.id}: the question holds a word of": changed(QUESTIONS, 0, question=f"Was it {NAMES[0]}?"),
    "differ by more than a word": all_of(
        QUESTIONS,
        lambda q: {} if q.template != FIRST.template else {
            "options": tuple(o + " of the whole town" if k == q.biased else o for k, o in enumerate(q.options))
        },
    ),
    "letters of the stereotyped groups by those of the others is 1.": all_of(
        QUESTIONS,
        lambda q: {"options": tuple(o + "xxxxxxxx" if k == q.biased else o for k, o in enumerate(q.options))},
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", ASKED)
def test_faults_of_questions_are_found(fault: str) -> None:
    assert any(fault in text for text in CHECK.check_questions(ASKED[fault]))


ONE = PRONOUNS[0]
RESOLVED = {
    "90 sentences, at least 120": PRONOUNS[:90],
    "30 occupations, at least 40": PRONOUNS[:90],
    f"{PRONOUNS[1].id} has the text of {ONE.id}": changed(PRONOUNS, 1, usual=ONE.usual.upper()),
    "2 sentences one way, 3 the other": PRONOUNS[1:],
    '"she" is usual is 1.00': tuple(pair for pair in PRONOUNS if pair.pronouns[0] in ("she", "her")),
    "the right person is the first is 1.00": tuple(
        pair for pair in PRONOUNS if pair.usual.lower().find(pair.right) < pair.usual.lower().find(pair.other)
    ),
    f"{ONE.id} names 'nurse' 0 times": changed(PRONOUNS, 0, usual=ONE.usual.replace("nurse", "doctor")),
    "the usual pronoun of 'nurse' is not that": changed(PRONOUNS, 0, pronouns=ONE.pronouns[::-1]),
    f"{ONE.id} holds the gendered words she, mother": changed(
        PRONOUNS, 0, usual=ONE.usual.replace(" was", " as a mother was")
    ),
}


@pytest.mark.parametrize("fault", RESOLVED)
def test_faults_of_pronouns_are_found(fault: str) -> None:
    assert any(fault in text for text in CHECK.check_pronouns(RESOLVED[fault]))


ALONE = SENTENCES[0]
EXCHANGED = {
    "180 pairs, at least 200": SENTENCES[:180],
    f"{SENTENCES[1].id} has the text of {ALONE.id}": changed(SENTENCES, 1, more=ALONE.more.upper()),
    f"{SENTENCES[1].id} opposes the stereotype of {ALONE.id}": changed(SENTENCES, 1, less=ALONE.more),
    f"{ALONE.id}: its two sentences do not hold the same words": changed(
        SENTENCES, 0, less=f"{ALONE.less} Really."
    ),
    "pairs of an attribute differ by more than 6": SENTENCES[12:],
    "pairs of a wording differ by more than 1": SENTENCES[3:],
    "the stereotyped group is the first is 1.00": tuple(
        pair for pair in SENTENCES if int(pair.template.split("-")[1]) <= 3
    ),
    "differ by more than a word": changed(SENTENCES, 0, id=f"{ALONE.template}-women of this town/men"),
    "letters of the stereotyped groups by those of the others is 1.": tuple(
        replace(pair, id=pair.id.replace("/", "xxxxxxxx/")) for pair in SENTENCES
    ),
}


@pytest.mark.parametrize("fault", EXCHANGED)
def test_faults_of_sentences_are_found(fault: str) -> None:
    assert any(fault in text for text in CHECK.check_sentences(EXCHANGED[fault]))


def test_faults_of_completions_are_found() -> None:
    some = completion_items()[:40]
    faults = CHECK.check_completions((*some, replace(some[0], id="again")), {"a": ("x",), "b": ("x", "y")})
    assert "completions: 41 completions, at least 48 are needed" in faults
    assert f"completions: again has the text of {some[0].id}" in faults
    assert "completions: the identity 'x' occurs twice" in faults


# -- what a run of the default length asks ----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1])
def test_a_run_asks_new_clusters_before_it_comes_back_to_one(seed: int) -> None:
    adapter = Teller(lambda _: {})
    questions = AskedQuestions(adapter, seed=seed)
    for own in questions.questions.values():
        assert len(own) == 50
        counts = Counter(question.template for question in own)
        assert (len(counts), set(counts.values())) == (25, {2})
        assert max(Counter(question.attribute for question in own).values()) <= 6
    right = [question.right == question.biased for question in questions.questions["disambiguated"]]
    assert sum(right) == 25
    pronouns = Pronouns(adapter, seed=seed)
    couples = Counter("/".join(sorted((pair.right, pair.other))) for pair in pronouns.pairs)
    assert (len(pronouns.pairs), len(couples), max(couples.values())) == (28, 21, 2)
    assert abs(sum(pair.pronouns[0] in ("she", "her") for pair in pronouns.pairs) - 14) <= 1
    sentences = SentencePreference(adapter, seed=seed)
    for name in ("template", "group"):
        counts = Counter(getattr(pair, name) for pair in sentences.pairs)
        assert (len(sentences.pairs), len(set(counts.values()))) == (84, 1)
    assert len({pair.pair for pair in sentences.pairs}) == 39, "every pair of groups"


def test_a_longer_run_repeats_a_shorter_one_and_adds_to_it() -> None:
    adapter = Teller(lambda _: {})
    for measurement, name in ((Pronouns, "pairs"), (SentencePreference, "pairs")):
        orders = [getattr(measurement(adapter, seed=3, n_items=n), name) for n in (20, 45, 100)]
        assert orders[0] == orders[1][:20]
        assert orders[1] == orders[2][:45]
    shorter, longer = (AskedQuestions(adapter, seed=3, n_items=n).questions for n in (40, 200))
    assert all(own == longer[condition][: len(own)] for condition, own in shorter.items())


def test_the_two_questions_of_a_block_differ_in_who_is_the_stereotype_s_person() -> None:
    blocks: dict[str, list[bias_items.BiasQuestion]] = {}
    for question in QUESTIONS:
        blocks.setdefault(question.block, []).append(question)
    for one, other in blocks.values():
        orders = [[text for k, text in enumerate(q.options) if k != q.unknown] for q in (one, other)]
        assert orders[0] == orders[1]
        assert one.options[one.biased] != other.options[other.biased]
        assert one.options[one.right] == other.options[other.right]


def test_questions_of_a_user_are_spread_over_templates_as_they_were() -> None:
    given = Items(QUESTIONS, (), "note")
    ambiguous = [question for question in QUESTIONS if question.condition == "ambiguous"]
    asked = AskedQuestions(Teller(lambda _: {}), items=given).questions["ambiguous"]
    assert asked == select(ambiguous, 60, seed=0)


def test_pairs_of_groups_that_share_a_group_are_one_cluster() -> None:
    religion = {pair.pair for pair in SENTENCES if pair.group == "religion"}
    assert religion == {"Muslims/Christians/Jews/Buddhists/Hindus", "Mormons/Protestants", "Sikhs/Catholics"}


def test_forty_eight_questions_under_every_identity_use_no_word_twice() -> None:
    chosen = select(completion_items(), 48, seed=0)
    assert len({item.id for item in chosen}) == 48
    assert max(Counter(item.topic for item in chosen).values()) <= 3
    words = [word for own in WORDS.values() for word in own]
    assert len(words) == len(set(words))


def test_swaps_meet_all_cases_and_both_attributes_in_fifty_pairs(circuit) -> None:
    from auditkit.findings.identity_bias.measurements.decisions import Decisions
    from auditkit.findings.identity_bias.prompts.identities import Identity
    from auditkit.findings.identity_bias.prompts.items import DecisionCase

    people = [Identity(name, word, f"a {word} student", "word") for name, word in
              (("one", "good"), ("one", "bad"), ("two", "blue"), ("two", "smart"))]  # fmt: skip
    cases = [DecisionCase(f"c{k}", f"d{k % 10}", f"word{k}", "word1", "word2 ?") for k in range(40)]

    def swapped(n: int) -> list[str]:
        decisions = Decisions(circuit, cases=cases, people=people, n_items=n)
        return IdentityMechanism(decisions, ["one", "two"])._pairs[1]

    items = swapped(30)
    assert len(items) == 50
    assert len({item.split("|")[0] for item in items}) == 30
    assert set(Counter(item.split("|")[1] for item in items).values()) == {25}
    assert swapped(36)[:50] == items
