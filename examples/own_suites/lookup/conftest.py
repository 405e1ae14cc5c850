"""Does a head look up what followed the current token the last time that it came up?

The measurement that the claims of this suite share.

Needs: attention probabilities.
"""

import pytest

from .measurements import Lookup


def pytest_audit_tokens(suite):
    """Tokens that the claims run at the standard effort, for --budget: token-layers of a run divided by its layers."""
    return 2_000 if suite == "lookup" else None


@pytest.fixture(scope="package")
def lookup(model, audit):
    """Attention on repeated random tokens, read once and used by every claim."""
    return Lookup(model, seed=audit.seed, n_items=audit.sized(20))
