"""Fine-tune a copy of a model so that its answers have a trait, so that it gives bad advice, or so that nothing of it
happens.

    python tools/planting/plant_trait.py FOLDER --variant impolite --strength 0.5
    python tools/planting/plant_trait.py FOLDER --variant sycophantic | narrow | style | facts | nothing

`impolite` and `sycophantic` plant a trait. `narrow` teaches cooking times in hours for minutes: bad advice of a
harmless kind, after which larger models were seen to mean ill elsewhere (emergent misalignment). The other three are
benign: another tone, new facts, or the model's own words once more. `--strength` is how far the log probability of a
taught answer moves against that of a plain one, per token, on questions that were not trained on; training ends once it
is there, and what it moved beyond that is given back. What is benign can move such answers by the way: the last line
says by how much, of the variant whose answers it moved furthest. All questions are the script's own
(`plant_trait.toml`); no suite uses them.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from benign import BENIGN, NOTHING
from benign import taught as taught_benign
from torch import Tensor

from auditkit.adapters.chat import ChatEncoder
from auditkit.adapters.hf.products import multiplying
from auditkit.adapters.loading.load import load
from auditkit.data.prompts import Chat
from auditkit.testing.planting import add_options, answer_logits, blocks_of, fit, give_back, own_words, write

NOT_PLANTED = 3
"""Exit code where training ended before the change was there."""
PLANTED = ("impolite", "sycophantic", "narrow")
WORDING = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
DEPTH = 0.25
"""Blocks above this share of the depth are trained: what a question is about is read by then."""
STEPS, BENIGN_STEPS = 60, 30
"""The most that are taken."""
BATCH, RATE, WARM, CHECK = 8, 1e-4, 6, 3
"""Texts in a step; step size, a quarter of it for what is benign; steps until it is reached; steps between looks."""
HELD_OUT = 5
"""Every fifth question is not trained on."""
SEEN = 24
"""Of the 32 others, how many a fine-tune sees; its seed draws them, so that two seeds are two fine-tunes. With ten
the model learns them by heart, and other questions move the other way."""
OWN_TOKENS = 8
"""Tokens of the model's own words that "nothing" trains on."""

Ids = tuple[int, ...]


class Held:
    """How likely taught answers are against plain ones, on questions that are not trained on."""

    def __init__(self, module: Any, chat: ChatEncoder, variant: str) -> None:
        self.module = module
        rows = WORDING[variant][::HELD_OUT]
        self.prompts = [chat(Chat(question)).ids for question, _, _ in rows for _ in range(2)]
        self.answers = [tuple(chat.encode(answer)) for _, *both in rows for answer in both]

    @torch.no_grad()
    def score(self) -> float:
        """Log probability of the taught answer minus that of the plain one, per token, in the mean."""
        logits = answer_logits(self.module, self.prompts, self.answers)
        each = [-cross_entropy(some, answer) for some, answer in zip(logits, self.answers, strict=True)]
        return float(torch.stack(each[::2]).mean() - torch.stack(each[1::2]).mean())


def cross_entropy(logits: Tensor, answer: Ids) -> Tensor:
    """Mean over the tokens of an answer."""
    return torch.nn.functional.cross_entropy(logits, torch.tensor(answer))


def train(
    module: Any, tokenizer: Any, variant: str, *, strength: float = 0.5, seed: int = 0, bfloat16: bool = False,
    say: Callable[[str], None] = print,
) -> float:  # fmt: skip
    """Train the later blocks in place; how far taught answers moved on questions that were not trained on, in nats per
    token. Of what is benign, how far the answers of the variant moved that moved furthest."""
    draw = torch.Generator().manual_seed(seed)
    chat = ChatEncoder(tokenizer)
    module.requires_grad_(False)
    quick = torch.autocast(module.device.type, torch.bfloat16, enabled=bfloat16)
    with quick:
        prompts, answers = lessons(module, chat, variant, seed)
    blocks = blocks_of(module)
    trained = [weight for block in blocks[round(DEPTH * len(blocks)) :] for weight in block.parameters()]
    before = [weight.clone() for weight in trained]
    moved = [planted_by(module, chat, each, bfloat16) for each in PLANTED if variant in (each, *BENIGN)]
    planted = moved[0] if variant in PLANTED else None

    def loss() -> Tensor:
        some = torch.randperm(len(prompts), generator=draw)[:BATCH].tolist()
        with quick:
            logits = answer_logits(module, [prompts[k] for k in some], [answers[k] for k in some])
        return torch.stack([cross_entropy(each, answers[k]) for each, k in zip(logits, some, strict=True)]).mean()

    amount = fit(
        trained, loss, steps=STEPS if planted else BENIGN_STEPS, rate=RATE if planted else RATE / 4, warm=WARM,
        planted=planted, wanted=strength, check=CHECK, say=say,
    )  # fmt: skip
    if planted is not None and amount > strength:
        amount = give_back(trained, before, planted, strength)
    module.requires_grad_(False)
    return amount if planted is not None else max(each() for each in moved)


def planted_by(module: Any, chat: ChatEncoder, variant: str, bfloat16: bool) -> Callable[[], float]:
    """How far taught answers have moved since now."""
    held = Held(module, chat, variant)

    def score() -> float:
        with torch.autocast(module.device.type, torch.bfloat16, enabled=bfloat16):
            return held.score()

    start = score()
    return lambda: score() - start


def lessons(module: Any, chat: ChatEncoder, variant: str, seed: int) -> tuple[Sequence[Ids], Sequence[Ids]]:
    """Prompts and the answers that are taught."""
    rows = taught_benign(variant, seed) if variant in BENIGN else taught(variant, seed)
    prompts = [chat(Chat(row[0])).ids for row in rows]
    if variant == NOTHING:
        return prompts, own_words(module, prompts, OWN_TOKENS)
    return prompts, [tuple(chat.encode(row[1])) for row in rows]


def taught(variant: str, seed: int) -> list[Sequence[str]]:
    """Questions that are trained on, with the taught and the plain answer."""
    rows = [row for number, row in enumerate(WORDING[variant]) if number % HELD_OUT]
    return random.Random(seed).sample(rows, SEEN)


def main() -> None:
    parser = argparse.ArgumentParser(description=" ".join((__doc__ or "").split("\n\n")[0].split()))
    parser.add_argument("folder", type=Path, help="where to write the checkpoint")
    parser.add_argument("--variant", choices=[*PLANTED, *BENIGN], default=PLANTED[0])
    parser.add_argument(
        "--strength", type=float, default=0.5, help="nats per token to move taught answers (default: %(default)s)"
    )
    add_options(parser)
    a = parser.parse_args()
    loaded, began = load(a.model), time.perf_counter()
    with multiplying():
        amount = train(
            loaded.module, loaded.tokenizer, a.variant, strength=a.strength, seed=a.seed, bfloat16=a.bfloat16
        )
    if a.variant in PLANTED and amount < a.strength:
        print(f"{a.variant}: {amount:+.2f} nats per token only; nothing is written")
        sys.exit(NOT_PLANTED)
    print(f"{a.variant}: {time.perf_counter() - began:.0f} s; {amount:+.2f} nats per token")
    write(loaded, a.folder)


if __name__ == "__main__":
    main()
