"""What each head writes for or against an answer: its direct effect on the difference of answer logits.

A head's output at the last token is added to the residual stream, which the unembedding reads behind a norm. To first
order, the difference between the logit of the right answer and the mean logit of the others changes with it by the
gradient of that difference at the end of the stream times what the head adds. A head that raises the logit of the token
that it attends to copies; one that lowers it suppresses the copy (McDougall et al. 2023, arXiv:2310.04625).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from auditkit.adapters.chat import Prompt
from auditkit.adapters.protocol import Adapter, Answers, Attending, Capability, Component, Differentiable, Place
from auditkit.claims.outcomes import Unsupported
from auditkit.engine.batching import in_batches
from auditkit.engine.forward import capture


def written(
    adapter: Adapter, prompts: Sequence[Prompt], answers: Sequence[Answers], description: str = "copying"
) -> Tensor:
    """(prompt, layer, head) in logits: what each head adds at the last token to the right answer against the others.

    Cost: one run per prompt, and one with a pass back through the unembedding.

    Raises:
        Unsupported: no gradients, or heads whose part of the output projection is not known.
    """
    support = adapter.support()
    for needed in (Capability.GRADIENTS, Component.Z):
        if not support.get(needed):
            raise Unsupported(f"direct effects of heads need {needed}, which this adapter does not offer here")
    projections = cast(Attending, adapter).projections
    end: Place = (Component.RESIDUAL, adapter.layers - 1)
    places = [(Component.Z, layer) for layer in range(adapter.layers)]
    out = torch.empty(len(prompts), adapter.layers, adapter.heads)

    def work(rows: list[int]) -> None:
        batch = adapter.batch([prompts[i] for i in rows])
        _, _, gradients = cast(Differentiable, adapter).gradients(batch, {end}, [answers[i] for i in rows])
        _, kept = capture(adapter, batch, places)
        direction = gradients[end][:, -1].float()
        for place in places:
            z = kept[place][:, -1].float()  # (row, head, size)
            added = torch.einsum("rhs,hsw->rhw", z, projections[place[1]].to(z.device).float())
            out[rows, place[1]] = torch.einsum("rhw,rw->rh", added, direction.to(z.device)).cpu()

    in_batches(work, [len(prompt) for prompt in prompts], description)
    return out
