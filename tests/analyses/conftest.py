"""A model with a planted circuit, opened once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from auditkit.adapters.hf.adapter import HFAdapter
from tests.planted.circuits import Circuit, open_circuit


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def circuit() -> HFAdapter:
    """The circuit as it is by default: MLP of layer 1, head 2 of layer 3. Tests plant no other one in it."""
    return open_circuit(Circuit())
