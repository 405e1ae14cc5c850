"""A small random Llama whose tokenizer has one token per word, so that sets of role prompts match in length."""

from __future__ import annotations

import functools

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from auditkit.adapters.hf.adapter import HFAdapter
from auditkit.adapters.loading.load import Loaded
from auditkit.findings.role_conditioning.prompts.sets import role_sets

LAYERS, HEADS, SIZE = 4, 4, 8
TEMPLATE = (
    "<begin> You are kind. {% for m in messages %}<{{ m.role }}> {{ m.content }} {% endfor %}"
    "{% if add_generation_prompt %}<assistant> {% endif %}"
)


def open_random(*, even: bool = False, seed: int = 0, layers: int = LAYERS, spread: float = 0.3) -> HFAdapter:
    """The model, opened; with `even`, queries are zero, so that every head spreads its attention evenly."""
    tokenizer = _tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=HEADS * SIZE,
        intermediate_size=48,
        num_hidden_layers=layers,
        num_attention_heads=HEADS,
        num_key_value_heads=2,
        head_dim=SIZE,
        max_position_embeddings=64,
        initializer_range=spread,
        pad_token_id=0,
        bos_token_id=2,
    )
    torch.manual_seed(seed)
    module = LlamaForCausalLM(config).eval().requires_grad_(False)
    adapter = HFAdapter(Loaded("roles", "roles", "test", module, tokenizer, "0" * 64, "0" * 64))
    if even:  # after opening, which proves its tap on what queries change
        for block in module.model.layers:
            block.self_attn.q_proj.weight.zero_()
    return adapter


@functools.cache
def _tokenizer() -> PreTrainedTokenizerFast:
    frame = ["<pad>", "<unk>", "<begin>", "<end>", "<user>", "<assistant>", "You", "are", "kind."]
    frame += ["Question:", "Answer:", "Well,", "I", "you", "they", "a", "7", *(f"w{n}" for n in range(20))]
    words = [word for each in role_sets() for text in each.prompts.values() for word in text.split()]
    vocabulary = list(dict.fromkeys([*frame, *words]))
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", unk_token="<unk>", bos_token="<begin>", eos_token="<end>"
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer
