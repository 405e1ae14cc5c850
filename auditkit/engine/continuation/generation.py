"""Generation with edits: what a model goes on to say when something inside it is changed.

Each step takes the likeliest token, the lowest id where several are equally likely. Keys and values of the edited
prompt belong to the edited run, and so do those of edited tokens: a run goes on from its own past and from no
other. When an edit acts is said with `Timed`.

A model that keeps keys and values is run on its prompt once, and then on one token at a time. Prompts that begin alike
(one text under several edits) are run once up to the first token that an edit changes. Where that does not serve (a
family that keeps a state of another kind; edits of keys and values themselves, which every later step would have to
see), every step runs the whole sequence again; the result says so. An adapter whose engine writes texts by itself
(vLLM) is given prompts without edits whole, and the third guard compares log-probabilities.

Guards, on the first few prompts, and on all for the third:

- edits that change nothing give the tokens of the plain run;
- the generated tokens, run again as one sequence with the edits in place, get at each step the score they got when
  they were generated, and no other token gets more, beyond rounding;
- every edit fires as often as declared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from numbers import Integral
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor

from auditkit.adapters.chat import Prompt, require_room
from auditkit.adapters.protocol import (
    Adapter,
    Capability,
    Component,
    Continuable,
    Memory,
    Support,
    Writing,
    Written,
)
from auditkit.engine import arguments
from auditkit.engine.batching import TOKEN_BUDGET, in_batches
from auditkit.engine.continuation.shared_prefix import run_heads, saves
from auditkit.engine.continuation.timed import (
    GUARDED_ROWS,
    RUNS,
    Continued,
    Settled,
    continued,
    places,
    predicted,
    settle,
)
from auditkit.engine.edits import Edited, unchanging
from auditkit.engine.exchange.turns import Divided
from auditkit.engine.forward import Donated, Interventions
from auditkit.engine.guards import GuardTripped, costing, pieces_floor
from auditkit.notebook import Showable

if TYPE_CHECKING:
    import pandas as pd

GENERATING = 8 * TOKEN_BUDGET
"""Kept tokens per batch: a step runs one token of each row and reads all weights for it, so many rows share it."""


@dataclass(frozen=True)
class Generated(Showable):
    """What was generated, by prompt.

    Attributes:
        tokens: token ids, up to and with the one that ended the text.
        scores: the logit of each of these tokens when it was chosen; where they were "written", its log-probability.
        texts: the tokens as text, special tokens left out.
        method: "cached", "whole" where every step ran the whole sequence again, or "written" by the adapter's engine.
        reason: why not "cached".
        score_error: what the guard measured, in logits or log-probabilities.
    """

    tokens: tuple[tuple[int, ...], ...]
    scores: tuple[tuple[float, ...], ...]
    texts: tuple[str, ...]
    method: str
    reason: str
    score_error: float

    def in_words(self) -> str:
        first = f"; the first: {self.texts[0]!r}" if self.texts else ""
        return f"{len(self.texts)} texts, {sum(map(len, self.tokens))} tokens{first}"

    def to_frame(self) -> pd.DataFrame:
        """A row for each prompt: the text, its tokens, and their mean logit when they were chosen."""
        import pandas as pd

        rows = [
            {"text": text, "tokens": len(ids), "mean score": sum(scores) / len(scores) if scores else None}
            for text, ids, scores in zip(self.texts, self.tokens, self.scores, strict=True)
        ]
        return pd.DataFrame(rows)


def generate(
    adapter: Adapter,
    runs: Sequence[Prompt | Continued],
    tokens: int,
    stop: bool = True,
    cached: bool = True,
    description: str = "generating",
) -> Generated:
    """Go on from every prompt by at most `tokens` tokens, with its edits.

    Cost in token-layers of a cached run: blocks times (prompt + generated tokens - 1), and three times that for the
    first few prompts for the guards (once where nothing is edited); less where prompts of a batch begin alike, since
    that is run once.

    Args:
        tokens: at most so many.
        stop: end a text at the model's own end-of-text tokens.
        cached: False runs the whole sequence at every step, the slow method that the others are checked against.

    Raises:
        SiteError: a site that the model or a prompt does not have, before anything runs.
        NotApplicable: a component that this model does not offer; a prompt that does not fit into the model's context
            with the tokens asked for, before anything runs.
        GuardTripped: a guard found the tokens not to be trusted.
        TypeError: an argument of another shape, such as one prompt where a list is meant, before anything runs.
    """
    arguments.model(adapter)
    arguments.several("runs", runs, (Prompt, Continued), RUNS, "a prompt or a Continued run")
    arguments.one("tokens", tokens, Integral, "a number of tokens, 1 or more")
    if tokens < 1:
        raise ValueError(f"{tokens} tokens asked for, give 1 or more")
    if not runs:
        raise ValueError("no prompts to go on from")
    some = [continued(run) for run in runs]
    longest = max(len(run.prompt) for run in some)
    require_room(longest + tokens - 1, adapter.chat.context, f"a prompt of {longest:,} with {tokens - 1:,} more,")
    reason = _why_whole(adapter, some)
    if not cached:
        reason = reason or "asked for"
    ends = frozenset(adapter.ends) if stop else frozenset()
    if cached and adapter.support().get(Capability.WRITING) and not any(run.edits for run in some):
        return _written(cast(Writing, adapter), some, tokens, ends, reason, description)
    few = some[:GUARDED_ROWS]
    guarded = few if any(run.edits for run in few) else []
    # Beside the edited ones: a step costs no longer for a few more rows, and what leaks from row to row shows.
    work = _Work(adapter, [*some, *map(_unchanging, guarded)], tokens, ends, not reason)
    work.all(description)
    plain = _Work(adapter, [Continued(run.prompt) for run in guarded], tokens, ends, not reason)
    plain.all("guards")
    for row, (one, other) in enumerate(zip(plain.tokens, work.tokens[len(some) :], strict=True)):
        if one != other:
            step = next(i for i, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1])
            raise GuardTripped(f"guard: edits that change nothing change token {step} of prompt {row}")
    rows = slice(len(some))
    error = _missed(adapter, few, work.tokens, work.scores)
    return _generated(
        adapter, work.tokens[rows], work.scores[rows], "whole" if reason else "cached", reason, error
    )


def _written(
    adapter: Writing,
    runs: Sequence[Continued],
    tokens: int,
    ends: frozenset[int],
    reason: str,
    description: str,
) -> Generated:
    """What the adapter's own engine writes after prompts without edits."""
    texts: dict[int, Written] = {}

    def some(rows: list[int]) -> None:
        prompts = [runs[row].prompt for row in rows]
        texts.update(zip(rows, adapter.write(prompts, tokens, ends), strict=True))

    in_batches(some, [len(run.prompt) + tokens for run in runs], description, GENERATING)
    ids, scores = zip(*(texts[row] for row in range(len(runs))), strict=True)
    for row, own in enumerate(ids):
        if not 1 <= len(own) <= tokens or ends & {*own[:-1]}:
            raise GuardTripped(f"guard: the text written for prompt {row} does not end where it was to end")
    error = _missed(adapter, runs[:GUARDED_ROWS], ids, scores, normalised=True)
    return _generated(adapter, ids, scores, "written", reason, error)


