"""Hypothesis strategies for personas and completion items, for property tests of code that uses them.

Needs `hypothesis`, which auditkit itself does not: import this module from tests only.
"""

from __future__ import annotations

import string

from hypothesis import strategies as st

from auditkit.data.items import CompletionItem
from auditkit.data.personas import Persona, PersonaPair

GROUPS = ("positive", "negative", "racial", "colour", "nonsense", "neutral")
TOPICS = ("capitals", "animals", "colors", "food", "time")


def _words() -> st.SearchStrategy[str]:
    return st.text(string.ascii_lowercase, min_size=2, max_size=10)


def personas() -> st.SearchStrategy[Persona]:
    """A persona with an invented lower-case word and a group name of the packaged file."""
    return st.builds(Persona, word=_words(), group=st.sampled_from(GROUPS))


def persona_pairs() -> st.SearchStrategy[PersonaPair]:
    """Two personas with different words; articles and token counts may differ."""
    return st.lists(personas(), min_size=2, max_size=2, unique_by=lambda persona: persona.word).map(
        lambda pair: PersonaPair(*pair)
    )


def completion_items() -> st.SearchStrategy[CompletionItem]:
    """A well-formed item of invented words; ids are random, so make lists with `unique_by` on the id."""

    @st.composite
    def item(draw: st.DrawFn) -> CompletionItem:
        right, wrong, name, *subject = draw(st.lists(_words(), min_size=5, max_size=6, unique=True))
        topic = draw(st.sampled_from(TOPICS))
        thing = " ".join(subject)
        return CompletionItem(f"{topic}-{name}", topic, f"What is {thing}?", f"The {thing} is", right, wrong)

    return item()
