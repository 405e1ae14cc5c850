"""A small real Llama in which one head carries the gender of an occupation to the pronoun, and a head of choice that of
words which have one by meaning."""

from __future__ import annotations

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from auditkit.adapters.hf.adapter import HFAdapter
from auditkit.adapters.loading.load import Loaded
from auditkit.findings.identity_bias.prompts.gendered import gendered, occupations

LAYERS, HEADS, SIZE = 6, 4, 16
WIDTH = HEADS * SIZE
CONSTANT, WORD, STEREOTYPE, MEANING, OUT, FREE = 0, 1, 2, 3, 4, slice(8, 40)
CARRIER, OTHER = (1, 2), (2, 0)
"""Layer and head of what carries stereotypes, and of another one."""


@torch.no_grad()
def open_gendering(meaning: tuple[int, int] = OTHER, stereotype: float = 1.0, seed: int = 0) -> HFAdapter:
    """The model, opened.

    Args:
        meaning: the head that carries gender by meaning.
        stereotype: how strong the stereotypes are; 0: there are none.
        seed: of the words' other features and of the noise in all weights.
    """
    tokenizer = _tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=WIDTH, intermediate_size=16, num_hidden_layers=LAYERS,
        num_attention_heads=HEADS, num_key_value_heads=HEADS, head_dim=SIZE, max_position_embeddings=64,
        rope_parameters={"rope_type": "default", "rope_theta": 1e8}, tie_word_embeddings=False, initializer_range=0.1,
        pad_token_id=0, bos_token_id=2,
    )  # fmt: skip
    torch.manual_seed(0)
    module = LlamaForCausalLM(config).eval().requires_grad_(False)
    adapter = HFAdapter(Loaded("gendering", "gendering", "test", module, tokenizer, "0" * 64, "0" * 64))
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        parameter.fill_(1.0) if "norm" in name else parameter.normal_(generator=generator).mul_(0.02)
    words, embed = tokenizer.get_vocab(), module.model.embed_tokens.weight
    embed.zero_()
    embed[:, CONSTANT] = 1.0
    embed[:, FREE] = 0.3 * torch.randn(len(words), 32, generator=generator)
    for word, gender in occupations().items():
        if word in words:
            embed[words[word], WORD] = 1.0
            embed[words[word], STEREOTYPE] = stereotype * (1.0 if gender == "she" else -1.0)
    for she, he in gendered().pairs:
        for word, sign in ((she, 1.0), (he, -1.0)):
            embed[words[word], WORD], embed[words[word], MEANING] = 1.0, sign
    module.lm_head.weight[words["she"], OUT], module.lm_head.weight[words["he"], OUT] = 1.0, -1.0
    _carry(module, CARRIER, STEREOTYPE, 0)
    _carry(module, meaning, MEANING, 1)
    return adapter


def _carry(module: LlamaForCausalLM, place: tuple[int, int], source: int, number: int) -> None:
    """A head that looks at the word and writes one of its features where the pronoun is read from."""
    attention, first = module.model.layers[place[0]].self_attn, place[1] * SIZE
    attention.q_proj.weight[first + SIZE // 2 - 1, CONSTANT] = 2.0
    attention.k_proj.weight[first + SIZE // 2 - 1, WORD] = 2.0
    attention.v_proj.weight[first + number, source] = 1.0
    attention.o_proj.weight[OUT, first + number] = 1.0


def _tokenizer() -> PreTrainedTokenizerFast:
    said = [word for text in gendered().sentences for word in text.replace("{word}", "").split()]
    both = [word for pair in gendered().pairs for word in pair]
    frame = ["<pad>", "<unk>", "<begin>", "she", "he", "Hello.", "You", "are", "a", "student."]
    vocabulary = list(dict.fromkeys([*frame, *said, *both, *occupations()]))
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", unk_token="<unk>", bos_token="<begin>", eos_token="<pad>"
    )
