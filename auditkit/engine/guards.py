"""What stands between a measurement and a wrong number."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

from auditkit.claims.outcomes import NotReadable

if TYPE_CHECKING:
    from torch import Tensor

    from auditkit.adapters.protocol import Adapter

_ROOM = 4.0
"""Largest noise of a measurement, in units of what two prompts showed when the model was opened."""

ROUNDING = 1e-6
"""Rounding of float32 sums in another order, in units of the largest logit, where opening happened to show none."""


class GuardTripped(NotReadable):
    """A guard found that the measurement cannot be trusted; the message says which and by how much."""


def noise_floor(adapter: Adapter, logits: Tensor) -> float:
    """How far logits may move although nothing was changed: batches, padding and restarts order sums differently.

    Measured, not assumed: `parity_max_abs` is the largest difference between batched, recorded, restarted and plain
    runs of two prompts when the model was opened. It grows with dtype and depth as the noise does. A measurement sees
    more logits than that, hence some room.
    """
    return max(_ROOM * adapter.info.parity_max_abs, ROUNDING * float(logits.abs().max()))


def pieces_floor(adapter: Adapter, logits: Tensor) -> float:
    """How far logits may move when a run is made in pieces: token by token, or on keys and values handed over.

    The noise floor, and at least the rounding that opening allows such runs in float32: they order all sums of a whole
    window differently, of which opening saw a few. In shorter types that rule would explain any difference (in bfloat16
    more than the logits themselves), so what was measured stands alone.
    """
    import torch

    from auditkit.adapters.hf.continuing import allowed

    return max(noise_floor(adapter, logits), allowed(logits, torch.float32))


def within_noise(adapter: Adapter, what: str, got: Tensor, expected: Tensor, *, pieces: bool = False) -> float:
    """The largest difference, in logits.

    Args:
        pieces: one of the two is a run in pieces.

    Raises:
        GuardTripped: it is above the noise floor.
    """
    error = float((got - expected).abs().max())
    floor = (pieces_floor if pieces else noise_floor)(adapter, expected)
    if not error <= floor:
        raise GuardTripped(f"guard: the {what} logits by up to {error:.3g}, the noise floor is {floor:.3g}")
    return error


@dataclass
class EditedRuns:
    """How many runs had edits in place."""

    runs: int = 0


_edited: ContextVar[EditedRuns | None] = ContextVar("auditkit_edited_runs", default=None)


@contextmanager
def counting_edits() -> Iterator[EditedRuns]:
    """Count the runs inside the block in which something in the model is edited, whichever model it is."""
    count = EditedRuns()
    token = _edited.set(count)
    try:
        yield count
    finally:
        _edited.reset(token)


def note_edits(runs: int = 1) -> None:
    """Say that runs have edits in place: called by everything in the engine that makes one."""
    count = _edited.get()
    if count is not None:
        count.runs += runs


def edits_so_far() -> int:
    """How many runs were counted so; 0 where nobody counts."""
    count = _edited.get()
    return 0 if count is None else count.runs


@contextmanager
def costing(adapter: Adapter, tokens: int) -> Iterator[None]:
    """What runs in the block passes `tokens` tokens through every block, no more and no less.

    Raises:
        GuardTripped: the adapter's meter counted something else.
    """
    with spending(adapter, tokens * adapter.layers):
        yield


@contextmanager
def spending(adapter: Adapter, declared: int) -> Iterator[None]:
    """What runs in the block costs `declared` token-layers, no more and no less.

    Raises:
        GuardTripped: the adapter's meter counted something else.
    """
    with spending_of(adapter) as spent:
        spent.declared = declared
        yield


@dataclass
class Spent:
    """What a block of code declares, on the way, that it costs in token-layers."""

    declared: int = 0


@contextmanager
def spending_of(adapter: Adapter) -> Iterator[Spent]:
    """What runs in the block costs what it declares on the way.

    Raises:
        GuardTripped: it costs something else.
    """
    spent, before = Spent(), adapter.meter.token_layers
    yield spent
    if (cost := adapter.meter.token_layers - before) != spent.declared:
        raise GuardTripped(f"a run cost {cost} token-layers and had declared {spent.declared}")
