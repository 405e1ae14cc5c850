"""Which heads single something out: found on one half of the items, confirmed on the other.

A model has hundreds of heads, so some will look selective on any items. Heads are found by Benjamini & Hochberg's
procedure on one half. A found head is confirmed when, on the other half, every way to count its attention and every
group it is compared with agrees: the weakest of these contrasts is above zero, again by Benjamini & Hochberg over the
found heads (an intersection-union test: the largest p-value stands for the head), and none is smaller than `LEAST`
standard deviations of its items.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from auditkit.stats.estimates import Estimate
from auditkit.stats.families import explore

LEAST = 0.5
"""Cohen's dz that every contrast of a confirmed head reaches: mean over standard deviation of paired differences."""

Head = tuple[int, int]
"""Layer and head, from 0."""


@dataclass(frozen=True)
class Searched:
    """What a search found.

    Attributes:
        strongest: all of them, the most selective on the items to discover first.
        found: those found there, in this order.
        confirmed: those of them that other items confirm, in this order.
        contrasts: found head -> its contrasts on those other items.
        why_not: found head that was not confirmed -> reason.
    """

    strongest: tuple[Head, ...]
    found: tuple[Head, ...]
    confirmed: tuple[Head, ...]
    contrasts: Mapping[Head, Sequence[Estimate]]
    why_not: Mapping[Head, str]

    def __str__(self) -> str:
        return (
            f"{len(self.found)} of {len(self.strongest)} heads found on one half of the items, "
            f"{len(self.confirmed)} of them confirmed on the other"
        )


def search(
    name: str,
    discovery: Mapping[Head, Estimate],
    contrasts: Callable[[Head], Sequence[Estimate]],
    rate: float = 0.05,
) -> Searched:
    """Find heads whose estimate is above zero, and confirm them on other items.

    Args:
        discovery: every head's estimate on the items to discover.
        contrasts: a found head's estimates on the items to confirm; all must hold.
        rate: false discovery rate of either step.
    """
    heads = list(discovery)
    tails = {head: estimate.tail(0.0) for head, estimate in discovery.items()}
    order = sorted(heads, key=lambda head: (-_known(tails[head]), head))
    hits = {id(hit) for hit in explore(f"{name}, to discover", list(discovery.values()), ">", rate=rate)}
    found = [head for head in order if id(discovery[head]) in hits]
    held = {head: tuple(contrasts(head)) for head in found}
    weakest = {head: min(held[head], key=lambda estimate: _known(estimate.tail(0.0))) for head in found}
    sure = set[int]()
    if found:
        sure = {id(hit) for hit in explore(f"{name}, to confirm", list(weakest.values()), ">", rate=rate)}
    why_not: dict[Head, str] = {}
    for head in found:
        least = min(held[head], key=dz)
        if id(weakest[head]) not in sure:
            why_not[head] = f"{weakest[head].name} is not above zero"
        elif not dz(least) >= LEAST:
            why_not[head] = f"{least.name} is {dz(least):.2f} standard deviations, {LEAST:g} are needed"
    confirmed = tuple(head for head in found if head not in why_not)
    return Searched(tuple(order), tuple(found), confirmed, held, why_not)


def dz(estimate: Estimate) -> float:
    """Cohen's dz: mean of the paired differences over their standard deviation; 0 where they do not vary."""
    spread = float(np.std(estimate.numerator, ddof=1)) if len(estimate.numerator) > 1 else 0.0
    return float(np.mean(estimate.numerator)) / spread if spread > 0 else 0.0


def _known(tail: float | None) -> float:
    """One minus the p-value of "above zero"; without an interval there is no evidence."""
    return 0.0 if tail is None else tail
