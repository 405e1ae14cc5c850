"""Adapters on tiny models: a random one, and one with a circuit planted in it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from measurements import pairs_of_three_lengths

from auditkit.adapters import open_model
from auditkit.adapters.hf.adapter import HFAdapter
from auditkit.engine.pairs import PatchPair


@pytest.fixture(scope="session")
def tiny(tiny_llama: Path) -> HFAdapter:
    return open_model(str(tiny_llama))


@pytest.fixture(scope="session")
def planted(tiny_llama: Path) -> HFAdapter:
    """Only the MLP of layer 2 and the attention of layer 4 write to the residual stream.

    Every other MLP and attention has a zero output projection, so the identity word's own position can reach the
    last token through the attention of layer 4 alone.
    """
    adapter = open_model(str(tiny_llama))
    for layer, block in enumerate(adapter.module.model.layers):
        if layer != 2:
            torch.nn.init.zeros_(block.mlp.down_proj.weight)
        if layer != 4:
            torch.nn.init.zeros_(block.self_attn.o_proj.weight)
    return adapter


@pytest.fixture(scope="session")
def pairs() -> list[PatchPair]:
    return pairs_of_three_lengths()
