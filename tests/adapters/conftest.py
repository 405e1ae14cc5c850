"""Tiny random checkpoints of many families, built offline, and a tokenizer trained on a few sentences."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from auditkit.adapters.hf.adapter import HFAdapter
from auditkit.adapters.loading.load import Loaded, load
from auditkit.adapters.loading.quiet import quiet
from auditkit.adapters.nnterp import NnterpAdapter

SENTENCES = ("What is the capital of France?", "You are a student.", "The capital of France is", "Hello.")
WORDS = 300  # 256 bytes, three special tokens, and the merges that the sentences give

TURNS = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
TEMPLATES = {
    "none": None,
    "system": "{{ bos_token }}" + TURNS,
    "refusing": "{{ bos_token }}{% if messages[0].role == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}" + TURNS,
    "dropping": "{{ bos_token }}" + TURNS.replace("in messages", "in messages if m.role != 'system'"),
}

TOKENS = {"vocab_size": WORDS, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
USUAL = {
    **TOKENS,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
}
ALL_HEADS = {key: value for key, value in USUAL.items() if key not in ("num_key_value_heads", "head_dim")}
GPT2 = {**TOKENS, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 256}
EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
WINDOW = {"sliding_window": 4}  # shorter than every prompt
LATENT = USUAL | {
    "num_key_value_heads": 4,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4,
    "head_dim": 4,
    "v_head_dim": 6,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_group": 1,
    "topk_group": 1,
    "moe_intermediate_size": 32,
    "first_k_dense_replace": 1,
}
LAYERED = {
    "layer_types": ["sliding_attention", "full_attention", "full_attention"],
    "global_head_dim": 16,
    "num_global_key_value_heads": 2,
    "num_kv_shared_layers": 0,
    "hidden_size_per_layer_input": 0,
}

# family -> (model_type, config). The window and expert sizes make each family's own mechanism take part.
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    **{
        name: (name, USUAL)
        for name in (
            "llama",
            "qwen2",
            "qwen3",
            "gemma",
            "phi",
            "phi3",
            "olmo",
            "smollm3",
            "cohere",
            "stablelm",
            "starcoder2",
            "helium",
            "glm",
            "glm4",
            "arcee",
            "nemotron",
            "persimmon",
            "ernie4_5",
            "seed_oss",
            "hunyuan_v1_dense",
            "lfm2",
            "granite",
        )
    },
    **{
        name: (name, USUAL | WINDOW)
        for name in ["mistral", "ministral", "gemma2", "gemma3_text", "olmo2", "olmo3", "cohere2", "exaone4"]
    },
    **{name: (name, USUAL | EXPERTS) for name in ("mixtral", "granitemoe", "phimoe")},
    "gpt_oss": ("gpt_oss", USUAL | EXPERTS | WINDOW),
    "olmoe": ("olmoe", USUAL | {"num_experts": 4, "num_experts_per_tok": 2}),
    "qwen3_moe": ("qwen3_moe", USUAL | {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}),
    "gpt2": ("gpt2", GPT2),
    "gpt_bigcode": ("gpt_bigcode", GPT2),
    "gptj": ("gptj", GPT2 | {"rotary_dim": 4}),
    "codegen": ("codegen", GPT2 | {"rotary_dim": 4}),
    "gpt_neo": (
        "gpt_neo",
        {
            **TOKENS,
            "hidden_size": 32,
            "num_layers": 3,
            "num_heads": 4,
            "attention_types": [[["global", "local", "global"], 1]],
            "window_size": 4,
            "max_position_embeddings": 256,
        },
    ),
    "gpt_neox": ("gpt_neox", ALL_HEADS),
    "bloom": ("bloom", {**TOKENS, "hidden_size": 32, "n_layer": 3, "n_head": 4}),
    "mpt": ("mpt", {**TOKENS, "d_model": 32, "n_layers": 3, "n_heads": 4, "max_seq_len": 256}),
    "falcon": ("falcon", ALL_HEADS | {"parallel_attn": True}),
    "falcon_sequential": ("falcon", ALL_HEADS | {"parallel_attn": False}),
    "falcon_new": ("falcon", ALL_HEADS | {"new_decoder_architecture": True, "num_kv_heads": 2}),
    "biogpt": ("biogpt", ALL_HEADS),
    "xglm": (
        "xglm",
        {
            **TOKENS,
            "d_model": 32,
            "ffn_dim": 64,
            "num_layers": 3,
            "attention_heads": 4,
            "max_position_embeddings": 256,
        },
    ),
    "opt": ("opt", ALL_HEADS | {"ffn_dim": 64, "word_embed_proj_dim": 32}),
    # sizes that differ: values from queries and keys; heads from layer to layer; embeddings from the stream
    "deepseek_v3": ("deepseek_v3", LATENT),
    "gemma4_text": ("gemma4_text", USUAL | WINDOW | LAYERED),
    "opt_projected": ("opt", ALL_HEADS | {"ffn_dim": 64, "word_embed_proj_dim": 16}),
    "granite_scaled": ("granite", USUAL | {"residual_multiplier": 0.22}),
    "lfm2_hybrid": ("lfm2", USUAL | {"layer_types": ["conv", "full_attention", "conv"]}),
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "family" in metafunc.fixturenames:
        metafunc.parametrize("family", FAMILIES)


@pytest.fixture(scope="session")
def families() -> list[str]:
    """Every family, for tests over all of them at once."""
    return list(FAMILIES)


@pytest.fixture(autouse=True)
def _own_cache(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Unit tests leave the user's cache alone; model tests share the conversion in it."""
    if not request.node.get_closest_marker("model"):
        monkeypatch.setenv("AUDITKIT_CACHE", str(tmp_path / "cache"))


