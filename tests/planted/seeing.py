"""The planted model for heads: one of them sees racial and colour words, and all others attend at random."""

from __future__ import annotations

import numpy as np
import torch

from auditkit.adapters.hf.adapter import HFAdapter
from auditkit.data.items import CompletionItem
from auditkit.data.personas import persona_groups
from auditkit.findings.asking.questions import PersonaQuestions
from auditkit.findings.persona_patching.measurements.heads import PersonaHeads
from tests.planted import circuits as planted
from tests.planted.circuits import Circuit, plant

HEAD = (3, 2)
SEEING = Circuit(
    head=HEAD,
    attended={"racial": 5.0, "colour": 5.0, "positive": 2.0, "negative": 2.0, "neutral": 2.0, "nonsense": 2.0},
)
BLIND = Circuit(planted=False, attended=dict.fromkeys(SEEING.attended, 0.0))


def items(topics: int = 16) -> tuple[CompletionItem, ...]:
    """One question of each topic; the right answer is always "yes"."""
    draw = np.random.default_rng(7)
    return tuple(
        CompletionItem(
            f"t{n}",
            f"topic {n}",
            " ".join(f"word{w}" for w in draw.integers(planted.WORDS, size=4 + n % 5)),
            f"answer word{draw.integers(planted.WORDS)}",
            "yes",
            "no",
        )
        for n in range(topics)
    )


@torch.no_grad()
def set_heads(adapter: HFAdapter, circuit: Circuit, seed: int = 0) -> PersonaHeads:
    """Plant `circuit`, with random attention besides, by dimensions of the stream that say nothing of groups of words.

    Racial and colour words get a valence, so that what the planted head carries moves the answer.
    """
    plant(adapter, circuit)
    generator = torch.Generator().manual_seed(1000 + seed)
    module, ids = adapter.module, adapter.tokenizer.get_vocab()
    free = planted.FREE

    def noise(part: torch.Tensor, size: float) -> None:
        part += size * torch.randn(part.shape, generator=generator)

    for layer, block in enumerate(module.model.layers):
        attention = block.self_attn
        for part in (attention.q_proj, attention.k_proj, attention.v_proj):
            noise(part.weight[:, free:], 0.4)
        noise(attention.o_proj.weight[free:], 0.1)
        if circuit.planted and layer == circuit.head[0]:
            # The planted head's partner must not meet the planted key by chance, nor noise be carried to the answer.
            size = planted.SIZE
            attention.q_proj.weight[(circuit.head[1] ^ 1) * size + size // 2 - 1] = 0
            attention.v_proj.weight[circuit.head[1] // 2 * size, free:] = 0
    rows = module.model.embed_tokens.weight
    noise(rows[:, free:], 0.1)
    for group in ("racial", "colour"):
        for persona in persona_groups()[group]:
            rows[ids[persona.word], planted.VALENCE] = 1 + torch.rand((), generator=generator)
    rows[:, planted.BALLAST] = 0
    rows[:, planted.BALLAST] = (planted.NORM**2 - rows.square().sum(1)).sqrt()
    adapter.__dict__.pop("projections", None)
    return PersonaHeads(PersonaQuestions(adapter, items=items(), seed=seed))
