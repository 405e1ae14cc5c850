"""What one claim has gathered so far: decisions, controls, figures, examples, notes and the values behind them.

A claim is a plain test function, so its measurements must find their way into the record without being handed
around. While a claim runs, the plugin opens a gathering; effects that are compared, controls and figures enter
it from wherever they are made. Outside a gathering (in a notebook, say) the same calls do nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from auditkit.record.schema import Control, Effect, Example, Figure, Grid, ItemRow, Verdict


@dataclass(frozen=True)
class Decision:
    """The outcome of one comparison of an effect with a threshold.

    True in a boolean context when it passed, False when it failed; an undecided comparison is never a Decision
    in the caller's hands, since the comparison raises instead.
    """

    verdict: Verdict
    reason: str
    effect: Effect
    threshold_source: str
    examples: tuple[Example, ...] = ()

    def __bool__(self) -> bool:
        return self.verdict is Verdict.PASS

    def __str__(self) -> str:
        return f"{self.verdict}: {self.reason}"

    __repr__ = __str__


@dataclass
class Evidence:
    """Everything gathered for one claim, in the order in which it was measured."""

    decisions: list[Decision] = field(default_factory=list)
    controls: list[Control] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    grids: list[Grid] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    items: dict[tuple[str, str, str, str], ItemRow] = field(default_factory=dict)
    """(effect, measurement, condition, item) -> row; keyed, since several effects may rest on one measurement."""
    in_control: bool = False


_gathering: ContextVar[Evidence | None] = ContextVar("auditkit_evidence", default=None)


@contextmanager
def gathering() -> Iterator[Evidence]:
    """Gather the evidence of the claim that runs inside the block."""
    evidence = Evidence()
    token = _gathering.set(evidence)
    try:
        yield evidence
    finally:
        _gathering.reset(token)


def current() -> Evidence | None:
    """The gathering in progress, if any."""
    return _gathering.get()


def note(text: str) -> None:
    """Tell the reader of the claim's report something they must know; repeated notes are kept once."""
    evidence = current()
    if evidence is not None and text not in evidence.notes:
        evidence.notes.append(text)


def repeat(aside: Evidence) -> None:
    """Tell the claim at hand what was noted when something was first measured: no matter which claim asked first."""
    for text in aside.notes:
        note(text)


def figure(drawing: Figure) -> None:
    """Put a figure under the claim."""
    evidence = current()
    if evidence is not None:
        evidence.figures.append(drawing)
