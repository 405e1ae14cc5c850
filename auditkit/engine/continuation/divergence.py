"""How far an edit moves what a model predicts: teacher-forced KL divergence over a window of tokens.

A continuation is given, not generated, and read under the reference run and under every condition. At each of its
tokens the two distributions over the full vocabulary are compared:

    KL(reference || condition) = sum over the vocabulary of p (log p - log q), in nats

In the reference's own terms: how many nats more the condition needs for what the reference expects. Logarithms are
taken in float64 of float32 logits, so that equal logits have a divergence of exactly 0.

How small a divergence can be told from rounding follows from Hoeffding's lemma: logits that differ by at most f
have a divergence of at most f^2 / 2 (Hoeffding 1963, J. Am. Stat. Assoc. 58, Lemma 1: log E exp(d) - E d is at most
(2f)^2 / 8 for d in [-f, f]). The guards hold edits that change nothing, and full patches, to that floor, with f the
largest difference that batching, padding and restarting made when the model was opened.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from auditkit.adapters.chat import Prompt
from auditkit.adapters.protocol import Adapter, Place
from auditkit.engine import arguments
from auditkit.engine.batching import TOKEN_BUDGET, in_batches
from auditkit.engine.continuation.generation import likeliest
from auditkit.engine.continuation.timed import (
    GUARDED_ROWS,
    RUNS,
    Continued,
    Forced,
    continued,
    forced,
    places,
    predicted,
    settle,
)
from auditkit.engine.edits import Edit, replace
from auditkit.engine.exchange.turns import Divided, Rows
from auditkit.engine.guards import ROUNDING, GuardTripped
from auditkit.engine.sites import Site, SiteError, block_input
from auditkit.notebook import Showable, spreads
from auditkit.record.figures import Figure

if TYPE_CHECKING:
    import pandas as pd

LOGIT_BUDGET = 2**25
"""Logits per batch and run: an eighth of a GiB in float32. Twice as many took 0.2 GiB more in persona_composition and
no less time."""

_POSITIONS = 16
"""Distributions compared at once in float64."""

_SUM = 1e-12
"""Nats by which a sum over a vocabulary may be off in float64."""


@dataclass(frozen=True)
class Divergence:
    """One condition against the reference, by row: (token,) tensors over its window.

    Attributes:
        nats: KL(reference || condition) at each token.
        agrees: whether both have the same likeliest token.
    """

    nats: tuple[Tensor, ...]
    agrees: tuple[Tensor, ...]

    @property
    def totals(self) -> Tensor:
        """(row,) divergence summed over the window: of the continuation's tokens taken one by one."""
        return torch.stack([nats.sum() for nats in self.nats])


@dataclass(frozen=True)
class Divergences(Showable):
    """What `divergence` measured.

    Attributes:
        conditions: condition -> its divergence from the reference.
        floor: nats per token below which a divergence is rounding.
        identity_error, full_patch_error: what the guards measured, in nats per token.
    """

    conditions: Mapping[str, Divergence]
    floor: float
    identity_error: float
    full_patch_error: float

    def in_words(self) -> str:
        means = ", ".join(f"{name} {float(one.totals.mean()):.3g}" for name, one in self.conditions.items())
        return f"KL from the reference, nats per continuation: {means}"

    def to_frame(self) -> pd.DataFrame:
        """A row for each condition, row and token: its divergence in nats, and whether the likeliest token agrees."""
        import pandas as pd

        rows = [
            {"condition": name, "row": row, "token": token, "nats": value, "agrees": same}
            for name, one in self.conditions.items()
            for row, (nats, agrees) in enumerate(zip(one.nats, one.agrees, strict=True))
            for token, (value, same) in enumerate(zip(nats.tolist(), agrees.tolist(), strict=True))
        ]
        return pd.DataFrame(rows)

    def figures(self, title: str = "") -> tuple[Figure, ...]:
        """The mean divergence by condition, and where the rows lie."""
        totals = {name: one.totals.tolist() for name, one in self.conditions.items()}
        drawn = spreads(totals, "nats per continuation", "Mean divergence from the reference.", 0.0)
        return (drawn.titled(title or "divergence from the reference"),)


