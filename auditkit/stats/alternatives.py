"""Does a verdict hang on a choice? A claim's comparisons are made again under choices that can be defended as well.

A claim about a band of layers chooses the layers, a claim about an answer chooses how the answer is read. Where two
authors could choose differently, a verdict that holds under one choice alone says little of the finding (multiverse
analysis: Steegen, Tuerlinckx, Gelman & Vanpaemel 2016, doi:10.1177/1745691616658637). The claim names its
*alternatives*, one choice changed at a time:

    def compare(band=EARLY):
        assert recovery(band) >= least

    alternatives(compare, Choice("layers of the band", "counted from zero", {"layers counted from one": {"band": ONE}}))
    compare()

The same code compares each time, so relation, threshold and level are the claim's own. What comes of it is shown and
decides nothing: it enters no family, no verdict and no gate, and whatever ends an alternative ends that alternative
alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from auditkit.claims.evidence import Evidence, current, gathering
from auditkit.claims.verdicts import concluded, deciding, ended_by
from auditkit.record.schema import Alternative, Control, Effect, ItemRow, Verdict
from auditkit.stats.families import fail_within_claim


@dataclass(frozen=True)
class Choice:
    """One choice that a claim makes, and what could have been chosen instead.

    Attributes:
        what: what is chosen, as a noun: "layers of the band".
        own: what the claim chose.
        others: what could stand in its place, in words that follow "with" -> the arguments of the comparison that
            differ from its defaults.
    """

    what: str
    own: str
    others: Mapping[str, Mapping[str, Any]]


def alternatives(compare: Callable[..., object], *choices: Choice) -> None:
    """Make the claim's comparisons under each alternative, beside the current claim; nothing outside a claim.

    Controls that were measured above hold for every alternative; one that depends on the choice stands in `compare`.
    Ask for thresholds outside of it, since each call of `threshold` is another number.

    Args:
        compare: makes all comparisons of the claim; called without arguments it makes the claim's own.

    Raises:
        ValueError: an alternative without a name, or two of one name.
    """
    names = [(choice.what, other) for choice in choices for other in choice.others]
    if len(set(names)) < len(names) or not all(map(all, names)):
        raise ValueError(f"alternatives need a name each, and no name twice: {names}")
    evidence = current()
    if evidence is None:
        return
    for choice in choices:
        for other, arguments in choice.others.items():
            _measure(evidence, choice, other, compare, arguments)


def mark(choice: str, other: str) -> str:
    """What the items of an alternative carry behind the name of their effect and measurement."""
    return f" [{choice}: {other}]"


def held_to(alternative: Alternative, compared: Iterable[Effect]) -> Alternative:
    """The alternative, or an ERROR of it where it does not compare as the claim does.

    The level itself may differ a little, as that of equivalence depends on the clusters. A comparison that fails or is
    undecided ends the claim's test or the alternative, so one of the two may have made fewer kinds of comparison than
    the other.
    """
    own, its = ({(e.relation, e.threshold, e.spent) for e in some} for some in (compared, alternative.effects))
    if not own or own <= its or its <= own:
        return alternative
    reason = "it compares with another threshold, on another side or at another look than the claim does"
    return msgspec.structs.replace(alternative, verdict=Verdict.ERROR, reason=reason)


def _measure(
    evidence: Evidence, choice: Choice, other: str, compare: Callable[..., object], arguments: Mapping[str, Any]
) -> None:
    """Measure one alternative and put it beside the claim."""
    above = [control for control in evidence.controls if control.verdict is not None]
    error: Exception | None = None
    with gathering() as apart:
        apart.controls += above
        apart.in_control = True  # its rows stand beside the claim's
        try:
            compare(**arguments)
        except Exception as ended:  # whatever it is, it says nothing of the claim; the strip shows it
            error = ended
    apart.decisions[:] = fail_within_claim(apart.decisions)
    verdict, reason = concluded(apart, error)
    first = deciding(apart.decisions, verdict)
    ordered = sorted(apart.decisions, key=lambda decision: decision is not first)
    behind = mark(choice.what, other)
    own = [control for control in apart.controls[len(above) :] if control.verdict is not None]
    effects = [decision.effect for decision in ordered]
    evidence.items |= _rows(apart.items.values(), [*effects, *_effects_of(own)], behind)
    alternative = Alternative(
        choice=choice.what,
        own=choice.own,
        other=other,
        verdict=verdict,
        reason=reason,
        effects=tuple(_marked(effect, behind) for effect in effects),
        controls=(*above, *(_marked_control(control, behind) for control in own)),
        ended=ended_by(error),
    )
    evidence.alternatives.append(alternative)


def _effects_of(controls: Sequence[Control]) -> Iterator[Effect]:
    return (control.effect for control in controls if control.effect is not None)


def _rows(
    rows: Iterable[ItemRow], effects: Sequence[Effect], behind: str
) -> dict[tuple[str, str, str, str], ItemRow]:
    """The rows that the effects are computed from, under names of their own.

    An alternative may compute other values under the claim's names, and the rows of one must not stand for the other.
    """
    rows, recipes = list(rows), [effect.recipe for effect in effects if effect.recipe is not None]
    named, shown = {recipe.rows for recipe in recipes}, {name for recipe in recipes for name in recipe.shown}
    averaged = [row for row in rows if row.effect in named]
    tables = {row.measurement for row in averaged}
    values = [row for row in rows if not row.effect and row.measurement in tables and row.condition in shown]
    found = {}
    for row in (*averaged, *values):
        effect, measurement = (f"{row.effect}{behind}" if row.effect else ""), f"{row.measurement}{behind}"
        key = (effect, measurement, row.condition, row.item)
        found[key] = msgspec.structs.replace(row, effect=effect, measurement=measurement)
    return found


def _marked(effect: Effect, behind: str) -> Effect:
    """The effect, computed again from the rows that carry the alternative's name."""
    if effect.recipe is None:
        return effect
    recipe = msgspec.structs.replace(effect.recipe, rows=f"{effect.recipe.rows}{behind}")
    return msgspec.structs.replace(effect, recipe=recipe)


def _marked_control(control: Control, behind: str) -> Control:
    effect = None if control.effect is None else _marked(control.effect, behind)
    return msgspec.structs.replace(control, effect=effect)
