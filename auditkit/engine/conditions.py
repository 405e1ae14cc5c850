"""Prompts under several conditions, and what follows the guards: chosen logits, or losses of tokens.

Conditions edit the same prompts. Where the model's blocks can be restarted and the edits are of the stream or of what
attention and MLPs add, an edited run starts at its first edited block and token, and all runs share a walk
(`auditkit.engine.patching.streams`); other conditions are run whole.

Guards, on the first few prompts:

- edits that change nothing (the same places and the same arithmetic, with factor 0) give the logits of the plain run;
- walked runs of each kind of condition give the logits of whole runs; where they do not, all conditions are run whole.

Every edit fires exactly as often as declared, for the declared token-layers, on all prompts.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import cast

import torch
from torch import Tensor

from auditkit.adapters.chat import Prompt
from auditkit.adapters.protocol import Adapter, Capability, Component, Restartable, Support
from auditkit.engine.batching import TOKEN_BUDGET, in_batches
from auditkit.engine.continuation.divergence import LOGIT_BUDGET
from auditkit.engine.continuation.timed import GUARDED_ROWS, predicted
from auditkit.engine.edits import Edit, Edited, touched, unchanging
from auditkit.engine.exchange.turns import Divided, Rows
from auditkit.engine.forward import donate, execute
from auditkit.engine.guards import GuardTripped, pieces_floor
from auditkit.engine.patching.streams import StreamRow, StreamRuns, stream_row
from auditkit.engine.patching.walks import MissesWholeRuns, against_walks
from auditkit.engine.sites import SiteError, Span

Conditions = Mapping[str, Sequence[Sequence[Edit]]]
"""Name -> for each prompt, its edits."""

BASE = ""
"""Name of the runs without edits."""

Take = Callable[[str, int, Tensor], None]
"""Is given a condition, a prompt's number and its logits: of the chosen tokens (tokens,), or (window, vocabulary)."""


@dataclass(frozen=True)
class HowRun:
    """How conditions were run.

    Attributes:
        walked: conditions whose runs began at their first edited block and token.
        reason: why the others were run whole; empty where all walked.
        identity_error: the largest change by edits that change nothing, in logits.
        walk_error: the largest miss of whole runs by runs that walked, in logits; 0 where none did.
    """

    walked: tuple[str, ...]
    reason: str
    identity_error: float
    walk_error: float


def edited_runs(
    prompts: Sequence[Prompt], conditions: Conditions, spans: Sequence[Mapping[str, Span]] | None
) -> dict[str, list[Edited]]:
    """Name -> one run for each prompt.

    Raises:
        SiteError: no prompts, the reserved name, or edits or spans of another number of prompts.
    """
    if not prompts:
        raise SiteError("conditions need prompts, got none")
    if spans is not None and len(spans) != len(prompts):
        raise SiteError(f"{len(prompts)} prompts need named spans each, got {len(spans)}")
    named = [{}] * len(prompts) if spans is None else list(spans)
    out = {}
    for name, edits in conditions.items():
        if name == BASE:
            raise SiteError("a condition needs a name")
        if len(edits) != len(prompts):
            raise SiteError(f"condition '{name}': {len(prompts)} prompts need edits each, got {len(edits)}")
        out[name] = [Edited(*run) for run in zip(prompts, map(tuple, edits), named, strict=True)]
    return out


