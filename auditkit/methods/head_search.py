"""Search for attention heads: heads are selected on one half of the items and confirmed on the other half.

A model has hundreds of heads, so some will look selective on any items. Candidates are chosen by what says nothing of
the difference that is asked about, here whether a head looks at the place at all (independent filtering: Bourgon et
al. 2010, doi:10.1073/pnas.0914005107). Among them heads are found by Benjamini & Hochberg's procedure on one half. A
found head is confirmed when, on the other half, every way to count its attention and every group it is compared with
agrees: the weakest of these contrasts is above zero, by Benjamini & Hochberg over the found heads at the level of every
other decision, `CONFIRMED` (an intersection-union test: the largest p-value stands for the head), and none is smaller
than `LEAST` standard deviations of its items.

A confirmed head has come out large on the items that confirmed it, so its mean over them is too large. How large an
effect is, is therefore asked of all found heads on those items (`Searched.judged`): nothing there chose them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from auditkit.notebook import Showable
from auditkit.record.figures import Dots, Heatmap
from auditkit.record.schema import Effect, Figure
from auditkit.stats.effects.mean import Estimate
from auditkit.stats.families import explore
from auditkit.stats.intervals import ALPHA, MIN_CLUSTERS, Array, critical

if TYPE_CHECKING:
    import pandas as pd

CONFIRMED = ALPHA / 2
"""False discovery rate of the confirmation; where no head has the effect, the chance that any is confirmed."""
LEAST = 0.5
"""Cohen's dz that every contrast of a confirmed head reaches: mean over standard deviation of paired differences."""

Head = tuple[int, int]
"""Layer and head, from 0."""


@dataclass(frozen=True)
class Searched(Showable):
    """What a search found.

    Attributes:
        candidates: how many heads could be found.
        strongest: all heads of the model, the most selective on the items to discover first.
        found: those found there, in this order.
        confirmed: those of them that other items confirm, in this order.
        contrasts: found head -> its contrasts on those other items.
        why_not: found head that was not confirmed -> reason.
        described: what candidates do, as the end of "12 heads ...".
    """

    candidates: int
    strongest: tuple[Head, ...]
    found: tuple[Head, ...]
    confirmed: tuple[Head, ...]
    contrasts: Mapping[Head, Sequence[Estimate]]
    why_not: Mapping[Head, str]
    described: str = "attend to the word"

    @property
    def judged(self) -> tuple[Head, ...]:
        """Heads that the items to confirm did not choose: all found ones, or the strongest where none was found."""
        return self.found or self.strongest[:1]

    def in_words(self) -> str:
        return str(self)

    def to_frame(self) -> pd.DataFrame:
        """A row for each found head: whether it was confirmed, or why not, and its weakest contrast there."""
        import pandas as pd

        rows = []
        for layer, head in self.found:
            least = min(self.contrasts[layer, head], key=dz)
            effect = least.describe()
            row: dict[str, object] = {"layer": layer, "head": head, "confirmed": (layer, head) in self.confirmed}
            row |= {"weakest contrast": least.name, "estimate": effect.estimate}
            row |= {"lower": effect.lower, "upper": effect.upper, "dz": dz(least)}
            rows.append(row | {"why not": self.why_not.get((layer, head), "")})
        return pd.DataFrame(rows)

    def figures(self, title: str = "") -> tuple[Figure, ...]:
        """The weakest contrast of each found head on the items that confirm."""
        dots = {label(*head): min(self.contrasts[head], key=dz).describe() for head in self.found}
        caption = "Each found head's weakest contrast on the items to confirm, with its interval."
        drawn = Dots.of("weakest contrast", caption, {"found heads": dots}, reference=0.0)
        return (drawn.titled(title or "heads that were found"),) if dots else ()

    def __str__(self) -> str:
        return (
            f"of {len(self.strongest)} heads, {self.candidates} {self.described}, {counted(len(self.found))} "
            f"selected on one half of the items, {counted(len(self.confirmed))} confirmed on the other half"
        )


