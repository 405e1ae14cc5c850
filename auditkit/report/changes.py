"""What changed since the baseline, what got worse for a claim first: rows for a forest plot, with a sentence each."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from auditkit.record.schema import Claim, Effect
from auditkit.report import wording
from auditkit.report.effects import changed_in_words
from auditkit.report.figures import forest
from auditkit.report.figures.forest import Row

_ORDER = {"worse": 0, "higher": 1, "lower": 1, "open": 2, "better": 3}
"""What stands first: an effect that is compared with nothing has no better side, so a shown move stands before none."""


@dataclass(frozen=True)
class Moved:
    """The changes of one claim's effects."""

    rows: tuple[Row, ...]
    """At most `wording.AT_ONCE`, the worst."""
    further: tuple[Row, ...]
    counted: str
    """The further ones in one sentence."""


def moved(claims: Sequence[Claim], anchor: Callable[[Claim], str]) -> list[Moved]:
    """The changes of all claims that have some, the claim with the worst one first."""
    found = [_of(claim, anchor(claim)) for claim in claims if claim.change is not None and claim.change.effects]
    return [made for _, made in sorted(found, key=lambda pair: pair[0])]


def _of(claim: Claim, anchor: str) -> tuple[tuple[int, float], Moved]:
    assert claim.change is not None
    effects = claim.change.effects
    # Values in one unit of measure can be compared, so they share a scale also where the threshold is 0.
    size = {
        unit: forest.common_unit(one for one in effects if one.unit == unit) for unit in {e.unit for e in effects}
    }
    ranked = sorted(((_rank(claim, one, size[one.unit]), one) for one in effects), key=lambda pair: pair[0])
    changes = [change for _, change in ranked]
    rows = [_row(claim, change, size[change.unit]) for change in changes]
    rows[0] = replace(rows[0], label=claim.statement, href=anchor, words=_first(claim, changes[0], rows[0].words))
    later = changes[wording.AT_ONCE :]
    counted = wording.further(later) if later else ""
    return ranked[0][0], Moved(tuple(rows[: wording.AT_ONCE]), tuple(rows[wording.AT_ONCE :]), counted)


def apart(claims: Sequence[Claim]) -> list[Claim]:
    """Claims of which nothing, or not everything, could be subtracted."""
    return [
        claim for claim in claims if claim.change is not None and (claim.change.reason or not claim.change.effects)
    ]


def _rank(claim: Claim, change: Effect, unit: float | None) -> tuple[int, float]:
    """What got worse, then what moved without a side, then what is open, then what got better; each by its size."""
    claimed = wording.changed(claim, change)
    drawn, order = forest.drawn_change(change, claimed, unit), _ORDER[forest.got(change, claimed)]
    if drawn is None:
        return order, math.inf
    return order, -abs(drawn.units) if order == 1 else drawn.units


def _row(claim: Claim, change: Effect, unit: float | None) -> Row:
    claimed = wording.changed(claim, change)
    items = f"{wording.number(change.n)} items in {wording.number(change.clusters)} clusters."
    words = f"{changed_in_words(change, claimed)} {items}".strip()
    return Row(change.name, change, forest.drawn_change(change, claimed, unit), words, claim.verdict)


def _first(claim: Claim, change: Effect, words: str) -> str:
    """The first row of a claim names the claim, so its effect and the verdict there stand in its words."""
    assert claim.change is not None
    was = claim.change.verdict
    before = "" if was is None else f"{wording.WORDS[was]} on the baseline, {wording.WORDS[claim.verdict]} now. "
    return f"{before}{change.name}: {words}"
