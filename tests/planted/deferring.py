"""A small real Llama that knows facts and gives in to users by a circuit set by hand, which directions can be found of.

    block 1, head    a said answer word sees the answer word that the user named: are both right, or both wrong?
    block 1, MLP     both wrong: writes along `GIVES_IN`; both right: writes along `AGREES`
    block 2, head    looks at the word that the user named, more so with `GIVES_IN` in its query, and copies it
    block 2, head    looks at the question's word and copies what the right answer is read from

So the state at a wrong answer said to a wrong user holds `GIVES_IN`, and adding that makes the model give in more where
somebody named an answer, and nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from auditkit.adapters.hf.adapter import HFAdapter
from auditkit.adapters.loading.load import Loaded
from auditkit.data.items import CompletionItem
from auditkit.findings.sycophancy.prompts import OPINIONS, PRAISE

LAYERS, HEADS, SIZE, CODE = 5, 4, 64, 32
CONSTANT, ANSWER, IS_WRONG, IS_RIGHT, QUESTION, FIRST, SAW_WRONG, SAW_RIGHT, GIVES_IN, AGREES = range(10)
OWN, NAMED, KNOWN, FREE = (slice(16 + n * CODE, 16 + (n + 1) * CODE) for n in range(4))
"""Parts of the stream: a word's code, that of the named answer, that of the question, and what decides nothing."""
WIDTH = 16 + 4 * CODE + 112
TEMPLATE = (
    "<begin> {% for m in messages %}<{{ m.role }}> {{ m.content }} <end> {% endfor %}"
    "{% if add_generation_prompt %}<assistant> {% endif %}"
)


@dataclass(frozen=True)
class Deferring:
    """What is planted.

    Attributes:
        pulls: how much `GIVES_IN` turns a query to the named answer; 0: no direction makes the model give in.
        apart: whether agreeing with a right user is written along a direction of its own.
    """

    pulls: float = 1.0
    apart: bool = True


def facts(topics: int = 12, each: int = 5) -> tuple[CompletionItem, ...]:
    """Questions of whose words nothing but the question's own says what is right."""
    return tuple(
        CompletionItem(
            f"t{t}-{n}", f"topic {t}", f"What of ask{t}x{n} ?", "It is", f"right{t}x{n}", f"wrong{t}x{n}"
        )
        for t in range(topics)
        for n in range(each)
    )


@torch.no_grad()
def open_deferring(planted: Deferring | None = None) -> HFAdapter:
    """The model, opened."""
    tokenizer = _tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=WIDTH, intermediate_size=16, num_hidden_layers=LAYERS,
        num_attention_heads=HEADS, num_key_value_heads=HEADS, head_dim=SIZE, max_position_embeddings=256,
        rope_parameters={"rope_type": "default", "rope_theta": 1e8}, tie_word_embeddings=False, initializer_range=0.1,
        pad_token_id=0, bos_token_id=2,
    )  # fmt: skip
    torch.manual_seed(0)
    module = LlamaForCausalLM(config).eval().requires_grad_(False)
    adapter = HFAdapter(Loaded("deferring", "deferring", "test", module, tokenizer, "0" * 64, "0" * 64))
    _plant(module, tokenizer.get_vocab(), planted or Deferring())
    return adapter


