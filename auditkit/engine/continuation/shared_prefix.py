"""Reading many prompts that begin alike: what they share is run once.

Prompts of a counterfactual design differ late (the identity, the option that is scored), so the tokens in front are
run once and every prompt goes on from their keys and values. Where a model cannot go on from a run, whole prompts
are run: the same numbers up to rounding.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import cast

import torch
from torch import Tensor

from auditkit.adapters.chat import Prompt
from auditkit.adapters.protocol import Adapter, Capability, Continuable, Memory
from auditkit.engine.batching import TOKEN_BUDGET, batches, in_batches
from auditkit.engine.guards import GuardTripped, costing
from auditkit.engine.progress import progress

Ids = tuple[int, ...]

KEPT_TOKENS = 4096
"""Tokens whose keys and values are held at once: 190 MB on a model of 30 layers and 192 dimensions of keys."""
WINDOW = 256
"""Rows of logits over the vocabulary made at once."""


def run_heads(adapter: Continuable, heads: Iterable[Ids]) -> tuple[dict[Ids, int], Memory]:
    """Run each different head once: the row of each in their memory, and that memory."""
    order = {head: row for row, head in enumerate(dict.fromkeys(heads))}
    with costing(adapter, sum(map(len, order))):
        return order, adapter.extend(None, adapter.batch([Prompt("", head) for head in order]))[1]


def shared_head(prompts: Sequence[Ids]) -> int:
    """How many tokens all prompts begin with alike, leaving every prompt at least one of its own."""
    short = min(map(len, prompts)) - 1
    first = prompts[0]
    return next((i for i in range(short) if any(prompt[i] != first[i] for prompt in prompts)), short)


def after(
    adapter: Adapter,
    prompts: Sequence[Ids],
    families: Sequence[object],
    take: Callable[[int, Tensor], None],
    description: str = "answers",
) -> None:
    """Give `take` the index of each prompt and its logits (vocabulary,) after the last token, in float32.

    Args:
        families: a label per prompt; those of one family are expected to begin alike.

    Raises:
        GuardTripped: logits that are NaN or infinite.
    """
    members = defaultdict(list)
    for prompt, family in zip(prompts, families, strict=True):
        members[family].append(prompt)
    cuts = {family: shared_head(own) if len(own) > 1 else 0 for family, own in members.items()}
    rows = [(p[: cuts[f]], p[cuts[f] :]) for p, f in zip(prompts, families, strict=True)]
    _read(adapter, rows, [1] * len(rows), lambda i, logits: take(i, logits[0]), description)


def log_likelihoods(
    adapter: Adapter, prompts: Sequence[Ids], continuations: Sequence[Ids], description: str = "likelihoods"
) -> list[Tensor]:
    """For each prompt, the log probability of every token of its continuation, (tokens,) in nats.

    Raises:
        ValueError: an empty prompt or continuation.
    """
    if not all(prompts) or not all(continuations):
        raise ValueError("a likelihood needs a prompt and a continuation of at least one token each")
    rows = [(p[:-1], (p[-1], *c[:-1])) for p, c in zip(prompts, continuations, strict=True)]
    found: list[Tensor] = [torch.empty(0)] * len(rows)

    def take(i: int, logits: Tensor) -> None:
        wanted = logits[torch.arange(len(logits)), torch.tensor(continuations[i], device=logits.device)]
        found[i] = (wanted - logits.logsumexp(-1)).double().cpu()

    _read(adapter, rows, [len(c) for c in continuations], take, description)
    return found


def _read(
    adapter: Adapter,
    rows: Sequence[tuple[Ids, Ids]],
    windows: Sequence[int],
    take: Callable[[int, Tensor], None],
    description: str,
) -> None:
    """Give `take` the logits (window, vocabulary) after the last tokens of each row, head and tail together."""

    def take_logits(i: int, logits: Tensor) -> None:
        if not torch.isfinite(logits).all():
            raise GuardTripped("logits contain NaN or infinity; nothing can be concluded from them")
        take(i, logits)

    uses: dict[Ids, list[int]] = defaultdict(list)
    for i, (head, _) in enumerate(rows):
        uses[head].append(i)
    able = bool(adapter.support()[Capability.GENERATION]) if hasattr(adapter, "extend") else False
    shared = {head: own for head, own in uses.items() if able and head and len(own) > 1}
    alone = [i for i, (head, _) in enumerate(rows) if head not in shared]

    def whole(chosen: list[int]) -> None:
        where = [alone[k] for k in chosen]
        batch = adapter.batch([Prompt("", rows[i][0] + rows[i][1]) for i in where])
        most = max(windows[i] for i in where)
        logits = adapter.run(batch)[:, None] if most == 1 else adapter.predict(batch, tokens=most)
        for row, i in enumerate(where):
            take_logits(i, logits[row, most - windows[i] :])

    if alone:
        costs = [len(rows[i][0]) + len(rows[i][1]) for i in alone]
        in_batches(whole, [max(n, windows[i] * TOKEN_BUDGET // WINDOW) for n, i in zip(costs, alone, strict=True)],
                   description)  # fmt: skip
    heads = list(shared)
    for group in progress(batches([len(head) for head in heads]), description, len(heads)) if heads else ():
        some = [heads[k] for k in group]
        _go_on(cast("Continuable", adapter), some, [shared[head] for head in some], rows, windows, take_logits)


def _go_on(
    adapter: Continuable,
    heads: Sequence[Ids],
    uses: Sequence[Sequence[int]],
    rows: Sequence[tuple[Ids, Ids]],
    windows: Sequence[int],
    take_logits: Callable[[int, Tensor], None],
) -> None:
    """Rows that begin with one of these heads: the heads once, then tails of one length together."""
    order, memory = run_heads(adapter, heads)
    by_length: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for k, own in enumerate(uses):
        for i in own:
            by_length[len(rows[i][1])].append((k, i))
    for length, same in sorted(by_length.items()):
        most = max(windows[i] for _, i in same)
        room = min(TOKEN_BUDGET // length, KEPT_TOKENS // (memory.batch.width + length), WINDOW // most)
        step = max(1, room)
        for start in range(0, len(same), step):
            part = same[start : start + step]
            batch = adapter.batch([Prompt("", rows[i][1]) for _, i in part])
            logits, _ = adapter.extend(memory.rows([order[heads[k]] for k, _ in part]), batch, None, most)
            for row, (_, i) in enumerate(part):
                take_logits(i, logits[row, most - windows[i] :])
