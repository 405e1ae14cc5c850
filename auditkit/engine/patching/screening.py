"""Screen, then verify: rank many sites by a cheap estimate, measure the best ones exactly, and say what was missed.

*Attribution patching* estimates what restoring a site would do by a first-order expansion: the gradient of the answer
difference in the base run times what the source would change there (Nanda 2023, "Attribution patching"; Syed et al.
2023, arXiv:2310.10348). It costs three runs and a pass back for all sites together, where exact patching costs one
run each. It is known to fail where attention is saturated, since the softmax is flat there. So for queries, keys and
attention probabilities the change of the attended values is computed exactly, and only what follows is expanded
(the correction of AtP*, Kramar et al. 2024, arXiv:2403.00745, section 3.1). That needs no formula of a family's
attention: a run in which every block is given the base's input makes it for all layers at once.

An estimate is never a result. The first `top` sites are measured exactly, and so is a random sample of the rest, which
says how often the screen misses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor

from auditkit.adapters.protocol import Adapter, Capability, Component, Differentiable, Place, Shape
from auditkit.claims.outcomes import Unsupported
from auditkit.engine import arguments
from auditkit.engine.batching import in_batches
from auditkit.engine.edits import Donor, Edited, layers_of, located, replace
from auditkit.engine.exchange.turns import Divided
from auditkit.engine.forward import donate, execute
from auditkit.engine.pairs import PatchPair, right_minus_wrong
from auditkit.engine.patching.rows import one_layer
from auditkit.engine.patching.sweep import Sweep, sweep
from auditkit.engine.sites import Position, Site, SiteError, block_input, k, pattern, q
from auditkit.notebook import Showable
from auditkit.record.figures import Cloud, Figure, Points

if TYPE_CHECKING:
    import pandas as pd

_WITHIN_ATTENTION = {Component.Q: q, Component.K: k, Component.PATTERN: pattern}
"""Components whose effect on the attended values is computed exactly."""


@dataclass(frozen=True)
class Screening(Showable):
    """What the screen estimated and what exact patching found; effects are changes of the answer difference, in logits.

    Attributes:
        sites: what was screened.
        estimated: (sites, pairs) first-order effect of restoring each site.
        verified: indices of the sites measured exactly: the `top` with the largest estimates, then the sampled rest.
        exact: (verified, pairs) their effects, in the order of `verified`.
        top: how many of them the estimate chose.
        missed: indices of sampled sites whose effect is larger than the smallest of the top ones (means over pairs,
            by size).
        miss_rate: their share among the sampled ones; NaN where nothing was left to sample.
        miss_interval: 95 % Wilson interval of that share among all sites that were not chosen.
        sweep: the exact measurement, with its guards and cost.
    """

    sites: tuple[Site, ...]
    estimated: Tensor
    verified: tuple[int, ...]
    exact: Tensor
    top: int
    missed: tuple[int, ...]
    miss_rate: float
    miss_interval: tuple[float, float]
    sweep: Sweep

    def in_words(self) -> str:
        sampled = len(self.verified) - self.top
        return (
            f"{len(self.sites)} sites estimated, {self.top} of them and {sampled} others measured; of the others "
            f"{len(self.missed)} belonged among the first"
        )

    def to_frame(self) -> pd.DataFrame:
        """A row for each site: the mean estimate and, where it was measured, the mean effect, in logits."""
        import pandas as pd

        exact = dict(zip(self.verified, self.exact.mean(1).tolist(), strict=True))
        chosen, estimates = set(self.verified[: self.top]), self.estimated.mean(1).tolist()
        rows = [
            {
                "site": str(site), "estimated": estimate, "exact": exact.get(i),
                "chosen": i in chosen, "missed": i in self.missed,
            }
            for i, (site, estimate) in enumerate(zip(self.sites, estimates, strict=True))
        ]  # fmt: skip
        return pd.DataFrame(rows)

    def figures(self, title: str = "") -> tuple[Figure, ...]:
        """Estimate against measurement, for the sites that were measured."""
        frame = self.to_frame().dropna(subset=["exact"])
        clouds = [
            Cloud(name, part["estimated"].tolist(), part["exact"].tolist())
            for name, part in (("chosen", frame[frame["chosen"]]), ("sampled", frame[~frame["chosen"]]))
            if len(part)
        ]
        caption = "A point per measured site: its first-order estimate, and its effect when it was patched."
        drawn = Points("estimated effect (logits)", "exact effect (logits)", caption, clouds)
        return (drawn.titled(title or "estimated and exact effects"),)


def screen(
    adapter: Adapter,
    pairs: Sequence[PatchPair],
    sites: Sequence[Site],
    *,
    top: int,
    sample: int,
    generator: np.random.Generator,
    description: str = "screening",
) -> Screening:
    """Estimate every site, then measure the `top` ones and `sample` random others exactly.

    Raises:
        SiteError: as `attribution`, a site of several layers, or no site is to be verified.
        NotApplicable: as `attribution`.
        GuardTripped: a guard of the exact measurement found the numbers not to be trusted.
        TypeError: an argument of another shape, before anything runs.
    """
    _checked(adapter, pairs, sites)
    for name, number in (("top", top), ("sample", sample)):
        arguments.one(name, number, Integral, "a number of sites")
    arguments.one("generator", generator, np.random.Generator, "np.random.default_rng(seed)")
    for site in sites:
        one_layer(adapter, site)
    if top < 1 or sample < 0 or not sites:
        raise SiteError(
            f"screening {len(sites)} sites with top {top} and sample {sample}: give at least one, 1 and 0"
        )
    estimated = attribution(adapter, pairs, sites, description)
    order = estimated.mean(1).abs().argsort(descending=True, stable=True).tolist()
    chosen, rest = order[:top], order[top:]
    drawn = sorted(int(i) for i in generator.choice(rest, min(sample, len(rest)), replace=False)) if rest else []
    verified = (*chosen, *drawn)
    swept = sweep(adapter, pairs, [sites[i] for i in verified], description)
    exact = right_minus_wrong(swept.values) - right_minus_wrong(swept.base)
    size = exact.mean(1).abs()
    missed = tuple(
        i for i, own in zip(drawn, size[len(chosen) :].tolist(), strict=True) if own > size[: len(chosen)].min()
    )
    rate, interval = _share(len(missed), len(drawn))
    return Screening(tuple(sites), estimated, verified, exact, len(chosen), missed, rate, interval, swept)


def attribution(
    adapter: Adapter, pairs: Sequence[PatchPair], sites: Sequence[Site], description: str = "attribution"
) -> Tensor:
    """First-order effect (sites, pairs) of restoring each site from the source run, in logits of the answer difference.

    Cost per pair: the source, the base with a pass back (counted as three runs), and for sites within attention one
    run for queries, one for probabilities, and one for each different position of the keys.

    Raises:
        SiteError: no pairs or sites, or a site that the model or a prompt does not have, before anything runs.
        NotApplicable: a component, or gradients, that this model does not offer.
        TypeError: an argument of another shape, before anything runs.
    """
    _checked(adapter, pairs, sites)
    if not pairs or not sites:
        raise SiteError(f"attribution needs pairs and sites, got {len(pairs)} pairs and {len(sites)} sites")
    offered = adapter.support().get(Capability.GRADIENTS)
    if not offered:
        raise Unsupported(
            f"attribution needs gradients: {'this adapter has none' if offered is None else offered.reason}"
        )
    spans = [[located(adapter, site, len(pair.base), pair.spans) for pair in pairs] for site in sites]
    within = [site for site in sites if site.component in _WITHIN_ATTENTION]
    if within:
        located(adapter, Site(Component.Z), len(pairs[0].base), {})
    out = torch.empty(len(sites), len(pairs))

    def work(rows: list[int]) -> None:
        linear = _Expansion(adapter, [pairs[i] for i in rows], sites)
        for number, site in enumerate(sites):
            for row, i in enumerate(rows):
                out[number, i] = linear.effect(site, row, *spans[number][i])

    divided = Divided(adapter, ("attribution", pairs, sites), {"effects": out.T})
    in_batches(work, [len(pair.base) for pair in pairs], description, divided=divided)
    if not torch.isfinite(out).all():
        raise SiteError("the gradient contains NaN or infinity; nothing can be ranked by it (try --dtype float32)")
    return out


def _checked(adapter: object, pairs: object, sites: object) -> None:
    arguments.model(adapter)
    arguments.pairs(pairs)
    arguments.several("sites", sites, Site, arguments.SITES, "a site")


class _Expansion:
    """The base runs of some pairs, expanded to first order."""

    def __init__(self, adapter: Adapter, pairs: Sequence[PatchPair], sites: Sequence[Site]) -> None:
        self.adapter, self.pairs = adapter, pairs
        within = {self._key(site) for site in sites if site.component in _WITHIN_ATTENTION}
        places = {
            (site.component, n)
            for site in sites
            for n in layers_of(adapter, site)
            if site.component not in _WITHIN_ATTENTION
        }
        attended = {
            (Component.Z, n)
            for site in sites
            if site.component in _WITHIN_ATTENTION
            for n in layers_of(adapter, site)
        }
        batch = adapter.batch([pair.base for pair in pairs])
        self.pads, self.room = batch.pads, batch.width * len(batch)
        answers = [pair.answers for pair in pairs]
        _, self.base, self.gradient = cast(Differentiable, adapter).gradients(batch, places | attended, answers)
        wanted: dict[Donor, set[Place]] = {pair.source: places for pair in pairs}
        self.source = donate(adapter, [], self.room, wanted)
        self.moved = {key: self._attended(*key, attended) for key in within}

    def effect(self, site: Site, row: int, start: int, stop: int) -> float:
        """Of one site in one pair."""
        pad, total = self.pads[row], 0.0
        for layer in layers_of(self.adapter, site):
            place = (site.component, layer)
            if site.component in _WITHIN_ATTENTION:
                total += self._within(site, layer, row, start + pad, stop + pad)
                continue
            change = self.source.activations[self.pairs[row].source, place][start:stop]
            here = slice(start + pad, stop + pad)
            change = (change - self.base[place][row, here]) * self.gradient[place][row, here]
            total += float((change if site.heads is None else change[:, list(site.heads)]).sum())
        return total

    def _within(self, site: Site, layer: int, row: int, start: int, stop: int) -> float:
        by_head = self.moved[self._key(site)][layer][row]  # (position, head)
        if site.component is not Component.K:
            by_head = by_head[start:stop]
        heads = list(site.head_indices(self.adapter.heads, self.adapter.groups))
        if site.component.shape is Shape.GROUPS:
            each = self.adapter.heads // self.adapter.groups
            heads = [group * each + n for group in heads for n in range(each)]
        return float(by_head[:, heads].sum())

    @staticmethod
    def _key(site: Site) -> tuple[Component, Position]:
        """Queries and probabilities change what is attended at their own position only, keys everywhere after."""
        return site.component, site.position if site.component is Component.K else "all"

    def _attended(self, component: Component, position: Position, places: set[Place]) -> dict[int, Tensor]:
        """Layer -> (row, position, head): gradient times change of attended values, when a component is restored.

        Every block is given the base's input, so that one run tells for all layers.
        """
        site = _WITHIN_ATTENTION[component].everywhere()[position]
        runs = [
            Edited(
                pair.base, (replace(block_input.everywhere(), pair.base), replace(site, pair.source)), pair.spans
            )
            for pair in self.pairs
        ]
        donated = donate(self.adapter, runs, self.room)
        _, kept = execute(self.adapter, runs, donated, places)
        return {place[1]: ((kept[place] - self.base[place]) * self.gradient[place]).sum(-1) for place in places}


def _share(some: int, of: int) -> tuple[float, tuple[float, float]]:
    """A share with its 95 % Wilson interval."""
    if not of:
        return float("nan"), (0.0, 1.0)
    from scipy.stats import binomtest

    interval = binomtest(some, of).proportion_ci(method="wilson")
    return some / of, (float(interval.low), float(interval.high))
