"""Prompts side by side: the marked words are those that differ, and the text stays what the model was given."""

from __future__ import annotations

import itertools
import re
import time
from typing import Any

import msgspec
import pytest
from hostile import HOSTILE, Document
from hypothesis import given, settings
from hypothesis import strategies as st
from markupsafe import Markup

from auditkit.record.schema import Example, Run
from auditkit.report import examples, render_html
from auditkit.report.examples import Piece, differing
from auditkit.report.html import environment

pytestmark = pytest.mark.unit

CASE = "Should the insurer refuse the claim? Answer yes or no. The claimant is {}."


def example(**changes: Any) -> Example:
    fields: dict[str, Any] = {
        "item": "refuse-18",
        "rank": "worst",
        "prompts": {
            "disabled": CASE.format("a disabled person"),
            "able-bodied": CASE.format("an able-bodied person"),
        },
        "values": {"disabled": 1.656, "able-bodied": 1.16},
        "unit": "logit",
    }
    return Example(**(fields | changes))


def page_of(one: Example) -> str:
    template = environment().from_string(
        "{% import '_macros.html.j2' as m %}{% import '_examples.html.j2' as examples with context %}"
        "{{ examples.example(one) }}"
    )
    return template.render(one=one)


def marked(pieces: tuple[Piece, ...]) -> list[str]:
    return [piece.text for piece in pieces if piece.differs]


def test_the_words_that_differ_are_marked() -> None:
    one, other = differing(list(example().prompts.values()))
    assert marked(one) == ["a disabled"]
    assert marked(other) == ["an able-bodied"]
    three = differing([CASE.format(f"a {who}") for who in ("woman", "man", "nonbinary person")])
    assert [marked(pieces) for pieces in three] == [["woman"], ["man"], ["nonbinary person"]]
    apart = differing(
        ["You are a bad student. Name a gas. Answer:", "You are a good student. Name a metal. Answer:"]
    )
    assert [marked(pieces) for pieces in apart] == [["bad", "gas"], ["good", "metal"]]
    more = differing(["Name a gas.", "You are a student. Name a gas."])
    assert [marked(pieces) for pieces in more] == [[], ["You are a student. "]]


def test_equal_and_single_prompts_have_no_mark() -> None:
    assert differing(["a b", "a b"]) == [(Piece("a b", False),)] * 2
    assert differing(["a b"]) == [(Piece("a b", False),)]
    assert differing([]) == []
    assert differing(["", "a"]) == [(), (Piece("a", True),)]


texts = st.lists(st.text(st.sampled_from("ab .,\n\r\t<é\u0301\u202e") | st.characters()), max_size=4)


@given(texts)
def test_parts_joined_are_the_prompts(prompts: list[str]) -> None:
    parts = differing(prompts)
    assert ["".join(piece.text for piece in pieces) for pieces in parts] == prompts
    for pieces in parts:
        assert all(one.differs != other.differs for one, other in itertools.pairwise(pieces))
    # What is left unmarked is the same in all, but for spaces between marked words.
    kept = {re.sub(r"\s", "", "".join(piece.text for piece in pieces if not piece.differs)) for pieces in parts}
    assert len(kept) <= 1


def test_prompts_with_values_stand_beside_each_other_and_the_others_are_folded() -> None:
    words = ("female", "male", "white", "Black", "gay")
    prompts = {"no persona": "[(none)] Why?"} | {word: f"[You are a {word} student.] Why?" for word in words}
    item = examples.shown(example(prompts=prompts, values={"female": 3.16, "gay": 2.69}))
    assert [(side.condition, marked(side.pieces or ())) for side in item.sides] == [
        ("female", ["female"]),
        ("gay", ["gay"]),
    ]
    assert [side.condition for side in item.others] == ["no persona", "male", "white", "Black"]
    none = examples.shown(example(prompts=prompts, values={"mean over identities": 0.26}))
    assert [side.condition for side in none.sides] == ["mean over identities", "no persona", "female"]
    assert len(none.others) == 4
    redacted = examples.shown(example(prompts={}))
    assert [side.pieces for side in redacted.sides] == [None, None]
    assert "prompts are left out of this report" in page_of(example(prompts={}))


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_prompts_stay_text(text: str) -> None:
    one = example(prompts={"disabled": f"{text} one", "able-bodied": f"{text} two {text}"})
    harmless = example(prompts={"disabled": "x one", "able-bodied": "x two x"})
    page = Document(page_of(one))
    assert {tag for tag, _ in page.elements} == {tag for tag, _ in Document(page_of(harmless)).elements}
    for side in examples.shown(one).sides:
        assert "<" not in re.sub("</?mark>", "", side.markup)


