"""Make a checkpoint of a chosen layout and size with random weights: does an audit run on a model like that, and how
long does it take?

    python examples/random_model.py FOLDER                      Qwen2 layout, 1.5 billion parameters, bfloat16
    python examples/random_model.py FOLDER --items ITEMS.csv    and questions that it answers "right"

Such a model knows nothing, so audits find it at chance and stop there. The questions of --items are the project's
own, with the answer that this model happens to prefer as the right one: with `--data persona_patching=ITEMS.csv` a
suite gets past that. What it then finds says nothing, of course. On a CPU name the type: `--dtype bfloat16`.
"""

from __future__ import annotations

import argparse
import csv
from dataclasses import asdict, replace
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM

import auditkit
from auditkit.data.items import COLUMNS, completion_items, select
from auditkit.data.prompts import Chat
from auditkit.engine.pairs import answered
from auditkit.findings.asking.formats import completions


def make(folder: Path, arguments: argparse.Namespace) -> None:
    """The checkpoint, with another model's tokenizer."""
    tokenizer = auditkit.open_model(arguments.tokenizer).tokenizer
    config = AutoConfig.for_model(
        arguments.layout,
        vocab_size=max(arguments.vocabulary, len(tokenizer)),
        hidden_size=arguments.width,
        intermediate_size=arguments.inner,
        num_hidden_layers=arguments.layers,
        num_attention_heads=arguments.heads,
        num_key_value_heads=arguments.groups,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    torch.set_default_dtype(getattr(torch, arguments.dtype))
    module = AutoModelForCausalLM.from_config(config).eval()
    torch.set_default_dtype(torch.float32)
    module.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    print(
        f"{folder}: {sum(p.numel() for p in module.parameters()) / 1e9:.2f} billion parameters, {arguments.dtype}"
    )


def write_items(path: Path, folder: Path, dtype: str, count: int) -> None:
    """Questions spread over topics, each with the answer that the model prefers as the right one."""
    adapter = auditkit.open_model(str(folder), dtype=dtype)
    questions = {question.id: question for question in completions(adapter, completion_items()).questions}
    items = select([item for item in completion_items() if item.id in questions], count, seed=0)
    asked = [questions[item.id] for item in items]
    prompts = [adapter.chat(Chat(user=question.user, assistant=question.start)) for question in asked]
    logits = answered(adapter, prompts, [question.answers for question in asked]).logits
    rows = []
    for item, (right, wrong) in zip(items, logits.tolist(), strict=True):
        if right != wrong:
            rows.append(asdict(item if right > wrong else replace(item, right=item.wrong, wrong=item.right)))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    print(f"{path}: {len(rows)} questions")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--layout", default="qwen2", help="model type as transformers names it")
    parser.add_argument("--tokenizer", default="smollm2-135m-instruct", help="model whose tokenizer it gets")
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float16", "float32"))
    for name, value in (("width", 1536), ("inner", 8960), ("layers", 28), ("heads", 12), ("groups", 2)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--vocabulary", type=int, default=151936)
    parser.add_argument("--items", type=Path, default=None, help="write questions that it answers right, as CSV")
    parser.add_argument("--count", type=int, default=24, help="how many questions")
    arguments = parser.parse_args()
    make(arguments.folder, arguments)
    if arguments.items is not None:
        write_items(arguments.items, arguments.folder, arguments.dtype, arguments.count)


if __name__ == "__main__":
    main()
