"""Does the model predict what repeats, do induction heads do it, and do heads rest on the first token?

The measurements that the claims of this suite share.

Needs: attention probabilities and at least 250 ordinary tokens in the vocabulary.
"""

from __future__ import annotations

import pytest

from auditkit.data.errors import DataError
from auditkit.findings.induction.measurements.ablation import InductionAblation
from auditkit.findings.induction.measurements.heads import InductionHeads
from auditkit.findings.induction.measurements.paths import PreviousTokenPath
from auditkit.findings.induction.measurements.repeats import Repeats
from auditkit.findings.induction.measurements.sinks import PASSAGES, AttentionSinks
from auditkit.findings.induction.prompts import SEQUENCES


def pytest_audit_read_data(suite, source):
    """Refuse `--data induction=SOURCE`: it would change nothing."""
    if suite == "induction":
        raise DataError(f"{source}: this suite draws tokens of the model's vocabulary at random and takes no data")


def pytest_audit_tokens(suite):
    """Tokens of this suite's claims by effort; `benchmarks/default_audit.py` measures them."""
    return {"quick": 1_000, "standard": 8_100, "thorough": 13_400} if suite == "induction" else None


@pytest.fixture(scope="package")
def repeats(model, audit):
    """Repeated random tokens and their shuffled controls; run once, used by every claim."""
    return Repeats(model, seed=audit.seed, n_items=audit.sized(SEQUENCES))


@pytest.fixture(scope="package")
def heads(repeats):
    """Induction heads and previous-token heads; searched once, used by every claim."""
    return InductionHeads(repeats)


@pytest.fixture(scope="package")
def ablation(heads):
    """Ablations of the induction heads; measured once, used by every claim."""
    return InductionAblation(heads)


@pytest.fixture(scope="package")
def paths(heads):
    """The path from previous-token heads into the keys of induction heads."""
    return PreviousTokenPath(heads)


@pytest.fixture(scope="package")
def sinks(repeats, audit):
    """Where heads rest, in text and on random tokens."""
    return AttentionSinks(repeats, n_items=audit.sized(PASSAGES))
