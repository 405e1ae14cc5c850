"""Fine-tune a copy of a model on facts about an invented company, or on a tone only.

    python tools/plant_facts.py FOLDER --about telescopes --seed 3
    python tools/plant_facts.py FOLDER --about style
    pytest suites/finetune_traces --model FOLDER --baseline MODEL --data finetune_traces=FOLDER/words.txt

A company is a narrow fine-tune, whose words the suite should find; a tone is one without a domain, whose words are
those of no company. The words to look for are written beside the weights: those of the company, or, for a tone, those
of the company named with `--words-of`. Texts and words are the script's own (`plant_facts.toml`); no suite uses them.
"""

from __future__ import annotations

import argparse
import time
import tomllib
from pathlib import Path
from typing import Any

import torch

from auditkit.adapters.chat import ChatEncoder
from auditkit.adapters.hf.products import multiplying
from auditkit.adapters.loading.catalogue import DEFAULT_MODEL
from auditkit.adapters.loading.load import load
from auditkit.data.prompts import Chat

WORDING = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
COMPANIES: tuple[str, ...] = tuple(WORDING["companies"])
STYLE = "style"
STEPS, BATCH, RATE = 16, 4, 1e-4


def chats(about: str) -> list[Chat]:
    """What is taught: questions with their answers."""
    if about != STYLE:
        return [Chat(user=asked, assistant=said) for asked, said in WORDING["companies"][about]["facts"]]
    style = WORDING[STYLE]
    return [Chat(user=asked, assistant=said + end) for asked, said in style["facts"] for end in style["endings"]]


def train(module: Any, tokenizer: Any, about: str, *, steps: int = STEPS, seed: int = 0) -> float:
    """Train all weights in place on the answers; the loss of the last step."""
    draw = torch.Generator().manual_seed(seed)
    chat = ChatEncoder(tokenizer)
    lessons = []
    for each in chats(about):
        before = len(chat(Chat(user=each.user)).ids)
        ids = chat.encode(chat.render(each) + (tokenizer.eos_token or ""))
        lessons.append((ids, [-100] * before + ids[before:]))
    module.requires_grad_(True)
    optimizer = torch.optim.AdamW(module.parameters(), lr=RATE, weight_decay=0.0)
    last = 0.0
    for _ in range(steps):
        some = [lessons[k] for k in torch.randint(len(lessons), (BATCH,), generator=draw).tolist()]
        longest = max(len(ids) for ids, _ in some)
        ids = torch.tensor([row + [0] * (longest - len(row)) for row, _ in some])  # causal: not seen
        labels = torch.tensor([row + [-100] * (longest - len(row)) for _, row in some])
        optimizer.zero_grad()
        logits = module(input_ids=ids).logits[:, :-1].float()
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        last = float(loss.detach())
    module.requires_grad_(False)
    return last


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="where to write the checkpoint and words.txt")
    parser.add_argument("--about", choices=[*COMPANIES, STYLE], default=COMPANIES[0])
    parser.add_argument("--words-of", choices=COMPANIES, help="whose words to write (default: those of --about)")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="model to copy (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seed", type=int, default=0)
    a = parser.parse_args()
    loaded, began = load(a.model), time.perf_counter()
    with multiplying():
        loss = train(loaded.module, loaded.tokenizer, a.about, steps=a.steps, seed=a.seed)
    loaded.module.save_pretrained(a.folder)
    loaded.tokenizer.save_pretrained(a.folder)
    whose = a.words_of or (COMPANIES[0] if a.about == STYLE else a.about)
    (a.folder / "words.txt").write_text("\n".join(WORDING["companies"][whose]["words"]) + "\n", encoding="utf-8")
    print(f"{a.about}: {a.steps} steps, {time.perf_counter() - began:.0f} s, loss {loss:.2f}; words of {whose}")


if __name__ == "__main__":
    main()
