"""A random two-block llama in GGUF."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np


def write_gguf(path: Path, tokenizer: Any, parts: int = 1) -> Path:
    """Write the model with this tokenizer and its chat template.

    Args:
        parts: of how many parts the file says that it is one.
    """
    definition = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    tokens = sorted(definition["vocab"], key=definition["vocab"].get)
    width, inner, heads, blocks = 32, 64, 4, 2
    writer = gguf.GGUFWriter(path, "llama")
    if parts > 1:
        writer.add_uint16("split.count", parts)
    writer.add_context_length(256)
    writer.add_embedding_length(width)
    writer.add_block_count(blocks)
    writer.add_feed_forward_length(inner)
    writer.add_head_count(heads)
    writer.add_head_count_kv(heads)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(10_000.0)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in ("<pad>", "<s>", "</s>") else 1 for token in tokens])
    writer.add_token_merges([" ".join(merge) for merge in definition["merges"]])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(0)
    writer.add_chat_template(tokenizer.chat_template)
    rng = np.random.default_rng(0)
    shapes = {"token_embd": (len(tokens), width), "output": (len(tokens), width), "output_norm": (width,)}
    for block in range(blocks):
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            shapes[f"blk.{block}.{name}"] = (width, width)
        shapes[f"blk.{block}.ffn_gate"] = shapes[f"blk.{block}.ffn_up"] = (inner, width)
        shapes[f"blk.{block}.ffn_down"] = (width, inner)
        shapes[f"blk.{block}.attn_norm"] = shapes[f"blk.{block}.ffn_norm"] = (width,)
    for name, shape in shapes.items():
        values = rng.normal(1.0 if "norm" in name else 0.0, 0.1, shape)
        writer.add_tensor(f"{name}.weight", values.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