def divergence(
    adapter: Adapter,
    reference: Sequence[Prompt | Continued],
    continuations: Sequence[Sequence[int]],
    conditions: Mapping[str, Sequence[Prompt | Continued] | Forced],
    description: str = "divergence",
) -> Divergences:
    """Divergence of every condition from the reference over the given continuations.

    A condition may be the reference prompts with edits, other prompts (the divergence between two prompts' runs over
    the same continuation), or any other `Forced` run, such as a transplant. Cost: one forward pass over prompt and
    continuation per row for the reference and for each condition, and four over the first few rows for the guards.

    Args:
        reference: what every condition is compared with.
        continuations: token ids that follow each prompt; given to the reference and to all conditions alike.
        conditions: condition -> one run per row of the reference.

    Raises:
        SiteError: no prompts, a site that the model or a prompt does not have, a missing or empty continuation, a
            condition of another number of rows; before anything runs.
        NotApplicable: a component that this model does not offer.
        GuardTripped: a guard found the numbers not to be trusted.
        TypeError: an argument of another shape, such as one prompt where a list is meant, before anything runs.
    """
    arguments.model(adapter)
    arguments.several("reference", reference, (Prompt, Continued), RUNS, "a prompt or a Continued run")
    arguments.continuations(continuations)
    arguments.named("conditions", conditions, "a dict from names to conditions, such as {'early': [run]}")
    for name, condition in conditions.items():
        if not isinstance(condition, Forced):
            argument = f"conditions['{name}']"
            arguments.several(argument, condition, (Prompt, Continued), RUNS, "a prompt or a Continued run")
    if not reference:
        raise SiteError("no prompts to compare conditions over")
    base = [continued(run) for run in reference]
    touched = {place for run in base for place in places(adapter, run)}
    known = forced(adapter, base, continuations)
    others: dict[str, Forced] = {}
    for name, condition in conditions.items():
        if isinstance(condition, Forced):
            others[name] = condition
            continue
        runs = [continued(run) for run in condition]
        touched |= {place for run in runs for place in places(adapter, run)}
        others[name] = forced(adapter, runs, continuations)
    some = base[:GUARDED_ROWS]
    floor, identity_error, full_error = _guards(adapter, some, continuations[: len(some)], touched)
    return Divergences(compare(adapter, known, others, description), floor, identity_error, full_error)


