"""The groups, sites or models that one claim compares with one threshold, furthest on the wrong side first."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace

from auditkit.record.schema import Claim, Effect, Verdict
from auditkit.report import wording
from auditkit.report.effects import in_words
from auditkit.report.figures import forest

_UNREADABLE = (Verdict.NOT_APPLICABLE, Verdict.ERROR)


@dataclass(frozen=True)
class Groups:
    """The comparisons of a claim as rows of a forest plot."""

    rows: tuple[forest.Row, ...]
    """At most `wording.AT_ONCE`; the first says its effect in words."""
    must: str
    """What all are compared with."""
    further: str
    """The others in one sentence; empty where there are none."""


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
    worst = rows[0].effect
    rows[0] = replace(rows[0], words=in_words(worst, claim.suite))
    left = rows[wording.AT_ONCE :]
    return Groups(tuple(rows[: wording.AT_ONCE]), wording.threshold(some[0]), _further(len(left)))


def _question(effect: Effect) -> tuple[object, ...]:
    return effect.unit, effect.relation, effect.threshold


def _place(row: forest.Row) -> float:
    return math.inf if row.drawn is None else row.drawn.units


def _further(left: int) -> str:
    if left <= 0:
        return ""
    verb = "comparison lies" if left == 1 else "comparisons lie"
    return f"{left} {verb} further on the claimed side; the statistics have all."
