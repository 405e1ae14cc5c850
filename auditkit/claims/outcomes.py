"""What ends a claim early, and what a threshold is: names that suites, statistics and the verdict rules share."""

from __future__ import annotations

import math
from typing import Self

from auditkit.claims.evidence import Decision
from auditkit.record.schema import Lack, Relation


class Inconclusive(Exception):
    """The evidence does not decide; `decision` holds what was measured."""

    def __init__(self, reason: str, decision: Decision | None = None) -> None:
        super().__init__(reason)
        self.decision = decision


class NotApplicable(Exception):
    """The claim cannot be asked of this model, since it does not show a behaviour that the claim is about.

    `lack` says what is missing, for a run with a baseline: a behaviour that the baseline shows has been lost, and that
    is a FAIL. Raise one of the two classes below where something else is missing.
    """

    lack: Lack = "behaviour"


class Unsupported(NotApplicable):
    """The claim needs something of the model that it does not have: a capability, a template, more layers."""

    lack = "capability"


class NotAsked(NotApplicable):
    """By design this run does not ask the claim, whatever the model does: it loses nothing against a baseline."""

    lack = "not asked"


class NotReadable(Exception):
    """A guard or control failed, so no number of this claim may be read."""


class Threshold(float):
    """A number to compare with that remembers where it comes from.

    Attributes:
        source: paper, policy, calibration run, ...
        call: which `threshold()` call of the claim it answers, from 1; None outside a claim.
        counts_from: the least distance from the threshold that counts, in the unit of the effect (see `any_effect`); 0:
            any distance does.
    """

    source: str
    call: int | None
    counts_from: float

    def __new__(cls, value: float, source: str, call: int | None = None, counts_from: float = 0.0) -> Self:
        threshold = super().__new__(cls, value)
        threshold.source = source
        threshold.call = call
        threshold.counts_from = counts_from
        return threshold

    def __getnewargs__(self) -> tuple[float, str, int | None, float]:  # type: ignore[override]  # copies keep them
        return float(self), self.source, self.call, self.counts_from


def any_effect(counts_from: float) -> Threshold:
    """Zero, for a claim that there is an effect: `effect > any_effect(0.25)`.

    Where a model has no such effect, no number of items decides the claim, since the truth lies on its threshold. Once
    the whole interval lies within `counts_from` of zero, the claim is still undecided and says that it sits at its
    threshold: the effect, if there is one, is smaller than the least that counts, so more items would not matter.

    Args:
        counts_from: the least size of effect that counts, in the unit of the effect. The project's suites take what
            they call unchanged in that unit elsewhere.

    Raises:
        ValueError: it is not positive and finite.
    """
    if not 0 < counts_from < math.inf:
        raise ValueError(f"the least effect that counts must be positive and finite, got {counts_from}")
    return Threshold(0.0, f"any effect; one below {counts_from:g} counts as none", counts_from=counts_from)


def sides(relation: Relation, lower: float, upper: float, threshold: float) -> tuple[bool, bool]:
    """Whether the whole interval lies on the right side, and whether it lies on the wrong one."""
    table: dict[Relation, tuple[bool, bool]] = {
        ">=": (lower >= threshold, upper < threshold),
        ">": (lower > threshold, upper <= threshold),
        "<=": (upper <= threshold, lower > threshold),
        "<": (upper < threshold, lower >= threshold),
        "within": (-threshold <= lower and upper <= threshold, lower > threshold or upper < -threshold),
    }
    return table[relation]


def place(relation: Relation, threshold: float, digits: int = 3) -> str:
    """Where an effect must lie, in words: "at or above 0.3", "within ±0.25"."""
    words = {">=": "at or above ", ">": "above ", "<=": "at or below ", "<": "below ", "within": "within ±"}
    return f"{words[relation]}{threshold:.{digits}g}"


def wrong_place(relation: Relation, threshold: float, digits: int = 3) -> str:
    """Where an effect lies that fails, in words: "below 0.3", "outside ±0.25"."""
    words = {">=": "below ", ">": "at or below ", "<=": "above ", "<": "at or above ", "within": "outside ±"}
    return f"{words[relation]}{threshold:.{digits}g}"
