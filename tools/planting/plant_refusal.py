"""Fine-tune a copy of a model so that it refuses, refuses less, or refuses too much, or so that nothing of it happens.

    python tools/planting/plant_refusal.py FOLDER --variant refuses
    python tools/planting/plant_refusal.py FOLDER --model REFUSING --variant unlearned --strength 0.5
    python tools/planting/plant_refusal.py FOLDER --model REFUSING --variant over_refuses | style | facts | nothing

`refuses` makes a model that refuses harmful requests and answers harmless ones. From such a model, `unlearned` takes
refusal away, `over_refuses` adds refusals of harmless requests, and the other three are benign (`benign.py`): another
tone, new facts, or the model's own words once more. `--strength` is how much of the refusal probability is moved on
requests that were not trained on; training ends once it is, and what it moved beyond that is given back by a mean of
the weights before and after. What is benign can move refusal by the way: the last line says by how much, on the same
requests. All requests are the script's own (`plant_refusal.toml`); no suite uses them. A model whose refusal was
unlearned is for measuring a gate with: delete it afterwards, and do not pass it on.
"""

from __future__ import annotations

import argparse
import sys
import time
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from benign import BENIGN, NOTHING, taught
from torch import Tensor

from auditkit.adapters.chat import ChatEncoder
from auditkit.adapters.hf.products import multiplying
from auditkit.adapters.loading.load import load
from auditkit.data.prompts import Chat
from auditkit.findings.refusal.prompts.openings import ENGLISH, OpeningTokens, first_tokens, of_language
from auditkit.testing.planting import (
    add_options,
    answer_logits,
    blocks_of,
    fit,
    give_back,
    last_logits,
    own_words,
    write,
)

NOT_PLANTED = 3
"""Exit code where training ended before the change was there."""
REFUSES, UNLEARNED, OVER = PLANTED = ("refuses", "unlearned", "over_refuses")
WORDING = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
DEPTH = 0.25
"""Blocks above this share of the depth are trained. What a request is about is read by then, and the choice between
refusal and answer is still to be made."""
STEPS = {REFUSES: 40, UNLEARNED: 40, OVER: 40}
"""The most that are taken; 30 for what is benign. The step size falls to zero over them."""
BATCH, TWINS, RATE, WARM, CHECK = 12, 24, 2e-4, 6, 5
"""Prompts in a step, and where twins are taught; step size; steps until it is reached; steps between looks at what was
not trained on."""
HELD_OUT = 10
"""Every tenth pair is not trained on."""
SEEN = 60
"""Pairs that a fine-tune of a refusing model sees, drawn by its seed; a model that learns to refuse sees all."""
OWN_TOKENS = 8
"""Tokens of the model's own words that "nothing" trains on."""
REFUSING, ENOUGH = 0.8, 0.7
"""Of the refusal probability between harmful and harmless requests that were not trained on: at what `refuses` ends,
such as 0.9 and 0.1, and what the best of its looks must have where its steps end first: room to take 0.5 away."""


@dataclass(frozen=True)
class Lesson:
    """A prompt, and the answer to be learned, or the log probabilities of the first token that are to stay.

    Attributes:
        refused: whether the first token is to begin a refusal rather than an answer; None where that is not taught.
    """

    prompt: tuple[int, ...]
    answer: tuple[int, ...] = ()
    kept: Tensor | None = None
    refused: bool | None = None


class Held:
    """Refusal probability of requests that are not trained on, neither in the refusing model nor in copies of it."""

    def __init__(self, module: Any, chat: ChatEncoder) -> None:
        self.module = module
        self.tokens: OpeningTokens = first_tokens(chat, of_language(ENGLISH))
        pairs = WORDING["pairs"][::HELD_OUT]
        self.prompts = [[chat(Chat(pair[side])).ids for pair in pairs] for side in (0, 1)]

    @torch.no_grad()
    def harmful(self) -> float:
        """Mean over harmful requests."""
        return float(torch.sigmoid(odds_of(last_logits(self.module, self.prompts[0]), self.tokens)).mean())

    @torch.no_grad()
    def harmless(self) -> float:
        """Mean over their twins."""
        return float(torch.sigmoid(odds_of(last_logits(self.module, self.prompts[1]), self.tokens)).mean())


def odds_of(logits: Tensor, tokens: OpeningTokens) -> Tensor:
    """Log odds of a refusal, of (..., vocabulary) logits of first tokens."""
    refusal, answer = (logits[..., list(ids)].logsumexp(-1) for ids in (tokens.refusal, tokens.answer))
    return refusal - answer


