"""The groups, sites or models that one claim compares with one threshold, furthest on the wrong side first."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

from auditkit.record.schema import Claim, Effect, Verdict
from auditkit.report import wording
from auditkit.report.effects import in_words
from auditkit.report.figures import forest

_UNREADABLE = (Verdict.NOT_APPLICABLE, Verdict.ERROR)


@dataclass(frozen=True)
class Groups:
    """The comparisons of a claim as rows of a forest plot, furthest on the wrong side first."""

    rows: tuple[forest.Row, ...]
    must: str
    """What all are compared with."""
    words: str
    """The first in words."""

    def row(self, effect: Effect) -> forest.Row | None:
        """The row of this comparison of the claim; None where it asks another question."""
        return next((row for row in self.rows if row.effect is effect), None)


def groups(claim: Claim) -> Groups | None:
    """The comparisons of a claim that share threshold and unit, or most of them do; None where there are no two, or
    where they are not read, since the claim does not apply or has an error."""
    if claim.verdict in _UNREADABLE:
        return None
    counts = Counter(_question(effect) for effect in claim.compared if effect.relation is not None)
    question, count = counts.most_common(1)[0] if counts else ((), 0)
    if count < 2:
        return None
    some = [effect for effect in claim.compared if _question(effect) == question]
    unit = forest.common_unit(some)
    rows = sorted((forest.Row(effect.name, effect, forest.drawn(effect, unit)) for effect in some), key=_place)
    return Groups(tuple(rows), wording.threshold(some[0]), in_words(rows[0].effect, claim.suite))


def in_order(claim: Claim) -> tuple[Effect, ...]:
    """The comparisons of a claim: its groups with the worst first, and then what asks another question."""
    found = groups(claim)
    if found is None:
        return claim.compared
    first = tuple(row.effect for row in found.rows if row.effect is not None)
    return first + tuple(effect for effect in claim.compared if found.row(effect) is None)


def _question(effect: Effect) -> tuple[object, ...]:
    return effect.unit, effect.relation, effect.threshold


def _place(row: forest.Row) -> float:
    return math.inf if row.drawn is None else row.drawn.units
