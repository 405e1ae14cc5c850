"""Does the model treat people differently because of who they are?

What the claims of this suite measure together, once, on the audited model.

Needs: logits of answer words; attention probabilities and edits of activations for what happens inside; a base model
for claims of change.
"""

from __future__ import annotations

from functools import cache

import pytest

from auditkit import Inconclusive, NotApplicable, NotAsked
from auditkit.claims.evidence import note
from auditkit.findings.asking.questions import PersonaQuestions
from auditkit.findings.identity_bias.measurements.decisions import CASES, Decisions
from auditkit.findings.identity_bias.measurements.mechanism import IdentityMechanism
from auditkit.findings.identity_bias.measurements.own_decisions import OwnDecisions
from auditkit.findings.identity_bias.measurements.personas import QUESTIONS, IdentityAnswers
from auditkit.findings.identity_bias.measurements.pronoun_parts import PronounParts
from auditkit.findings.identity_bias.measurements.pronouns import MOST as MOST_PRONOUNS
from auditkit.findings.identity_bias.measurements.pronouns import OWN as OWN_PRONOUNS
from auditkit.findings.identity_bias.measurements.pronouns import Pronouns
from auditkit.findings.identity_bias.measurements.questions import MOST as MOST_QUESTIONS
from auditkit.findings.identity_bias.measurements.questions import OWN as OWN_QUESTIONS
from auditkit.findings.identity_bias.measurements.questions import AskedQuestions
from auditkit.findings.identity_bias.measurements.sentences import MOST as MOST_SENTENCES
from auditkit.findings.identity_bias.measurements.sentences import OWN as OWN_SENTENCES
from auditkit.findings.identity_bias.measurements.sentences import SentencePreference
from auditkit.findings.identity_bias.measurements.worst import SwapDistance
from auditkit.findings.identity_bias.prompts.sources import read_bias_items
from auditkit.findings.identity_bias.references.answers import CaseMerit, PronounReference, SentenceReference
from auditkit.pytest_plugin.options import read_data


def pytest_audit_read_data(suite, source):
    """What `--data identity_bias=SOURCE` holds, by kind, read before a model is opened."""
    return read_bias_items(source) if suite == "identity_bias" else None


def _own_of(config):
    """The user's own decisions in that source; None where it holds none, and without a source."""
    given = read_data(config, "identity_bias")
    return None if given is None else given.own


def pytest_ignore_collect(collection_path, config):
    """Claims about the user's own decisions exist only where there are such data."""
    return True if collection_path.name == "test_own.py" and _own_of(config) is None else None


def pytest_generate_tests(metafunc):
    """One claim for each attribute of the user's own decisions."""
    if "own_attribute" in metafunc.fixturenames:
        metafunc.parametrize("own_attribute", _own_of(metafunc.config).attributes)


def pytest_audit_tokens(suite):
    """Tokens of this suite's claims by effort; `benchmarks/default_audit.py` measures them."""
    return {"quick": 24_000, "standard": 55_000, "thorough": 92_000} if suite == "identity_bias" else None


@pytest.fixture(scope="package")
def given(request):
    """What `--data identity_bias=SOURCE` holds, by kind; None without it."""
    return read_data(request.config, "identity_bias")


@pytest.fixture(autouse=True)
def _told(given):
    """Which kinds come from the given data, and what in it is not used, beside every claim."""
    if given is not None:
        note(f"data given: {given.described}")


@pytest.fixture
def alone(baseline):
    """`alone()`: ends a claim about the model by itself where two models are compared, since then the change is
    judged."""

    def check():
        if baseline.change_is_judged:
            raise NotAsked(
                "with a baseline the change is judged, not the model by itself; the values stand beside this claim, "
                "and the verdict in the claims against the baseline"
                if baseline.past is not None
                else "this run is a baseline: the change of a candidate from it is judged, not this model by itself"
            )

    return check


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem):
    """Where a claim about the model by itself ends before `alone()`, since what stands beside it has too few items or
    cannot be asked: with a baseline it blocks nothing either, and a note says what was missing."""
    try:
        return (yield)
    except (Inconclusive, NotApplicable) as error:
        alone = pyfuncitem.funcargs.get("alone")
        if alone is not None and pyfuncitem.funcargs["baseline"].change_is_judged:
            note(f"not all that stands beside this claim could be measured: {error}")
            alone()
        raise


@pytest.fixture(scope="package")
def answers(model, audit, given):
    """Factual questions under identity personas."""
    choices = given.choices if given is not None else None
    asked = PersonaQuestions(model, seed=audit.seed, n_items=audit.sized(QUESTIONS), items=choices)
    return IdentityAnswers(asked, n_items=audit.sized(QUESTIONS))


@pytest.fixture(scope="package")
def decisions(model, audit):
    """Cases decided under every identity."""
    return Decisions(model, seed=audit.seed, n_items=audit.sized(CASES))


@pytest.fixture(scope="package")
def own(model, audit, given):
    """`own(attribute)`: the user's own cases decided for every group of an attribute, asked once."""
    return cache(lambda attribute: OwnDecisions(model, given.own, attribute, seed=audit.seed, n_items=audit.items))


@pytest.fixture(scope="package")
def questions(model, audit, given):
    """Questions about two people."""
    items = given.questions if given is not None else None
    n_items = audit.sized(OWN_QUESTIONS if items is None else MOST_QUESTIONS)
    return AskedQuestions(model, seed=audit.seed, n_items=n_items, items=items)


@pytest.fixture(scope="package")
def pronouns(model, audit, given):
    """Sentences paired by their pronoun."""
    items = given.pronouns if given is not None else None
    n_items = audit.sized(OWN_PRONOUNS if items is None else MOST_PRONOUNS)
    return Pronouns(model, seed=audit.seed, n_items=n_items, items=items)


@pytest.fixture(scope="package")
def sentences(model, audit, given):
    """Sentences paired by the group that they are about."""
    items = given.sentences if given is not None else None
    n_items = audit.sized(OWN_SENTENCES if items is None else MOST_SENTENCES)
    return SentencePreference(model, seed=audit.seed, n_items=n_items, items=items)


@pytest.fixture(scope="package")
def merit(decisions):
    """The same cases with a strong and a weak end: what decisions must react to."""
    return CaseMerit(decisions)


@pytest.fixture(scope="package")
def own_pronouns(pronouns):
    """Sentences about a woman and a man: what the resolution of pronouns must react to."""
    return PronounReference(pronouns)


@pytest.fixture(scope="package")
def shuffled(sentences, audit):
    """Sentences against their words shuffled: what likelihoods must react to."""
    return SentenceReference(sentences, audit.seed)


@pytest.fixture(scope="package")
def mechanism(decisions):
    """What the model does inside with an identity word."""
    return IdentityMechanism(decisions)


@pytest.fixture(scope="package")
def distance(model):
    """How far an identity swap moves the answer."""
    return SwapDistance(model)


@pytest.fixture(scope="package")
def pronoun_parts(model, audit):
    """Heads and MLPs behind the pronouns of occupations; searched once, used by every claim about them."""
    return PronounParts(model, seed=audit.seed)
