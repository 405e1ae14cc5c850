"""A random sample of what a run measures, taken while it measures.

The engine offers every edit whose answer it reads: the pair, what is done to it and the answer logits. Where somebody
samples (the plugin, for a cross-check), a reservoir keeps each of them with equal probability without knowing how many
there will be (Vitter 1985, algorithm R); elsewhere an offer costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

from auditkit.stats.streams import stream

if TYPE_CHECKING:
    from torch import Tensor

    from auditkit.engine.edits import Edit
    from auditkit.engine.pairs import Condition, PatchPair
    from auditkit.engine.sites import Site


@dataclass(frozen=True)
class MeasuredEdit:
    """One edited run: what was done, as in a `Condition`, and the logits of the (right, wrong) answer."""

    pair: PatchPair
    edits: tuple[Site | Edit, ...]
    logits: tuple[float, float]


class Sample:
    """A uniform sample of at most `size` of the edits offered; the same seed and offers give the same one.

    Attributes:
        kept: the sample, in no order that means anything.
        offered: how many edits there were.
    """

    def __init__(self, size: int, seed: int) -> None:
        self.size = size
        self.kept: list[MeasuredEdit] = []
        self.offered = 0
        self._stream = stream(seed, "cross-check")

    def add(self, measured: MeasuredEdit) -> None:
        self.offered += 1
        if len(self.kept) < self.size:
            self.kept.append(measured)
            return
        place = int(self._stream.integers(self.offered))
        if place < self.size:
            self.kept[place] = measured


_sample: ContextVar[Sample | None] = ContextVar("auditkit_sample", default=None)


@contextmanager
def sampling(sample: Sample) -> Iterator[None]:
    """Let `sample` see what is measured inside the block."""
    token = _sample.set(sample)
    try:
        yield
    finally:
        _sample.reset(token)


def offer(pairs: Sequence[PatchPair], measured: Iterable[tuple[Condition, Tensor]]) -> None:
    """Offer conditions over `pairs` with their answer logits (pairs, 2); what edits nothing is left out."""
    sample = _sample.get()
    if sample is None:
        return
    for condition, logits in measured:
        for pair, edits, (right, wrong) in zip(pairs, condition, logits.tolist(), strict=True):
            if edits:
                sample.add(MeasuredEdit(pair, tuple(edits), (right, wrong)))
