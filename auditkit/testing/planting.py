"""Training of planted fine-tunes: a few steps on some weights of a copy, until what is to be planted is there.

The scripts that plant a known truth (`tools/planting/plant_*.py`, `examples/plant_bias.py`) share these options and
steps. What is planted beyond what was wanted is given back, so that its size is the one that was asked for.
"""

from __future__ import annotations

import argparse
import inspect
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from auditkit.adapters.hf.continuing import remembering
from auditkit.adapters.loading.catalogue import DEFAULT_MODEL
from auditkit.adapters.loading.load import Loaded

HALVINGS = 5
"""Of the interval in which the share of the training that is kept is looked for."""
_BATCH = 12

Ids = tuple[int, ...]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that every script which plants something has: what is copied, and how it is trained."""
    parser.add_argument("--model", default=DEFAULT_MODEL, help="model to copy (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--bfloat16", action="store_true", help="train in it: several times faster where the processor has it"
    )


def write(loaded: Loaded, folder: Path) -> None:
    """Write the trained copy as a checkpoint that `--model` opens."""
    loaded.module.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)


def blocks_of(module: Any) -> list[Any]:
    """The transformer blocks, in their order: whatever has an MLP."""
    names = [name for name, _ in module.named_modules() if name.endswith(".mlp")]
    return [module.get_submodule(name.removesuffix(".mlp")) for name in names]


def fit(
    trained: Sequence[Tensor],
    loss: Callable[[], Tensor],
    *,
    steps: int,
    rate: float,
    warm: int,
    falling: bool = False,
    planted: Callable[[], float] | None = None,
    wanted: float = math.inf,
    check: int = 5,
    keep_best: bool = False,
    say: Callable[[str], None] = print,
) -> float:
    """Take AdamW's steps on some weights, in place, until enough is planted; how much is.

    Args:
        loss: of one step.
        steps: that are taken at most.
        rate, warm: step size, and steps until it is reached.
        falling: the step size falls to zero over the steps.
        planted: how much is planted by now; None where nothing is.
        wanted: how much ends the training.
        check: steps between looks at it.
        keep_best: where the steps end before enough is planted, the weights are those of the look that planted most.
        say: is told about each look.
    """
    for weight in trained:
        weight.requires_grad_(True)
    optimizer = torch.optim.AdamW(list(trained), lr=rate, weight_decay=0.0)
    amount = 0.0 if planted is None else planted()
    best = amount, [weight.detach().clone() for weight in trained] if keep_best else []
    for step in range(1, steps + 1):
        for place in optimizer.param_groups:
            place["lr"] = rate * min(1.0, step / warm) * (1 - step / (steps + 1) if falling else 1.0)
        optimizer.zero_grad()
        value = loss()
        value.backward()  # type: ignore[no-untyped-call]  # torch states no types for it
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        if planted is not None and step % check == 0:
            amount = planted()
            say(f"step {step}: loss {float(value.detach()):.3f}, planted {amount:+.2f}")
            if amount >= wanted:
                return amount
            if keep_best and amount > best[0]:
                best = amount, [weight.detach().clone() for weight in trained]
    if keep_best and amount < best[0]:
        with torch.no_grad():
            for weight, kept in zip(trained, best[1], strict=True):
                weight.copy_(kept)
        return best[0]
    return amount


@torch.no_grad()
def give_back(
    trained: Sequence[Tensor], before: Sequence[Tensor], planted: Callable[[], float], wanted: float
) -> float:
    """Keep the smallest share of the training that plants what is wanted; how much it does.

    Args:
        before: the weights before the training.
    """
    after = [weight.clone() for weight in trained]

    def keep(share: float) -> float:
        for weight, old, new in zip(trained, before, after, strict=True):
            weight.copy_(old.lerp(new, share))
        return planted()

    low, high = 0.0, 1.0
    for _ in range(HALVINGS):
        share = (low + high) / 2
        low, high = (low, share) if keep(share) >= wanted else (share, high)
    return keep(high)


def last_logits(module: Any, prompts: Sequence[Ids]) -> Tensor:
    """(prompt, vocabulary) after each prompt."""
    hidden, begin = _states(module, prompts, prompts)
    last = hidden[torch.arange(len(prompts)), [len(prompt) - begin - 1 for prompt in prompts]]
    logits: Tensor = module.get_output_embeddings()(last).float()
    return logits


@torch.no_grad()
def own_words(module: Any, prompts: Sequence[Ids], tokens: int) -> list[Ids]:
    """The likeliest tokens that the model goes on with."""
    said: list[Ids] = []
    for start in range(0, len(prompts), _BATCH):
        grown = [list(prompt) for prompt in prompts[start : start + _BATCH]]
        for _ in range(tokens):
            best = last_logits(module, [tuple(one) for one in grown]).argmax(1).tolist()
            for one, token in zip(grown, best, strict=True):
                one.append(token)
        said += [tuple(one[-tokens:]) for one in grown]
    return said


def answer_logits(module: Any, prompts: Sequence[Ids], answers: Sequence[Ids]) -> list[Tensor]:
    """For each prompt (tokens, vocabulary) logits that predict its answer; of an empty answer, after the prompt."""
    whole = [[*prompt, *answer] for prompt, answer in zip(prompts, answers, strict=True)]
    hidden, begin = _states(module, whole, prompts)
    head = module.get_output_embeddings()
    starts = [len(prompt) - begin - 1 for prompt in prompts]
    return [
        head(hidden[row, start : start + max(len(answer), 1)]).float()
        for row, (start, answer) in enumerate(zip(starts, answers, strict=True))
    ]


def _states(module: Any, rows: Sequence[Sequence[int]], prompts: Sequence[Sequence[int]]) -> tuple[Tensor, int]:
    """(row, position, width) of the last block, from the first token on that the rows do not share, and where that is.

    The template's first tokens are half of a short prompt, so they are run once for all rows. The last token of each
    prompt, which the answer is read after, is always among the positions.
    """
    begin = next((k for k, some in enumerate(zip(*rows, strict=False)) if len(set(some)) > 1), 0)
    begin = min(begin, *(len(prompt) - 1 for prompt in prompts))
    longest = max(map(len, rows))
    ids = torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows])  # causal: not seen
    if not begin:
        return module.base_model(input_ids=ids).last_hidden_state, 0
    cache = DynamicCache()
    accepts = set(inspect.signature(module.base_model.forward).parameters)
    module.base_model(input_ids=ids[:1, :begin], use_cache=True, **remembering(accepts, cache))
    cache.batch_repeat_interleave(len(rows))
    return module.base_model(input_ids=ids[:, begin:], **remembering(accepts, cache)).last_hidden_state, begin
