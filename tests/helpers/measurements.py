"""Every measurement of the engine, by name, on a model of three blocks of 32 units."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from auditkit.adapters.chat import Prompt
from auditkit.adapters.protocol import Component
from auditkit.engine.continuation.divergence import divergence
from auditkit.engine.continuation.generation import generate
from auditkit.engine.continuation.late import late_divergence, late_losses
from auditkit.engine.continuation.likelihoods import log_likelihoods
from auditkit.engine.continuation.prefix_cached import Tails
from auditkit.engine.continuation.timed import Continued
from auditkit.engine.continuation.transplant import PrefixGraft, SpanGraft, answers, prefixes, spans
from auditkit.engine.edits import Edited, add, replace, scale
from auditkit.engine.losses import losses
from auditkit.engine.pairs import PatchPair, answered
from auditkit.engine.patching.plain import patch
from auditkit.engine.patching.restarted import ends, restarted
from auditkit.engine.patching.screening import attribution
from auditkit.engine.patching.sweep import grid, sweep
from auditkit.engine.sites import attention, block_input, head, mlp, q, residual
from auditkit.engine.token_logits import token_logits
from auditkit.methods.attention import shares
from auditkit.methods.contrast.states import read_states
from auditkit.methods.direct_effects import direct_effects


def pairs_of_three_lengths() -> list[PatchPair]:
    """They differ in one token at position 3."""
    generator = torch.Generator().manual_seed(1)
    made = []
    for length in (9, 12, 9, 15, 12):
        ids = torch.randint(10, 290, (length,), generator=generator).tolist()
        other = [*ids[:3], 290 + len(made), *ids[4:]]
        made.append(PatchPair(Prompt("", tuple(ids)), Prompt("", tuple(other)), (11, 12), {"word": (3, 4)}))
    return made


def conditions(pairs: list[Any]) -> dict[str, Any]:
    return {"mlps": [[mlp.layers(1, 2)]] * len(pairs), "word": [[attention.layer(1)["word"]]] * len(pairs)}


def added(prompts: list[Prompt]) -> dict[str, Any]:
    vector = torch.randn(32, generator=torch.Generator().manual_seed(2))
    every = {"added": [add(residual.layer(1), vector)], "less": [scale(head(1, 0), 0.5)]}
    return {name: [edits] * len(prompts) for name, edits in every.items()}


def begun_alike(prompts: list[Prompt]) -> list[Prompt]:
    """Three prompts for each, which differ in their last token."""
    return [Prompt("", (*prompt.ids, last)) for prompt in prompts for last in (20, 21, 22)]


def of(name: str) -> Callable[[Any, Any], Any]:
    """What measures an adapter and pairs."""

    def measured(adapter: Any, pairs: Any) -> Any:
        prompts = [pair.base for pair in pairs]
        after = [tuple(pair.source.ids[:3]) for pair in pairs]
        late = [[replace(block_input.layer(1)[0], torch.ones(1, 32))]] * len(pairs)

        def tails() -> Tails:
            return Tails(adapter, prompts, after, [len(prompt) - 3 for prompt in prompts])

        grafts = [PrefixGraft(pair.base, 4, pair.source, 4) for pair in pairs]
        span = [SpanGraft(pair.base, pair.source, ((3, 5),)) for pair in pairs]
        measurements: dict[str, Callable[[], Any]] = {
            "patch": lambda: patch(adapter, pairs, {**conditions(pairs), "q": [[q.layer(1)]] * len(pairs)}),
            "patch with known base": lambda: patch(adapter, pairs, conditions(pairs), base=torch.zeros(len(pairs), 2)),
            "restarted": lambda: restarted(adapter, pairs, conditions(pairs)),
            "restarted, asked first": lambda: restarted(adapter, pairs, conditions(pairs), known=lambda *_: None),
            "ends": lambda: ends(adapter, pairs),
            "sweep": lambda: sweep(
                adapter, pairs, grid([Component.MLP, Component.ATTENTION, Component.K], range(3), ["word", "last"])
            ),
            "attribution": lambda: attribution(adapter, pairs, [mlp.layer(0), attention.layer(2)["word"]]),
            "direct effects": lambda: direct_effects(adapter, pairs, [mlp.layer(2), attention.layer(1)]),
            "token logits": lambda: token_logits(adapter, prompts, [5, 6, 7], added(prompts)),
            "losses": lambda: losses(adapter, prompts, [(4, len(p)) for p in prompts], added(prompts)),
            "losses alone": lambda: losses(adapter, prompts, [(4, 8)] * len(prompts), added(prompts), compare=False),
            "generation": lambda: generate(adapter, prompts, 5),
            "edited generation": lambda: generate(
                adapter, [Continued(p, (scale(mlp.layer(1), 0.5),)) for p in prompts], 4
            ),
            "divergence": lambda: divergence(
                adapter, prompts, after, {"other": [Continued(p, (scale(mlp.layer(1), 0.0),)) for p in prompts]}
            ),
            "late divergence": lambda: late_divergence(tails(), {"it": late}),
            "late losses": lambda: late_losses(tails(), {"it": late, "as it is": [[]] * len(prompts)}),
            "prefixes": lambda: answers(adapter, prefixes(adapter, grafts, after), [(5, 6)] * len(pairs)),
            "spans": lambda: answers(adapter, spans(adapter, span, after), [(5, 6)] * len(pairs)),
            "answers alone": lambda: answered(adapter, prompts, [(5, 6)] * len(prompts)),
            "answers of families": lambda: answered(adapter, begun_alike(prompts), [(5, 6)] * 3 * len(prompts)),
            "log-likelihoods": lambda: log_likelihoods(adapter, [p.ids for p in prompts], after),
            "states": lambda: read_states(adapter, prompts, (-1, -2)),
            "attention": lambda: shares(
                adapter, [Edited(p, (), {"word": (3, 4)}) for p in prompts], "word", ("last",), [(5, 6)] * len(prompts)
            ),
        }  # fmt: skip
        return measurements[name]()

    return measured


NAMES = (
    *("patch", "patch with known base", "restarted", "restarted, asked first", "ends", "sweep", "attribution"),
    *("direct effects", "token logits", "losses", "losses alone", "generation", "edited generation", "divergence"),
    *("late divergence", "late losses", "prefixes", "spans", "states", "attention", "answers alone"),
    *("answers of families", "log-likelihoods"),
)


def plain(value: Any) -> Any:
    """A result as lists, texts and numbers."""
    if isinstance(value, torch.Tensor | np.ndarray):
        return value.tolist()
    if dataclasses.is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in value.items()}
    return list(map(plain, value)) if isinstance(value, tuple | list) else value
