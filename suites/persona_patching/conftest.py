"""The measurements that the claims of this suite share."""

from __future__ import annotations

import pytest

from auditkit.analyses.persona_layers import PersonaLayers
from auditkit.analyses.persona_patching import EARLY, MIDDLE, PAIRS, PersonaPatching
from auditkit.analyses.persona_questions import PersonaQuestions

QUESTIONS = 24
"""Questions under each pair of personas, where the run does not say how many."""


@pytest.fixture(scope="session")
def questions(model, audit):
    """Questions crossed with persona pairs on the audited model."""
    return PersonaQuestions(model, seed=audit.seed, n_items=audit.items or QUESTIONS)


@pytest.fixture(scope="session")
def patching(questions, audit):
    """Where the personas of these questions act; measured once, used by every claim.

    With more questions come more pairs of personas, one for four questions: `--items 100000` asks for all of both.
    """
    n_pairs = max(PAIRS, (audit.items or QUESTIONS) // 4)
    return PersonaPatching(questions, n_pairs=n_pairs, bands=(EARLY, MIDDLE))


@pytest.fixture(scope="session")
def layers(patching):
    """What single layers do, on some of the questions; swept once, used by every claim."""
    return PersonaLayers(patching)
