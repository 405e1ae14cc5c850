"""Scores of attention heads on repeated random tokens, all from one pass over the sequences.

A query in the second copy stands on a token that occurred once before. How much of its attention goes

- to the token after the previous occurrence: *prefix matching* (Olsson et al. 2022, arXiv:2209.11895);
- to the previous occurrence itself: *duplicate token* (Wang et al. 2022, arXiv:2211.00593);
- to the token before the previous occurrence: prefix matching in the wrong direction, a control;
- to the token before itself: *previous token*; and two tokens back, a control.

In the shuffled control the second copy has the same tokens in another order. *Same distance* is the attention to the
key that lies as far back as the token after the previous occurrence does in the repeated sequence: a head that attends
by distance alone has the same score there. *Prefix matching, shuffled* is the attention to the token after the previous
occurrence where that token does not come next.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from auditkit.findings.induction.prompts import Sequences

Array = NDArray[np.float64]

MATCH, DUPLICATE, BEFORE, PREVIOUS, TWO_BACK = REPEATED = (
    "prefix matching",
    "duplicate token",
    "token before the previous occurrence",
    "previous token",
    "two tokens back",
)
"""Scores in the repeated sequences."""
DISTANCE, SHUFFLED_MATCH = SHUFFLED = ("same distance", "prefix matching, shuffled")
"""Scores in the shuffled sequences."""
SCORES = (*REPEATED, *SHUFFLED)

RESTS = 0.3
"""A query rests on a key that gets more than this share of its attention."""
KEYS = 8
"""Keys at the beginning of a sequence whose queries are counted: the first token, and seven others to compare with."""
APART = 4
"""Queries that come at least so many tokens after a key are counted for it. Attention that is spread evenly gives each
of such a query's keys at most 0.2, so it never counts as resting."""

RESTING = tuple(f"rest on token {key + 1}" for key in range(KEYS))
"""Share of a head's queries that rest on each of the first tokens."""


def repeated_scores(start: int, length: int, pattern: Tensor, _: Sequence[int]) -> Tensor:
    """(row, head, measure) of attention (row, head, query, key) on `x x`: `REPEATED`, then `RESTING` of the first copy.

    Args:
        start: position of the first random token.
        length: tokens of a copy.
    """
    places = torch.arange(length - 1, device=pattern.device)  # in a copy; the last token has no successor in it
    queries, keys = start + length + places, start + places
    later = torch.arange(start + 2, start + 2 * length, device=pattern.device)  # they have two tokens behind them
    read = {
        MATCH: pattern[:, :, queries, keys + 1],
        DUPLICATE: pattern[:, :, queries, keys],
        BEFORE: pattern[:, :, queries[1:], keys[1:] - 1],
        PREVIOUS: pattern[:, :, later, later - 1],
        TWO_BACK: pattern[:, :, later, later - 2],
    }
    scores = torch.stack([read[name].mean(-1) for name in REPEATED], -1)
    return torch.cat([scores, resting(pattern[:, :, : start + length])], -1)


def shuffled_scores(start: int, orders: NDArray[np.intp], pattern: Tensor, rows: Sequence[int]) -> Tensor:
    """(row, head, measure) of attention on the shuffled sequences: `SHUFFLED`.

    Args:
        start: position of the first random token.
        orders: (sequence, length) which token of the first copy stands at each place of the second.
    """
    length = orders.shape[1]
    places = np.arange(length - 1)
    out = []
    for row, number in enumerate(rows):
        own = np.flatnonzero(
            orders[number] < length - 1
        )  # the last token of the first copy has no successor in it
        at = (
            (start + length + places, start + places + 1),
            (start + length + own, start + orders[number][own] + 1),
        )
        out.append(torch.stack([_picked(pattern[row], *each).mean(-1) for each in at], -1))
    return torch.stack(out)


def resting(pattern: Tensor) -> Tensor:
    """(row, head, KEYS) share of queries that give more than `RESTS` of their attention to each of the first keys."""
    above = (pattern > RESTS).to(pattern.dtype)
    return torch.stack([above[:, :, key + APART :, key].mean(-1) for key in range(KEYS)], -1)


def readers(sequences: Sequences) -> tuple[partial[Tensor], partial[Tensor]]:
    """What reads the attention on the repeated and on the shuffled sequences, for `read_sequences`."""
    return (
        partial(repeated_scores, sequences.start, sequences.length),
        partial(shuffled_scores, sequences.start, sequences.orders),
    )


def _picked(pattern: Tensor, queries: NDArray[np.intp], keys: NDArray[np.intp]) -> Tensor:
    """(head, pair) of attention (head, query, key)."""
    rows, columns = (torch.from_numpy(part).to(pattern.device) for part in (queries, keys))
    return pattern[:, rows, columns]
