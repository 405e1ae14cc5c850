"""Measuring again through another adapter: an independent engine vouches for the numbers.

What a sweep has measured by restarting blocks, another engine measures by whole forward passes through code of other
make. If both say the same, neither padding nor hooks nor bookkeeping have made the number.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from auditkit.adapters.protocol import Adapter, Component
from auditkit.engine.edits import Edit, Edited
from auditkit.engine.patching.plain import patch
from auditkit.engine.sampling import MeasuredEdit
from auditkit.engine.sites import Site

_AT_ONCE = 32
"""Edits measured together: `patch` keeps the source run's activations at all their places."""

_EPSILONS = 256
"""Rounding of a deep residual stream in float32, in units of epsilon times the largest logit, as at opening."""

_FLOORS = 4
"""Two measurements, each in two batch shapes, may each be off by the noise floor measured at opening."""


@dataclass(frozen=True)
class CrossChecked:
    """How far two adapters are apart.

    Attributes:
        measured: edits that were measured again.
        missing: reason why the other adapter cannot make an edit -> number of edits.
        largest: largest absolute difference of an answer logit; None where nothing was measured again.
        where: the site of the largest difference.
        allowed: what rounding explains, see `allowed_difference`.
    """

    measured: int
    missing: dict[str, int]
    largest: float | None
    where: str
    allowed: float | None

    @property
    def agrees(self) -> bool | None:
        """Whether rounding explains the difference; None where nothing was measured again."""
        if self.largest is None or self.allowed is None:
            return None
        return self.largest <= self.allowed


def cross_check(adapter: Adapter, sample: Sequence[MeasuredEdit], parity: float) -> CrossChecked:
    """Measure a sample again through `adapter`, by plain patching.

    Args:
        sample: what was measured through the first adapter.
        parity: noise floor of the first adapter, as measured when it opened the model.

    Raises:
        GuardTripped: a guard of the second measurement; it says nothing about the first.
    """
    able: list[MeasuredEdit] = []
    missing: Counter[str] = Counter()
    support = adapter.support()
    for measured in sample:
        reasons = [support[c].reason for c in map(_component, _within(measured.edits)) if not support[c]]
        if reasons:
            missing[reasons[0]] += 1
        else:
            able.append(measured)
    able.sort(key=lambda measured: (_words(measured.edits[0]), len(measured.pair.base)))
    if not able:
        return CrossChecked(0, dict(missing), None, "", None)
    again = []
    for start in range(0, len(able), _AT_ONCE):
        part = able[start : start + _AT_ONCE]
        conditions = {"again": [one.edits for one in part]}
        unused = torch.zeros(len(part), 2)  # the base run's answers: nothing here is compared with them
        again.append(
            patch(adapter, [one.pair for one in part], conditions, "cross-check", unused).conditions["again"]
        )
    logits = torch.tensor([one.logits for one in able])
    differences = (torch.cat(again) - logits).abs().amax(1)
    worst = int(differences.argmax())
    scale = float(logits.abs().max())
    allowed = allowed_difference(scale, adapter.info.dtype, max(parity, adapter.info.parity_max_abs))
    where = ", ".join(map(_words, able[worst].edits))
    return CrossChecked(len(able), dict(missing), float(differences[worst]), where, allowed)


def _within(edits: Sequence[Site | Edit]) -> Iterator[Site | Edit]:
    """The edits, and those of the runs that give activations to them."""
    for edit in edits:
        yield edit
        if isinstance(edit, Edit) and isinstance(edit.give, Edited):
            yield from _within(edit.give.edits)


def _component(edit: Site | Edit) -> Component:
    return (edit.site if isinstance(edit, Edit) else edit).component


def _words(edit: Site | Edit) -> str:
    return str(edit.site if isinstance(edit, Edit) else edit)


def allowed_difference(scale: float, dtype: str, parity: float) -> float:
    """How far two adapters may be apart in logits of size `scale`.

    The largest of: the rounding of float32 (256 epsilon x scale); in shorter types two steps of the type at that
    size; and four times the larger noise floor that the two adapters measured on this model when they opened it.
    """
    epsilon = torch.finfo(getattr(torch, dtype)).eps
    return max(_EPSILONS * torch.finfo(torch.float32).eps * scale, 2 * epsilon * scale, _FLOORS * parity)
