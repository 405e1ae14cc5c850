"""A small real Llama with an induction circuit set by hand: two heads, of which one needs the other.

    token  ->  previous-token head of an early layer  ->  keys of the induction head of a later layer  ->  next token

Every token has a random code. The previous-token head attends one token back, by rotary phases alone, and writes the
code that it finds there into a part of the stream of its own. The induction head asks for its own token's code among
those parts, so it attends to the token after the previous occurrence; it copies the code of that token to where the
unembedding reads it. All other heads and all MLPs have small random weights, or none.

A *distance head* may be planted instead: it attends a fixed number of tokens back, by phases, whatever the tokens are.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from auditkit.adapters.hf.adapter import HFAdapter
from auditkit.adapters.loading.load import Loaded

HEADS, SIZE, CODE, LAYERS = 4, 64, 32, 4
WIDTH = 4 * CODE
CONSTANT, TOKEN, BEFORE, NEXT = 0, slice(CODE, 2 * CODE), slice(2 * CODE, 3 * CODE), slice(3 * CODE, 4 * CODE)
"""Parts of the stream: a constant, the token's code, the code of the token before it, and the predicted token's."""

THETA = 1e8
FAST = 6
"""Pairs of a head's dimensions that turn fast enough to tell one token of distance from two."""
SHARP = 40.0
WORDS = 1300


@dataclass(frozen=True)
class Inducing:
    """What is planted.

    Attributes:
        previous: (layer, head) that attends one token back; None: there is none.
        induction: (layer, head) that matches the prefix; None: there is none.
        distance: (layer, head, tokens) of a head that attends so many tokens back.
        noise: size of the random weights of everything else.
        seed: of codes and noise.
    """

    previous: tuple[int, int] | None = (1, 2)
    induction: tuple[int, int] | None = (2, 1)
    distance: tuple[int, int, int] | None = None
    noise: float = 0.02
    seed: int = 0


NOTHING = Inducing(None, None)


def open_inducing(planted: Inducing | None = None, words: int = WORDS, context: int = 128) -> HFAdapter:
    """The model, opened; `plant` gives it another circuit."""
    tokenizer = _tokenizer(words)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=16,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        head_dim=SIZE,
        max_position_embeddings=context,
        rope_parameters={"rope_type": "default", "rope_theta": THETA},
        tie_word_embeddings=False,
        initializer_range=0.1,
        pad_token_id=0,
        bos_token_id=1,
    )
    torch.manual_seed(0)
    module = LlamaForCausalLM(config).eval().requires_grad_(False)
    adapter = HFAdapter(Loaded("planted", "planted", "test", module, tokenizer, "0" * 64, "0" * 64))
    plant(adapter, planted or Inducing())
    return adapter


@torch.no_grad()
def plant(adapter: HFAdapter, planted: Inducing) -> None:
    """Set all weights of an opened model to those of the circuit."""
    module = adapter.module
    generator = torch.Generator().manual_seed(planted.seed)
    for name, parameter in module.named_parameters():
        if "norm" in name:
            parameter.fill_(1.0)
        else:
            parameter.normal_(generator=generator).mul_(planted.noise)
    codes = torch.nn.functional.normalize(torch.randn(len(adapter.tokenizer), CODE, generator=generator), dim=1)
    embed = module.model.embed_tokens.weight
    embed.zero_()
    embed[:, CONSTANT], embed[:, TOKEN] = 1.0, codes
    module.lm_head.weight[:, NEXT] += 4 * codes
    for layer_head, distance in ((planted.previous, 1), _at_distance(planted)):
        if layer_head is not None:
            _attend_back(module, *layer_head, distance)
    if planted.previous is not None:
        _carry(module, *planted.previous, BEFORE)
    if planted.induction is not None:
        layer, head = planted.induction
        attention = module.model.layers[layer].self_attn
        slow = [head * SIZE + n for half in (0, SIZE // 2) for n in range(SIZE // 4 + half, SIZE // 2 + half)]
        attention.q_proj.weight[slow, TOKEN] = SHARP**0.5 * torch.eye(CODE)
        attention.k_proj.weight[slow, BEFORE] = SHARP**0.5 * torch.eye(CODE)
        _carry(module, layer, head, NEXT)


def _at_distance(planted: Inducing) -> tuple[tuple[int, int] | None, int]:
    return (None, 0) if planted.distance is None else (planted.distance[:2], planted.distance[2])


def _attend_back(module: LlamaForCausalLM, layer: int, head: int, distance: int) -> None:
    """A head whose score is highest `distance` tokens back: keys of one phase, and queries turned by the distance."""
    attention = module.model.layers[layer].self_attn
    phases = distance * THETA ** (-2 * torch.arange(FAST) / SIZE)
    rows = head * SIZE + torch.arange(FAST)
    attention.q_proj.weight[rows, CONSTANT] = phases.cos()
    attention.q_proj.weight[rows + SIZE // 2, CONSTANT] = -phases.sin()
    attention.k_proj.weight[rows, CONSTANT] = 1.0


def _carry(module: LlamaForCausalLM, layer: int, head: int, to: slice) -> None:
    """A head that writes the token code of what it attends to into a part of the stream."""
    attention = module.model.layers[layer].self_attn
    rows = head * SIZE + torch.arange(CODE)
    attention.v_proj.weight[rows, TOKEN] = torch.eye(CODE)
    attention.o_proj.weight[to, rows] = torch.eye(CODE)


@functools.cache
def _tokenizer(words: int) -> PreTrainedTokenizerFast:
    """One token per word; the first ones are those that a model is opened with."""
    opening = ["Hello.", "You", "are", "a", "student.", "What", "is", "the", "capital", "of", "France?", "The"]
    names = ["<pad>", "<begin>", "<unk>", *opening, *(f"word{number}" for number in range(words))]
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(names)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", unk_token="<unk>", bos_token="<begin>", eos_token="<pad>"
    )
