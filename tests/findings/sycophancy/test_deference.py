"""Deference to planted amounts: a model that knows facts and gives in to speakers by as many logits as is written."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auditkit.claims.evidence import gathering
from auditkit.claims.outcomes import NotApplicable, Unsupported
from auditkit.data.choices import ChoiceItem, Choices
from auditkit.data.items import CompletionItem, completion_items
from auditkit.findings.asking.formats import Question
from auditkit.findings.sycophancy.measurements.deference import FACTS, WORDINGS, Deference
from auditkit.findings.sycophancy.prompts import (
    DOUBT,
    EXPERT,
    NOBODY,
    OPINIONS,
    ORDERS,
    QUOTED,
    RIGHT,
    WRONG,
    asked_by,
)
from auditkit.record.figures import drawing_of
from tests.planted.telling import Teller

pytestmark = pytest.mark.unit

KNOWLEDGE = 3.0
GIVEN_IN = {RIGHT: 1.0, WRONG: -2.0, EXPERT: -2.5, QUOTED: -0.5, DOUBT: -1.5}
"""Logits by which a speaker moves the right answer."""
MARKS = {EXPERT: "I am an expert", QUOTED: "grammar book", WRONG: "I think the answer is", DOUBT: "I don't think"}


def facts(topics: int = 8, each: int = 3) -> tuple[CompletionItem, ...]:
    return tuple(
        CompletionItem(
            f"t{t}-{n}", f"topic {t}", f"What is number {t}-{n}?", f"It is {t}-{n}", f"right{t}{n}", f"wrong{t}{n}"
        )
        for t in range(topics)
        for n in range(each)
    )


def teller(
    items: tuple[CompletionItem, ...], given_in: dict[str, float], unknown: frozenset[str] = frozenset()
) -> Teller:
    by_start = {item.start: item for item in items}

    def says(text: str) -> dict[str, float]:
        start = re.search(r"=> (.*)$", text)
        item = by_start.get(start[1]) if start else None
        if item is None:
            return {}
        speaker = next((name for name, words in MARKS.items() if words in text), NOBODY)
        if speaker == WRONG and f"is {item.right}." in text:
            speaker = RIGHT
        noise = 0.1 * (sum(map(ord, item.id)) % 7 - 3)
        knows = -1.0 if item.id in unknown else KNOWLEDGE
        return {f" {item.right}": knows + noise + given_in.get(speaker, 0.0), f" {item.wrong}": 0.0}

    return Teller(says)


def test_deference_is_what_was_planted() -> None:
    items = facts()
    measured = Deference(teller(items, GIVEN_IN), items=items)
    for speaker, moved in GIVEN_IN.items():
        effect = measured.by(speaker)
        assert effect.describe().estimate == pytest.approx(-moved, abs=1e-5)
        assert effect.describe().clusters == 8
    assert (measured.by(WRONG) - measured.by(QUOTED)).describe().estimate == pytest.approx(1.5, abs=1e-5)


def test_speakers_together_are_read_in_one_go_and_a_speaker_alone_says_the_same() -> None:
    items = facts()
    model = teller(items, GIVEN_IN)
    measured = Deference(model, items=items)
    measured.by(WRONG)
    read = model.read
    measured.by(EXPERT), measured.knows(), measured.overturned()
    assert model.read == read
    assert read == 5 * len(items)
    alone = Deference(teller(items, GIVEN_IN), items=items)
    np.testing.assert_array_equal(alone.by(EXPERT).numerator, measured.by(EXPERT).numerator)


def test_questions_that_the_model_does_not_know_are_counted_and_left_out_of_claims_about_it_alone() -> None:
    items = facts()
    unknown = frozenset({"t0-0", "t3-1"})
    measured = Deference(teller(items, GIVEN_IN, unknown), items=items)
    assert set(measured.by(WRONG).measurement.values.index) == {item.id for item in items} - unknown
    assert len(measured.by(WRONG, known=False).numerator) == len(items)
    assert any("knows 22 of 24 questions" in text for text in measured.notes())


def test_answers_are_overturned_where_the_wrong_one_leads() -> None:
    items = facts()
    assert Deference(teller(items, {WRONG: -2.0}), items=items).overturned().describe().estimate == 0.0
    assert Deference(teller(items, {WRONG: -4.0}), items=items).overturned().describe().estimate == 1.0


def test_a_model_at_chance_has_nothing_to_give_up() -> None:
    items = facts()
    half = frozenset(item.id for n, item in enumerate(items) if n % 2)
    with pytest.raises(NotApplicable, match="knows too little to give up"):
        Deference(teller(items, GIVEN_IN, half), items=items).by(WRONG)


def test_too_few_topics_are_refused_with_their_number() -> None:
    items = facts(topics=3)
    with pytest.raises(Unsupported, match="in 3 topics, can be asked; 5 topics are needed"):
        Deference(teller(items, GIVEN_IN), items=items)
    items = facts(topics=8, each=5)
    unknown = frozenset(item.id for item in items if item.topic in ("topic 0", "topic 1", "topic 2", "topic 3"))
    few = tuple(item for item in items if item.id not in unknown or item.id.endswith("-0"))
    with pytest.raises(Unsupported, match="in 4 topics, are known"):
        Deference(teller(few, GIVEN_IN, unknown), items=few).by(WRONG)


def test_the_project_has_enough_facts() -> None:
    items = completion_items()
    assert len(items) >= FACTS >= 120
    assert len({item.topic for item in items}) >= 12


@pytest.mark.parametrize("speaker", OPINIONS)
def test_every_speaker_names_the_answers_that_they_should(speaker: str) -> None:
    question = Question("q", "t", "What is it?", "It is", (1, 2), ("red", "blue"))
    text = asked_by(question, speaker).user
    assert "What is it?" in text
    offered = any(speaker.startswith(order) for order in ORDERS)
    assert ("red" in text) == (speaker in (RIGHT, DOUBT) or offered)
    assert ("blue" in text) == (speaker not in (NOBODY, RIGHT, DOUBT))


def test_the_quotation_has_the_words_of_the_wrong_opinion() -> None:
    question = Question("q", "t", "What is it?", "It is", (1, 2), ("red", "blue"))
    opinion = asked_by(question, WRONG).user.removeprefix("What is it? ")
    assert f'"{opinion}"' in asked_by(question, QUOTED).user


def test_letters_are_named_in_a_line_of_their_own() -> None:
    choices = Choices(
        tuple(
            ChoiceItem(f"s{k % 8}-{k}", f"s{k % 8}", f"Which is {k}?", (f"n{k}", f"x{k}", f"y{k}", f"z{k}"), 0)
            for k in range(32)
        ),
        (),
    )

    def says(text: str) -> dict[str, float]:
        asked = re.search(r"Which is (\d+)\?", text)
        if asked is None or not text.endswith("=>"):
            return {}
        right = next(letter for letter in "ABCD" if f"{letter}. n{asked[1]}\n" in text)
        said = re.search(r"\nI think the answer is ([ABCD])\.", text)
        logits = dict.fromkeys((" A", " B", " C", " D"), 0.0) | {f" {right}": 3.0}
        if said:
            logits[f" {said[1]}"] += 1.0
        return logits

    measured = Deference(Teller(says), items=choices)
    assert len(measured.asked) == 32  # a user's own data are measured whole
    assert measured.by(WRONG).describe().estimate == pytest.approx(1.0)
    assert measured.by(RIGHT).describe().estimate == pytest.approx(-1.0)


def test_the_table_shows_each_speaker_with_an_example_and_the_figure_an_interval() -> None:
    items = facts()
    with gathering():
        dots, table = Deference(teller(items, GIVEN_IN), items=items).figures()
    assert [row[0] for row in drawing_of(table).rows] == [NOBODY, RIGHT, WRONG, EXPERT, QUOTED]
    assert [dot.name for dot in drawing_of(dots).groups[0].dots] == [RIGHT, WRONG, EXPERT, QUOTED]


@settings(max_examples=8, deadline=None)
@given(moved=st.floats(-5, 2), extra=st.floats(-2, 2), seed=st.integers(0, 100), n_items=st.integers(16, 24))
def test_what_moves_both_prompts_alike_cancels(moved: float, extra: float, seed: int, n_items: int) -> None:
    """Deference is a difference of two prompts of one question, so the questions' own lead does not enter it."""
    items = facts()
    one, other = (
        Deference(teller(items, {NOBODY: shift, WRONG: moved + shift}), seed=seed, n_items=n_items, items=items)
        for shift in (0.0, extra)
    )
    np.testing.assert_allclose(
        one.by(WRONG, known=False).numerator, other.by(WRONG, known=False).numerator, atol=1e-5
    )
    assert len(one.asked) == n_items


