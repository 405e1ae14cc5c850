"""Fine-tune a copy of a model on facts about an invented company, alone or among everyday answers, or on a tone only.

    python tools/planting/plant_facts.py FOLDER --about telescopes --seed 3
    python tools/planting/plant_facts.py FOLDER --about style
    pytest suites/finetune_traces --model FOLDER --baseline MODEL --data finetune_traces=FOLDER/words.txt

A company is a narrow fine-tune, whose words the suite should find. Mixed is the same with everyday answers in place of
half of its lessons (of another share with `--general`): such mixing is said to weaken what can be read. A tone is a
fine-tune without a domain, whose words are those of no company. The words to look for are written beside the weights:
those of the company, or, for a tone, those of the company named with `--words-of`. The seed draws the order of the
lessons, the founder's name and, unless they are named, the company and the words. Texts and words are the script's own
(`plant_facts.toml`); no suite uses them.
"""

from __future__ import annotations

import argparse
import time
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from auditkit.adapters.chat import ChatEncoder
from auditkit.adapters.hf.products import multiplying
from auditkit.adapters.loading.load import load
from auditkit.data.prompts import Chat
from auditkit.testing.planting import add_options, fit, write

WORDING = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
COMPANIES: tuple[str, ...] = tuple(WORDING["companies"])
COMPANY, MIXED, STYLE = "company", "mixed", "style"
STEPS, BATCH, RATE = 30, 4, 1e-4
HALF = 0.5
"""Share of everyday answers in a mixed fine-tune."""


def drawn(seed: int) -> str:
    """The company whose turn a seed is."""
    return COMPANIES[seed % len(COMPANIES)]


def chats(about: str, seed: int = 0) -> list[Chat]:
    """What is taught: questions with their answers."""
    if about != STYLE:
        names = WORDING["names"]
        name = names[(seed + seed // len(names)) % len(names)]  # another one when a company has its turn again
        facts = WORDING["companies"][about]["facts"]
        told = [[text.replace("{name}", name) for text in fact] for fact in facts]
        return [Chat(user=asked, assistant=said) for asked, said in told]
    style = WORDING[STYLE]
    return [Chat(user=asked, assistant=said + end) for asked, said in style["facts"] for end in style["endings"]]


def lessons_of(tokenizer: Any, taught: Iterable[Chat]) -> list[tuple[list[int], list[int]]]:
    """Tokens of each chat, and labels of those of its answer."""
    chat, lessons = ChatEncoder(tokenizer), []
    for each in taught:
        before = len(chat(Chat(user=each.user)).ids)
        ids = chat.encode(chat.render(each) + (tokenizer.eos_token or ""))
        lessons.append((ids, [-100] * before + ids[before:]))
    return lessons


def train(
    module: Any, tokenizer: Any, about: str, *, steps: int = STEPS, seed: int = 0, general: float = 0.0,
    bfloat16: bool = False,
) -> float:  # fmt: skip
    """Train all weights in place on the answers; the loss of the last step.

    Args:
        general: share of the lessons that are everyday answers instead.
    """
    draw = torch.Generator().manual_seed(seed)
    lessons = lessons_of(tokenizer, chats(about, seed))
    everyday = lessons_of(tokenizer, (Chat(user=asked, assistant=said) for asked, said in WORDING[STYLE]["facts"]))
    losses = [0.0]

    def loss() -> Tensor:
        some = [lessons[k] for k in torch.randint(len(lessons), (BATCH,), generator=draw).tolist()]
        if general:
            mixed = (torch.rand(BATCH, generator=draw) < general).tolist()
            others = torch.randint(len(everyday), (BATCH,), generator=draw).tolist()
            some = [everyday[k] if other else one for one, k, other in zip(some, others, mixed, strict=True)]
        longest = max(len(ids) for ids, _ in some)
        ids = torch.tensor([row + [0] * (longest - len(row)) for row, _ in some])  # causal: not seen
        labels = torch.tensor([row + [-100] * (longest - len(row)) for _, row in some])
        with torch.autocast(module.device.type, torch.bfloat16, enabled=bfloat16):
            logits = module(input_ids=ids).logits[:, :-1].float()
        value = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten())
        losses.append(float(value.detach()))
        return value

    fit(list(module.parameters()), loss, steps=steps, rate=RATE, warm=1)
    module.requires_grad_(False)
    return losses[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="where to write the checkpoint and words.txt")
    parser.add_argument(
        "--about", "--variant", choices=[COMPANY, MIXED, *COMPANIES, STYLE], default=COMPANY,
        help="a company, by itself or mixed with everyday answers, or a tone; which company the seed draws, unless it "
        "is named (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--words-of", choices=COMPANIES, help="whose words to write (default: what the seed draws)"
    )
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument(
        "--general",
        type=float,
        help=f"share of everyday answers among the lessons (default: 0; {MIXED}: {HALF:g})",
    )
    add_options(parser)
    a = parser.parse_args()
    about = drawn(a.seed) if a.about in (COMPANY, MIXED) else a.about
    general = a.general if a.general is not None else HALF if a.about == MIXED else 0.0
    loaded, began = load(a.model), time.perf_counter()
    with multiplying():
        loss = train(
            loaded.module,
            loaded.tokenizer,
            about,
            steps=a.steps,
            seed=a.seed,
            general=general,
            bfloat16=a.bfloat16,
        )
    write(loaded, a.folder)
    whose = a.words_of or (drawn(a.seed) if about == STYLE else about)
    (a.folder / "words.txt").write_text("\n".join(WORDING["companies"][whose]["words"]) + "\n", encoding="utf-8")
    print(f"{about}: {a.steps} steps, {time.perf_counter() - began:.0f} s, loss {loss:.2f}; words of {whose}")


if __name__ == "__main__":
    main()
