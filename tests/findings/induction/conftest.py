"""A model with a planted induction circuit, opened once; tests give it the circuit that they need."""

from __future__ import annotations

import pytest

from auditkit.adapters.hf.adapter import HFAdapter
from tests.planted.inducing import open_inducing


@pytest.fixture(scope="session")
def inducing() -> HFAdapter:
    return open_inducing()
