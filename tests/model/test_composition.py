"""The equalities that "As X, do Y" rests on, on the small real model and by its own plain module."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import auditkit
from auditkit.adapters.hf.adapter import HFAdapter
from auditkit.engine.continuation.generation import generate
from auditkit.engine.continuation.timed import Continued
from auditkit.engine.edits import replace
from auditkit.engine.sites import block_input
from auditkit.findings.persona_composition.measurements.cells import SITES, WINDOW, Cells, Design
from auditkit.findings.persona_composition.measurements.patches import ADDITIVE, ITSELF, Patches
from auditkit.findings.persona_composition.prompts import packaged_grid

pytestmark = pytest.mark.model

ROW = 1
"""Of three cells."""


@pytest.fixture(scope="module")
def adapter() -> HFAdapter:
    model = auditkit.open_model("smollm2-135m-instruct")
    assert isinstance(model, HFAdapter)
    return model


@pytest.fixture(scope="module")
def cells(adapter: HFAdapter) -> Cells:
    return Cells(Design(adapter, packaged_grid("short"), n_cells=3))


@pytest.fixture(scope="module")
def patches(cells: Cells) -> Patches:
    return Patches(cells, deepest=0.55)


def log_probabilities(adapter: HFAdapter, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = adapter.module(torch.tensor([ids])).logits[0, -WINDOW:]
    return logits.double().log_softmax(-1)


@pytest.mark.parametrize("site", ["p_last", pytest.param("g2", marks=pytest.mark.slow)])
def test_the_windows_divergence_is_that_of_plain_hooks(
    adapter: HFAdapter, cells: Cells, patches: Patches, site: str
) -> None:
    at = SITES.index(site)
    given = {"p_last": 0, "g2": 2}[site]
    prompt, answer = cells.prompts[ROW], cells.answers[ROW]
    ids = [*prompt.ids, *answer[: given + WINDOW - 1]]
    clean = log_probabilities(adapter, ids)
    for k, layer in enumerate(cells.layers):
        state = cells.xb[ROW, at, k] + cells.by[ROW, at, k] - cells.bb[ROW, at, k]

        def hook(module: Any, args: Any, kwargs: Any, value: torch.Tensor = state) -> Any:
            hidden = args[0].clone()
            hidden[0, len(prompt) - 1 + given] = value
            return (hidden, *args[1:]), kwargs

        handle = adapter.module.model.layers[layer].register_forward_pre_hook(hook, with_kwargs=True)
        patched = log_probabilities(adapter, ids)
        handle.remove()
        expected = float((clean.exp() * (clean - patched)).sum())
        assert patches.totals(site, layer, ADDITIVE)[ROW] == pytest.approx(expected, abs=1e-5)
        assert patches.totals(site, layer, "BB")[ROW] > 1e-4
        assert patches.totals(site, layer, ITSELF).max() <= 1e-4


def test_a_patched_answer_is_the_same_with_and_without_kept_keys_and_values(
    adapter: HFAdapter, cells: Cells
) -> None:
    layer = cells.layer(0.55)
    states = (cells.xb + cells.by - cells.bb)[:, SITES.index("p_last"), cells.layers.index(layer)]
    site = block_input.layer(layer)["last"]
    runs = [Continued(p, (replace(site, state),)) for p, state in zip(cells.prompts[:2], states[:2], strict=True)]
    kept, again = (generate(adapter, runs, 4, cached=cached) for cached in (True, False))
    assert (kept.method, again.method) == ("cached", "whole")
    assert kept.tokens == again.tokens
