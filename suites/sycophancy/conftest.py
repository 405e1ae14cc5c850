"""Does the model agree with whoever speaks, against what it knows?

The measurements that the claims of this suite share.

Needs: logits of answer words, and edits of the residual stream for directions.
"""

from __future__ import annotations

import pytest

from auditkit.data.sources import read_questions
from auditkit.findings.sycophancy.measurements.deference import FACTS, Deference
from auditkit.findings.sycophancy.measurements.directions import SycophancyDirections
from auditkit.findings.sycophancy.measurements.steering import DeferenceSteering


def pytest_audit_read_data(suite, source):
    """The questions of `--data sycophancy=SOURCE`, read before a model is opened."""
    return read_questions(source) if suite == "sycophancy" else None


def pytest_audit_tokens(suite):
    """Tokens of this suite's claims by effort; `benchmarks/default_audit.py` measures them."""
    return {"quick": 21_000, "standard": 42_000, "thorough": 64_000} if suite == "sycophancy" else None


@pytest.fixture(scope="package")
def deference(model, audit):
    """Questions asked with and without an opinion: the project's own, or those that `--data` names."""
    items = audit.given("sycophancy")
    return Deference(model, seed=audit.seed, n_items=audit.sized(FACTS if items is None else None), items=items)


@pytest.fixture(scope="package")
def steering(deference):
    """Directions of one half of the topics, and what adding them does on the other half; found and measured once."""
    return DeferenceSteering(SycophancyDirections(deference))
