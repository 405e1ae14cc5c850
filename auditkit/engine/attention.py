"""Reading attention: where heads look, and how spread out that is.

    entropies(adapter, prompts)                            every head at each prompt's last token
    entropies(adapter, prompts, "identity", spans=spans)   at the identity words
    probabilities(adapter, prompts, -1, layers=[5], heads=[8])

The model runs with its own attention; probabilities are computed a second time for the chosen queries only, a few
queries at once. So reading needs memory for heads x tokens for each query, not for whole squares of attention.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypedDict, Unpack

import torch
from torch import Tensor

from auditkit.adapters.chat import Prompt
from auditkit.adapters.protocol import Attending, AttentionView, Component, Look
from auditkit.claims.outcomes import Unsupported
from auditkit.engine import arguments
from auditkit.engine.batching import in_batches
from auditkit.engine.guards import GuardTripped
from auditkit.engine.sites import Position, Site, SiteError, Span, pattern

QUERIES = 32
"""Queries whose probabilities over all keys are held at once."""


class Chosen(TypedDict, total=False):
    """What is read, beside the queries.

    Attributes:
        layers, heads: which, in the order of the result; None is all.
        spans: for each prompt, its named spans.
    """

    layers: Sequence[int] | None
    heads: Sequence[int] | None
    spans: Sequence[Mapping[str, Span]] | None


def entropies(
    adapter: Attending, prompts: Sequence[Prompt], queries: Position = "last", **chosen: Unpack[Chosen]
) -> list[Tensor]:
    """For each prompt, entropy (layer, head, query) in nats of the attention at the chosen queries; see `entropy`.

    Args:
        queries: "last", "all", a named span, an index (negative from the end), or a half-open span.
        chosen: layers, heads and spans; see `Chosen`.

    Raises:
        SiteError: a layer, head or query that the model or a prompt does not have, before anything runs.
        NotApplicable: this model does not show its attention.
        GuardTripped: probabilities that are NaN, or a layer whose attention was not reached.
        TypeError: an argument of another shape, such as one prompt where a list is meant, before anything runs.
    """
    read = _read(adapter, prompts, queries, entropy, "entropies", **chosen)
    return [values for _, values in read]


def probabilities(
    adapter: Attending, prompts: Sequence[Prompt], queries: Position = "last", **chosen: Unpack[Chosen]
) -> list[Tensor]:
    """For each prompt, attention probabilities (layer, head, query, key) over its own tokens, in float32.

    Keys after the query have probability exactly 0. Arguments and errors are those of `entropies`.
    """
    read = _read(adapter, prompts, queries, lambda values: values, "attention", **chosen)
    return [values[..., pad:] for pad, values in read]


def entropy(probabilities: Tensor) -> Tensor:
    """Shannon entropy in nats over the last axis: 0 when one key gets everything, ln n when n keys get the same.

    Of the share that goes to keys: where a family has attention sinks, what goes to the sink is left out and the
    rest is scaled to sum to 1.
    """
    shares = probabilities / probabilities.sum(-1, keepdim=True)
    nats: Tensor = torch.special.entr(shares).sum(-1).clamp(min=0.0)
    return nats


def _read(
    adapter: Attending,
    prompts: Sequence[Prompt],
    queries: Position,
    reduce: Callable[[Tensor], Tensor],
    description: str,
    layers: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
    spans: Sequence[Mapping[str, Span]] | None = None,
) -> list[tuple[int, Tensor]]:
    """For each prompt, its padding and (layer, head, query, ...): `reduce` of (batch, head, query, key)."""
    arguments.model(adapter)
    arguments.indices("layers", layers, "layers")
    arguments.indices("heads", heads, "heads")
    ranges = _ranges(prompts, queries, spans)
    chosen_layers, chosen_heads = _layers(adapter, layers), _heads(adapter, heads)
    offered = adapter.support()[Component.PATTERN]
    if not offered:
        site = Site(Component.PATTERN, position=queries)
        raise Unsupported(f"{site} cannot be read on this model: {offered.reason}")
    results: dict[int, tuple[int, Tensor]] = {}

    def work(rows: list[int]) -> None:
        batch = adapter.batch([prompts[i] for i in rows])
        counts = [ranges[i][1] - ranges[i][0] for i in rows]
        firsts = torch.tensor([ranges[i][0] + pad for i, pad in zip(rows, batch.pads, strict=True)])
        steps = torch.arange(max(counts)).expand(len(rows), -1)
        where = firsts[:, None] + steps.minimum(torch.tensor(counts)[:, None] - 1)  # short rows repeat their last
        seen: dict[int, Tensor] = {}

        def look(layer: int, where: Tensor = where, seen: dict[int, Tensor] = seen) -> Look:
            def see(view: AttentionView) -> None:
                parts = [
                    reduce(view.probabilities(part)[:, chosen_heads]) for part in torch.split(where, QUERIES, 1)
                ]
                seen[layer] = torch.cat(parts, 2).cpu()

            return see

        adapter.attend(batch, {layer: look(layer) for layer in chosen_layers})
        for layer in chosen_layers:
            if layer not in seen or not torch.isfinite(seen[layer]).all():
                what = "are not finite" if layer in seen else "were not reached"
                raise GuardTripped(f"guard: the attention probabilities of layer {layer} {what}")
        for row, (i, count) in enumerate(zip(rows, counts, strict=True)):
            of_layers = torch.stack([seen[layer][row, :, :count] for layer in chosen_layers])
            results[i] = (batch.pads[row], of_layers)

    in_batches(work, [len(prompt) for prompt in prompts], description)
    return [results[i] for i in range(len(prompts))]


def _ranges(
    prompts: Sequence[Prompt], queries: Position, spans: Sequence[Mapping[str, Span]] | None
) -> list[Span]:
    """Start and stop of the queries in each prompt, after a check of the arguments that say which."""
    arguments.several("prompts", prompts, Prompt, arguments.PROMPTS)
    arguments.position("queries", queries)
    if spans is not None:
        arguments.several("spans", spans, Mapping, "a list with a dict of spans for each prompt, or None")
        if len(spans) != len(prompts):
            raise SiteError(f"spans of {len(spans)} prompts were given for {len(prompts)} prompts")
    site = Site(Component.PATTERN, position=queries)
    return [site.span(len(prompt), {} if spans is None else spans[i]) for i, prompt in enumerate(prompts)]


def _layers(adapter: Attending, layers: Sequence[int] | None) -> list[int]:
    if layers is None:
        return list(range(adapter.layers))
    if not layers:
        raise SiteError("attention of no layers asked for; give at least one, or None for all")
    return [pattern.layer(layer).layer_indices(adapter.layers)[0] for layer in layers]


def _heads(adapter: Attending, heads: Sequence[int] | None) -> list[int]:
    if heads is None:
        return list(range(adapter.heads))
    Site(Component.PATTERN).head(*heads).head_indices(adapter.heads, adapter.groups)
    return list(heads)
