"""The same effects of two runs, item by item: their paired differences, and in words what cannot be paired."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from auditkit.claims.changed import IDENTICAL
from auditkit.claims.outcomes import NotApplicable
from auditkit.record.baseline import BASELINE_LABEL
from auditkit.record.schema import Effect, Recipe
from auditkit.stats.effects.kept import Kept
from auditkit.stats.measurement import MeasurementError

_NAMED = 3
"""Effects that a claim's change names one by one."""


def paired(here: Mapping[str, Kept], there: Mapping[str, Kept]) -> tuple[list[Effect], list[str], bool]:
    """The differences of all effects that both runs hold, sentences for what has none, and whether all could be paired.

    Args:
        here: effect -> what the run recorded of it.
        there: the same of the baseline.
    """
    effects: list[Effect] = []
    said = only([name for name in here if name not in there], "here")
    said += only([name for name in there if name not in here], "on the baseline")
    problems: dict[str, list[str]] = {}
    comparable = True
    for name in [name for name in here if name in there]:
        try:
            problem, effect = difference(here[name], there[name])
        except (NotApplicable, MeasurementError) as error:
            said.append(str(error))
            continue
        if effect is None:
            comparable = False
        else:
            effects.append(effect)
        if problem:
            problems.setdefault(problem, []).append(name)
    return effects, [*said, *_of_several(problems)], comparable


def difference(here: Kept, there: Kept) -> tuple[str, Effect | None]:
    """The paired difference as a record, and why it has none, or no interval."""
    content = other_content(here.digests, there.digests)
    change = here.estimate.change_from(there.estimate, label=BASELINE_LABEL)
    reason = content or change.refused
    if reason:
        return reason, None
    effect, alike = change.describe(), there.estimate.alike
    if alike and effect.estimate == 0 and not change.numerator.any():
        reason = f"{IDENTICAL}: {alike}"
        recipe = Recipe(kind="change", rows=effect.name, refused=reason)
        return reason, msgspec.structs.replace(effect, lower=None, upper=None, recipe=recipe)
    return change._degenerate or "", effect


def only(names: Sequence[str], where: str) -> list[str]:
    """Sentences that name the effects which one run alone has."""
    if len(names) > _NAMED:
        return [f"{len(names)} effects were measured only {where} (the first: '{names[0]}')"]
    return [f"'{name}' was measured only {where}" for name in names]


def other_content(here: Mapping[str, str], there: Mapping[str, str]) -> str:
    """Why two effects are not of the same items, though they have the same names; empty if they are."""
    other = [item for item, digest in here.items() if item in there and there[item] != digest]
    if not other:
        return ""
    return (
        f"unmatched_content: {len(other)} of {len(here)} items have other prompts or clusters on the baseline "
        f"(first: {other[0]})"
    )


def _of_several(problems: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Each problem once, with the effects that have it."""
    for problem, names in problems.items():
        if len(names) > _NAMED:
            yield f"{len(names)} effects (the first: '{names[0]}'): {problem}"
        else:
            yield f"{', '.join(repr(name) for name in names)}: {problem}"
