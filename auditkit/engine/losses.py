"""Losses of given tokens under edits, token by token, and how far edits move the predictions.

    plain = loss(model, prompts, spans)
    edited = loss(model, prompts, spans, [[project_out(residual.everywhere(), r)]] * len(prompts))
    edited.losses - plain.losses  # (prompts,) nats per token

A span names the tokens of a prompt whose loss is read: token t is predicted from the tokens before it, so a span begins
at 1 or later. Sites of edits may name it as "scored". Bare edits act at their positions, "all" of them unless the site
says otherwise; nothing is generated here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from auditkit.adapters.chat import Prompt
from auditkit.adapters.protocol import Adapter
from auditkit.engine import arguments
from auditkit.engine.conditions import BASE, ConditionRuns, Conditions, HowRun, edited_runs
from auditkit.engine.continuation.divergence import nats
from auditkit.engine.edits import Edit
from auditkit.engine.exchange.turns import Rows
from auditkit.engine.sites import SiteError, Span
from auditkit.notebook import Showable, spreads
from auditkit.record.figures import Figure

if TYPE_CHECKING:
    import pandas as pd

SCORED = "scored"
"""Name of the span whose tokens are read, for sites of edits."""


@dataclass(frozen=True)
class Losses(Showable):
    """What a model made of given tokens.

    Attributes:
        log_probabilities: for each prompt, of every token of its span, (tokens,) in nats.
        divergences: for each prompt, KL(plain || edited) where each of these tokens is predicted, (tokens,) in nats;
            empty where they were not asked for.
        ran: how they were run, and what the guards measured.
    """

    log_probabilities: tuple[Tensor, ...]
    divergences: tuple[Tensor, ...]
    ran: HowRun

    @property
    def losses(self) -> Tensor:
        """(prompts,) mean negative log probability of a token, in nats."""
        return torch.stack([-row.mean() for row in self.log_probabilities])

    @property
    def damage(self) -> Tensor:
        """(prompts,) mean divergence from the plain runs, in nats per token.

        Raises:
            ValueError: divergences were not asked for.
        """
        if not self.divergences:
            raise ValueError("divergences were not measured; ask for them with compare=True")
        return torch.stack([row.mean() for row in self.divergences])

    def in_words(self) -> str:
        losses, prompts = self.losses, len(self.log_probabilities)
        damage = f"; KL from the plain runs {float(self.damage.mean()):.3g}" if self.divergences else ""
        return f"loss {float(losses.mean()):.3g} nats per token in the mean of {prompts} prompts{damage}"

    def to_frame(self) -> pd.DataFrame:
        """A row for each prompt and token of its span: log probability and, where asked for, divergence, in nats."""
        import pandas as pd

        rows = []
        for prompt, row in enumerate(self.log_probabilities):
            beside = self.divergences[prompt].tolist() if self.divergences else [None] * len(row)
            for token, (log, moved) in enumerate(zip(row.tolist(), beside, strict=True)):
                rows.append({"prompt": prompt, "token": token, "log probability": log, "divergence": moved})
        frame = pd.DataFrame(rows)
        return frame if self.divergences else frame.drop(columns="divergence")

    def figures(self, title: str = "") -> tuple[Figure, ...]:
        """The mean loss, and the mean divergence where it was asked for."""
        values = {"loss": self.losses.tolist()} | ({"damage": self.damage.tolist()} if self.divergences else {})
        drawn = spreads(values, "nats per token", "Mean over the prompts.")
        return (drawn.titled(title or "loss of the tokens"),)


def loss(
    adapter: Adapter,
    prompts: Sequence[Prompt],
    spans: Sequence[Span],
    edits: Sequence[Sequence[Edit]] | None = None,
) -> Losses:
    """Losses of the tokens of each prompt's span, with each prompt's edits; plain where None. Raises as `losses`."""
    if edits is None:
        return losses(adapter, prompts, spans, {})[BASE]
    arguments.nested("edits", edits, Edit, arguments.BY_PROMPT, "an edit")
    return losses(adapter, prompts, spans, {"edited": edits})["edited"]


def losses(
    adapter: Adapter,
    prompts: Sequence[Prompt],
    spans: Sequence[Span],
    conditions: Conditions,
    named: Sequence[Mapping[str, Span]] | None = None,
    *,
    compare: bool = True,
    description: str = "losses",
) -> dict[str, Losses]:
    """Losses without edits, named "", and under every condition.

    Args:
        spans: for each prompt, the half-open span of tokens whose loss is read, from 1 on.
        conditions: name -> for each prompt, its edits.
        named: for each prompt, further named spans of tokens for sites.
        compare: whether to measure divergences from the plain runs, which takes a softmax over the vocabulary.

    Raises:
        SiteError: no prompts, a span that the prompt does not have or that begins at its first token, a site or
            direction that the model or a prompt does not have; before anything runs.
        NotApplicable: a component that this model does not offer.
        GuardTripped: a guard found the numbers not to be trusted.
        TypeError: an argument of another shape, such as a flat list of edits, before anything runs.
    """
    arguments.model(adapter)
    arguments.several("prompts", prompts, Prompt, arguments.PROMPTS)
    expected = "a list with one half-open span for each prompt, such as [(1, 9)]"
    arguments.nested("spans", spans, Integral, expected, "a position")
    for number, span in enumerate(spans):
        if len(span) != 2:
            raise arguments.refused(f"spans[{number}]", span, "a half-open span of tokens, such as (1, 9)")
    arguments.named("conditions", conditions, arguments.EDITED)
    for name, edits in conditions.items():
        arguments.nested(f"conditions['{name}']", edits, Edit, arguments.BY_PROMPT, "an edit")
    if len(spans) != len(prompts):
        raise SiteError(f"{len(prompts)} prompts need a span each, got {len(spans)}")
    for number, (prompt, (start, stop)) in enumerate(zip(prompts, spans, strict=True)):
        if not 1 <= start < stop <= len(prompt):
            raise SiteError(
                f"span {start} to {stop - 1} of prompt {number}: give a span within positions 1 to {len(prompt) - 1}, "
                "since the first token is predicted from nothing"
            )
    extra = [{}] * len(prompts) if named is None else named
    sites = [{**own, SCORED: span} for own, span in zip(extra, spans, strict=True)]
    windows = [len(prompt) - start + 1 for prompt, (start, _) in zip(prompts, spans, strict=True)]
    runs = ConditionRuns(adapter, prompts, edited_runs(prompts, conditions, sites), None, windows)
    scored = [tuple(p.ids[start:stop]) for p, (start, stop) in zip(prompts, spans, strict=True)]
    work = _Work(scored, (BASE, *conditions), compare)
    ran = runs.run(work.take, description, work.rows)
    return {
        name: Losses(tuple(found), tuple(work.moved[name]) if compare else (), ran)
        for name, found in work.found.items()
    }


class _Work:
    """What logits say of the scored tokens; each prompt's plain logits come before its edited ones."""

    def __init__(self, scored: Sequence[tuple[int, ...]], names: Sequence[str], compare: bool) -> None:
        self.scored, self.names, self.compare = scored, names, compare
        self.found, self.moved = (
            {name: [torch.empty(len(ids), dtype=torch.float64) for ids in scored] for name in names}
            for _ in range(2)
        )
        self._plain: dict[int, tuple[Tensor, int]] = {}

    @property
    def rows(self) -> dict[str, Rows]:
        """What is filled, by prompt."""
        rows: dict[str, Rows] = {f"found {name}": found for name, found in self.found.items()}
        return rows | ({f"moved {name}": moved for name, moved in self.moved.items()} if self.compare else {})

    def take(self, name: str, i: int, logits: Tensor) -> None:
        ids = torch.tensor(self.scored[i], device=logits.device)
        some = logits[: len(ids)]
        wanted = some.gather(1, ids[:, None])[:, 0]
        self.found[name][i].copy_(wanted - some.logsumexp(-1))
        if not self.compare:
            return
        plain, waiting = (some, len(self.names)) if name == BASE else self._plain[i]
        self.moved[name][i].copy_(nats(plain, some))
        self._plain[i] = plain, waiting - 1
        if waiting == 1:  # every condition has been compared with them
            del self._plain[i]
