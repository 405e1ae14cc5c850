"""The strip of a claim: a small interval for each choice that its author could have made as well, and one sentence.

The strip decides nothing, and says whether the verdict hangs on a choice.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from auditkit.record.schema import Alternative, Claim, Control, Effect, Verdict

WIDTH, HEIGHT = 200.0, 16.0
"""Size of a drawing in its own units."""

_MARGIN = 6.0
_STRETCH = 1.0
"""How far intervals may widen the scale beyond estimates and thresholds, in multiples of their span on each side."""

_SAYS = {
    Verdict.PASS: "holds",
    Verdict.FAIL: "fails",
    Verdict.INCONCLUSIVE: "is undecided",
    Verdict.NOT_APPLICABLE: "does not apply",
    Verdict.ERROR: "cannot be read",
}


@dataclass(frozen=True)
class IntervalPaths:
    """Paths of one interval; empty where there is nothing to draw."""

    region: str
    """Where the whole interval must lie."""
    ticks: str
    """Thresholds."""
    whisker: str
    """The interval; an end without a stroke across lies outside of the drawing."""
    point: str


@dataclass(frozen=True)
class ChoiceRow:
    """What the claim says under one choice."""

    name: str
    choice: str
    """Empty for the claim's own row, as `own` is."""
    own: str
    verdict: Verdict
    reason: str
    effect: Effect | None
    """The deciding comparison."""
    further: tuple[Effect, ...]
    """Comparisons that were made besides; none in the claim's own row, since they stand above the strip."""
    controls: tuple[Control, ...]
    """Those that were measured again for this choice."""
    drawing: IntervalPaths | None


@dataclass(frozen=True)
class Strip:
    """A claim's own row and one for each alternative; no row where the claim applies under none of them."""

    sentence: str
    rows: tuple[ChoiceRow, ...]


def strip_of(claim: Claim) -> Strip | None:
    """The strip of a claim; None where its author named no alternatives."""
    if not claim.alternatives:
        return None
    effects = [claim.effect, *(one.effects[0] if one.effects else None for one in claim.alternatives)]
    scales = _scales(effect for effect in effects if effect is not None)
    drawings = [_drawing(effect, scales) for effect in effects]
    own = ChoiceRow(
        "the claim's own choices", "", "", verdict_alone(claim), claim.reason, claim.effect, (), (), drawings[0]
    )
    others = [
        ChoiceRow(
            name=one.other,
            choice=one.choice,
            own=one.own,
            verdict=one.verdict,
            reason=one.reason,
            effect=effect,
            further=one.effects[1:],
            controls=tuple(control for control in one.controls if control not in claim.controls),
            drawing=drawing,
        )
        for one, effect, drawing in zip(claim.alternatives, effects[1:], drawings[1:], strict=True)
    ]
    rows = (own, *others)
    applies = any(row.verdict is not Verdict.NOT_APPLICABLE for row in rows)
    return Strip(sentence(claim), rows if applies else ())


def verdict_alone(claim: Claim) -> Verdict:
    """What the claim came to by itself: without its family, and without what a baseline showed, as alternatives do."""
    if claim.lack is not None:
        return Verdict.NOT_APPLICABLE
    alone = claim.family.alone if claim.family is not None else None
    return claim.verdict if alone is None else alone


def sentence(claim: Claim) -> str:
    """Whether the verdict of a claim with alternatives hangs on a choice, in one sentence."""
    own, count = verdict_alone(claim), len(claim.alternatives)
    by_verdict: dict[Verdict, list[Alternative]] = {}
    for one in claim.alternatives:
        if one.verdict is not own:
            by_verdict.setdefault(one.verdict, []).append(one)
    same = count - sum(map(len, by_verdict.values()))
    alone = "" if own is claim.verdict else f" The claim by itself {_SAYS[own]}."
    if not by_verdict:
        under = {1: "the other choice", 2: "both other choices"}.get(count, f"all {count} other choices")
        return f"The verdict is the same under {under}.{alone}"
    if count == 1:
        said = "The verdict is not the same under the other choice"
    elif same:
        said = f"The verdict is the same under {same} of {count} other choices"
    else:
        said = f"The verdict is the same under none of {count} other choices"
    parts = [f"with {_listed([o.other for o in some])} the claim {_SAYS[v]}" for v, some in by_verdict.items()]
    return f"{said}; {'; '.join(parts)}.{alone}"


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"


# -- drawing -------------------------------------------------------------------------------------------------------


def _scales(effects: Iterable[Effect]) -> dict[str, tuple[float, float]]:
    """Unit -> the values at the ends of its drawings."""
    by_unit: dict[str, list[Effect]] = {}
    for effect in effects:
        by_unit.setdefault(effect.unit, []).append(effect)
    return {unit: _ends(some) for unit, some in by_unit.items()}


def _ends(effects: list[Effect]) -> tuple[float, float]:
    core = [effect.estimate for effect in effects if effect.estimate is not None]
    core += [value for effect in effects for value in _thresholds(effect)]
    outer = [end for effect in effects for end in (effect.lower, effect.upper) if end is not None]
    if not core:
        return 0.0, 1.0
    reach = _STRETCH * (max(core) - min(core)) or max((abs(end - core[0]) for end in outer), default=0.0) or 1.0
    low = min([*core, *(max(end, min(core) - reach) for end in outer)])
    high = max([*core, *(min(end, max(core) + reach) for end in outer)])
    return (low, high) if high > low else (low - reach, high + reach)


def _thresholds(effect: Effect) -> tuple[float, ...]:
    if effect.relation is None or effect.threshold is None:
        return ()
    return (-effect.threshold, effect.threshold) if effect.relation == "within" else (effect.threshold,)


def _drawing(effect: Effect | None, scales: dict[str, tuple[float, float]]) -> IntervalPaths | None:
    """The paths of an effect; None where it has no estimate."""
    if effect is None or effect.estimate is None:
        return None
    low, high = scales[effect.unit]

    def x(value: float) -> float:
        share = value / (high - low) - low / (
            high - low
        )  # as a difference first, the largest numbers would overflow
        return round(_MARGIN + (WIDTH - 2 * _MARGIN) * min(1.0, max(0.0, share)), 1)

    ticks = [x(value) for value in _thresholds(effect)]
    region = {">=": (ticks, [WIDTH]), "<=": ([0.0], ticks), "within": (ticks[:1], ticks[1:])}
    relation = {">": ">=", "<": "<="}.get(effect.relation or "", effect.relation or "")
    start, stop = region.get(relation, ([], []))
    whisker = ""
    if effect.lower is not None and effect.upper is not None and not effect.exact:
        whisker = f"M{x(effect.lower):g} 8H{x(effect.upper):g}"
        whisker += "".join(f"M{x(end):g} 5V11" for end in (effect.lower, effect.upper) if low <= end <= high)
    at = x(effect.estimate)
    return IntervalPaths(
        region=f"M{start[0]:g} 1H{stop[0]:g}V15H{start[0]:g}z" if start and stop else "",
        ticks="".join(f"M{place:g} 1V15" for place in ticks),
        whisker=whisker,
        point=f"M{at - 3:g} 8a3 3 0 1 0 6 0a3 3 0 1 0-6 0",
    )