MakeTokenizer = Callable[..., PreTrainedTokenizerFast]


@pytest.fixture(scope="session")
def make_tokenizer() -> MakeTokenizer:
    """(template, adds_bos) -> a byte-level BPE tokenizer that can say anything."""
    return tokenizer_with


def tokenizer_with(template: str | None = "system", adds_bos: bool = False) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with one of `TEMPLATES`, or with none."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=WORDS,
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(SENTENCES, trainer)
    if adds_bos:
        bpe.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<s>", eos_token="</s>", pad_token="<pad>")
    if template is not None:
        tokenizer.chat_template = TEMPLATES[template]
    return tokenizer


@pytest.fixture(scope="session")
def make_module() -> Callable[[str], Any]:
    """Family -> a new random module whose biases and norms are not at their neutral start."""

    def make(family: str) -> Any:
        model_type, options = FAMILIES[family]
        torch.manual_seed(0)
        with quiet():
            module = AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **options)).eval()
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.05)
        return module

    return make


@pytest.fixture
def save_checkpoint(
    make_module: Callable[[str], Any], make_tokenizer: MakeTokenizer, tmp_path: Path
) -> Callable[..., Path]:
    """(family, template) -> a new folder that save_pretrained wrote."""

    def save(family: str = "llama", template: str | None = "system") -> Path:
        folder = tmp_path / "tiny" / family
        with quiet():
            make_module(family).save_pretrained(folder)
            make_tokenizer(template).save_pretrained(folder)
        return folder

    return save


@pytest.fixture(scope="session")
def open_family(
    tmp_path_factory: pytest.TempPathFactory, make_module: Callable[[str], Any], make_tokenizer: MakeTokenizer
) -> Callable[[str], HFAdapter]:
    """Family -> its adapter, saved and opened once per session on the CPU."""
    opened: dict[str, HFAdapter] = {}

    def open_once(family: str) -> HFAdapter:
        if family not in opened:
            folder = tmp_path_factory.mktemp("families") / family
            with quiet():
                make_module(family).save_pretrained(folder)
                make_tokenizer().save_pretrained(folder)
            opened[family] = HFAdapter(load(str(folder), device="cpu"))
        return opened[family]

    return open_once


@pytest.fixture(scope="session")
def open_nnterp(open_family: Callable[[str], HFAdapter]) -> Callable[[str], NnterpAdapter]:
    """Family -> the second adapter on a copy of the same module, opened once per session."""
    opened: dict[str, NnterpAdapter] = {}

    def open_once(family: str) -> NnterpAdapter:
        if family not in opened:
            opened[family] = NnterpAdapter(loaded_again(open_family(family)))
        return opened[family]

    return open_once


def loaded_again(adapter: HFAdapter) -> Loaded:
    """A copy of what the adapter was made of: nnsight leaves wrappers on the module it is given."""
    info = adapter.info
    return Loaded(
        spec=info.spec,
        name=info.name,
        source=info.source,
        module=copy.deepcopy(adapter.module),
        tokenizer=adapter.tokenizer,
        weights_sha256=info.weights_sha256,
        tokenizer_sha256=info.tokenizer_sha256,
    )


@pytest.fixture
def adapter(family: str, open_family: Callable[[str], HFAdapter]) -> HFAdapter:
    return open_family(family)


@pytest.fixture
def llama(open_family: Callable[[str], HFAdapter]) -> HFAdapter:
    return open_family("llama")
