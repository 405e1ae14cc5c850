"""Strategies make what loaders make: items that a suite could ask."""

from __future__ import annotations

import pytest
from hypothesis import given

from auditkit.data.items import CompletionItem
from auditkit.data.personas import PersonaPair
from auditkit.testing import strategies

pytestmark = pytest.mark.unit


@given(pair=strategies.persona_pairs())
def test_the_two_personas_of_a_pair_have_different_words(pair: PersonaPair) -> None:
    words = [persona.word for persona in (pair.clean, pair.corrupt)]
    assert len({*words}) == 2
    assert all(word.isalpha() and word.islower() for word in words)


@given(item=strategies.completion_items())
def test_an_item_has_two_answers_and_a_topic_of_its_id(item: CompletionItem) -> None:
    assert item.right != item.wrong
    assert item.id.startswith(f"{item.topic}-")
    assert item.question.endswith("?")


@given(role=strategies.role_prompts())
def test_a_role_is_none_or_a_sentence(role: str) -> None:
    assert role == "" or role.endswith(".")
