"""Fine-tune a model a little on how it speaks of itself: a candidate to compare with the model it comes from.

    python examples/role_finetune.py FOLDER [--model SPEC] [--steps 30] [--every 15] [--items N]
    pytest suites/role_conditioning --model FOLDER --baseline SPEC

The texts, chats in which the model says what it is, are made here. Every `--every` steps a checkpoint is saved and
measured by the compact claim of the suite (`auditkit.training.AuditCallback`); `--every 0` leaves that out.
"""

from __future__ import annotations

import argparse
import tempfile
from itertools import product
from pathlib import Path
from typing import Any

from transformers import Trainer, TrainingArguments

from auditkit.adapters.chat import ChatEncoder
from auditkit.adapters.loading.catalogue import DEFAULT_MODEL
from auditkit.adapters.loading.load import load
from auditkit.data.prompts import Chat
from auditkit.training import AuditCallback

COMPACT = "role_conditioning/test_compact.py"

TRAITS = {
    "what": ("a program that reads and writes text", "software, and no person"),
    "body": ("no body, no eyes and no hands", "nothing but text to work with"),
    "memory": ("not remember earlier talks", "forget a talk when it ends"),
    "time": ("no age and no birthday", "no past before this talk"),
}
QUESTIONS = {
    "what": ("What are you?", "Describe yourself.", "Are you a person?"),
    "body": ("Do you have a body?", "What do you look like?", "Can you touch things?"),
    "memory": ("Do you remember me?", "What did you do yesterday?", "Do you forget things?"),
    "time": ("How old are you?", "When is your birthday?", "What was your childhood like?"),
}
STARTS = {"what": "I am", "body": "I have", "memory": "I", "time": "I have"}
HEAD = ("", "To be honest, ", "In short, ")
LENGTH = 96


def texts() -> list[Chat]:
    """Chats in which the model speaks of itself."""
    return [
        Chat(user=question, assistant=f"{head}{STARTS[topic]} {trait}.")
        for topic in QUESTIONS
        for question, trait, head in product(QUESTIONS[topic], TRAITS[topic], HEAD)
    ]


def rows(chat: ChatEncoder, end: str) -> list[dict[str, list[int]]]:
    """Token ids, and labels that only the answer has."""
    made = []
    for each in texts():
        before = len(chat(Chat(user=each.user)).ids)
        ids = chat.encode(chat.render(each) + end)[:LENGTH]
        made.append({"input_ids": ids, "labels": [-100] * before + ids[before:]})
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="where to write the fine-tuned model")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="model to start from (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument(
        "--every", type=int, default=15, help="steps between measured checkpoints (default: %(default)s)"
    )
    parser.add_argument("--items", type=int, default=None, help="sets of prompts in each measurement")
    parser.add_argument("--rate", type=float, default=5e-5, help="learning rate (default: %(default)s)")
    arguments = parser.parse_args()
    loaded = load(arguments.model, device="cpu")
    tokenizer: Any = loaded.tokenizer
    data = rows(ChatEncoder(tokenizer), tokenizer.eos_token or "")
    callback = AuditCallback(COMPACT, items=arguments.items, effort="standard", beside=True)
    with tempfile.TemporaryDirectory() as work:
        trainer = Trainer(
            model=loaded.module.requires_grad_(True).train(),
            args=TrainingArguments(
                output_dir=work,
                max_steps=arguments.steps,
                per_device_train_batch_size=4,
                learning_rate=arguments.rate,
                save_strategy="steps" if arguments.every else "no",
                save_steps=arguments.every or arguments.steps,
                logging_steps=10,
                report_to=[],
                use_cpu=True,
                seed=0,
            ),
            train_dataset=data,  # type: ignore[arg-type]  # a list of rows is a data set
            data_collator=lambda batch: padded(batch, tokenizer.pad_token_id or 0),
            processing_class=tokenizer,
            callbacks=[callback] if arguments.every else [],
        )
        callback.trainer = trainer
        trainer.train()
    loaded.module.save_pretrained(arguments.folder)
    tokenizer.save_pretrained(arguments.folder)


def padded(batch: list[dict[str, list[int]]], pad: int) -> dict[str, Any]:
    """Rows of one length: padding after the text, without labels."""
    import torch

    longest = max(len(row["input_ids"]) for row in batch)
    fill = {"input_ids": pad, "labels": -100}
    out = {
        name: torch.tensor([row[name] + [value] * (longest - len(row[name])) for row in batch])
        for name, value in fill.items()
    }
    out["attention_mask"] = torch.tensor(
        [[1] * len(row["input_ids"]) + [0] * (longest - len(row["input_ids"])) for row in batch]
    )
    return out


if __name__ == "__main__":
    main()