def search(
    name: str,
    discovery: Mapping[Head, Estimate],
    contrasts: Callable[[Head], Sequence[Estimate]],
    candidates: Collection[Head] | None = None,
    rate: float = 0.05,
    described: str = Searched.described,
) -> Searched:
    """Find heads whose estimate is above zero, and confirm them on other items.

    Args:
        discovery: every head's estimate on the items to discover.
        contrasts: a found head's estimates on the items to confirm; all must hold.
        candidates: heads that may be found; all where None.
        rate: false discovery rate among the found heads; that of the confirmed ones is `CONFIRMED`.
        described: what candidates do, as the end of "12 heads ...".
    """
    tails = {head: _known(estimate.tail(0.0)) for head, estimate in discovery.items()}
    order = sorted(discovery, key=lambda head: (-tails[head], head))
    asked = [head for head in discovery if candidates is None or head in candidates]
    hits = set[int]()
    if asked:
        hits = {id(e) for e in explore(f"{name}, to discover", [discovery[h] for h in asked], ">", rate=rate)}
    found = [head for head in order if id(discovery[head]) in hits]
    held = {head: tuple(contrasts(head)) for head in found}
    weakest = {head: min(held[head], key=lambda estimate: _known(estimate.tail(0.0))) for head in found}
    sure = set[int]()
    if found:
        sure = {id(hit) for hit in explore(f"{name}, to confirm", list(weakest.values()), ">", rate=CONFIRMED)}
    why_not: dict[Head, str] = {}
    for head in found:
        least = min(held[head], key=dz)
        if id(weakest[head]) not in sure:
            what = "has no interval" if weakest[head].tail(0.0) is None else "is not above zero"
            why_not[head] = f"{weakest[head].name} {what}"
        elif not dz(least) >= LEAST:
            why_not[head] = f"{least.name} is {dz(least):.2f} standard deviations, {LEAST:g} are needed"
    confirmed = tuple(head for head in found if head not in why_not)
    return Searched(len(asked), tuple(order), tuple(found), confirmed, held, why_not, described)


def dz(estimate: Estimate) -> float:
    """Cohen's dz: mean of the paired differences over their standard deviation; 0 where they do not vary."""
    spread = float(np.std(estimate.numerator, ddof=1)) if len(estimate.numerator) > 1 else 0.0
    return float(np.mean(estimate.numerator)) / spread if spread > 0 else 0.0


def _known(tail: float | None) -> float:
    """One minus the p-value of "above zero"; without an interval there is no evidence."""
    return 0.0 if tail is None else tail


def counted(number: int) -> str:
    """A number of heads as the subject of a sentence: "none was", "1 was", "12 were"."""
    return {0: "none was", 1: "1 was"}.get(number, f"{number} were")


def label(layer: int, head: int) -> str:
    """A head in words."""
    return f"layer {layer}, head {head}"


def head_map(
    effects: Sequence[Sequence[Effect]],
    value_label: str,
    caption: str,
    outlined: Sequence[tuple[int, int]] = (),
    scale: Literal["linear", "centred"] = "linear",
) -> Heatmap:
    """Heads by layers.

    Args:
        effects: of each layer, that of each head.
        outlined: (layer, head) to frame.
    """
    columns = [list(column) for column in zip(*effects, strict=True)]
    return Heatmap(
        "layer",
        "head",
        value_label,
        caption,
        [str(n) for n in range(len(effects))],
        [str(n) for n in range(len(columns))],
        [[effect.estimate for effect in column] for column in columns],
        [[effect.lower for effect in column] for column in columns],
        [[effect.upper for effect in column] for column in columns],
        [(head, layer) for layer, head in outlined],
        scale,
    )


def map_of_means(
    values: Array,
    value_label: str,
    caption: str,
    outlined: Sequence[Head] = (),
    scale: Literal["linear", "centred"] = "linear",
) -> Heatmap:
    """Heads by layers with the mean of each and its interval, all heads at once; no claim rests on it.

    The intervals are those of `Estimate` where every item is a cluster of its own. There is none where an `Estimate`
    has none, or has another one: where the values do not vary, are too few, or are -1, 0 and 1 alone.

    Args:
        values: (item, layer, head).
        outlined: (layer, head) to frame.
    """
    items, mean = len(values), values.mean(0)
    spread = values.std(0, ddof=1) if items > 1 else np.zeros_like(mean)
    whole = (values == np.rint(values)).all(0)
    known = (spread > 1e-12 * np.abs(values).max(0)) & ~whole & (items >= MIN_CLUSTERS)
    half = critical(items - 1) * spread / np.sqrt(items) if items > 1 else spread
    ends: list[list[list[float | None]]] = [
        np.where(known, end, np.nan).T.astype(object).tolist() for end in (mean - half, mean + half)
    ]
    lower, upper = ([[None if end != end else end for end in row] for row in side] for side in ends)
    return Heatmap(
        "layer",
        "head",
        value_label,
        caption,
        [str(n) for n in range(mean.shape[0])],
        [str(n) for n in range(mean.shape[1])],
        mean.T.tolist(),
        lower,
        upper,
        [(head, layer) for layer, head in outlined],
        scale,
    )