def _generated(
    adapter: Adapter,
    tokens: Sequence[Sequence[int]],
    scores: Sequence[Sequence[float]],
    method: str,
    reason: str,
    error: float,
) -> Generated:
    decode = adapter.chat.tokenizer.decode
    texts = tuple(str(decode(list(row), skip_special_tokens=True)) for row in tokens)
    return Generated(tuple(map(tuple, tokens)), tuple(map(tuple, scores)), texts, method, reason, error)


def _why_whole(adapter: Adapter, runs: Sequence[Continued]) -> str:
    """Why these runs cannot go on from keys and values; empty where they can.

    Raises:
        SiteError, NotApplicable: an edit that cannot be made.
    """
    edited = {component for run in runs for component, _ in places(adapter, run)}
    support = adapter.support().get(Capability.GENERATION, Support(False, "this adapter keeps no keys and values"))
    if not support:
        return support.reason
    inside = sorted(edited & {Component.K, Component.V})
    return f"the {inside[0]} that later steps find kept are not the edited ones" if inside else ""


@dataclass
class _Work:
    """Generation under way: tokens and their scores so far."""

    adapter: Adapter
    runs: Sequence[Continued]
    most: int
    ends: frozenset[int]
    cached: bool
    tokens: list[list[int]] = field(init=False)
    scores: list[list[float]] = field(init=False)

    def __post_init__(self) -> None:
        self.tokens = [[] for _ in self.runs]
        self.scores = [[] for _ in self.runs]

    def all(self, description: str) -> None:
        lengths = [len(run.prompt) + self.most for run in self.runs]
        ids = torch.full((len(lengths), self.most), -1)
        scores = torch.zeros(ids.shape, dtype=torch.float64)

        def work(rows: list[int]) -> None:
            self.some(rows)
            for row in rows:
                written = len(self.tokens[row])
                ids[row, :written] = torch.tensor(self.tokens[row])
                scores[row, :written] = torch.tensor(self.scores[row], dtype=torch.float64)

        of = ("generation", self.runs, self.most, sorted(self.ends), self.cached)
        divided = Divided(self.adapter, of, {"tokens": ids, "scores": scores})
        in_batches(work, lengths, description, GENERATING if self.cached else None, divided)
        for row, written in enumerate((ids >= 0).sum(1).tolist()):
            self.tokens[row], self.scores[row] = ids[row, :written].tolist(), scores[row, :written].tolist()

    def some(self, rows: list[int]) -> None:
        """All tokens of some rows; rows that have ended take no further part."""
        settled = dict(zip(rows, settle(self.adapter, [self.runs[row] for row in rows]), strict=True))
        for row in rows:
            self.tokens[row], self.scores[row] = [], []
        active, memory = rows, None
        for step in range(self.most):
            if self.cached:
                some = [settled[row] for row in active]
                if memory is None:
                    logits, memory = self._start(some)
                else:
                    last = [
                        run.step(step - 1, self.tokens[row][-1]) for run, row in zip(some, active, strict=True)
                    ]
                    logits, memory = self._extend(memory, last)
            else:
                whole = [settled[row].whole(self.tokens[row]) for row in active]
                logits = predicted(self.adapter, whole, 1)[:, 0]
            going = self._choose(active, logits)
            if len(going) < len(active):
                memory = None if memory is None else memory.rows(going)
                active = [active[k] for k in going]
            if not active:
                return

    def _choose(self, rows: list[int], logits: Tensor) -> list[int]:
        """Append the likeliest token of each row; which of them go on."""
        best, tokens = likeliest(logits)
        # The highest of some logits is NaN where one is; a whole vocabulary is looked at again only in doubt.
        if not torch.isfinite(best).all() and (
            not torch.isfinite(logits).any(1).all() or torch.isnan(logits).any()
        ):
            raise GuardTripped("logits contain NaN, or nothing finite, while generating (try --dtype float32)")
        for row, token, score in zip(rows, tokens.tolist(), best.tolist(), strict=True):
            self.tokens[row].append(token)
            self.scores[row].append(score)
        return [k for k, token in enumerate(tokens.tolist()) if token not in self.ends]

    def _start(self, settled: Sequence[Settled]) -> tuple[Tensor, Memory]:
        """Logits (row, vocabulary) after the prompts; what several of them begin with, unedited, is run once."""
        rest = max(len(run.prompt) - run.untouched for run in settled)
        heads = [run.prompt.ids[:-rest] for run in settled]
        if () in heads or not saves(heads):
            return self._extend(None, [run.whole(()) for run in settled])
        found = run_heads(cast(Continuable, self.adapter), heads)
        past = found.memory.rows([found.rows[head] for head in heads])
        return self._extend(past, [run.last(rest) for run in settled])

    def _extend(self, past: Memory | None, some: Sequence[Edited]) -> tuple[Tensor, Memory]:
        """Logits (row, vocabulary) after these runs, which go on from `past`."""
        adapter = cast(Continuable, self.adapter)
        batch = adapter.batch([run.prompt for run in some])
        interventions = Interventions(adapter, batch, some, Donated())
        with costing(adapter, sum(len(run.prompt) for run in some)):
            logits, memory = adapter.extend(past, batch, interventions.touches)
        interventions.confirm()
        return logits[:, 0], memory