@dataclass
class ConditionRuns:
    """Runs of some prompts under conditions.

    Attributes:
        plans: condition -> one run for each prompt.
        tokens: chosen token ids, read after the last token; None: `windows` are read over the vocabulary.
        windows: for each prompt, how many of its last predictions are read.
    """

    adapter: Adapter
    prompts: Sequence[Prompt]
    plans: Mapping[str, Sequence[Edited]]
    tokens: Sequence[int] | None = None
    windows: Sequence[int] = ()
    _rows: dict[str, list[StreamRow]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        if self.tokens is not None:
            self.windows = [1] * len(self.prompts)
        for name, plan in self.plans.items():
            rows = [stream_row(self.adapter, i, run) for i, run in enumerate(plan)]
            if all(rows):
                self._rows[name] = cast(list[StreamRow], rows)
            else:
                touched(self.adapter, plan)  # refuses, before anything runs, what donors cannot do

    def run(self, take: Take, description: str, rows: Mapping[str, Rows]) -> HowRun:
        """Give `take` the logits of the plain runs, named `BASE`, and of every condition.

        Args:
            rows: name -> by prompt, what `take` fills; prompts that another process runs are filled without it.

        Raises:
            GuardTripped: a guard found the numbers not to be trusted.
        """
        reason = self._able()
        if reason:
            self._rows = {}
        elif len(self._rows) < len(self.plans):
            reason = "edits of heads, or of another run's activations, are made in whole runs"
        try:
            with against_walks() if self._rows else nullcontext():
                errors = self._guards()
        except MissesWholeRuns as missed:
            self._rows, reason = {}, f"restarted blocks do not give this model's whole runs: {missed}"
            errors = self._guards()
        of = ("conditions", self.prompts, self.plans, self.tokens, self.windows, list(self._rows))
        divided = Divided(self.adapter, of, rows)
        in_batches(lambda some: self._some(some, take), self._costs(), description, divided=divided)
        return HowRun(tuple(self._rows), reason, *errors)

    def _able(self) -> str:
        """Why no condition can walk; empty where some can."""
        support = self.adapter.support()
        wanted = [Capability.BLOCKWISE]
        if self.tokens is None:
            wanted.append(Capability.GENERATION)
        for capability in wanted:
            offered = support.get(capability, Support(False, "this adapter runs the whole model for every edit"))
            if not offered:
                return offered.reason
        return ""

    def _costs(self) -> list[int]:
        if self.tokens is not None:
            return [len(prompt) for prompt in self.prompts]
        vocabulary = len(self.adapter.chat.tokenizer)
        logits = [window * vocabulary * TOKEN_BUDGET // LOGIT_BUDGET for window in self.windows]
        return [max(len(prompt), cost) for prompt, cost in zip(self.prompts, logits, strict=True)]

    def _some(self, rows: list[int], take: Take) -> None:
        """All conditions of some prompts."""
        walking = [(name, k, self._rows[name][i]) for name in self._rows for k, i in enumerate(rows)]
        if walking:
            for name, i, logits in self._walked(rows, walking):
                take(name, i, logits)
        else:
            for i, logits in zip(rows, self._whole([Edited(self.prompts[i]) for i in rows], rows), strict=True):
                take(BASE, i, logits)
        for name, plan in self.plans.items():
            if name not in self._rows:
                for i, logits in zip(rows, self._whole([plan[i] for i in rows], rows), strict=True):
                    take(name, i, logits)

    def _walked(
        self, rows: Sequence[int], walking: Sequence[tuple[str, int, StreamRow]]
    ) -> Iterator[tuple[str, int, Tensor]]:
        """Condition, prompt and logits of the plain runs and of rows that walk; `walking` names prompts by place."""
        some = [replace(row, prompt=k) for _, k, row in walking]
        window = max(self.windows[i] for i in rows)
        runs = StreamRuns.made(cast(Restartable, self.adapter), [self.prompts[i] for i in rows], some, window)
        for k, i in enumerate(rows):
            yield BASE, i, self._finite(self._picked(runs.logits[k], i))
        got = runs.windows(some, window) if self.tokens is None else runs.answers(some, self.tokens)
        for number, logits in got:
            name, k, _ = walking[number]
            i = rows[k]
            yield name, i, self._finite(logits if self.tokens is not None else self._picked(logits, i))

    def _whole(self, runs: Sequence[Edited], rows: Sequence[int]) -> list[Tensor]:
        """Logits of whole runs, with what their donors give."""
        donated = donate(self.adapter, runs, sum(len(run.prompt) for run in runs))
        if self.tokens is not None:
            logits = execute(self.adapter, runs, donated)[0][:, None]
        else:
            logits = predicted(self.adapter, runs, max(self.windows[i] for i in rows), donated)
        return [self._finite(self._picked(logits[k], i)) for k, i in enumerate(rows)]

    def _picked(self, logits: Tensor, i: int) -> Tensor:
        """What is read of (window, vocabulary) logits of a prompt."""
        return logits[-1, list(self.tokens)] if self.tokens is not None else logits[-self.windows[i] :]

    def _finite(self, logits: Tensor) -> Tensor:
        bad = ~torch.isfinite(logits) if self.tokens is not None else torch.isnan(logits)
        if bad.any():
            raise GuardTripped("logits contain NaN or infinity; nothing can be concluded from them "
                               "(try --dtype float32)")  # fmt: skip
        return logits

    def _guards(self) -> tuple[float, float]:
        """The largest change by edits that change nothing, and the largest miss of whole runs by walks, in logits.

        Raises:
            GuardTripped, ModelError, RuntimeError: a change beyond the noise floor, or walks that are not whole runs.
        """
        few, changes, misses = list(range(min(GUARDED_ROWS, len(self.prompts)))), [0.0], [0.0]

        def work(rows: list[int]) -> None:
            plain = self._whole([Edited(self.prompts[i]) for i in rows], rows)
            if len(self._rows) < len(self.plans):
                same = self._whole([self._unchanging(i, self._rows) for i in rows], rows)
                changes.extend(map(self._within("edits that change nothing change"), same, plain))
            if self._rows:
                for missed, error in self._guarded_walks(rows, plain):
                    (misses if missed else changes).append(error)

        in_batches(work, [self._costs()[i] for i in few], "guards")
        return max(changes), max(misses)

    def _guarded_walks(self, rows: Sequence[int], plain: Sequence[Tensor]) -> Iterator[tuple[bool, float]]:
        """Changes by edits that change nothing, and (true) misses of whole runs by walks of each kind, in logits."""
        kinds = {self._kind(name): name for name in reversed(self._rows)}.values()
        others = self.plans.keys() - self._rows.keys()
        same = [stream_row(self.adapter, i, self._unchanging(i, others)) for i in rows]
        walking = [(BASE, k, row) for k, row in enumerate(same) if row is not None]
        walking += [(name, k, self._rows[name][i]) for name in kinds for k, i in enumerate(rows)]
        expected = {name: self._whole([self.plans[name][i] for i in rows], rows) for name in kinds}
        at = {i: k for k, i in enumerate(rows)}
        miss, change = self._within("walks miss"), self._within("edits that change nothing in a walk change")
        for name, i, logits in self._walked(rows, walking):
            if name in expected:
                yield True, miss(logits, expected[name][at[i]])
            else:
                yield False, change(logits, plain[at[i]])

    def _kind(self, name: str) -> tuple[frozenset[Component], bool]:
        """The components that a condition edits, and whether at several depths."""
        places = {spot.place for spot in self._rows[name][0].spots}
        return frozenset(component for component, _ in places), len(places) > 1

    def _unchanging(self, i: int, without: Collection[str]) -> Edited:
        """A prompt with edits that change nothing wherever some condition edits it, but for some conditions."""
        runs = [plan[i] for name, plan in self.plans.items() if name not in without]
        edits = {edit.site: unchanging(edit) for run in runs for edit in run.edits}
        return Edited(self.prompts[i], tuple(edits.values()), runs[0].spans if runs else {})

    def _within(self, what: str) -> Callable[[Tensor, Tensor], float]:
        """Compares logits, in logits; it raises where they differ by more than the noise floor."""

        def compared(got: Tensor, expected: Tensor) -> float:
            error, floor = float((got - expected).abs().max()), pieces_floor(self.adapter, expected)
            if not error <= floor:
                raise GuardTripped(
                    f"guard: {what} the logits by up to {error:.3g}, the noise floor is {floor:.3g}"
                )
            return error

        return compared