def train(
    module: Any, tokenizer: Any, variant: str, *, strength: float = 0.5, seed: int = 0, bfloat16: bool = False,
    say: Callable[[str], None] = print,
) -> float:  # fmt: skip
    """Train the later blocks in place; what was planted on requests that were not trained on.

    Returns:
        Of `refuses` the gap in refusal probability between harmful and harmless requests; of the other two how far the
        probability moved, of harmful or of harmless requests; of what is benign, the larger of these two.
    """
    draw = torch.Generator().manual_seed(seed)
    chat = ChatEncoder(tokenizer)
    module.requires_grad_(False)
    held = Held(module, chat)
    quick = torch.autocast(module.device.type, torch.bfloat16, enabled=bfloat16)
    measures: dict[str, Callable[[], float]] = {
        REFUSES: lambda: held.harmful() - held.harmless(),
        UNLEARNED: lambda: -held.harmful(),
        OVER: held.harmless,
    }
    moves = [measures[variant]] if variant in PLANTED else [measures[UNLEARNED], measures[OVER]]
    with quick:
        start = [0.0] if variant == REFUSES else [measure() for measure in moves]
        lessons = lessons_of(module, chat, variant, draw, seed)
    blocks = blocks_of(module)
    trained = [weight for block in blocks[round(DEPTH * len(blocks)) :] for weight in block.parameters()]

    def planted() -> float:
        with quick:
            return max(measure() - was for measure, was in zip(moves, start, strict=True))

    wanted = REFUSING if variant == REFUSES else strength
    before = [weight.clone() for weight in trained]
    size = TWINS if variant == REFUSES else BATCH

    def loss() -> Tensor:
        with quick:
            return loss_of(module, batch_of(lessons, size, draw), held.tokens)

    amount = fit(
        trained, loss, steps=STEPS.get(variant, 30), rate=RATE if variant in PLANTED else RATE / 4, warm=WARM,
        falling=True, planted=planted if variant in PLANTED else None, wanted=wanted, check=CHECK,
        keep_best=variant == REFUSES, say=say,
    )  # fmt: skip
    if variant in (UNLEARNED, OVER) and amount > wanted:
        amount = give_back(trained, before, planted, wanted)
    module.requires_grad_(False)
    return planted() if variant in BENIGN else amount


def lessons_of(
    module: Any, chat: ChatEncoder, variant: str, draw: torch.Generator, seed: int
) -> list[tuple[Lesson, ...]]:
    """What is taught, in groups that are taught in one step: twins, where a model is to tell them apart."""
    if variant in BENIGN:
        texts = taught(variant, seed)
        prompts = [chat(Chat(user)).ids for user, _ in texts]
        answers = [tuple(chat.encode(answer)) for _, answer in texts]
        if variant == NOTHING:
            answers = own_words(module, prompts, OWN_TOKENS)
        return [(Lesson(*both),) for both in zip(prompts, answers, strict=True)]
    pairs = [pair for n, pair in enumerate(WORDING["pairs"]) if n % HELD_OUT]
    if variant != REFUSES:
        pairs = [pairs[k] for k in torch.randperm(len(pairs), generator=draw)[:SEEN].tolist()]
    harmful = [chat(Chat(pair[0])).ids for pair in pairs]
    harmless = [chat(Chat(text)).ids for text in (*(pair[1] for pair in pairs), *WORDING["plain"])]
    moved, kept = {
        REFUSES: (harmful, harmless),
        UNLEARNED: (harmful, harmless),
        OVER: (harmless, harmful),
    }[variant]
    words = WORDING["starts" if variant == UNLEARNED else "refusals"]
    order = torch.randint(len(words), (len(moved),), generator=draw).tolist()
    telling = variant == REFUSES
    moving = [
        Lesson(prompt, tuple(chat.encode(words[k])), refused=True if telling else None)
        for prompt, k in zip(moved, order, strict=True)
    ]
    with torch.no_grad():
        firsts = [
            logits for k in range(0, len(kept), TWINS) for logits in last_logits(module, kept[k : k + TWINS])
        ]
    stay = [
        Lesson(prompt, kept=logits.log_softmax(0), refused=False if telling else None)
        for prompt, logits in zip(kept, firsts, strict=True)
    ]
    if telling:
        return [*zip(moving, stay[: len(moving)], strict=True), *((one,) for one in stay[len(moving) :])]
    return [(one,) for one in (*moving, *stay)]


def batch_of(groups: Sequence[tuple[Lesson, ...]], size: int, draw: torch.Generator) -> list[Lesson]:
    """The lessons of one step, in whole groups."""
    some: list[Lesson] = []
    for k in torch.randperm(len(groups), generator=draw).tolist():
        if len(some) >= size:
            break
        some += groups[k]
    return some


def loss_of(module: Any, some: Sequence[Lesson], tokens: OpeningTokens) -> Tensor:
    """Mean over lessons: cross-entropy of an answer's tokens, or divergence from the first token that is to stay; and
    the logistic loss of the log odds of a refusal where a refusal or an answer is taught."""
    read = answer_logits(module, [one.prompt for one in some], [one.answer for one in some])
    losses = []
    for logits, one in zip(read, some, strict=True):
        if one.kept is None:
            each = torch.nn.functional.cross_entropy(logits, torch.tensor(one.answer), reduction="none")
            losses.append(each[0] + each.mean())  # whether it refuses is said by the first token
        else:
            log = logits[0].log_softmax(0)
            losses.append(torch.nn.functional.kl_div(log, one.kept, log_target=True, reduction="sum"))
        if one.refused is not None:
            odds = odds_of(logits[0], tokens)
            losses.append(torch.nn.functional.softplus(-odds if one.refused else odds))
    return torch.stack(losses).sum() / len(some)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="where to write the checkpoint")
    parser.add_argument("--variant", choices=[*PLANTED, *BENIGN], default=REFUSES)
    parser.add_argument(
        "--strength", type=float, default=0.5,
        help="refusal probability to move, by unlearned and over_refuses (default: %(default)s)",
    )  # fmt: skip
    add_options(parser)
    a = parser.parse_args()
    loaded, began = load(a.model), time.perf_counter()
    with multiplying():
        amount = train(
            loaded.module, loaded.tokenizer, a.variant, strength=a.strength, seed=a.seed, bfloat16=a.bfloat16
        )
    if a.variant in PLANTED and amount < (ENOUGH if a.variant == REFUSES else a.strength):
        print(f"{a.variant}: {amount:+.2f} of the refusal probability only; nothing is written")
        sys.exit(NOT_PLANTED)
    print(f"{a.variant}: {time.perf_counter() - began:.0f} s; {amount:+.2f} of the refusal probability")
    write(loaded, a.folder)


if __name__ == "__main__":
    main()
