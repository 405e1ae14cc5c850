"""A model with a planted circuit, opened once."""

from __future__ import annotations

import pytest

from auditkit.adapters.hf.adapter import HFAdapter
from tests.planted.circuits import Circuit, open_circuit


@pytest.fixture(scope="session")
def circuit() -> HFAdapter:
    """The circuit as it is by default: MLP of layer 1, head 2 of layer 3. Tests plant no other one in it."""
    return open_circuit(Circuit())
