"""The default model, real weights: two engines give the same numbers at random sites."""

from __future__ import annotations

import numpy as np
import pytest

from auditkit.adapters.loading.catalogue import DEFAULT_MODEL
from auditkit.adapters.loading.load import load
from auditkit.adapters.protocol import Component
from auditkit.adapters.registry import adapter_factory
from auditkit.data.prompts import Chat
from auditkit.engine.crosscheck import cross_check
from auditkit.engine.pairs import PatchPair
from auditkit.engine.patching.sweep import sweep
from auditkit.engine.sampling import Sample, sampling
from auditkit.engine.sites import Site

pytestmark = pytest.mark.model


def test_random_sites_agree_through_both_adapters() -> None:
    """The sweep of 200 sites of the issue is benchmarks/cross_check.py; these are few for the time's sake."""
    loaded = load(DEFAULT_MODEL, device="cpu")
    first = adapter_factory("hf")(loaded)
    base, source = (first.chat(Chat(user="2 + 2 =", system=f"You are {who}.")) for who in ("good", "bad"))
    (right,), (wrong,) = first.chat.encode("4"), first.chat.encode("5")
    draw = np.random.default_rng(0)
    parts = (Component.RESIDUAL, Component.ATTENTION, Component.MLP)
    layers, positions = draw.integers(first.layers, size=6), draw.integers(-10, 0, size=6)
    sites = [
        Site(parts[i % 3], int(layer), int(layer), position=int(position))
        for i, (layer, position) in enumerate(zip(layers, positions, strict=True))
    ]
    sample = Sample(len(sites), seed=0)
    with sampling(sample):
        assert sweep(first, [PatchPair(base, source, (right, wrong))], sites).method == "wavefront"
    result = cross_check(adapter_factory("nnterp")(loaded), sample.kept, first.info.parity_max_abs)
    assert (result.measured, result.missing) == (6, {})
    assert result.agrees is True
    assert result.largest <= 1e-4
