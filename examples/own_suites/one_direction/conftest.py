"""Does one direction decide whether the model refuses?

The measurement that the claims of this suite share.

Needs: a model that refuses, logits of first tokens, and edits of the residual stream.
"""

import pytest

from .measurements import refusals, removal


def pytest_audit_tokens(suite):
    """Tokens that the claims run at the standard effort, for --budget: token-layers of a run divided by its layers."""
    return 45_000 if suite == "one_direction" else None


@pytest.fixture(scope="package")
def asked(model, audit):
    """Harmful and harmless requests, and how the answers begin."""
    return refusals(model, seed=audit.seed, n_items=audit.sized(48))


@pytest.fixture(scope="package")
def removed(model, audit, asked):
    """What removing the direction does, and what its null directions do."""
    return removal(model, asked, seed=audit.seed)
