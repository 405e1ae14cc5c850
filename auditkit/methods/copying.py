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


def written(
    adapter: Adapter,
    prompts: Sequence[Prompt],
    answers: Sequence[Answers],
    outputs: Tensor,
    description: str = "copying",
) -> Tensor:
    """(prompt, layer, head) in logits: what each head adds at the last token to the right answer against the others.

    Cost: one run per prompt with a pass back.

    Args:
        outputs: (prompt, layer, head, size), what the heads have attended to at the last token.

    Raises:
        Unsupported: no gradients, or the heads' parts of the output projection are not known.
    """
    if not adapter.support().get(Capability.GRADIENTS):
        raise Unsupported("direct effects of heads need gradients, which this adapter does not offer")
    projections = cast(Attending, adapter).projections
    end: Place = (Component.RESIDUAL, adapter.layers - 1)
    out = torch.empty(outputs.shape[:3])

    def work(rows: list[int]) -> None:
        batch = adapter.batch([prompts[i] for i in rows])
        _, _, gradients = cast(Differentiable, adapter).gradients(batch, {end}, [answers[i] for i in rows])
        direction = gradients[end][:, -1].float().cpu()
        for layer, projection in enumerate(projections):
            # Every head's direction comes first: what it adds would be as wide as the stream.
            read = torch.einsum("hsw,rw->rhs", projection.float().cpu(), direction)
            out[rows, layer] = (outputs[rows, layer] * read).sum(-1)

    in_batches(work, [len(prompt) for prompt in prompts], description)
    return out
