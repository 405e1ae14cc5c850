"""Shared by all tests: tiers, and a tiny random model that opens like a real one."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

# Timings on shared cores say nothing about the code.
settings.register_profile("shared cores", deadline=None)
settings.load_profile("shared cores")

TIERS = ("unit", "model", "slow")

CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>\n{{ message['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--write-conformance",
        action="store_true",
        help="write docs/conformance.md anew instead of comparing it with what the checks find",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test of the project belongs to exactly one tier (tests written by tests do not count)."""
    here = Path(__file__).parent
    for item in items:
        if here not in item.path.parents:
            continue
        tiers = [name for name in TIERS if item.get_closest_marker(name)]
        if len(tiers) != 1:
            raise pytest.UsageError(
                f"{item.nodeid} must carry exactly one of the marks {', '.join(TIERS)}: {tiers}"
            )


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of three blocks with a byte-level tokenizer and a chat template, as a local directory."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    text = [
        "What is the capital of France? The capital of France is Paris, not London.",
        "You are a good student.",
    ]
    special = ["<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<|begin|>"]
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(text * 20, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<|begin|>", eos_token="<|end|>", pad_token="<|end|>"
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.3,
    )
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("tiny-llama")
    LlamaForCausalLM(config).eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
