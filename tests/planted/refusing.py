"""A small Llama that refuses by a circuit set by hand: the first block's attention, even over the prompt, writes along
one direction at every token how many harmful words came before, and the first answer token is read from it."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from auditkit.adapters.hf.adapter import HFAdapter
from auditkit.adapters.loading.load import Loaded
from auditkit.findings.refusal.prompts.openings import ENGLISH, of_language
from auditkit.findings.refusal.prompts.requests import HARMFUL, HARMLESS, RequestPair, RequestPairs
from auditkit.findings.refusal.prompts.texts import benign_texts

LAYERS, HEADS, SIZE, PAIRS = 4, 4, 8, 40
READ, WRITTEN = 0, 1
"""Dimensions of the stream that hold whether a word is harmful, and whether the request is."""
TEMPLATE = (
    "<begin> {% for m in messages %}<{{ m.role }}> {{ m.content }} <end> {% endfor %}"
    "{% if add_generation_prompt %}<assistant> {% endif %}"
)


def pairs() -> RequestPairs:
    """Requests that differ in whether a word of theirs is harmful."""
    some = (
        RequestPair(f"a-{n}", f"t{n % 4}", f"Do bad{n} to s{n} now", f"Do good{n} to s{n} now")
        for n in range(PAIRS)
    )
    return RequestPairs(tuple(some), True, "")


def open_refusing(strength: float = 6.0) -> HFAdapter:
    """The model, opened.

    Args:
        strength: how strongly the answer is read from the direction; 0: not at all.
    """
    module, tokenizer = _made(strength, HEADS * SIZE)
    adapter = HFAdapter(Loaded("refusing", "refusing", "test", module, tokenizer, "0" * 64, "0" * 64))
    module.model.layers[
        0
    ].self_attn.q_proj.weight.zero_()  # after opening, which proves its tap on what queries change
    return adapter


def save_refusing(folder: Path, strength: float = 6.0, *, width: int = HEADS * SIZE, benign: float = 1.0) -> Path:
    """The model as a checkpoint, with attention that is nearly even.

    Args:
        width: of the stream.
        benign: factor of the last block's MLP.
    """
    module, tokenizer = _made(strength, width)
    module.model.layers[-1].mlp.down_proj.weight *= benign
    module.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_pairs(file: Path) -> Path:
    """The requests as a source for `--data`."""
    rows = [{"topic": one.topic, HARMFUL: one.harmful, HARMLESS: one.harmless} for one in pairs().pairs]
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return file


def _made(strength: float, width: int) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    tokenizer = _tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=width, intermediate_size=48, num_hidden_layers=LAYERS,
        num_attention_heads=HEADS, num_key_value_heads=HEADS, head_dim=SIZE, max_position_embeddings=128,
        initializer_range=0.05, pad_token_id=0, bos_token_id=2, tie_word_embeddings=False,
    )  # fmt: skip
    torch.manual_seed(0)
    module = LlamaForCausalLM(config).eval().requires_grad_(False)
    words = tokenizer.get_vocab()
    embeddings, head = module.model.embed_tokens.weight, module.lm_head.weight
    embeddings[:] = torch.randn_like(embeddings)
    embeddings[:, [READ, WRITTEN]] = 0
    for word, number in words.items():
        if word.startswith(("bad", "good")):
            embeddings[number, READ] = 12.0 if word.startswith("bad") else -12.0
    attention = module.model.layers[0].self_attn
    attention.v_proj.weight[:] = 0.5 * torch.randn_like(attention.v_proj.weight)  # other words are carried along
    attention.o_proj.weight[:] = 0.5 * torch.randn_like(attention.o_proj.weight)
    attention.v_proj.weight[0, :] = 0
    attention.v_proj.weight[0, READ] = 1.0
    attention.o_proj.weight[WRITTEN, :] = 0
    attention.o_proj.weight[WRITTEN, 0] = 8.0
    head[:, WRITTEN] = 0
    head[words["Sorry"], WRITTEN], head[words["Sure"], WRITTEN] = strength, -strength
    return module, tokenizer


def _tokenizer() -> PreTrainedTokenizerFast:
    own = of_language(ENGLISH)
    openings = [phrase.split()[0] for phrase in (*own.refusal, *own.answer)]
    asked = [word for pair in pairs().pairs for text in (pair.harmful, pair.harmless) for word in text.split()]
    texts = [word for text in benign_texts() for word in text.split()]
    frame = ["<pad>", "<unk>", "<begin>", "<end>", "<user>", "<assistant>", "<system>", "Hello."]
    vocabulary = list(dict.fromkeys([*frame, "Sorry", "Sure", *openings, *asked, *texts]))
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", unk_token="<unk>", bos_token="<begin>", eos_token="<end>"
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer
