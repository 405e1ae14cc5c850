"""What stands between a measurement and a wrong number."""

from __future__ import annotations

from typing import TYPE_CHECKING

from auditkit.stats.verdicts import NotReadable

if TYPE_CHECKING:
    from torch import Tensor

    from auditkit.adapters.protocol import Adapter

_ROOM = 4.0
"""Largest noise of a measurement, in units of what two prompts showed when the model was opened."""

_ROUNDING = 1e-6
"""Rounding of float32 sums in another order, in units of the largest logit, where opening happened to show none."""


class GuardTripped(NotReadable):
    """A guard found that the measurement cannot be trusted; the message says which and by how much."""


def noise_floor(adapter: Adapter, logits: Tensor) -> float:
    """How far logits may move although nothing was changed: batches, padding and restarts order sums differently.

    Measured, not assumed: `parity_max_abs` is the largest difference between batched, recorded, restarted and plain
    runs of two prompts when the model was opened. It grows with dtype and depth as the noise does. A measurement sees
    more logits than that, hence some room.
    """
    return max(_ROOM * adapter.info.parity_max_abs, _ROUNDING * float(logits.abs().max()))


def within_noise(adapter: Adapter, what: str, got: Tensor, expected: Tensor) -> float:
    """The largest difference, in logits.

    Raises:
        GuardTripped: it is above the noise floor.
    """
    error = float((got - expected).abs().max())
    floor = noise_floor(adapter, expected)
    if not error <= floor:
        raise GuardTripped(f"guard: the {what} logits by up to {error:.3g}, the noise floor is {floor:.3g}")
    return error