def compare(
    adapter: Adapter, reference: Forced, conditions: Mapping[str, Forced], description: str = "divergence"
) -> dict[str, Divergence]:
    """Divergence of runs over the same continuations, however they come about; without guards of its own.

    Raises:
        ValueError: runs of another number of rows or other windows.
        TypeError: an argument of another kind.
        GuardTripped: logits that are NaN or +inf, or a row without finite ones.
    """
    arguments.model(adapter)
    arguments.one("reference", reference, Forced, "a Forced run, such as forced(...) makes")
    arguments.named("conditions", conditions, "a dict from names to Forced runs")
    for name, condition in conditions.items():
        arguments.one(f"conditions['{name}']", condition, Forced, "a Forced run, such as forced(...) makes")
    work = _Work(reference, conditions)
    vocabulary = len(adapter.chat.tokenizer)
    longest = [
        max(lengths) for lengths in zip(*(run.lengths for run in (reference, *conditions.values())), strict=True)
    ]
    as_tokens = [window * vocabulary * TOKEN_BUDGET // LOGIT_BUDGET for window in reference.windows]
    in_batches(work.run, list(map(max, longest, as_tokens)), description, divided=work.divided(adapter))
    return {name: Divergence(tuple(work.nats[name]), tuple(work.agrees[name])) for name in conditions}


@dataclass
class _Work:
    reference: Forced
    conditions: Mapping[str, Forced]
    nats: dict[str, list[Tensor]] = field(init=False)
    agrees: dict[str, list[Tensor]] = field(init=False)

    def __post_init__(self) -> None:
        # Room for results comes first: small ones kept between large freed ones split the memory, which then grows.
        self.nats, self.agrees = (
            {name: [torch.empty(n, dtype=dtype) for n in self.reference.windows] for name in self.conditions}
            for dtype in (torch.float64, torch.bool)
        )
        for name, condition in self.conditions.items():
            if condition.windows != self.reference.windows:
                raise ValueError(f"condition '{name}' is not over the continuations of the reference")

    def divided(self, adapter: Adapter) -> Divided | None:
        """How processes may divide the rows, where it is known of all runs what they are of."""
        runs = [self.reference, *self.conditions.values()]
        if any(run.of is None for run in runs):
            return None
        rows: dict[str, Rows] = {f"nats {name}": nats for name, nats in self.nats.items()}
        rows |= {f"agrees {name}": agrees for name, agrees in self.agrees.items()}
        return Divided(adapter, ("divergence", list(self.conditions), [run.of for run in runs]), rows)

    def run(self, rows: list[int]) -> None:
        known = self.reference.logits(rows)
        expected = [known[k, -self.reference.windows[row] :] for k, row in enumerate(rows)]
        references = [_references(logits) for logits in expected]  # once, however many conditions there are
        chosen = [likeliest(logits)[1] for logits in expected]
        for name, condition in self.conditions.items():
            got = condition.logits(rows)
            for k, row in enumerate(rows):
                logits = got[k, -self.reference.windows[row] :].to(known.device)
                self.nats[name][row].copy_(_nats(references[k], logits))
                self.agrees[name][row].copy_(chosen[k] == likeliest(logits)[1])


class _Reference(NamedTuple):
    """A few positions of the reference, (position, vocabulary) in float64.

    Attributes:
        logits: as the run gave them.
        total: (position,) their log-sum-exp.
        probabilities: their softmax.
        ruled_out: where its logits are -inf; None where none is.
    """

    logits: Tensor
    total: Tensor
    probabilities: Tensor
    ruled_out: Tensor | None


def nats(reference: Tensor, other: Tensor) -> Tensor:
    """KL(reference || other) of logits (position, vocabulary), in nats and float64: (position,).

    Raises:
        GuardTripped: logits that are NaN or +inf, or a position without finite ones.
    """
    return _nats(_references(reference), other)


def _references(logits: Tensor) -> list[_Reference]:
    made = []
    for some in torch.split(logits, _POSITIONS):
        wide = some.double()
        total = _total(wide)
        ruled_out = wide == -torch.inf if torch.isneginf(some.amin(-1)).any() else None
        made.append(_Reference(wide, total, (wide - total[:, None]).exp_(), ruled_out))
    return made


def _total(logits: Tensor) -> Tensor:
    """(position, vocabulary) -> (position,) log-sum-exp, which is finite exactly where no logit is NaN or +inf and one
    is finite."""
    total = logits.logsumexp(-1)
    if not torch.isfinite(total).all():
        raise GuardTripped("logits contain NaN or +infinity, or nothing finite (try --dtype float32)")
    return total


def _nats(reference: Sequence[_Reference], other: Tensor) -> Tensor:
    """The sum of p (a - b) over the vocabulary, for logits a of the reference and b, less that of their totals.

    Differences of logits come first, so that equal ones cancel exactly and close ones lose no digits.
    """
    out = []
    for known, some in zip(reference, torch.split(other, _POSITIONS), strict=True):
        wide = some.double()
        total = _total(wide)
        # In place: fresh memory for a vocabulary of float64 takes longer than the arithmetic.
        apart = torch.sub(known.logits, wide, out=wide)
        if known.ruled_out is not None:  # tokens that the model rules out have logits of -inf on both sides
            apart.masked_fill_(known.ruled_out, 0.0)
        out.append(torch.linalg.vecdot(known.probabilities, apart) + (total - known.total))
    return torch.cat(out)


def _guards(
    adapter: Adapter, runs: Sequence[Continued], continuations: Sequence[Sequence[int]], touched: Collection[Place]
) -> tuple[float, float, float]:
    """Floor, and the largest divergence per token of the identity edit at all `touched` and of the full patch.

    The identity edit gives every run its own activations; the full patch gives it the embeddings of its tokens in
    reverse order, and must reproduce the run of those.
    """
    plain = [
        Prompt(run.prompt.text, (*run.prompt.ids, *tokens[:-1]))
        for run, tokens in zip(runs, continuations, strict=True)
    ]
    turned = [Prompt(prompt.text, prompt.ids[::-1]) for prompt in plain]
    own = [tuple(replace(Site(part, layer, layer), prompt) for part, layer in sorted(touched)) for prompt in plain]
    full = [(replace(block_input.layer(0), prompt),) for prompt in turned]
    windows = tuple(map(len, continuations))

    def read(prompts: Sequence[Prompt], edits: Sequence[tuple[Edit, ...]]) -> list[Tensor]:
        """(window, vocabulary) by row."""
        out: dict[int, Tensor] = {}

        def work(rows: list[int]) -> None:
            made = settle(adapter, [Continued(prompts[i], edits[i]) for i in rows])
            logits = predicted(adapter, [run.whole(()) for run in made], max(windows[i] for i in rows))
            out.update((i, logits[k, -windows[i] :]) for k, i in enumerate(rows))

        in_batches(work, [len(prompt) for prompt in prompts], "guards")
        return [out[i] for i in range(len(prompts))]

    nothing: list[tuple[Edit, ...]] = [()] * len(plain)
    base, source = read(plain, nothing), read(turned, nothing)
    # Without the room that `guards.noise_floor` gives: the lemma takes every logit to be off by the largest difference,
    # which is room enough, and its square would make sixteen times as much pass for rounding.
    noise = max(adapter.info.parity_max_abs, ROUNDING * max(float(logits.abs().max()) for logits in base))
    floor = noise**2 / 2 + _SUM
    errors = [
        max(float(nats(one, other).abs().max()) for one, other in zip(known, got, strict=True))
        for known, got in ((base, read(plain, own)), (source, read(plain, full)))
    ]
    for what, error in zip(("identity edit moves the", "full patch misses the source run's"), errors, strict=True):
        if not error <= floor:
            raise GuardTripped(
                f"guard: the {what} distribution by up to {error:.3g} nats, the noise floor is {floor:.3g}"
            )
    return floor, errors[0], errors[1]
