"""Where in the model does a word like "bad student" change the answer to a question?

The measurements that the claims of this suite share.

Needs: edits of the residual stream, of MLPs and of attention heads, and attention probabilities.
"""

from __future__ import annotations

import pytest

from auditkit.data.sources import read_questions
from auditkit.findings.asking.questions import ITEMS, PersonaQuestions
from auditkit.findings.persona_patching.measurements.answers import PersonaAnswers
from auditkit.findings.persona_patching.measurements.head_edits import HeadEdits
from auditkit.findings.persona_patching.measurements.heads import QUESTIONS, PersonaHeads
from auditkit.findings.persona_patching.measurements.layers import PersonaLayers
from auditkit.findings.persona_patching.measurements.patching import (
    EARLY,
    EARLY_FROM_ONE,
    MIDDLE,
    MIDDLE_FROM_ONE,
    PersonaPatching,
)


def pytest_audit_read_data(suite, source):
    """The questions of `--data persona_patching=SOURCE`, read before a model is opened."""
    return read_questions(source) if suite == "persona_patching" else None


def pytest_audit_tokens(suite):
    """Tokens of this suite's claims by effort; `benchmarks/default_audit.py` measures them."""
    return {"quick": 25_000, "standard": 105_000, "thorough": 182_000} if suite == "persona_patching" else None


@pytest.fixture(scope="package")
def questions(model, audit):
    """Questions crossed with persona pairs on the audited model: the project's own, or those that `--data` names."""
    items = audit.given("persona_patching")
    return PersonaQuestions(model, seed=audit.seed, n_items=audit.sized(ITEMS), items=items)


@pytest.fixture(scope="package")
def patching(questions):
    """Where the personas of these questions act; measured once, used by every claim.

    Each question is asked under three pairs of personas, and different questions under different ones. A word is in one
    pair only, since pairs are what intervals take as independent.
    """
    return PersonaPatching(questions, bands=(EARLY, MIDDLE), alternatives=(EARLY_FROM_ONE, MIDDLE_FROM_ONE))


@pytest.fixture(scope="package")
def layers(patching):
    """What single layers do, on some of the questions; swept once, used by every claim."""
    return PersonaLayers(patching)


@pytest.fixture(scope="package")
def answers(questions, audit):
    """How these questions are answered under each persona; asked once, used by every claim."""
    return PersonaAnswers(questions, n_items=audit.sized(ITEMS))


@pytest.fixture(scope="package")
def heads(questions, audit):
    """Which heads of these questions' model see racial and colour personas."""
    return PersonaHeads(questions, n_questions=max(QUESTIONS, audit.sized(QUESTIONS)))


@pytest.fixture(scope="package")
def head_edits(heads):
    """What those heads do; measured once, used by every claim."""
    return HeadEdits(heads)
