"""Logits of chosen tokens after prompts, under conditions: what a sweep over layers or doses reads.

    conditions = {f"layer {n}": [[project_out(residual.layer(n)[-1], r)]] * len(prompts) for n in range(model.layers)}
    measured = token_logits(model, prompts, yes + no, conditions)
    measured.conditions["layer 12"]  # (prompts, tokens)

Each edited run starts at its first edited block and token; see `auditkit.engine.conditions` for the guards.
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
from auditkit.engine.edits import Edit
from auditkit.engine.pairs import PatchPair, right_and_wrong
from auditkit.engine.sampling import offer
from auditkit.engine.sites import SiteError, Span
from auditkit.notebook import Showable, spreads
from auditkit.record.figures import Figure

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class TokenLogits(Showable):
    """Logits of chosen tokens after the last token of each prompt, in float32.

    Attributes:
        tokens: the chosen token ids.
        base: (prompts, tokens) of the plain runs.
        conditions: condition -> (prompts, tokens).
        ran: how they were run, and what the guards measured.
    """

    tokens: tuple[int, ...]
    base: Tensor
    conditions: Mapping[str, Tensor]
    ran: HowRun

    def in_words(self) -> str:
        runs = f"{len(self.base)} prompts, plain and under {len(self.conditions)} conditions"
        return f"logits of tokens {self.tokens} after {runs}"

    def to_frame(self) -> pd.DataFrame:
        """A row for each condition, prompt and token; the runs without edits are 'without edits'."""
        import pandas as pd

        rows = [
            {"condition": name, "prompt": prompt, "token": token, "logit": logit}
            for name, logits in {"without edits": self.base, **self.conditions}.items()
            for prompt, some in enumerate(logits.tolist())
            for token, logit in zip(self.tokens, some, strict=True)
        ]
        return pd.DataFrame(rows)

    def figures(self, title: str = "") -> tuple[Figure, ...]:
        """The mean change of the first token's logit, or of its difference from the mean of the others."""

        def read(logits: Tensor) -> Tensor:
            return logits[:, 0] - logits[:, 1:].mean(1) if len(self.tokens) > 1 else logits[:, 0]

        moved = {name: (read(logits) - read(self.base)).tolist() for name, logits in self.conditions.items()}
        what = "logit of the first token" + " minus the mean of the others" * (len(self.tokens) > 1)
        drawn = spreads(moved, f"change of the {what}", "Mean change over the prompts.", 0.0)
        return (drawn.titled(title or f"change of the {what}"),)


def token_logits(
    adapter: Adapter,
    prompts: Sequence[Prompt],
    tokens: Sequence[int],
    conditions: Conditions,
    spans: Sequence[Mapping[str, Span]] | None = None,
    description: str = "conditions",
) -> TokenLogits:
    """Logits of some tokens after every prompt, without edits and under every condition.

    Args:
        tokens: token ids, the same for all prompts.
        conditions: name -> for each prompt, its edits.
        spans: for each prompt, its named spans of tokens.

    Raises:
        SiteError: no prompts or tokens, a site or direction that the model or a prompt does not have; before anything
            runs.
        NotApplicable: a component that this model does not offer.
        GuardTripped: a guard found the numbers not to be trusted.
        TypeError: an argument of another shape, such as a flat list of edits, before anything runs.
    """
    arguments.model(adapter)
    arguments.several("prompts", prompts, Prompt, arguments.PROMPTS)
    arguments.several("tokens", tokens, Integral, "a list of token ids", "a token id")
    arguments.named("conditions", conditions, arguments.EDITED)
    for name, edits in conditions.items():
        arguments.nested(f"conditions['{name}']", edits, Edit, arguments.BY_PROMPT, "an edit")
    if not tokens:
        raise SiteError("no tokens to read the logits of")
    runs = ConditionRuns(adapter, prompts, edited_runs(prompts, conditions, spans), tokens)
    out = {name: torch.empty(len(prompts), len(tokens)) for name in (BASE, *conditions)}

    def take(name: str, i: int, logits: Tensor) -> None:
        out[name][i] = logits.cpu()

    ran = runs.run(take, description, out)
    base = out.pop(BASE)
    if len(tokens) > 1:  # a second engine compares the first token's logit with the mean of the others
        named = [{}] * len(prompts) if spans is None else spans
        pairs = [PatchPair(p, p, tuple(tokens), own) for p, own in zip(prompts, named, strict=True)]
        offer(pairs, ((conditions[name], right_and_wrong(logits)) for name, logits in out.items()))
    return TokenLogits(tuple(tokens), base, out, ran)
