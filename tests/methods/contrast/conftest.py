"""A contrast of good and bad persona words on the planted circuit: the head of layer 3 carries their valence."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
import pytest
import torch

from auditkit.adapters.chat import Prompt
from auditkit.adapters.hf.adapter import HFAdapter
from auditkit.data.personas import persona_groups
from auditkit.data.prompts import Chat
from auditkit.methods.contrast.directions import Contrast
from auditkit.methods.contrast.outcomes import FirstTokens
from auditkit.methods.contrast.states import read_states
from tests.planted.circuits import FREE, GROUPS, HEADS, NORM, SIZE, WIDTH, WORDS, Circuit, open_circuit

CARRIES = 3
"""The layer after which the last token knows the word."""


@dataclass(frozen=True)
class Asked:
    """Prompts of twins, their contrast, and the log-odds of yes against no after each."""

    adapter: HFAdapter
    prompts: list[Prompt]
    spans: list[dict[str, tuple[int, int]]]
    contrast: Contrast
    outcome: FirstTokens


def asked(adapter: HFAdapter, pairs: int = 24) -> Asked:
    """Twins that differ in the first word, of several lengths; the question's first word is their cluster."""
    groups = persona_groups()
    prompts, names = [], []
    for kind in ("positive", "negative"):
        words = [persona.word for persona in groups[kind]]
        for number in range(pairs):
            rest = [f"word{(5 * number + k) % WORDS}" for k in range(3 + number % 3)]
            text = f"{words[number % len(words)]} {' '.join(rest)}"
            prompts.append(adapter.chat(Chat(user=text)))
            names.append((f"pair {number} {'+' if kind == 'positive' else '-'}", f"topic {number % 12}"))
    table = pd.DataFrame({"topic": [topic for _, topic in names]}, index=[name for name, _ in names])
    spans = [{"word": (1, 2)} for _ in prompts]
    states = read_states(adapter, prompts, (-1, "word"), spans=spans)
    positive = table.index.str.endswith("+").astype(bool)
    ids = adapter.tokenizer.get_vocab()
    outcome = FirstTokens("agreement", prompts, table, [ids["yes"]], [ids["no"]], 1, spans)
    return Asked(adapter, prompts, spans, Contrast("valence", states, positive, table), outcome)


@torch.no_grad()
def mix(adapter: HFAdapter, strength: float = 2.0) -> HFAdapter:
    """Let the first block's heads add the mean of what all words before hold besides, so that the states of the last
    token vary in many directions that decide nothing."""
    attention = adapter.module.model.layers[0].self_attn
    unit = NORM / WIDTH**0.5
    for part in ("q_proj", "k_proj", "v_proj", "o_proj"):
        getattr(attention, part).weight.zero_()
    for dimension in range(min(GROUPS * SIZE, WIDTH - FREE)):
        group, size = divmod(dimension, SIZE)
        attention.v_proj.weight[dimension, FREE + dimension] = unit
        attention.o_proj.weight[FREE + dimension, group * (HEADS // GROUPS) * SIZE + size] = strength
    return adapter


@pytest.fixture(scope="session")
def valence() -> Asked:
    return asked(mix(open_circuit(Circuit())))
