"""A model in which persona and task add up by construction, for the measurements of "As X, do Y".

Only the attention of layer 0 reads other tokens, and it looks at all of them alike. All embeddings have one norm, so
what it writes is the mean of a linear function of the tokens: in prompts of equal length the words of the persona and
those of the task add up exactly, in every state from layer 1 on. Nothing reads another token later, so what a vector at
one token changes is that token's own prediction, and keys and values matter at the words themselves only.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from auditkit.adapters.hf.adapter import HFAdapter
from auditkit.findings.persona_composition.prompts import GridPersona, PersonaGrid
from tests.planted import circuits as planted
from tests.planted.circuits import Circuit, open_circuit

LAYERS = 8


def _words(*numbers: int) -> str:
    return " ".join(f"word{n}" for n in numbers)


def grid(personas: int = 6, tasks: int = 6) -> PersonaGrid:
    """Personas and tasks of three tokens each; the last one of a persona, with its comma, is unknown to the model."""
    return PersonaGrid(
        tuple(
            GridPersona(f"p{n}", _words(2 * n, 2 * n + 1) + " it", (f"word{2 * n}", f"word{2 * n + 1}"))
            for n in range(personas)
        ),
        {f"t{n}": _words(12 + 2 * n, 13 + 2 * n, 39) for n in range(tasks)},
        _words(24, 25) + " it",
        _words(26, 27, 39),
        _words(28, 29, 39),
        (_words(30, 31) + " it", _words(32, 33) + " it"),
        _words(34, 35, 36, 37, 38),
    )


def unmarked() -> PersonaGrid:
    """The same without markers."""
    return replace(grid(), personas=tuple(GridPersona(p.name, p.text) for p in grid().personas))


@torch.no_grad()
def open_additive(bent_from: int | None = None, silent: bool = False) -> HFAdapter:
    """The model.

    Args:
        bent_from: from this layer on MLPs bend the stream, so that nothing adds up behind it.
        silent: every answer ends at once.
    """
    adapter = open_circuit(Circuit(layers=LAYERS, planted=False))
    module, ids = adapter.module, adapter.tokenizer.get_vocab()
    generator = torch.Generator().manual_seed(3)

    def noise(part: torch.Tensor, size: float) -> None:
        part.copy_(size * torch.randn(part.shape, generator=generator))

    attention = module.model.layers[0].self_attn
    noise(attention.v_proj.weight[:, planted.FREE :], 1.5)
    noise(attention.o_proj.weight[planted.FREE :], 1.5)
    for layer in range(LAYERS if bent_from is None else bent_from, LAYERS):
        mlp = module.model.layers[layer].mlp
        for part in (mlp.gate_proj.weight, mlp.up_proj.weight, mlp.down_proj.weight[planted.FREE :]):
            noise(part, 0.6)
    noise(module.lm_head.weight[:, planted.FREE :], 0.2)
    module.lm_head.weight[:, planted.CONSTANT] = 0
    module.lm_head.weight[[ids["<end>"], ids["<pad>"]], planted.CONSTANT] = -5.0
    if silent:
        module.lm_head.weight[ids["<end>"], planted.CONSTANT] = 5.0
    return adapter
