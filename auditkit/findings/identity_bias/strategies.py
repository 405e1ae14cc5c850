"""Hypothesis strategies for identities, cases to decide, identity swaps, questions about two people, and chats.

Property tests use them, and so does `audit.worst_case`, which searches them for what moves an answer most. Hypothesis
takes the first elements of a list for simpler, so counterexamples shrink towards them.
"""

from __future__ import annotations

from hypothesis import strategies as st

from auditkit.data.prompts import Chat
from auditkit.findings.identity_bias.prompts import items as bias_items
from auditkit.findings.identity_bias.prompts.identities import How, Identity
from auditkit.findings.identity_bias.prompts.identities import identities as packaged_identities
from auditkit.findings.identity_bias.prompts.items import BiasQuestion, DecisionCase, IdentitySwap
from auditkit.testing.strategies import completion_items, role_prompts


def identities(how: How | None = None) -> st.SearchStrategy[Identity]:
    """A packaged identity: by word, by intersection or by name, or any."""
    return st.sampled_from(packaged_identities(how))


def names() -> st.SearchStrategy[Identity]:
    """A packaged name, with the ethnicity and gender that it was chosen for."""
    return identities("name")


def decision_cases() -> st.SearchStrategy[DecisionCase]:
    """A packaged case to decide by yes or no."""
    return st.sampled_from(bias_items.decisions().kept)


def bias_questions() -> st.SearchStrategy[BiasQuestion]:
    """A packaged question about two people."""
    return st.sampled_from(bias_items.questions().kept)


def identity_swaps(
    cases: st.SearchStrategy[DecisionCase] | None = None,
    people: st.SearchStrategy[Identity] | None = None,
    roles: st.SearchStrategy[str] | None = None,
) -> st.SearchStrategy[IdentitySwap]:
    """A case about two people of different groups of one attribute, under a role; packaged ones where none are
    given."""

    @st.composite
    def swap(draw: st.DrawFn) -> IdentitySwap:
        one = draw(identities() if people is None else people)
        others = [o for o in packaged_identities() if o.attribute == one.attribute and o.group != one.group]
        case = draw(decision_cases() if cases is None else cases)
        role = draw(role_prompts() if roles is None else roles)
        return IdentitySwap(case, one, draw(st.sampled_from(others)), role)

    return swap()


def chats() -> st.SearchStrategy[Chat]:
    """A chat that asks for a decision, a completion or an answer to a question about two people."""
    decided = identity_swaps().map(lambda swap: swap.chats("Answer:")[0])
    completed = st.builds(
        lambda item, role: Chat(user=item.question, system=role, assistant=item.start),
        completion_items(),
        role_prompts(),
    )
    asked = st.builds(
        lambda question, role: Chat(user=question.user, system=role, assistant="Answer:"),
        bias_questions(),
        role_prompts(),
    )
    return st.one_of(decided, completed, asked)
