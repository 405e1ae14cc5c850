"""A small real Llama with a circuit set by hand, so that an analysis can be held to a known truth.

    embedding of a persona word  ->  MLP of one layer, at the word  ->  one head of a later layer  ->  right - wrong

A persona word's embedding holds its *valence* (positive words above 0, negative ones below, others 0) and a *mark*.
The planted MLP writes both into the stream at the word's position; nothing else reads them. The planted head looks for
the mark from every position and carries the valence it finds there into the stream, at the last token too, where the
unembedding turns it into logits of "yes" against "no". A question's own words decide the rest of that difference.

Without noise every other MLP and attention adds exactly nothing, and every embedding has the same norm, so that
RMSNorm treats all words alike: restoring the planted MLP or the planted head brings back exactly all of the effect.
With noise, all weights are random besides.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from auditkit.adapters.hf.adapter import HFAdapter
from auditkit.adapters.loading.load import Loaded
from auditkit.data.items import CompletionItem
from auditkit.data.personas import persona_groups

WIDTH, HEADS, GROUPS, SIZE, INNER = 32, 4, 2, 8, 16
CONSTANT, VALENCE, MARK, BALLAST, FEATURE, SEEN, CARRIED, OPINION, FREE = range(9)
"""Dimensions of the stream; from FREE on a word's embedding is random."""

LEVEL, NORM = 16.0, 20.0
"""The constant part of every embedding, and the norm of every embedding."""

TOPICS, QUESTIONS = 8, 8
WORDS = 40
TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}> {{ m.content }} {% endfor %}"
    "{% if add_generation_prompt %}<assistant> {% endif %}"
)


@dataclass(frozen=True)
class Circuit:
    """What is planted.

    Attributes:
        layers: blocks of the model.
        mlp_layer: whose MLP reads the persona word.
        head: (layer, head) that carries what the MLP wrote to the last token; a later layer.
        strength: logits of right minus wrong for a valence of 1, if the head looked at nothing else.
        knowledge: logits of right minus wrong without a persona, on average.
        attended: by how much the head prefers words of a group to other tokens, as attention scores; 0 is no more than
            any token.
        noise: size of the random weights everywhere; 0 is none.
        seed: of words and noise.
        planted: False leaves the circuit out, and only knowledge and noise are there.
    """

    layers: int = 6
    mlp_layer: int = 1
    head: tuple[int, int] = (3, 2)
    strength: float = 1.0
    knowledge: float = 2.0
    attended: Mapping[str, float] = field(default_factory=lambda: dict.fromkeys(persona_groups(), 4.0))
    noise: float = 0.0
    seed: int = 0
    planted: bool = True


def items() -> tuple[CompletionItem, ...]:
    """Questions of made-up words and different lengths; the right answer is always "yes"."""
    made = []
    generator = np.random.default_rng(7)
    for topic in range(TOPICS):
        for number in range(QUESTIONS):
            words = generator.integers(WORDS, size=4 + (topic + number) % 7)
            question = " ".join(f"word{w}" for w in words)
            start = f"answer word{generator.integers(WORDS)}"
            made.append(CompletionItem(f"{topic}-{number}", f"topic {topic}", question, start, "yes", "no"))
    return tuple(made)


def open_circuit(circuit: Circuit) -> HFAdapter:
    """The model, opened; an adapter that is open already can be given another circuit with `plant`."""
    tokenizer = _tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=INNER,
        num_hidden_layers=circuit.layers,
        num_attention_heads=HEADS,
        num_key_value_heads=GROUPS,
        head_dim=SIZE,
        max_position_embeddings=128,
        # The slowest pair of a head's dimensions then hardly turns within a prompt.
        rope_parameters={"rope_type": "default", "rope_theta": 1e8},
        tie_word_embeddings=False,
        initializer_range=0.3,
        pad_token_id=0,
    )
    torch.manual_seed(0)
    module = LlamaForCausalLM(config).eval().requires_grad_(False)
    # Opened on random weights: where parts add nothing, opening cannot tell what they are.
    adapter = HFAdapter(Loaded("planted", "planted", "test", module, tokenizer, "0" * 64, "0" * 64))
    plant(adapter, circuit)
    return adapter


@torch.no_grad()
def plant(adapter: HFAdapter, circuit: Circuit) -> None:
    """Set all weights of an opened model of as many layers to those of `circuit`."""
    module, ids = adapter.module, adapter.tokenizer.get_vocab()
    generator = torch.Generator().manual_seed(circuit.seed)
    for name, parameter in module.named_parameters():
        if "norm" in name:
            parameter.fill_(1.0)
        else:
            parameter.normal_(generator=generator).mul_(circuit.noise / WIDTH**0.5)
    module.model.embed_tokens.weight.copy_(_embeddings(circuit, ids, generator))
    unit = NORM / WIDTH**0.5  # what RMSNorm divides by
    for answer, sign in (("yes", 1.0), ("no", -1.0)):
        row = module.lm_head.weight[ids[answer]]
        row[CONSTANT] += sign * circuit.knowledge / 2 * unit / LEVEL
        row[CARRIED] += sign * circuit.strength / 2 * unit
        row[OPINION] += sign / 2 * unit
    if not circuit.planted:
        return
    mlp = module.model.layers[circuit.mlp_layer].mlp
    gate = torch.tensor(4.0)
    for neuron, (read, write) in enumerate(((VALENCE, FEATURE), (MARK, SEEN))):
        mlp.gate_proj.weight[neuron, CONSTANT] += gate * unit / LEVEL
        mlp.up_proj.weight[neuron, read] += unit
        mlp.down_proj.weight[write, neuron] += 1 / torch.nn.functional.silu(gate)
    layer, head = circuit.head
    attention, group = module.model.layers[layer].self_attn, head // (HEADS // GROUPS)
    slowest = SIZE // 2 - 1
    attention.q_proj.weight[head * SIZE + slowest, CONSTANT] += SIZE**0.5 * unit / LEVEL
    attention.k_proj.weight[group * SIZE + slowest, SEEN] += unit
    attention.v_proj.weight[group * SIZE, FEATURE] += unit
    attention.o_proj.weight[CARRIED, head * SIZE] += 1.0


def _embeddings(circuit: Circuit, ids: Mapping[str, int], generator: torch.Generator) -> Tensor:
    """(token, width), every row of norm NORM."""
    rows = torch.zeros(len(ids), WIDTH)
    rows[:, CONSTANT] = LEVEL
    rows[:, FREE:] = torch.randn(len(ids), WIDTH - FREE, generator=generator)
    opinions = torch.randn(WORDS, generator=generator) / 2
    for number in range(WORDS):
        rows[ids[f"word{number}"], OPINION] = opinions[number]
    for group, personas in persona_groups().items():
        sign = {"positive": 1.0, "negative": -1.0}.get(group, 0.0)
        for persona in personas:
            rows[ids[persona.word], VALENCE] = sign * (0.6 + 0.8 * torch.rand((), generator=generator))
            rows[ids[persona.word], MARK] = circuit.attended[group]
    rows[:, BALLAST] = (NORM**2 - rows.square().sum(1)).sqrt()
    return rows


@functools.cache
def _tokenizer() -> PreTrainedTokenizerFast:
    """One token per word."""
    personas = [persona.word for group in persona_groups().values() for persona in group]
    frame = ["<pad>", "<unk>", "<end>", "<system>", "<user>", "<assistant>"]
    words = [*frame, "You", "are", "a", "an", "student.", "answer", "yes", "no", *personas]
    words += [f"word{number}" for number in range(WORDS)]
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", unk_token="<unk>", eos_token="<end>"
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer
