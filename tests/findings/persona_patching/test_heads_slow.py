"""The whole search on tiny models without a planted head, and with one, a hundred times."""

from __future__ import annotations

import pytest
import torch

from tests.planted.circuits import open_circuit
from tests.planted.seeing import BLIND, HEAD, SEEING, set_heads

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("circuit", "expected"), [(BLIND, ()), (SEEING, (HEAD,))], ids=["blind", "seeing"])
def test_a_hundred_models(circuit, expected) -> None:
    torch.set_num_threads(1)
    adapter = open_circuit(circuit)
    confirmed = [set_heads(adapter, circuit, seed).searched.confirmed for seed in range(100)]
    assert sum(found == expected for found in confirmed) >= 95, [found for found in confirmed if found != expected]
