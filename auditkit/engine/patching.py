"""Activation patching: what restoring activations from a source run does to a base run.

Base and source prompts are paired and of equal length. A *condition* says, for each pair, which sites take
their activation from the source run. Answers are read as logits after the last token.

Three guards stand over every measurement (design, Engine):

- the identity edit, which writes the base run's own activations back at every site, changes nothing beyond the
  noise floor measured when the model was opened;
- the full patch, which gives the base run the source run's embeddings, reproduces the source run's logits;
- every edit fires exactly as often as declared.

A guard that trips raises `GuardTripped`; there is no number then.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from auditkit.adapters.chat import Prompt
from auditkit.adapters.protocol import Adapter, Batch, Component, Place, Touch
from auditkit.engine.progress import progress
from auditkit.engine.sampling import offer
from auditkit.engine.sites import Site, SiteError, Span
from auditkit.stats.verdicts import NotApplicable, NotReadable

TOKEN_BUDGET = 1024
"""Padded tokens per batch: large enough that weights are read rarely, small enough to stay in the caches."""

GUARDED_PAIRS = 8
"""Pairs on which the guards of a measurement run; the count of fired edits is checked on all."""


class GuardTripped(NotReadable):
    """A guard found that the measurement cannot be trusted; the message says which and by how much."""


@dataclass(frozen=True)
class PatchPair:
    """A base prompt, the source prompt its activations may come from, and the two answers compared.

    Attributes:
        base: the prompt that is run with edits (the corrupt one when denoising).
        source: the prompt that gives the activations (the clean one when denoising).
        spans: named token spans, valid in both prompts: "identity", ...
        answers: token ids (right, wrong).
    """

    base: Prompt
    source: Prompt
    answers: tuple[int, int]
    spans: Mapping[str, Span] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.base) != len(self.source):
            raise SiteError(
                f"base and source prompt must have equal length to be patched position by position, "
                f"got {len(self.base)} and {len(self.source)} tokens"
            )


Condition = Sequence[Sequence[Site]]
"""For each pair, the sites whose activation comes from the source run."""


def answer_logits(
    adapter: Adapter,
    prompts: Sequence[Prompt],
    answers: Sequence[tuple[int, int]],
    description: str = "answers",
) -> Tensor:
    """Logits (prompts, 2) of each prompt's (right, wrong) answer token, in float32.

    Raises:
        GuardTripped: logits that are NaN or infinite.
    """
    out = torch.empty(len(prompts), 2)
    for rows in chunks([len(p) for p in prompts], description):
        logits = adapter.run(adapter.batch([prompts[i] for i in rows]))
        out[rows] = answer_rows(logits, [answers[i] for i in rows])
    return out


@dataclass(frozen=True)
class Patched:
    """Answer logits of a patching measurement, each (pairs, 2): right and wrong answer.

    Attributes:
        base, source: the two runs without edits.
        conditions: condition -> logits of the base run with its edits.
        identity_error, full_patch_error: what the guards measured, in logits.
    """

    base: Tensor
    source: Tensor
    conditions: Mapping[str, Tensor]
    identity_error: float
    full_patch_error: float


def patch(
    adapter: Adapter,
    pairs: Sequence[PatchPair],
    conditions: Mapping[str, Condition],
    description: str = "patching",
    base: Tensor | None = None,
) -> Patched:
    """Run every pair's base prompt once per condition, with its sites restored from the source run.

    This is the plain method that any model can do and that faster ones are checked against. Cost: one forward
    pass per pair for the source, one for the base unless its (pairs, 2) answer logits are given, one for each
    condition, and four for each of the first few pairs for the guards.

    Raises:
        SiteError: a site that the model or a prompt does not have, before anything runs.
        NotApplicable: a component that this model does not offer.
        GuardTripped: a guard found the numbers not to be trusted.
    """
    plans = {name: _plan(adapter, pairs, condition) for name, condition in conditions.items()}
    places = sorted({place for plan in plans.values() for place in plan})
    n = len(pairs)
    known = base is not None
    base, source = base.clone() if base is not None else torch.empty(n, 2), torch.empty(n, 2)
    results = {name: torch.empty(n, 2) for name in conditions}
    identity_error, full_error = _guards(adapter, pairs[:GUARDED_PAIRS], places)
    for rows in chunks([len(pair.base) for pair in pairs], description):
        chunk = [pairs[i] for i in rows]
        answers = [pair.answers for pair in chunk]
        base_batch = adapter.batch([pair.base for pair in chunk])
        source_logits, donors = capture(adapter, adapter.batch([pair.source for pair in chunk]), places)
        source[rows] = answer_rows(source_logits, answers)
        if not known:
            base[rows] = answer_rows(adapter.run(base_batch), answers)
        for name, plan in plans.items():
            tails = {place: mask[rows][:, -base_batch.width :] for place, mask in plan.items()}
            masks = {place: mask for place, mask in tails.items() if mask.any()}
            results[name][rows] = answer_rows(_run_edited(adapter, base_batch, masks, donors), answers)
    offer(pairs, ((conditions[name], logits) for name, logits in results.items()))
    return Patched(base, source, results, identity_error, full_error)


def capture(adapter: Adapter, batch: Batch, places: Sequence[Place]) -> tuple[Tensor, dict[Place, Tensor]]:
    """One run: logits (batch, vocabulary) and the activations (batch, position, width) at `places`."""
    kept: dict[Place, Tensor] = {}

    def keep(place: Place) -> Touch:
        def touch(value: Tensor) -> None:
            kept[place] = value.detach().clone()

        return touch

    logits = adapter.run(batch, {place: keep(place) for place in places})
    missing = [place for place in places if place not in kept]
    if missing:
        raise GuardTripped(f"nothing was captured at {_words(missing[0])}: the model never reached it")
    return logits, kept


def _run_edited(
    adapter: Adapter, batch: Batch, masks: Mapping[Place, Tensor], donors: Mapping[Place, Tensor]
) -> Tensor:
    """Run with `donors` written wherever `masks` (batch, position) says; every edit must fire exactly once."""
    fired = dict.fromkeys(masks, 0)

    def write(place: Place, mask: Tensor) -> Touch:
        where = mask.to(batch.ids.device)[..., None]

        def touch(value: Tensor) -> Tensor:
            fired[place] += 1
            return torch.where(where.to(value.device), donors[place].to(value.device), value)

        return touch

    logits = adapter.run(batch, {place: write(place, mask) for place, mask in masks.items()})
    for place, times in fired.items():
        if times != 1:
            raise GuardTripped(f"the edit at {_words(place)} fired {times} times in one run instead of once")
    return logits


def _plan(adapter: Adapter, pairs: Sequence[PatchPair], condition: Condition) -> dict[Place, Tensor]:
    """Place -> (pairs, position) mask, right-aligned at the longest prompt: a narrower batch takes the tail."""
    if len(condition) != len(pairs):
        raise SiteError(f"a condition needs sites for each of {len(pairs)} pairs, got {len(condition)}")
    longest = max(len(pair.base) for pair in pairs)
    support = adapter.support()
    masks: dict[Place, Tensor] = {}
    for row, (pair, sites) in enumerate(zip(pairs, condition, strict=True)):
        length = len(pair.base)
        for site in sites:
            offered = support[site.component]
            if not offered:
                raise NotApplicable(f"{site} cannot be patched on this model: {offered.reason}")
            start, stop = site.span(length, pair.spans)
            for layer in site.layer_indices(adapter.layers):
                place = (site.component, layer)
                if place not in masks:
                    masks[place] = torch.zeros(len(pairs), longest, dtype=torch.bool)
                masks[place][row, longest - length + start : longest - length + stop] = True
    return masks


def _guards(adapter: Adapter, pairs: Sequence[PatchPair], places: Sequence[Place]) -> tuple[float, float]:
    """Largest error of the identity edit at all `places` together, and of the full patch, in logits."""
    base = adapter.batch([pair.base for pair in pairs])
    source = adapter.batch([pair.source for pair in pairs])
    everything = (Component.BLOCK_INPUT, 0)
    everywhere = torch.ones(len(base), base.width, dtype=torch.bool)
    base_logits, own = capture(adapter, base, places)
    source_logits, donors = capture(adapter, source, [everything])
    same = _run_edited(adapter, base, dict.fromkeys(places, everywhere), own)
    full = _run_edited(adapter, base, {everything: everywhere}, donors)
    return (
        _within_noise(adapter, "identity edit changes", same, base_logits),
        _within_noise(adapter, "full patch misses the source run's", full, source_logits),
    )


def _within_noise(adapter: Adapter, what: str, got: Tensor, expected: Tensor) -> float:
    error = float((got - expected).abs().max())
    floor = max(adapter.info.parity_max_abs, 1e-6 * float(expected.abs().max()))
    if not error <= floor:
        raise GuardTripped(f"guard: the {what} logits by up to {error:.3g}, the noise floor is {floor:.3g}")
    return error


def answer_rows(logits: Tensor, answers: Sequence[tuple[int, int]]) -> Tensor:
    ids = torch.tensor(answers, device=logits.device)
    picked = logits.gather(1, ids).cpu()
    bad = int((~torch.isfinite(logits)).any(dim=1).sum())
    if bad:
        raise GuardTripped(
            f"logits of {bad} of {len(answers)} prompts contain NaN or infinity; nothing can be concluded from them "
            "(try --dtype float32)"
        )
    return picked


def chunks(lengths: Sequence[int], description: str) -> Iterator[list[int]]:
    """Row indices per batch: similar lengths together, at most TOKEN_BUDGET padded tokens each."""
    order = sorted(range(len(lengths)), key=lambda i: (lengths[i], i))
    batches: list[list[int]] = []
    for i in order:
        if batches and (len(batches[-1]) + 1) * lengths[i] <= TOKEN_BUDGET:
            batches[-1].append(i)
        else:
            batches.append([i])
    yield from progress(batches, description, len(batches))


def _words(place: Place) -> str:
    return f"{place[0]} of layer {place[1]}"
