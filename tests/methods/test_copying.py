"""What heads write for an answer: the change of the logits when a little of it is added."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from auditkit.adapters import open_model
from auditkit.adapters.chat import Prompt
from auditkit.adapters.hf.adapter import HFAdapter
from auditkit.adapters.protocol import Component
from auditkit.engine.forward import capture
from auditkit.methods.copying import written

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def tiny(tiny_llama: Path) -> HFAdapter:
    return open_model(str(tiny_llama))


@torch.no_grad()
def test_it_is_the_change_of_the_logits_by_a_little_of_the_heads_output(tiny: HFAdapter) -> None:
    prompts = [Prompt("", tuple(range(20 + row, 29 + row))) for row in range(2)]
    answers = [(40, 41, 42), (50, 51, 52)]
    places = [(Component.Z, layer) for layer in range(tiny.layers)]
    end = (Component.RESIDUAL, tiny.layers - 1)
    _, kept = capture(tiny, tiny.batch(prompts), [*places, end])
    outputs = torch.stack([kept[place][:, -1] for place in places], 1)
    got = written(tiny, prompts, answers, outputs)
    model, step = tiny.module.double(), 1e-5

    def difference(row: int, stream: torch.Tensor) -> float:
        norm = model.model.norm  # transformers computes it in float32
        size = (stream.square().mean() + norm.variance_epsilon).sqrt()
        logits = model.lm_head.weight @ (norm.weight * stream / size)
        right, *wrong = answers[row]
        return float(logits[right] - logits[wrong].mean())

    size = tiny.width // tiny.heads
    for row in range(2):
        for layer, head in ((0, 1), (3, 2), (5, 0)):
            weight = model.model.layers[layer].self_attn.o_proj.weight[:, head * size : (head + 1) * size]
            added = weight @ outputs[row, layer, head].double()
            stream = kept[end][row, -1].double()
            moved = difference(row, stream + step * added) - difference(row, stream - step * added)
            assert float(got[row, layer, head]) == pytest.approx(moved / (2 * step), rel=1e-3, abs=1e-4)
    tiny.module.float()
