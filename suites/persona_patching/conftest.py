"""The measurements that the claims of this suite share."""

from __future__ import annotations

import pytest

from auditkit.analyses.persona_patching import PersonaPatching


@pytest.fixture(scope="session")
def patching(model, audit):
    """Questions crossed with persona pairs on the audited model; measured once, used by every claim."""
    return PersonaPatching(model, seed=audit.seed, n_items=audit.items)