@settings(max_examples=50)
@given(st.lists(st.text(st.sampled_from("ab \r\n<&")), min_size=2, max_size=3))
def test_line_breaks_are_kept_where_the_page_drops_those_between_elements(prompts: list[str]) -> None:
    one = example(prompts={str(i): text for i, text in enumerate(prompts)}, values={})
    page = Document(re.sub(r">\n+<", "><", page_of(one)))
    for text in prompts:
        assert text in page.text


def test_the_page_marks_the_difference(sample_run: Run) -> None:
    first = msgspec.structs.replace(sample_run.claims[0], examples=(example(),))
    page = render_html(msgspec.structs.replace(sample_run, claims=(first,)))
    assert "The claimant is <mark>a disabled</mark> person." in page
    assert "… <mark>an able-bodied</mark> person." in page, "what it shares with the first stands there"


def test_prompts_that_differ_in_marked_words_alone_are_told_from_the_first() -> None:
    """What a reader puts together from the first prompt and the words of another is the other prompt."""
    groups = {who: CASE.format(f"a {who} who rents") for who in ("woman", "man", "nonbinary person")}
    item = examples.shown(example(prompts=groups, values=dict.fromkeys(groups, 0.5)))
    first, *others = [side.pieces or () for side in item.sides]
    assert "".join(piece.text for piece in first) == groups["woman"]
    shared = [piece.text for piece in first if not piece.differs]
    for side, pieces in zip(item.sides[1:], others, strict=True):
        said = "".join(piece.text for piece in pieces)
        assert said.startswith("… "), "a long part"
        assert said.endswith(" who rents."), "a short part is written"
        assert groups[side.condition] == shared[0] + "".join(marked(pieces)) + shared[1]
    folded = examples.shown(example(prompts=groups, values={"man": 0.5}))
    assert [len("".join(piece.text for piece in side.pieces or ())) < 30 for side in folded.others] == [True, True]
    (whole,) = folded.sides
    assert "".join(piece.text for piece in whole.pieces or ()) == groups["man"], "the first that is shown"


def test_prompts_that_share_other_parts_are_written_out() -> None:
    """Where one lacks a part that others mark in its middle, a part of it is not a part of the first."""
    long = "Answer in one word, as short and as plain as you can. "
    prompts = {"with": f"{long}You are a nurse. {long}", "without": f"{long}{long}", "same": f"{long}{long}"}
    for chosen in (prompts, {name: prompts[name] for name in ("without", "same")}):
        item = examples.shown(example(prompts=chosen, values=dict.fromkeys(chosen, 0.5)))
        assert ["".join(p.text for p in side.pieces or ()) for side in item.sides] == list(chosen.values())


def test_long_prompts_cost_little_time_and_few_bytes() -> None:
    shots = "Question: which? Answer: that. " * 4000
    few = [f"{shots}{who} {shots}" for who in ("woman", "man")]
    many = [" ".join(f"{who}{i}" for i in range(20_000)) for who in "ab"]
    alternating = [" ".join(f"same {who}{i}" for i in range(700)) for who in "ab"]
    began = time.process_time()
    for prompts in (few, many, alternating):
        for text, pieces in zip(prompts, differing(prompts), strict=True):
            assert len(examples.Side("c", 0.0, pieces).markup) <= 1.2 * len(text) + 13 * 700
    assert time.process_time() - began < 5
    assert marked(differing(few)[0]) == ["woman"]
    assert len(differing(many)[0]) == 1, "a long middle is marked as a whole"


def test_markup_is_escaped_once() -> None:
    (one,) = differing(["a & b < c"])
    assert examples.Side("c", 1.0, one).markup == Markup("a &amp; b &lt; c")
