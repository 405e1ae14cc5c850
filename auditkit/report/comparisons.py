"""The comparisons of a claim as a small table: what all of them share is said once, what differs has a column."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from string import ascii_lowercase

from auditkit.claims.evidence import BESIDE
from auditkit.record.schema import Claim, Control, Effect, Verdict
from auditkit.report import wording


@dataclass(frozen=True)
class Fact:
    """One thing that is known of every comparison."""

    name: str
    said: Callable[[Effect], str]
    """Its words for one comparison; an em dash where it is missing."""
    why: str = ""
    """Why it can be missing."""


FACTS = (
    Fact("must be", lambda e: wording.threshold(e), "the number is shown and compared with nothing"),
    Fact("items", lambda e: f"{wording.number(e.n)} in {wording.number(e.clusters)} clusters"),
    Fact("interval", lambda e: wording.level(e), "the number is exact"),
    Fact(
        "minimum detectable effect",
        lambda e: wording.MISSING if e.mde is None else f"{wording.number(e.mde)} {wording.unit(e.unit)}".strip(),
        "it cannot be computed for this design",
    ),
    Fact(
        "standardized effect",
        lambda e: wording.number(e.standardized),
        "there is no spread between clusters to divide by",
    ),
)
DECIDES = Fact(
    "to decide it", lambda e: wording.items_needed(e), "it is decided, or the number cannot be computed"
)
METHOD = "method"
_SENTENCE = 30
"""Characters from which words stand below the table where several rows have them."""


def controls_apart(claim: Claim) -> list[Control]:
    """The controls of a claim without those that only show once more what it compares."""

    def numbers(effect: Effect) -> tuple[str, float | None, float | None, float | None]:
        return effect.name, effect.estimate, effect.lower, effect.upper

    above = {numbers(effect) for effect in claim.compared}
    return [
        control
        for control in claim.controls
        if control.verdict is not None
        or control.effect is None
        or control.name != control.effect.name
        or numbers(control.effect) not in above
    ]


def measured_on(control: Control, claim: Claim) -> str:
    """What a control's effect is called, and what it rests on where that is not what its claim rests on."""
    effect, own = control.effect, claim.effect
    if effect is None:
        return ""
    said = [] if effect.name == control.name else [effect.name]
    if own is None or (effect.n, effect.clusters) != (own.n, own.clusters):
        said.append(f"{wording.number(effect.n)} items in {wording.number(effect.clusters)} clusters")
    if effect.alpha != 0.05 and (effect.lower is not None or effect.upper is not None):
        said.append(f"level {wording.level(effect)}")
    return "; ".join(said)


def further_reason(control: Control, claim: Claim) -> str:
    """The reason of a control; empty if its claim says it already, or its row, where the interval stands beside what it
    must be and the verdict."""
    effect, reason = control.effect, control.reason
    if (
        effect is not None
        and control.verdict is Verdict.PASS
        and effect.lower is not None
        and effect.upper is not None
    ):
        span = re.escape(f"[{effect.lower:.3g}, {effect.upper:.3g}]")
        if re.fullmatch(rf"the interval {span} lies (at or )?(above|below) [\d.e-]+", reason):
            return ""
    return "" if reason == BESIDE or reason in claim.reason else reason


@dataclass(frozen=True)
class Comparisons:
    """Comparisons of one claim."""

    shared: tuple[tuple[str, str], ...]
    """Name and words of what is the same for all."""
    columns: tuple[str, ...]
    """Names of what differs."""
    rows: tuple[tuple[Effect, tuple[str, ...]], ...]
    missing: tuple[tuple[str, str], ...]
    """Name of what is missing somewhere, and why that can be."""
    notes: tuple[str, ...] = ()
    """Sentences that several rows have: a letter stands for each."""


def comparisons(effects: Sequence[Effect], methods: Mapping[str, int]) -> Comparisons:
    """The table of `effects`; `methods` numbers the ways in which they were estimated."""
    open_ones = [DECIDES] if any(effect.items_range is not None for effect in effects) else []
    facts = [*FACTS, *open_ones, Fact(METHOD, lambda e: str(methods[e.method]))]
    words = {fact.name: [fact.said(effect) for effect in effects] for fact in facts}
    notes = _letters(words)
    same = [name for name, said in words.items() if len(set(said)) == 1]
    differ = [name for name in words if name not in same]
    return Comparisons(
        shared=tuple((name, words[name][0]) for name in same if words[name][0] != wording.MISSING),
        columns=tuple(differ),
        rows=tuple((effect, tuple(words[name][place] for name in differ)) for place, effect in enumerate(effects)),
        missing=tuple((fact.name, fact.why) for fact in facts if wording.MISSING in words[fact.name]),
        notes=notes,
    )


def _letters(words: dict[str, list[str]]) -> tuple[str, ...]:
    """Replace sentences that several rows have, and others not, with the letter of their note; the notes."""
    said = words.get(DECIDES.name, [])
    counts = Counter(text for text in said if len(text) > _SENTENCE)
    notes = [text for text, count in counts.items() if 1 < count < len(said)][: len(ascii_lowercase)]
    letters = {text: f"note {letter}" for text, letter in zip(notes, ascii_lowercase, strict=False)}
    if letters:
        words[DECIDES.name] = [letters.get(text, text) for text in said]
    return tuple(notes)
