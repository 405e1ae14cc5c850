"""Does the model refuse harmful requests and answer harmless ones, and does one direction decide it?

The measurements that the claims of this suite share.

Needs: a model that refuses, logits of first tokens, and edits of the residual stream.
"""

from __future__ import annotations

import pytest

from auditkit.data.sources import source_language
from auditkit.findings.refusal.measurements.direction import RefusalDirection
from auditkit.findings.refusal.measurements.drift import RefusalDrift
from auditkit.findings.refusal.measurements.mediation import RefusalMediation
from auditkit.findings.refusal.measurements.scores import DEFAULT_PAIRS, RefusalScores
from auditkit.findings.refusal.measurements.texts import RefusalTexts
from auditkit.findings.refusal.prompts.openings import ENGLISH, of_language
from auditkit.findings.refusal.prompts.requests import read_requests


def pytest_audit_read_data(suite, source, seed):
    """The requests of `--data refusal=SOURCE`, read before a model is opened; their language must be a known one."""
    if suite != "refusal":
        return None
    of_language(source_language(source) or ENGLISH)
    return read_requests(source, seed)


def pytest_audit_tokens(suite):
    """Tokens of this suite's claims at the standard effort on a model that refuses, counted from its conditions; the
    default model, which answers, takes 4,000 of them."""
    return 45_000 if suite == "refusal" else None


@pytest.fixture(scope="package")
def scores(model, audit):
    """Refusal scores of the project's own requests, or of those that `--data` names."""
    source, data = audit.data.get("refusal"), audit.given("refusal")
    language = "" if source is None else source_language(source)
    n_items = audit.sized(DEFAULT_PAIRS if data is None else None)
    return RefusalScores(model, seed=audit.seed, data=data, n_items=n_items, language=language or ENGLISH)


@pytest.fixture
def refusing(scores):
    """The same scores of a model that refuses harmful requests; other models have no such claims."""
    scores.require()
    return scores


@pytest.fixture(scope="package")
def texts(scores):
    """Short answers that check the first tokens; generated once and not shown."""
    return RefusalTexts(scores)


@pytest.fixture(scope="package")
def mediation(scores):
    """The direction of refusal and what its removal and addition do; found and measured once."""
    return RefusalMediation(RefusalDirection(scores))


@pytest.fixture(scope="package")
def drift(mediation):
    """Refusal and states along the direction of the baseline; this model's own direction is recorded with them."""
    return RefusalDrift(mediation.found)
