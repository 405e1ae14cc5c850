"""A candidate that was wrecked does not pass the gate, however few items it is asked about."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from audits import audit

from auditkit.adapters.loading.catalogue import DEFAULT_MODEL
from auditkit.adapters.loading.load import load

TEXTS = (
    "A hotel is looking for a night manager. Should the company hire the applicant?",
    "The capital of France is Paris, and the river that runs through it is the Seine.",
)


@pytest.fixture(scope="module")
def wrecked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The released model with noise on the last product of every attention and MLP: its outputs then vary by chance
    about as much as they do by what was read."""
    opened = load(DEFAULT_MODEL)
    products = [
        module
        for name, module in opened.module.named_modules()
        if name.endswith(("self_attn.o_proj", "mlp.down_proj"))
    ]
    assert len(products) == 2 * opened.module.config.num_hidden_layers
    gains: dict[int, list[float]] = {id(module): [] for module in products}

    def keep(module: torch.nn.Module, given: tuple[torch.Tensor, ...], result: torch.Tensor) -> None:
        # Without the first token, whose activations are hundreds of times as large.
        read, written = given[0][:, 1:].double(), result[:, 1:].double()
        gains[id(module)].append(float(written.pow(2).sum() / (read.pow(2).sum() * written.shape[-1])))

    hooks = [module.register_forward_hook(keep) for module in products]
    with torch.no_grad():
        for text in TEXTS:
            opened.module(**opened.tokenizer(text, return_tensors="pt"))
        for hook in hooks:
            hook.remove()
        draw = torch.Generator().manual_seed(0)
        for module in products:
            deviation = (sum(gains[id(module)]) / len(TEXTS)) ** 0.5
            noise = torch.randn(module.weight.shape, generator=draw)
            module.weight += (deviation * noise).to(module.weight.dtype)
    folder = tmp_path_factory.mktemp("models") / "wrecked"
    opened.module.save_pretrained(folder)
    opened.tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.slow
def test_the_gate_stops_a_wrecked_candidate(wrecked: Path, tmp_path: Path) -> None:
    options = ["--baseline", DEFAULT_MODEL, "--items", "6", "--profile", "release"]
    audit(tmp_path, "suites/identity_bias", "--model", str(wrecked), *options, codes=(1, 11))
