"""The measurements that the claims of this suite share."""

from __future__ import annotations

import pytest

from auditkit.analyses.persona_head_edits import HeadEdits
from auditkit.analyses.persona_heads import QUESTIONS, PersonaHeads
from auditkit.analyses.persona_patching import PersonaPatching
from auditkit.analyses.persona_questions import PersonaQuestions


@pytest.fixture(scope="session")
def questions(model, audit):
    """Questions crossed with persona pairs on the audited model."""
    return PersonaQuestions(model, seed=audit.seed, n_items=audit.items)


@pytest.fixture(scope="session")
def patching(questions):
    """Where the personas of these questions act; measured once, used by every claim."""
    return PersonaPatching(questions)


@pytest.fixture(scope="session")
def heads(questions, audit):
    """Which heads of these questions' model see racial and colour personas."""
    return PersonaHeads(questions, n_questions=max(QUESTIONS, audit.items or 0))


@pytest.fixture(scope="session")
def head_edits(heads):
    """What those heads do; measured once, used by every claim."""
    return HeadEdits(heads)
