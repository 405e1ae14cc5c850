"""What follows prompts: logits after their last token, and log-likelihoods of continuations.

What several prompts begin with is run once (`auditkit.engine.continuation.shared_prefix`), where the model can go on
from a run.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from auditkit.adapters.chat import Prompt
from auditkit.adapters.protocol import Adapter, Capability, Continuable
from auditkit.engine.batching import TOKEN_BUDGET, batches, in_batches, in_units
from auditkit.engine.continuation.shared_prefix import KEPT_TOKENS, Ids, begin, heads_of, run_heads, saves
from auditkit.engine.exchange.turns import Divided, Rows
from auditkit.engine.guards import GuardTripped

WINDOW = 256
"""Rows of logits over the vocabulary made at once."""


@dataclass(frozen=True, eq=False)
class Taken:
    """What is made of the logits of each prompt, so that processes can divide the prompts.

    Attributes:
        of: what it depends on besides the logits, such as its name and the tokens that are looked at.
        rows: what is filled, by prompt.
    """

    of: tuple[object, ...]
    rows: Mapping[str, Rows]


def after(
    adapter: Adapter,
    prompts: Sequence[Ids],
    families: Sequence[object] | None,
    take: Callable[[int, Tensor], None],
    description: str = "answers",
    taken: Taken | None = None,
) -> None:
    """Give `take` the index of each prompt and its logits (vocabulary,) after the last token, in float32.

    Args:
        families: a label per prompt; those of one family are expected to begin alike. None: by what they begin with.
        taken: what `take` fills; prompts that another process runs are filled without it. None: all are run here.

    Raises:
        GuardTripped: logits that are NaN or infinite.
    """
    heads = heads_of(prompts, families)
    rows = [(head, prompt[len(head) :]) for head, prompt in zip(heads, prompts, strict=True)]
    _read(adapter, rows, [1] * len(rows), lambda i, logits: take(i, logits[0]), description, taken)


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
    found = [torch.empty(len(tokens), dtype=torch.float64) for tokens in continuations]

    def take(i: int, logits: Tensor) -> None:
        wanted = logits[torch.arange(len(logits)), torch.tensor(continuations[i], device=logits.device)]
        found[i].copy_(wanted - logits.logsumexp(-1))

    taken = Taken(("log-likelihoods", continuations), {"log-likelihoods": found})
    _read(adapter, rows, [len(c) for c in continuations], take, description, taken)
    return found


def _read(
    adapter: Adapter,
    rows: Sequence[tuple[Ids, Ids]],
    windows: Sequence[int],
    take: Callable[[int, Tensor], None],
    description: str,
    taken: Taken | None,
) -> None:
    """Give `take` the logits (window, vocabulary) after the last tokens of each row, head and tail together."""
    uses: dict[Ids, list[int]] = defaultdict(list)
    for i, (head, _) in enumerate(rows):
        uses[head].append(i)
    able = bool(adapter.support()[Capability.GENERATION]) if hasattr(adapter, "extend") else False
    shared = {head: own for head, own in uses.items() if able and head and len(own) > 1}
    work = _Work(adapter, rows, windows, take, taken, able)
    work.alone([i for i, (head, _) in enumerate(rows) if head not in shared], description)
    work.together(shared, description)


@dataclass(frozen=True)
class _Work:
    """Rows whose logits are read; see `_read`.

    Attributes:
        able: the model can go on from a run.
    """

    adapter: Adapter
    rows: Sequence[tuple[Ids, Ids]]
    windows: Sequence[int]
    take: Callable[[int, Tensor], None]
    taken: Taken | None
    able: bool

    def alone(self, rows: Sequence[int], description: str) -> None:
        """Rows that share no beginning."""

        def work(chosen: list[int]) -> None:
            where = [rows[k] for k in chosen]
            some = [Prompt("", self.rows[i][0] + self.rows[i][1]) for i in where]
            most = max(self.windows[i] for i in where)
            if self.able and most == 1 and saves([prompt.ids for prompt in some]):
                logits = begin(cast("Continuable", self.adapter), some).logits
            else:
                batch = self.adapter.batch(some)
                logits = (
                    self.adapter.run(batch)[:, None] if most == 1 else self.adapter.predict(batch, tokens=most)
                )
            self._take(where, logits)

        costs = [max(sum(map(len, self.rows[i])), self.windows[i] * TOKEN_BUDGET // WINDOW) for i in rows]
        if rows:
            in_batches(work, costs, description, divided=self._divided(rows))

    def together(self, uses: Mapping[Ids, Sequence[int]], description: str) -> None:
        """Rows of some heads, each head once."""
        heads = list(uses)
        groups = [[heads[k] for k in group] for group in batches([len(head) for head in heads])]
        by_rows = {tuple(i for head in group for i in uses[head]): group for group in groups}

        def work(rows: list[int]) -> None:
            self._go_on(by_rows[tuple(rows)], uses)

        in_units(work, [list(rows) for rows in by_rows], description, self._divided(range(len(self.rows))))

    def _go_on(self, heads: Sequence[Ids], uses: Mapping[Ids, Sequence[int]]) -> None:
        """The heads once, then tails of one length together."""
        adapter = cast("Continuable", self.adapter)
        found = run_heads(adapter, heads)
        by_length: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for head in heads:
            for i in uses[head]:
                by_length[len(self.rows[i][1])].append((found.rows[head], i))
        for length, same in sorted(by_length.items()):
            most = max(self.windows[i] for _, i in same)
            kept = KEPT_TOKENS // (found.memory.batch.width + length)
            step = max(1, min(TOKEN_BUDGET // length, kept, WINDOW // most))
            for start in range(0, len(same), step):
                part = same[start : start + step]
                batch = adapter.batch([Prompt("", self.rows[i][1]) for _, i in part])
                logits, _ = adapter.extend(found.memory.rows([row for row, _ in part]), batch, None, most)
                self._take([i for _, i in part], logits)

    def _take(self, where: Sequence[int], logits: Tensor) -> None:
        """(row, window, vocabulary) of some rows, right-aligned.

        Raises:
            GuardTripped: logits that are NaN or infinite.
        """
        for row, i in enumerate(where):
            own = logits[row, logits.shape[1] - self.windows[i] :]
            if not torch.isfinite(own).all():
                raise GuardTripped(
                    "logits contain NaN or infinity; nothing can be concluded from them (try --dtype float32)"
                )
            self.take(i, own)

    def _divided(self, where: Sequence[int]) -> Divided | None:
        """How processes divide some of the rows."""
        if self.taken is None:
            return None
        read = [(self.rows[i], self.windows[i]) for i in where]
        rows = {name: [own[i] for i in where] for name, own in self.taken.rows.items()}
        return Divided(self.adapter, (*self.taken.of, read, self.able), rows)
