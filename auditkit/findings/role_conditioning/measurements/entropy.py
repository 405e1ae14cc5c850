"""Entropy of attention: the published definition, and a repaired one that length and attention sinks do not change.

For one head and a prompt of T tokens, A[q, k] is the share of query q's attention that goes to key k; a query sees the
keys up to itself. *Published* (mduffster/self-referent-test, 2025): the entropy in nats of A + 1e-8, scaled to sum to 1
over all T keys, averaged over all queries. Under attention that is spread evenly this is (ln 1 + ... + ln T) / T, so it
grows with T. Where a head attends mostly to the first token (an attention sink), the entropy reflects little else.

*Repaired*: the first token is left out and its share reported apart, the rest scaled to sum to 1, and the entropy of a
query with n keys left divided by ln n. Even spread is then 1 and a single key 0, for every query and every length. The
mean is over queries from the first token of the prompt's own text on, where they have at least two keys left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from auditkit.adapters.chat import Prompt
from auditkit.adapters.protocol import Attending
from auditkit.engine.attention import entropy, probabilities
from auditkit.engine.batching import batches

Array = NDArray[np.float64]

REPAIRED, WITH_FIRST, PUBLISHED, SINK, FIRST_KEYS, LAST_KEYS, MAGNITUDE = MEASURES = (
    "repaired entropy",
    "repaired entropy with the first token",
    "published entropy",
    "share of the first token",
    "share of the first three tokens",
    "share of the last three tokens",
    "mean attention",
)
"""What is read of each head and prompt: entropies (in shares of the largest possible, but the published one in nats),
shares of attention (of queries but the first), and the mean of A over all queries and keys."""

UNITS: Mapping[str, str] = MappingProxyType(
    {PUBLISHED: "nat", REPAIRED: "of even spread", WITH_FIRST: "of even spread"}
)

EPSILON = 1e-8
"""Added to every probability in the published definition."""
_KEYS = 3


def published_entropies(pattern: Tensor) -> Tensor:
    """Entropy in nats of each query, as published; `pattern` is (..., query, key), with all T keys."""
    smooth = pattern.double() + EPSILON
    nats: Tensor = torch.special.entr(smooth / smooth.sum(-1, keepdim=True)).sum(-1)
    return nats


def repaired_entropies(pattern: Tensor, left_out: int = 1) -> Tensor:
    """Entropy of each query as a share of that of even spread, without the first keys; NaN with fewer than two left.

    Args:
        pattern: (..., query, key), causal, with all T keys.
        left_out: keys to leave out: 1, or 0 to keep the first token.
    """
    kept = pattern.double()[..., left_out:]
    queries = torch.arange(pattern.shape[-2], device=pattern.device)
    most = (queries + 1 - left_out).double()
    nats = entropy(kept.clamp(min=0.0))
    shares = nats / most.clamp(min=2.0).log()
    return torch.where(most >= 2, shares, torch.nan)


def measures(pattern: Tensor, first: int) -> Tensor:
    """(measure, ...) in the order of `MEASURES`, of attention (..., query, key).

    Args:
        first: position of the first token of the prompt's own text.
    """
    pattern = pattern.double()
    own, later = slice(max(first, 2), None), pattern[..., 1:, :]
    return torch.stack(
        [
            repaired_entropies(pattern)[..., own].mean(-1),
            repaired_entropies(pattern, 0)[..., max(first, 1) :].mean(-1),
            published_entropies(pattern).mean(-1),
            pattern[..., max(first, 1) :, 0].mean(-1),
            later[..., :_KEYS].sum(-1).mean(-1),
            later[..., -_KEYS:].sum(-1).mean(-1),
            pattern.mean((-2, -1)),
        ]
    )


def read(adapter: Attending, prompts: Sequence[Prompt], firsts: Sequence[int]) -> Array:
    """Measures (prompt, measure, layer, head) of every prompt.

    Patterns are held for one batch at a time, so memory does not grow with the number of prompts.

    Args:
        firsts: for each prompt the position of the first token of its own text.

    Raises:
        NotApplicable, GuardTripped: as `auditkit.engine.attention.probabilities`.
        ValueError: a prompt without a query that has two keys besides the first token.
    """
    for prompt in prompts:
        if len(prompt) < 3:
            raise ValueError(f"{prompt.text!r} has {len(prompt)} tokens; entropy needs three, the first included")
    out = np.empty((len(prompts), len(MEASURES), adapter.layers, adapter.heads))
    for rows in batches([len(prompt) for prompt in prompts]):
        for row, pattern in zip(rows, probabilities(adapter, [prompts[i] for i in rows], "all"), strict=True):
            out[row] = measures(pattern, firsts[row]).numpy()
    return out


def by_query(adapter: Attending, prompt: Prompt) -> dict[str, Tensor]:
    """Measure -> (layer, head, query) of one prompt, for entropies and the share of the first token.

    Repaired entropies are NaN for queries with fewer than two keys left.

    Raises:
        NotApplicable, GuardTripped: as `auditkit.engine.attention.probabilities`.
    """
    (pattern,) = probabilities(adapter, [prompt], "all")
    return {
        REPAIRED: repaired_entropies(pattern),
        WITH_FIRST: repaired_entropies(pattern, 0),
        PUBLISHED: published_entropies(pattern),
        SINK: pattern[..., 0].double(),
    }


def even_spread(length: int) -> float:
    """Published entropy in nats of causal attention spread evenly over T tokens: the mean of ln 1 to ln T."""
    return float(np.log(np.arange(1, length + 1)).mean())


def uniform_pattern(length: int) -> Tensor:
    """(query, key) causal attention that is spread evenly."""
    return torch.tril(torch.ones(length, length)) / torch.arange(1, length + 1)[:, None]