def likeliest(logits: Tensor) -> tuple[Tensor, Tensor]:
    """The highest logit along the last axis, and the lowest token id that has it."""
    if logits.device.type == "cpu":  # by numpy, in a tenth of the time that torch takes
        first = torch.from_numpy(np.asarray(logits.numpy().argmax(-1)))
        return logits.gather(-1, first[..., None])[..., 0], first
    best = logits.amax(-1)
    ids = torch.arange(logits.shape[-1], device=logits.device)
    return best, torch.where(logits == best[..., None], ids, logits.shape[-1]).amin(-1)


def _missed(
    adapter: Adapter,
    few: Sequence[Continued],
    tokens: Sequence[Sequence[int]],
    scores: Sequence[Sequence[float]],
    normalised: bool = False,
) -> float:
    """Largest miss of the scores of the first few runs by a run of the whole, in logits.

    Args:
        normalised: the scores are log-probabilities.
    """
    worst = 0.0
    for row, run in enumerate(settle(adapter, few)):
        chosen, given = torch.tensor(tokens[row]), torch.tensor(scores[row])
        logits = predicted(adapter, [run.whole(tokens[row][:-1])], len(chosen))[0].cpu()
        floor = pieces_floor(adapter, logits)
        logits = logits.log_softmax(-1) if normalised else logits
        missed, best = logits.gather(1, chosen[:, None])[:, 0] - given, logits.amax(-1) - given
        error = float(torch.stack([missed, best]).abs().max())
        if not error <= floor:
            raise GuardTripped(
                f"guard: run as one sequence, the tokens generated for prompt {row} get scores that differ by "
                f"{error:.3g} logits, the noise floor is {floor:.3g}"
            )
        worst = max(worst, error)
    return worst


def _unchanging(run: Continued) -> Continued:
    """The same places and times, with edits that keep the value as it is."""
    edits = tuple(replace(timed, edit=unchanging(timed.edit)) for timed in run.timed)
    return Continued(run.prompt, edits, run.spans)