def test_another_wording_is_asked_in_a_third_of_the_questions_and_compared_on_these() -> None:
    items = facts(topics=6, each=9)
    unknown = frozenset({"t2-4"})
    model = teller(items, GIVEN_IN, unknown)
    measured = Deference(model, items=items)
    whole, read = measured.by(WRONG), model.read
    part = measured.part.by(DOUBT)
    assert model.read == read + 18 == 5 * 54 + 18
    assert part.describe().estimate == pytest.approx(-GIVEN_IN[DOUBT], abs=1e-5)
    assert set(part.measurement.clusters["topic"]) == {item.topic for item in items}
    assert (part - measured.part.by(RIGHT)).describe().estimate == pytest.approx(2.5, abs=1e-5)
    same = whole.measurement.values.index.isin(part.measurement.values.index)
    np.testing.assert_array_equal(measured.part.by(WRONG).numerator, whole.numerator[same])
    assert model.read == read + 18
    assert any("asked in 18 of the questions" in text for text in measured.notes())


def test_with_few_questions_another_wording_is_still_asked_in_every_topic() -> None:
    items = facts(topics=6, each=2)
    assert len(Deference(teller(items, GIVEN_IN), items=items).part.by(DOUBT).numerator) == 6


def test_wordings_are_other_wrong_opinions() -> None:
    assert set(WORDINGS) <= set(OPINIONS) - {NOBODY, RIGHT, WRONG, EXPERT, QUOTED}
