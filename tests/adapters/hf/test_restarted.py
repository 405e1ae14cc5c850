"""In every family, edits made in a restarted run give what they give in a whole one, or whole runs are made."""

from __future__ import annotations

import pytest
import torch

from auditkit.adapters.chat import Prompt
from auditkit.adapters.protocol import Component
from auditkit.engine.pairs import PatchPair
from auditkit.engine.patching.plain import patch
from auditkit.engine.patching.restarted import restarted
from auditkit.engine.sites import attention, mlp

pytestmark = pytest.mark.unit


def test_bands_are_those_of_whole_runs(adapter, family) -> None:
    if not adapter.support()[Component.MLP] or not adapter.support()[Component.ATTENTION]:
        pytest.skip("nothing that a band could be of")
    draw = torch.Generator().manual_seed(3)
    pairs = []
    for length in (8, 11, 8) * 5:  # so many that the guards, on the first few, are not what is dear
        ids = torch.randint(5, 60, (length,), generator=draw).tolist()
        pairs.append(PatchPair(Prompt("", tuple(ids)), Prompt("", (*ids[:2], 61, *ids[3:])), (11, 12)))
    last = adapter.layers - 1
    bands = (mlp.layers(1, last), attention.layers(0, last), mlp.layer(last), attention.layer(last))
    conditions = {str(band): [[band]] * len(pairs) for band in bands}
    before = adapter.meter.token_layers
    plain = patch(adapter, pairs, conditions)
    whole = adapter.meter.token_layers - before
    got = restarted(adapter, pairs, conditions)
    cost = adapter.meter.token_layers - before - whole
    for name, values in plain.conditions.items():
        torch.testing.assert_close(got.conditions[name], values, rtol=0, atol=1e-4)
    assert (cost < whole) == bool(adapter.support()["blockwise"])