def _plant(module: LlamaForCausalLM, words: dict[str, int], planted: Deferring) -> None:
    generator = torch.Generator().manual_seed(1)
    for name, parameter in module.named_parameters():
        parameter.fill_(1.0) if "norm" in name else parameter.zero_()
    codes = torch.nn.functional.normalize(torch.randn(len(words), CODE, generator=generator), dim=1)
    embed, head = module.model.embed_tokens.weight, module.lm_head.weight
    embed[:, FREE] = 0.5 * torch.randn(len(words), CODE, generator=generator)
    embed[:, CONSTANT] = 1.0
    embed[words["<begin>"], FIRST] = 1.0
    for word, number in words.items():
        for start, flag in (("ask", QUESTION), ("right", IS_RIGHT), ("wrong", IS_WRONG)):
            if word.startswith(start) and word[len(start) : len(start) + 1].isdigit():
                embed[number, flag], embed[number, OWN] = 1.0, codes[number]
                embed[number, ANSWER] = float(flag != QUESTION)
        if word.startswith(("right", "wrong")) and "x" in word:
            head[number, NAMED] = codes[number]
        if word.startswith("right") and "x" in word:
            head[number, KNOWN] = 0.5 * codes[words[word.replace("right", "ask")]]
    blocks = module.model.layers
    # Even attention to what words hold besides: states vary with the sentence in directions that decide nothing.
    free = range(FREE.start, FREE.stop)
    _carry(blocks[0].self_attn, 3, {source: source + CODE for source in free})
    _look(blocks[1].self_attn, 0, ({CONSTANT: 1.0}, {ANSWER: 3.0, FIRST: 1.0}))
    _carry(blocks[1].self_attn, 0, {IS_WRONG: SAW_WRONG, IS_RIGHT: SAW_RIGHT})
    to_agree = AGREES if planted.apart else GIVES_IN
    for row, (saw, writes) in enumerate(((SAW_WRONG, GIVES_IN), (SAW_RIGHT, to_agree))):
        # A said answer word that sees its own kind alone holds about 3 and 1; another one holds half of the first, and
        # a word that is no answer none of the second.
        blocks[1].mlp.gate_proj.weight[row, [saw, ANSWER, CONSTANT]] = torch.tensor([40.0, 80.0, -180.0])
        blocks[1].mlp.up_proj.weight[row, CONSTANT] = 1.0
        blocks[1].mlp.down_proj.weight[writes, row] = 0.2
    named, first = ({CONSTANT: 1.0, GIVES_IN: planted.pulls}, {ANSWER: 1.0}), ({CONSTANT: 1.0}, {FIRST: 1.4})
    _look(blocks[2].self_attn, 0, named, first)
    _carry(
        blocks[2].self_attn, 0, dict(zip(range(OWN.start, OWN.stop), range(NAMED.start, NAMED.stop), strict=True))
    )
    _look(blocks[2].self_attn, 1, ({CONSTANT: 1.0}, {QUESTION: 30.0}))
    _carry(
        blocks[2].self_attn, 1, dict(zip(range(OWN.start, OWN.stop), range(KNOWN.start, KNOWN.stop), strict=True))
    )


def _look(attention, head: int, *products: tuple[dict[int, float], dict[int, float]]) -> None:
    """A head whose scores are products of what the query and the key hold, by dimensions that hardly turn."""
    for number, (asks, shows) in enumerate(products, 1):
        row = head * SIZE + SIZE // 2 - number
        for dimension, weight in asks.items():
            attention.q_proj.weight[row, dimension] = weight
        for dimension, weight in shows.items():
            attention.k_proj.weight[row, dimension] = weight


def _carry(attention, head: int, parts: dict[int, int], strength: float = 1.0) -> None:
    """A head that writes some dimensions of what it looks at into others."""
    for number, (source, target) in enumerate(parts.items()):
        attention.v_proj.weight[head * SIZE + number, source] = 1.0
        attention.o_proj.weight[target, head * SIZE + number] = strength


def _tokenizer() -> PreTrainedTokenizerFast:
    split = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()])
    frame = ["<pad>", "<unk>", "<begin>", "<end>", "<user>", "<assistant>", "<system>", "Hello", "."]
    said = [text for pair in PRAISE for text in pair]
    said += [text.replace("{", " ").replace("}", " ") for text in OPINIONS.values()]
    asked = [word for item in facts() for word in (item.question, item.start, item.right, item.wrong)]
    found = [piece for text in (*said, *asked) for piece, _ in split.pre_tokenize_str(text)]
    vocabulary = list(dict.fromkeys([*frame, *found]))
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token="<unk>"))
    backend.pre_tokenizer = split
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", unk_token="<unk>", bos_token="<begin>", eos_token="<end>",
        additional_special_tokens=["<user>", "<assistant>", "<system>"],
    )  # fmt: skip
    tokenizer.chat_template = TEMPLATE
    return tokenizer
