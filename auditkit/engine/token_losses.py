"""Losses of given tokens, from logits."""

from __future__ import annotations

import torch
from torch import Tensor

from auditkit.engine.guards import GuardTripped


def token_losses(logits: Tensor, ids: Tensor) -> Tensor:
    """Negative log likelihood (row, position) in nats and float64 of the tokens `ids`, on the CPU.

    Raises:
        GuardTripped: logits that are NaN, or a token that the model rules out.
    """
    picked = logits.gather(-1, ids.to(logits.device)[..., None])[..., 0]
    losses: Tensor = (logits.logsumexp(-1).double() - picked.double()).cpu()
    if not torch.isfinite(losses).all():
        raise GuardTripped("losses of a sequence contain NaN or infinity (try --dtype float32)")
    return losses
