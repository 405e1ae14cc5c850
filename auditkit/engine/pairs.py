"""Pairs of prompts, and how answers are read from logits.

A pair is a base prompt and a source prompt of equal length, whose activations an edit may carry over, with the answers
that are compared. An answer is read after the last token as two logits: that of the right answer, and that of the wrong
one or the mean of several.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Integral

import torch
from torch import Tensor

from auditkit.adapters.chat import Prompt
from auditkit.adapters.protocol import Adapter, Answers
from auditkit.engine import arguments
from auditkit.engine.continuation.likelihoods import Taken, after
from auditkit.engine.edits import Edit
from auditkit.engine.guards import GuardTripped
from auditkit.engine.sites import Site, SiteError, Span


@dataclass(frozen=True)
class PatchPair:
    """A base prompt, the source prompt its activations may come from, and the two answers compared.

    Attributes:
        base: the prompt that is run with edits (the corrupt one when denoising).
        source: the prompt that gives the activations (the clean one when denoising).
        spans: named token spans, valid in both prompts: "identity", ...
        answers: token ids (right, wrong, ...); all pairs of a measurement have equally many.

    Raises:
        SiteError: prompts of unequal length.
        TypeError: an argument of another kind.
    """

    base: Prompt
    source: Prompt
    answers: Answers
    spans: Mapping[str, Span] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, prompt in (("base", self.base), ("source", self.source)):
            arguments.one(f"the {name} of a pair", prompt, Prompt, "one prompt, such as model.chat(chat)")
        answers = "the token ids of the right and the wrong answer, such as (right, wrong)"
        arguments.several("the answers of a pair", self.answers, Integral, answers, "a token id")
        arguments.spans("spans", self.spans)
        if len(self.base) != len(self.source):
            raise SiteError(
                f"base and source prompt must have equal length to be patched position by position, "
                f"got {len(self.base)} and {len(self.source)} tokens"
            )

    def swapped(self) -> PatchPair:
        """Base and source with their roles exchanged: noising where this pair denoises."""
        return replace(self, base=self.source, source=self.base)


Condition = Sequence[Sequence[Site | Edit]]
"""For each pair, what is edited in the base run; a bare site takes its activation from the source run."""


@dataclass(frozen=True)
class Answered:
    """What prompts are answered with, nothing edited.

    Attributes:
        logits: (prompts, answers) of each answer token, the right one first.
        log_probability: (prompts,) of the right answer among all tokens, in nats.
        said: (prompts,) whether the right answer is the most likely token of all.
    """

    logits: Tensor
    log_probability: Tensor
    said: Tensor

    def taken(self, rows: Sequence[int]) -> Answered:
        """Some rows, in this order."""
        places = list(rows)
        return Answered(self.logits[places], self.log_probability[places], self.said[places])


def answered(
    adapter: Adapter, prompts: Sequence[Prompt], answers: Sequence[Answers], description: str = "answers"
) -> Answered:
    """Every prompt's answer tokens, in float32; what prompts begin with alike is run once.

    Raises:
        GuardTripped: logits that are NaN or infinite.
        TypeError: an argument of another shape, before anything runs.
    """
    arguments.model(adapter)
    arguments.several("prompts", prompts, Prompt, arguments.PROMPTS)
    ids = "a list with the token ids of each prompt's answers, such as [(right, wrong)]"
    arguments.nested("answers", answers, Integral, ids, "a token id")
    picked = torch.empty(len(prompts), len(answers[0]) if answers else 2)
    probable, said = torch.empty(len(prompts)), torch.empty(len(prompts), dtype=torch.bool)

    def take(i: int, logits: Tensor) -> None:
        picked[i] = logits[list(answers[i])].cpu()
        probable[i] = picked[i, 0] - logits.logsumexp(0).cpu()
        said[i] = picked[i, 0] >= logits.max().cpu()

    taken = Taken(("answers", answers), {"picked": picked, "probable": probable, "said": said})
    after(adapter, [prompt.ids for prompt in prompts], None, take, description, taken)
    return Answered(picked, probable, said)


def answer_logits(
    adapter: Adapter, prompts: Sequence[Prompt], answers: Sequence[Answers], description: str = "answers"
) -> Tensor:
    """Logits (prompts, 2) of each prompt's right answer, and of its wrong one or the mean of several, in float32.

    Raises:
        GuardTripped: logits that are NaN or infinite.
    """
    return right_and_wrong(answered(adapter, prompts, answers, description).logits)


def right_and_wrong(logits: Tensor) -> Tensor:
    """(rows, answers) logits, the right answer's first -> (rows, 2): the right one's, and the mean of the others."""
    return torch.stack([logits[:, 0], logits[:, 1:].mean(1)], dim=1)


def right_minus_wrong(logits: Tensor) -> Tensor:
    """(..., 2) logits of right and wrong answers -> (...) their difference."""
    return logits[..., 0] - logits[..., 1]


def answer_rows(logits: Tensor, answers: Sequence[Answers]) -> Tensor:
    """(rows, vocabulary) logits -> (rows, 2), as `right_and_wrong`."""
    return right_and_wrong(_picked(logits, answers))


def _picked(logits: Tensor, answers: Sequence[Answers]) -> Tensor:
    ids = torch.tensor(answers, device=logits.device)
    picked = logits.gather(1, ids).cpu()
    bad = int((~torch.isfinite(logits)).any(dim=1).sum())
    if bad:
        raise GuardTripped(
            f"logits of {bad} of {len(answers)} prompts contain NaN or infinity; nothing can be concluded from them "
            "(try --dtype float32)"
        )
    return picked
