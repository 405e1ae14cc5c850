"""What one claim has gathered so far: decisions, controls, figures, examples, notes and the values behind them.

A claim is a plain test function, so its measurements must find their way into the record without being handed
around. While a claim runs, the plugin opens a gathering; effects that are compared, controls and figures enter
it from wherever they are made. Outside a gathering (in a notebook, say) the same calls do nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Protocol, TypeVar

from auditkit.notebook import Showable
from auditkit.record.figures import Dots
from auditkit.record.schema import Alternative, Control, Effect, Example, Figure, Grid, ItemRow, Verdict

if TYPE_CHECKING:
    import pandas as pd

T = TypeVar("T")
BESIDE = "measured and shown"
"""Reason of a control that judges nothing: a number put beside the claim."""


class Estimated(Protocol):
    """An effect, as far as it can be put beside a claim."""

    def recorded(self) -> Effect: ...
    def keep_beside(self) -> None: ...


class Presentable(Protocol):
    """What a measurement offers for the report: sentences that its reader must know, and figures."""

    def notes(self) -> Iterable[str]: ...
    def figures(self) -> Iterable[Figure]: ...


@dataclass(frozen=True)
class Section:
    """Sentences and figures that belong together in a report, to be presented under a claim."""

    sentences: tuple[str, ...] = ()
    drawings: tuple[Figure, ...] = ()

    def notes(self) -> tuple[str, ...]:
        return self.sentences

    def figures(self) -> tuple[Figure, ...]:
        return self.drawings


@dataclass(frozen=True)
class Decision(Showable):
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

    def in_words(self) -> str:
        return str(self)

    def to_frame(self) -> pd.DataFrame:
        """One row: the verdict, its reason, and what was compared with what."""
        import pandas as pd

        shown = ("name", "estimate", "lower", "upper", "unit", "relation", "threshold", "n", "clusters")
        row = {"verdict": self.verdict.value, "reason": self.reason}
        return pd.DataFrame([row | {name: getattr(self.effect, name) for name in shown}])

    def figures(self, title: str = "") -> tuple[Figure, ...]:
        """The estimate with its interval beside the threshold."""
        effect = self.effect
        caption = f"{self}. The dashed line is the threshold, from: {self.threshold_source}."
        label = f"{effect.name} ({effect.unit})" if effect.unit else effect.name
        dots = Dots.of(label, caption, {"": {effect.name: effect}}, reference=effect.threshold)
        return (dots.titled(title or effect.name),)


@dataclass
class Evidence:
    """Everything gathered for one claim, in the order in which it was measured."""

    decisions: list[Decision] = field(default_factory=list)
    controls: list[Control] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    grids: list[Grid] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    alternatives: list[Alternative] = field(default_factory=list)
    items: dict[tuple[str, str, str, str], ItemRow] = field(default_factory=dict)
    """(effect, measurement, condition, item) -> row; keyed, since several effects may rest on one measurement."""
    in_control: bool = False
    replayed: list[Evidence] = field(default_factory=list, repr=False)
    """Recordings of shared measurements that this claim has had put under it (`auditkit.claims.shared`)."""


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


def clear(evidence: Evidence) -> None:
    """Forget everything that was gathered: the claim is measured anew."""
    for part in fields(evidence):
        held = getattr(evidence, part.name)
        if isinstance(held, list | dict):
            held.clear()
    evidence.in_control = False


def current() -> Evidence | None:
    """The gathering in progress, if any."""
    return _gathering.get()


def note(*sentences: str) -> None:
    """Put sentences under the current claim that its reader must know; the same sentence is kept once."""
    evidence = current()
    if evidence is not None:
        evidence.notes += [text for text in dict.fromkeys(sentences) if text not in evidence.notes]


def figure(*drawings: Figure) -> None:
    """Put figures under the current claim; the same figure is kept once.

    Raises:
        TypeError: something else than a figure.
    """
    if other := next((one for one in drawings if not isinstance(one, Figure)), None):
        raise TypeError(
            f"a {type(other).__name__} is no figure yet: give it a title, as in Dots.of(...).titled('...')"
        )
    evidence = current()
    if evidence is not None:
        evidence.figures += _new(drawings, evidence.figures)


def present(measured: Presentable) -> None:
    """Put the notes and the figures of a measurement under the current claim."""
    note(*measured.notes())
    if current() is not None:  # figures may cost; in a notebook the reader takes the ones that they want
        figure(*measured.figures())


def beside(name: str, estimate: Estimated) -> None:
    """Put an estimate beside the current claim without judging it, whatever it says."""
    evidence = current()
    if evidence is not None:
        effect = estimate.recorded()
        estimate.keep_beside()
        evidence.controls.append(Control(name=name, effect=effect, verdict=None, reason=BESIDE))


def replay(recorded: Evidence) -> None:
    """Put what was recorded while a shared measurement was made under the current claim; once for each claim."""
    evidence = current()
    if evidence is None or any(one is recorded for one in evidence.replayed):
        return
    evidence.replayed.append(recorded)
    note(*recorded.notes)
    evidence.figures += _new(recorded.figures, evidence.figures)
    evidence.grids += _new(recorded.grids, evidence.grids)
    evidence.controls += _new(recorded.controls, evidence.controls)
    evidence.items |= recorded.items


def _new(some: Iterable[T], there: Sequence[T]) -> list[T]:
    """Those of some that are not there yet; two that are equal but were made apart are two."""
    return [one for one in some if not any(one is other for other in there)]
