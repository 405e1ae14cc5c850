"""Direct effects: what a site says to the answer itself, past everything that comes after it.

What attention and MLPs add to the residual stream adds up, so the last token's stream, which the unembedding reads, is
a sum with one term per module. Behind it stands a norm, then a linear map. With the norm's scale frozen to that of the
corrupt run, the difference of two answer logits is linear in the stream: b + w · x. The *direct effect* of restoring a
site is w · (clean minus corrupt contribution at the last token); what the whole intervention does beyond that is its
*indirect* effect, through later layers (Elhage et al. 2021, "A mathematical framework for transformer circuits";
McGrath et al. 2023, arXiv:2307.15771).

No norm is looked for by name. For f(x) = b + u · n(x) / |n(x)|, where n is nothing (RMSNorm) or takes the mean off
(LayerNorm), the gradient gives w = f'(x) + (f(x) - b) n(x) / |n(x)|², and b is f at a stream of zeros. That the model
reads its answers so is not assumed: w must foretell the clean run's logits from the clean run's last stream.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from auditkit.adapters.protocol import Adapter, Answers, Capability, Component, Differentiable, Place
from auditkit.claims.outcomes import Unsupported
from auditkit.engine.batching import in_batches
from auditkit.engine.edits import Edited, layers_of, zero
from auditkit.engine.exchange.turns import Divided
from auditkit.engine.forward import Donated, capture, execute
from auditkit.engine.guards import noise_floor
from auditkit.engine.pairs import PatchPair, answer_rows
from auditkit.engine.sites import Site, SiteError, residual

_CENTRED = 1e-3
"""Largest cosine between the gradient and the vector of ones for which the norm is taken to remove the mean."""

_MISSED = 0.01
"""Share of the largest logit difference by which the clean run may be foretold wrongly, beside the noise floor."""


def direct_effects(
    adapter: Adapter, pairs: Sequence[PatchPair], sites: Sequence[Site], description: str = "direct effects"
) -> Tensor:
    """Direct effects (site, pair) in logits of restoring what attention or MLPs add, from the source in the base run.

    A site counts with its contribution to the last token; one that does not cover that token has a direct effect of 0.
    Cost per pair: two runs with recording, one with a stream of zeros, and one with a pass back (three runs).

    Raises:
        SiteError: a site that is no contribution to the stream, or that the model does not have.
        NotApplicable: no gradients, or a model that does not read its answers through a norm and a linear map.
    """
    offered = adapter.support().get(Capability.GRADIENTS)
    if not offered:
        raise Unsupported("direct effects need gradients, which this adapter does not offer")
    for site in sites:
        if site.component not in (Component.ATTENTION, Component.MLP):
            raise SiteError(f"{site} adds nothing to the stream; direct effects are those of attention and mlp")
    last = residual.layer(adapter.layers - 1)["last"]
    end: Place = (Component.RESIDUAL, adapter.layers - 1)
    places = {(site.component, layer) for site in sites for layer in layers_of(adapter, site)} | {end}
    out = torch.zeros(len(sites), len(pairs))

    def work(rows: list[int]) -> None:
        chunk = [pairs[i] for i in rows]
        answers = [pair.answers for pair in chunk]
        bases = adapter.batch([pair.base for pair in chunk])
        logits, values, gradients = cast(Differentiable, adapter).gradients(bases, {end}, answers)
        _, own = capture(adapter, bases, places)
        target, theirs = capture(adapter, adapter.batch([pair.source for pair in chunk]), places)
        blank, _ = execute(adapter, [Edited(pair.base, (zero(last),)) for pair in chunk], Donated())
        offset, start, clean = (_margin(each, answers) for each in (blank, logits, target))
        gradient, stream = (kept[end][:, -1].double().cpu() for kept in (gradients, values))
        centred = _removes_mean(gradient)
        normed = stream - stream.mean(1, keepdim=True) if centred else stream
        size = normed.square().sum(1, keepdim=True)
        weight = gradient + (start - offset)[:, None] * normed / size
        other = theirs[end][:, -1].double().cpu()
        other = other - other.mean(1, keepdim=True) if centred else other
        foretold = offset + (weight * other).sum(1) * (size[:, 0] / other.square().sum(1)).sqrt()
        _check(adapter, foretold, clean, target)
        change = {
            place: (theirs[place][:, -1].double().cpu() - own[place][:, -1].double().cpu()) for place in places
        }
        for number, site in enumerate(sites):
            for row, i in enumerate(rows):
                if site.span(len(pairs[i].base), pairs[i].spans)[1] == len(pairs[i].base):
                    for layer in layers_of(adapter, site):
                        out[number, i] += float(weight[row] @ change[site.component, layer][row])

    divided = Divided(adapter, ("direct effects", pairs, sites), {"effects": out.T})
    in_batches(work, [len(pair.base) for pair in pairs], description, divided=divided)
    return out


def _margin(logits: Tensor, answers: Sequence[Answers]) -> Tensor:
    right, wrong = answer_rows(logits, answers).double().unbind(1)
    return right - wrong


def _removes_mean(gradient: Tensor) -> bool:
    ones = gradient.sum(1).abs() / gradient.shape[1] ** 0.5
    return bool((ones <= _CENTRED * gradient.norm(dim=1)).all())


def _check(adapter: Adapter, foretold: Tensor, clean: Tensor, logits: Tensor) -> None:
    missed = float((foretold - clean).abs().max())
    allowed = _MISSED * float(clean.abs().max()) + noise_floor(adapter, logits)
    if not missed <= allowed:
        raise Unsupported(
            "no direct effects: a norm with a linear map behind it misses the clean run's logit differences by "
            f"{missed:.2g} ({allowed:.2g} allowed); this model does not read its answers that way"
        )
