"""The arithmetic of costs equals what real runs count, and the page that rests on it is up to date."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditkit.adapters.chat import Prompt
from auditkit.adapters.protocol import Component
from auditkit.engine import costs
from auditkit.engine.pairs import PatchPair
from auditkit.engine.patching.plain import patch
from auditkit.engine.patching.rows import planned
from auditkit.engine.patching.sweep import grid, sweep
from auditkit.engine.sites import residual, z

pytestmark = pytest.mark.unit


def pair(length: int, first: int) -> PatchPair:
    ids = tuple(range(20, 20 + length))
    return PatchPair(Prompt("", ids), Prompt("", (*ids[:first], 19, *ids[first + 1 :])), (11, 12))


def sweeps(adapter, length: int, first: int):
    layers, heads = range(adapter.layers), range(adapter.heads)
    yield costs.residual_sweep(adapter.layers, length, first), grid([Component.RESIDUAL], layers, range(length))
    both = grid([Component.MLP, Component.ATTENTION], layers, ["all"])
    yield costs.layer_sweep(adapter.layers, length, first), both
    each = [z.layer(layer).head(head) for layer in layers for head in heads]
    yield costs.head_sweep(adapter.layers, adapter.heads, length, first), each


@given(st.integers(2, 12).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n - 1))))
def test_the_closed_forms_are_what_a_plan_counts(tiny, lengths) -> None:
    for expected, sites in sweeps(tiny, *lengths):
        assert planned(tiny, [pair(*lengths)], sites).minimum == expected


def test_a_real_sweep_costs_what_was_planned(tiny) -> None:
    """On top of the least come the guards, and one run for each transplanted component and head."""
    one = pair(10, 3)
    for (expected, sites), transplants in zip(sweeps(tiny, 10, 3), (0, 1, tiny.heads), strict=True):
        plan = planned(tiny, [one], sites)
        before = tiny.meter.token_layers
        sweep(tiny, [one], sites)
        assert tiny.meter.token_layers - before == plan.token_layers
        assert [len(group.transplants) for group in plan.groups] == [transplants]
        assert plan.minimum == expected < plan.token_layers


def test_patching_costs_what_is_stated(tiny) -> None:
    pairs = [pair(length, 2) for length in (9, 12, 4, 7, 5, 6, 8, 3, 11, 10)]
    before = tiny.meter.token_layers
    patch(tiny, pairs, {str(i): [[residual.layer(i)]] * len(pairs) for i in range(3)})
    lengths = [len(pair.base) for pair in pairs]
    assert tiny.meter.token_layers - before == costs.patch_cost(tiny.layers, lengths, 3)


def test_the_weights_of_a_block_are_counted(tiny) -> None:
    config = tiny.module.config
    size = costs.Size(
        "tiny", tiny.layers, tiny.width, tiny.heads, tiny.groups, config.head_dim, config.intermediate_size, 300
    )
    block = tiny.module.model.layers[0]
    assert size.block == sum(weight.numel() for weight in block.parameters() if weight.ndim == 2)


def test_the_page_is_up_to_date() -> None:
    written = Path(costs.__file__).parents[2] / "docs" / "costs.md"
    assert written.read_text() == costs.page(), "run python -m auditkit.engine.costs > docs/costs.md"
