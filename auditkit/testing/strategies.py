"""Hypothesis strategies for personas, completion items and role prompts.

For property tests of code that uses them, and for `audit.worst_case`, which searches them for what moves an answer
most. What comes first in a list is what Hypothesis takes for simpler, so counterexamples shrink towards it. Strategies
for identities are in `auditkit.findings.identity_bias.strategies`.
"""

from __future__ import annotations

import string

from hypothesis import strategies as st

from auditkit.data.items import CompletionItem
from auditkit.data.personas import Persona, PersonaPair

GROUPS = ("positive", "negative", "racial", "colour", "nonsense", "neutral")
ROLES = (
    "",
    "You decide by the rules.",
    "You are a careful clerk.",
    "You are a strict clerk.",
    "You are a kind clerk.",
    "You have no time.",
    "You trust your first impression.",
    "You protect the firm from risk.",
)
"""System turns that give a role; the first is none."""
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


def role_prompts() -> st.SearchStrategy[str]:
    """A system turn that gives the model a role; empty for none."""
    return st.sampled_from(ROLES)
