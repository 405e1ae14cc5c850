"""Known answers: a model whose logits are written down, asked in both formats and under every persona."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from auditkit.adapters.chat import Prompt
from auditkit.adapters.protocol import Batch
from auditkit.claims.evidence import gathering
from auditkit.claims.outcomes import Inconclusive, NotApplicable
from auditkit.data.choices import LETTERS, ChoiceItem, Choices
from auditkit.data.errors import Dropped
from auditkit.data.items import completion_items
from auditkit.data.personas import Persona, PersonaPair, persona_groups, synonym_pairs, without_reuse
from auditkit.findings.asking.questions import PersonaQuestions
from auditkit.findings.persona_patching.measurements.answers import (
    ACCURACY,
    NOBODY,
    PLAIN,
    PROBABILITY,
    PersonaAnswers,
)
from auditkit.record.figures import Dots, Table, drawing_of

pytestmark = pytest.mark.unit

VOCABULARY = 4096
SPACED = 2000
"""Ids from here on are words written with a space before them, as byte-level tokenizers have them."""
RIGHT = {f"{item.question} {item.start}": item.right for item in completion_items()}
CHOICES = [
    ChoiceItem(f"s{k % 8}-{k}", f"s{k % 8}", f"Which is number {k}?", (f"n{k}", f"x{k}", f"y{k}", f"z{k}"), 0)
    for k in range(64)
]


class Encoder:
    """One token per word; letters with a space before them are tokens of their own, and words may have extra ones."""

    format = "chat template"

    def __init__(self, extra: dict[str, int] | None = None, *, split_letters: bool = False) -> None:
        self.known: dict[str, int] = {}
        self.extra, self.split_letters = extra or {}, split_letters
        self.texts: dict[tuple[int, ...], str] = {}

    def encode(self, text: str) -> list[int]:
        ids: list[int] = []
        for space, word in re.findall(r"( ?)(\S+|\n)", text):
            number = self.known.setdefault(word, len(self.known) + 1)
            ids.append(number + SPACED if space and word in LETTERS else number)
            ids += [1] * (self.extra.get(word, 0) + (self.split_letters and word in LETTERS))
        self.texts[tuple(ids)] = text
        return ids

    def render(self, chat) -> str:
        return f"system: {chat.system} user: {chat.user} assistant: {chat.assistant}".strip(" ")

    def __call__(self, chat) -> Prompt:
        text = self.render(chat)
        return Prompt(text, tuple(self.encode(text)))


class Oracle:
    """Gives the right answer `knowledge` logits plus `effect[group]` plus what a word and a question add by chance.

    A letter is written with a space before it, like " A", and the three wrong ones have different logits.
    """

    def __init__(
        self, effect: dict[str, float] | None = None, *, knowledge: float = 3.0, noise: float = 0.2, **encoder
    ):
        self.chat, self.effect, self.knowledge, self.noise = Encoder(**encoder), effect or {}, knowledge, noise
        self.group = {word.word: name for name, words in persona_groups().items() for word in words}
        self.group |= {NOBODY: NOBODY, "student.": PLAIN}
        self.asked: Counter[str] = Counter()

    def batch(self, prompts) -> Batch:
        self.asked.update(self.chat.texts[prompt.ids] for prompt in prompts)
        longest = max(map(len, prompts))
        pads = tuple(longest - len(prompt) for prompt in prompts)
        ids = torch.tensor([[0] * pad + list(prompt.ids) for pad, prompt in zip(pads, prompts, strict=True)])
        return Batch(ids, (ids > 0).long(), pads)

    def run(self, batch) -> torch.Tensor:
        logits = torch.zeros(len(batch), VOCABULARY)
        for row, (ids, pad) in enumerate(zip(batch.ids.tolist(), batch.pads, strict=True)):
            system, question, start = re.fullmatch(
                r"system: (.*) user: (.*) assistant:(.*)", self.chat.texts[tuple(ids[pad:])], re.DOTALL
            ).groups()
            word = (system.split() or [NOBODY] * 4)[3]
            margin = self.knowledge + self.effect.get(self.group[word], 0.0) + self._chance(word, question)
            if start:
                logits[row, self.chat.encode(RIGHT[f"{question}{start}"])[0]] = margin
            else:
                number = re.search(r"number (\d+)", question).group(1)
                right = re.search(rf"^(.)\. n{number}$", question, re.MULTILINE).group(1)
                for k, letter in enumerate(LETTERS):
                    logits[row, self.chat.encode(f" {letter}")[0]] = 8.0 - k / 2
                wrong = [8.0 - k / 2 for k, letter in enumerate(LETTERS) if letter != right]
                logits[row, self.chat.encode(f" {right}")[0]] = sum(wrong) / 3 + margin
        return logits

    def _chance(self, *parts: str) -> float:
        """What each part and their combination add; the arms without a word add nothing of their own."""
        whole = [*parts, " ".join(parts)] if parts[0] not in (NOBODY, "student.") else parts[1:]
        drawn = [int.from_bytes(hashlib.sha256(part.encode()).digest()[:4], "big") / 2**31 - 1 for part in whole]
        return self.noise * sum(drawn) / len(drawn)


RACIAL = len(persona_groups()["racial"])
VALENCE = {"positive": 0.3, "negative": -0.7, NOBODY: 0.2, "racial": -0.02}


def answers_of(oracle: Oracle, items=None, **settings) -> PersonaAnswers:
    words = {name: settings.pop(name) for name in ("synonyms", "n_words") if name in settings}
    return PersonaAnswers(
        PersonaQuestions(oracle, items=items, **settings), n_items=settings.get("n_items"), **words
    )


@pytest.fixture(scope="module")
def answers() -> PersonaAnswers:
    return answers_of(Oracle(VALENCE))


@pytest.fixture(scope="module")
def lettered() -> PersonaAnswers:
    return answers_of(
        Oracle(VALENCE), Choices(tuple(CHOICES), (Dropped("s0-99", "1 of four options are missing"),))
    )


@pytest.mark.parametrize("which", ["answers", "lettered"])
def test_planted_differences_of_groups_are_measured_in_both_formats(which: str, request) -> None:
    answers = request.getfixturevalue(which)
    for group, against, planted in (
        ("negative", "positive", -1.0),
        ("negative", NOBODY, -0.9),
        ("positive", NOBODY, 0.1),
        ("negative", PLAIN, -0.7),
        (NOBODY, PLAIN, 0.2),
    ):
        effect = answers.compare(group, against=against).describe()
        assert effect.lower < planted < effect.upper
        assert effect.upper - effect.lower < 0.5
    assert answers.compare("negative", against="positive") < 0
    assert answers.compare("racial", against="neutral").equals(0.0, within=0.25)
    with pytest.raises(Inconclusive):
        _ = answers.compare("colour", against="neutral") < 0


def test_an_item_is_a_question_under_a_word_of_each_group(answers: PersonaAnswers) -> None:
    measured = answers.compare("negative", against="positive").measurement
    assert measured.clusters.nunique().to_dict() == {"topic": 17, "words": 16}, "48 questions have 17 topics"
    assert set(measured.clusters["words"].value_counts()) == {6}, "a word is asked six questions,"
    asked = pd.Series(item.split("|")[0] for item in measured.values.index).value_counts()
    assert len(asked) == 48
    assert set(asked) == {2}, "and a question under two words"
    first, item = measured.prompts[measured.values.index[0]], measured.values.index[0]
    one, other = item.split("|")[1].split("/")
    assert f"{one} student" in first["negative"]
    assert f"{other} student" in first["positive"]
    against = answers.compare("negative", against=NOBODY).measurement
    assert "You are" not in against.prompts[against.values.index[0]][NOBODY]
    alone = answers.compare(NOBODY, against=PLAIN).measurement
    assert list(alone.clusters.columns) == ["topic"]
    assert "You are a student." in alone.prompts[alone.values.index[0]][PLAIN]


def test_every_prompt_is_run_once_whoever_asks(answers: PersonaAnswers) -> None:
    answers.compare("negative", against="positive", outcome=ACCURACY)
    answers.figures()
    assert set(answers.questions.adapter.asked.values()) == {1}


def test_words_at_one_place_of_two_groups_and_a_word_alone_are_asked_the_same(answers: PersonaAnswers) -> None:
    group, other = answers._groups["negative"], answers._groups["racial"]
    word = group.single_words()[4]
    alone = answers._measured([word], "logit difference").values
    assert list(alone.columns) == [group.words[4].word]
    together = answers.compare("negative", against="racial").measurement
    of_it = together.clusters["words"] == f"{group.words[4].word}/{other.words[4].word}"
    np.testing.assert_array_equal(alone.iloc[:, 0], together.values.loc[of_it.to_numpy(), "negative"])


def test_fewer_questions_ask_a_part_of_what_more_questions_ask() -> None:
    few, more = (
        answers_of(Oracle(VALENCE), n_items=n).compare("negative", against="positive").measurement for n in (6, 12)
    )
    assert len(few.values) == 6 * 2
    assert few.clusters.nunique().to_dict() == {"topic": 6, "words": 12}
    assert set(few.values.index) < set(more.values.index)


def test_accuracy_is_paired_and_a_note_counts_the_items_that_differ() -> None:
    answers = answers_of(Oracle({"negative": -3.3}, noise=0.0))
    with gathering() as evidence:
        lost = answers.compare("negative", against="positive", outcome=ACCURACY)
    np.testing.assert_array_equal(lost.numerator, -1.0)
    assert any(
        "right under positive alone in 96 of 96 items, under negative alone in 0" in n for n in evidence.notes
    )
    wavering = answers_of(Oracle({"negative": -3.0}, noise=0.5)).compare(
        "negative", against="positive", outcome=ACCURACY
    )
    assert wavering < 0
    assert -1 < wavering.describe().estimate < 0


def test_the_log_probability_is_that_among_all_tokens() -> None:
    answers = answers_of(Oracle(noise=0.0))
    value = answers.compare("negative", against="positive", outcome=PROBABILITY).measurement.condition("negative")
    np.testing.assert_allclose(value, 3 - np.log(np.exp(3) + VOCABULARY - 1), atol=1e-5)


def test_synonyms_move_less_than_opposites(answers: PersonaAnswers) -> None:
    synonyms, opposites = answers.swaps("negative", against="positive")
    assert synonyms < opposites
    assert 0.8 < opposites.describe().estimate < 1.2
    groups = dict.fromkeys(("positive", "negative"), 0.0)
    nothing = answers_of(Oracle(groups, noise=0.4)).swaps("negative", against="positive")
    with pytest.raises(Inconclusive):
        _ = nothing[0] < nothing[1]


def test_the_table_and_the_plot_hold_every_group_and_word(answers: PersonaAnswers) -> None:
    table, dots = map(drawing_of, answers.figures())
    assert isinstance(table, Table)
    assert isinstance(dots, Dots)
    rows = {row[0]: dict(zip(table.columns, row, strict=True)) for row in table.rows}
    assert [name for name in rows if not name.startswith("·")] == [NOBODY, PLAIN, *persona_groups()]
    assert len(rows) == 2 + 6 * 17
    assert rows[NOBODY]["minus none"] is None
    assert rows["negative"]["answers"] == 96
    assert rows["negative"]["minus none from"] < -0.9 < rows["negative"]["minus none to"]
    assert rows["negative"]["right"] == 1.0
    assert rows["negative"]["right from"] < 1.0, "an accuracy of 1 has an interval too"
    word = next(
        name for name in rows if name.startswith("·") and answers.questions.adapter.group[name[2:]] == "racial"
    )
    assert rows[word]["answers"] == 6
    drawn = {group.name: group for group in dots.groups}
    assert list(drawn) == [PLAIN, *persona_groups()]
    assert drawn["negative"].dots[0].estimate == rows["negative"]["minus none"]
    assert drawn["negative"].dots[0].name == "all"
    assert len(drawn["negative"].dots) == 17
    assert dots.reference == 0.0


@pytest.mark.parametrize("n_items", [5, 6, 12])
def test_with_few_questions_the_table_holds_the_words_that_meet_one(n_items: int) -> None:
    answers = answers_of(Oracle(VALENCE), n_items=n_items)
    table, dots = map(drawing_of, answers.figures())
    assert isinstance(table, Table)
    words = [dict(zip(table.columns, row, strict=True)) for row in table.rows if row[0].startswith("·")]
    asked = min(16, 2 * n_items)
    assert len(words) == len(persona_groups()) * asked
    assert min(row["answers"] for row in words) >= 1
    assert {len(group.dots) for group in dots.groups} == {1, 1 + asked}


def test_nothing_to_ask_is_one_line(answers: PersonaAnswers) -> None:
    with pytest.raises(ValueError, match="there is no question to ask"):
        answers.questions.ask([])


# Words that cannot be compared


def extra(group: str, keep: int) -> dict[str, int]:
    """Tokens too many for all but the first words of a group: each of another length."""
    words = [persona.word for persona in persona_groups()[group]]
    return {word: number for number, word in enumerate(words[keep:], 1)}


def test_words_of_another_length_are_left_out_and_counted() -> None:
    answers = answers_of(Oracle(extra=extra("racial", 6)))
    with gathering() as evidence:
        effect = answers.compare("racial", against="neutral").describe()
    assert (effect.n, effect.clusters) == (36, 6)
    assert any(note.startswith(f"racial: {RACIAL - 6} of {RACIAL} words not used") for note in evidence.notes)


def test_a_group_with_too_few_words_of_one_length_is_refused_and_others_are_not() -> None:
    answers = answers_of(Oracle(extra=extra("racial", 3)))
    with pytest.raises(
        NotApplicable,
        match=rf"only 3 racial words make prompts of one length, 5 are needed \(racial: {RACIAL - 3}",
    ):
        answers.compare("racial", against="neutral")
    assert answers.compare("negative", against="positive").describe().n == 96
    assert "racial" not in {row[0] for row in drawing_of(answers.figures()[0]).rows}


def test_words_that_are_longer_throughout_are_compared_and_their_tokens_shown() -> None:
    answers = answers_of(Oracle(extra={p.word: 2 for p in persona_groups()["nonsense"]}))
    assert answers.compare("nonsense", against="positive").describe().n == 96
    tokens = {row[0]: row[1] for row in drawing_of(answers.figures()[0]).rows}
    assert (tokens["nonsense"], tokens["positive"], tokens[PLAIN]) == (3, 1, 0)


def test_pairs_that_cannot_be_length_matched_are_dropped_with_a_count_and_too_few_are_refused() -> None:
    questions = PersonaQuestions(Oracle(extra=extra("racial", 6)))
    arm = questions.arm("racial", "neutral", 6, 16)
    assert {f"racial against neutral personas: 6 pairs, {RACIAL - 6} words not used"} == {
        arm.note.split(" (first")[0]
    }
    assert "; 16 were asked for, and no more can be made without using a word twice" in arm.note
    few = PersonaQuestions(
        Oracle(extra=extra("racial", 0)),
        groups={"racial": persona_groups()["racial"], "neutral": (Persona("local", "neutral"),)},
    )
    with pytest.raises(NotApplicable, match="only 0 pairs of racial and neutral personas have equal token length"):
        few.arm("racial", "neutral")


def test_synonyms_of_unequal_length_are_not_swapped() -> None:
    unequal = {pair.corrupt.word: 1 for pair in synonym_pairs()[:9]}
    with pytest.raises(NotApplicable, match="only 3 of 12 pairs of synonyms have equal token length"):
        answers_of(Oracle(extra=unequal)).swaps("negative", against="positive")
    own = [PersonaPair(Persona(f"a{k}", "x"), Persona(f"b{k}", "x")) for k in range(5)]
    oracle = Oracle()
    oracle.group |= {word.word: "x" for pair in own for word in (pair.clean, pair.corrupt)}
    assert answers_of(oracle, synonyms=own).swaps("negative", against="positive")[0].describe().n == 30


def test_an_unknown_group_is_named(answers: PersonaAnswers) -> None:
    with pytest.raises(KeyError, match="no group 'purple'; there are no persona, no attribute, positive"):
        answers.compare("purple", against="neutral")


# Letters


def test_letters_are_read_as_the_model_writes_them(lettered: PersonaAnswers) -> None:
    encoder = lettered.questions.adapter.chat
    spaced = {encoder.encode(f" {letter}")[0] for letter in LETTERS}
    assert all(set(question.answers) == spaced for question in lettered.questions.items)
    notes = " ".join(lettered.notes())
    assert 'letters are read as " A", by the probability after the prompt: ' in notes
    assert "1 of 65 questions dropped (first: s0-99: 1 of four options are missing)" in notes
    with gathering() as evidence:
        lettered.compare("negative", against="positive")
    assert evidence.notes[: len(lettered.notes())] == list(lettered.notes())


def test_the_right_letters_are_even_and_lead_to_the_right_option(lettered: PersonaAnswers) -> None:
    encode = lettered.questions.adapter.chat.encode
    asked = lettered.questions.items
    letters = Counter(
        next(letter for letter in LETTERS if encode(f" {letter}")[0] == question.answers[0]) for question in asked
    )
    assert set(letters.values()) == {len(asked) // 4}
    for question in asked:
        right = re.search(r"number (\d+)", question.user).group(1)
        letter = re.search(rf"^(.)\. n{right}$", question.user, re.MULTILINE).group(1)
        assert encode(f" {letter}")[0] == question.answers[0]


def test_patch_pairs_hold_the_right_letter_and_three_wrong_ones(lettered: PersonaAnswers) -> None:
    arm = lettered.questions.arm("negative", "positive", 6, 5)
    assert {len(set(pair.answers)) for pair in arm.pairs} == {4}


def test_a_tokenizer_that_splits_letters_is_refused() -> None:
    with pytest.raises(
        NotApplicable, match=r"the tokenizer splits answer letters.*' A' takes 2 tokens, not 1"
    ) as refused:
        answers_of(Oracle(split_letters=True), Choices(tuple(CHOICES), ()))
    assert "ask completions instead" in str(refused.value)


@pytest.mark.parametrize("knowledge", [0.0, -1.0])
def test_a_model_that_is_at_chance_with_letters_is_not_applicable_and_the_reason_has_its_accuracy(
    knowledge: float,
) -> None:
    with pytest.raises(
        NotApplicable, match=r"beats all others in \d+ of 60 items; chance plus three standard errors is 0.42"
    ):
        answers_of(Oracle(knowledge=knowledge), Choices(tuple(CHOICES), ()))


def test_with_few_subjects_every_question_is_a_cluster_and_a_note_says_so() -> None:
    one = Choices(tuple(replace(item, topic="birds") for item in CHOICES), ())
    answers = answers_of(Oracle(VALENCE), one)
    measured = answers.compare("negative", against="positive").measurement
    assert measured.clusters["topic"].nunique() == 48
    assert any("they speak of birds only" in note for note in answers.notes())


def test_nothing_left_to_ask_is_not_applicable() -> None:
    with pytest.raises(NotApplicable, match="none of 2 multiple-choice questions can be asked"):
        answers_of(Oracle(), Choices((), (Dropped("a", "b"), Dropped("c", "d"))))


# -- words and clusters ----------------------------------------------------------------------------------------


def labels_by_word(clusters: pd.DataFrame) -> dict[str, set[str]]:
    """Word -> the cluster ids that it counts under; ids of words name them, "good>bad" or "good/bad"."""
    found: dict[str, set[str]] = {}
    known = {word.word for words in persona_groups().values() for word in words}
    for factor in clusters.columns:
        for label in clusters[factor].unique():
            for word in re.split("[>/]", str(label)):
                if word in known:
                    found.setdefault(word, set()).add(str(label))
    return found


@pytest.mark.parametrize("clean", ["positive", "neutral", "nonsense"])
@pytest.mark.parametrize("corrupt", ["negative", "racial", "colour", "nonsense"])
def test_no_word_counts_under_two_pairs_however_many_are_asked_for(corrupt: str, clean: str) -> None:
    questions = PersonaQuestions(Oracle(VALENCE))
    arm = questions.arm(corrupt, clean, 6, 1000)
    counted = labels_by_word(arm.measurement.clusters)
    assert len(counted) >= 10
    assert {word: ids for word, ids in counted.items() if len(ids) > 1} == {}
    assert "1000 were asked for, and no more can be made without using a word twice" in arm.note
    assert "were asked for" not in questions.arm(corrupt, clean, 6, 5).note


def test_no_word_counts_under_two_clusters_when_answers_are_compared() -> None:
    """Of a swap for a synonym and one for an opposite, too: a word may be in both groups of words."""
    answers = answers_of(Oracle(VALENCE), n_words=1000)
    estimates = [
        answers.compare(group, against="positive") for group in ("negative", "racial", "colour", "neutral")
    ]
    estimates += answers.swaps("negative", against="positive")
    for estimate in estimates:
        counted = labels_by_word(estimate.measurement.clusters)
        assert len(counted) >= 10
        assert {word: ids for word, ids in counted.items() if len(ids) > 1} == {}
    synonyms = [PersonaPair(*pair) for pair in (("a", "b"), ("a", "c"), ("d", "e"))]
    assert len(without_reuse(synonyms, lambda pair: (pair.clean, pair.corrupt))) == 2
