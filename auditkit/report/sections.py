"""What the page says of each suite, in the order in which a short paper says it.

A suite's section has its question and answer, its key figure, the intervals of its claims, the claims as sentences by
what came out, its controls, and what was not tested. A figure, a grid and a note that several claims share are shown
once; the other claims lead there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import msgspec

from auditkit.record.schema import Claim, Control, Effect, Figure, Grid, Run, Verdict
from auditkit.report.answers.headline import left_out
from auditkit.report.answers.kinds import WAIVED, asked, is_finding, is_left_out, needs_base, short, word
from auditkit.report.answers.scorecard import ScoreRow, scorecard
from auditkit.report.effects import in_words
from auditkit.report.figures import forest

_HEADING = 90
"""Characters of a source in a heading."""
_ORDER = (Verdict.ERROR, Verdict.FAIL, Verdict.PASS, Verdict.INCONCLUSIVE)


@dataclass(frozen=True)
class ClaimGroup:
    """Claims of a suite that came to the same, under one heading."""

    title: str
    claims: tuple[Claim, ...]
    folded: bool = False
    """The claims could not be asked: they stand behind the heading, which says why."""
    reason: str = ""


@dataclass(frozen=True)
class SuiteSection:
    """One suite on the page."""

    number: int
    row: ScoreRow
    sources: tuple[str, ...]
    plots: tuple[tuple[str, tuple[forest.Row, ...]], ...]
    """Rows of the forest plot under the source they come from."""
    groups: tuple[ClaimGroup, ...]
    nearest: tuple[Claim, Effect] | None
    """The comparison that lies furthest on the wrong side of its threshold."""
    controls: int
    """Controls that judge a claim which this run could ask."""
    held: int
    """Those that came out the way theory says."""
    wrong: tuple[tuple[Control, tuple[Claim, ...]], ...]
    """Those that did not, each with the claims that rest on it."""
    notes: tuple[str, ...]
    """Notes that several claims of the suite share."""
    untested: int
    """Claims and files of the suite that the run left out."""


@dataclass
class Shelf:
    """Where each figure and grid of a run is shown: once, however many claims hold it."""

    names: dict[bytes, str] = field(default_factory=dict)
    homes: dict[bytes, int] = field(default_factory=dict)
    _known: dict[int, bytes] = field(default_factory=dict)

    def _key(self, thing: Figure | Grid) -> bytes:
        if id(thing) not in self._known:
            self._known[id(thing)] = msgspec.json.encode(thing)
        return self._known[id(thing)]

    def place(self, thing: Figure | Grid, home: object) -> None:
        """Show `thing` at `home`, unless it has a place already."""
        key = self._key(thing)
        if key not in self.names:
            self.names[key] = f"{'f' if isinstance(thing, Figure) else 'g'}{len(self.names) + 1}"
            self.homes[key] = id(home)

    def name(self, thing: Figure | Grid) -> str:
        """Fragment of the place where `thing` is shown."""
        return self.names[self._key(thing)]

    def is_here(self, thing: Figure | Grid, home: object) -> bool:
        """Whether `home` is the place where `thing` is shown."""
        return self.homes[self._key(thing)] == id(home)


def shelf_of(sections: Iterable[SuiteSection]) -> Shelf:
    """Places for every figure and grid; a suite's key figure stands in its section."""
    shelf = Shelf()
    for section in sections:
        if section.row.figure is not None:
            shelf.place(section.row.figure, section)
        for claim in section.row.claims:
            for figure in claim.figures:
                shelf.place(figure, claim)
            for grid in claim.grids:
                shelf.place(grid, claim)
    return shelf


def sections(run: Run, anchors: dict[int, str]) -> list[SuiteSection]:
    """One section for each suite, in the order in which they ran."""
    return [_section(run, number, row, anchors) for number, row in enumerate(scorecard(run), start=1)]


def _section(run: Run, number: int, row: ScoreRow, anchors: dict[int, str]) -> SuiteSection:
    here = asked(run, row.claims)
    could = [claim for claim in here if claim.verdict is not Verdict.NOT_APPLICABLE]
    judged = [(claim, control) for claim in could for control in claim.controls if control.verdict is not None]
    wrong: dict[tuple[str, Verdict | None], list[tuple[Claim, Control]]] = {}
    for claim, control in judged:
        if control.verdict is not Verdict.PASS:
            wrong.setdefault((control.name, control.verdict), []).append((claim, control))
    notes = [note for claim in row.claims for note in dict.fromkeys(claim.notes)]
    folders = {claim.location.rpartition("/")[0] for claim in row.claims} - {""}
    return SuiteSection(
        number=number,
        row=row,
        sources=tuple(dict.fromkeys(claim.source for claim in row.claims if claim.source)),
        plots=tuple(_plots(run, here, anchors)),
        groups=tuple(_groups(run, row.claims, here)),
        nearest=_nearest(here),
        controls=len(judged),
        held=sum(control.verdict is Verdict.PASS for _, control in judged),
        wrong=tuple((some[0][1], tuple(claim for claim, _ in some)) for some in wrong.values()),
        notes=tuple(note for note in dict.fromkeys(notes) if notes.count(note) > 1),
        untested=sum(entry.what.partition("::")[0].rpartition("/")[0] in folders for entry in left_out(run)),
    )


def _plots(
    run: Run, here: Sequence[Claim], anchors: dict[int, str]
) -> Iterator[tuple[str, tuple[forest.Row, ...]]]:
    drawn = [claim for claim in here if claim.effect is not None and claim.verdict is not Verdict.NOT_APPLICABLE]
    sources = dict.fromkeys(claim.source for claim in drawn)
    for source in sources:
        rows = [_plot_row(run, claim, anchors[id(claim)]) for claim in drawn if claim.source == source]
        yield (_headed(source) if len(sources) > 1 else "", tuple(rows))


def _headed(source: str) -> str:
    """The beginning of a source, for a heading; the whole stands above."""
    return source if len(source) <= _HEADING else f"{source[:_HEADING].rsplit(' ', 1)[0]} …"


def _plot_row(run: Run, claim: Claim, anchor: str) -> forest.Row:
    row = forest.claim_row(claim, in_words(claim.effect, claim.suite), href=anchor)
    said = word(run, claim)
    return replace(
        row, label=short(claim), said=said, finding=is_finding(claim), waived=row.waived and said != WAIVED
    )


def _groups(run: Run, claims: Sequence[Claim], here: Sequence[Claim]) -> Iterator[ClaimGroup]:
    """Claims as sentences by what came out; what could not be asked is folded, by its reason."""
    published = any(map(is_finding, here))
    titles = {
        Verdict.ERROR: "What could not be measured",
        Verdict.FAIL: "What does not hold" if published else "What fails",
        Verdict.PASS: "What holds",
        Verdict.INCONCLUSIVE: "What is undecided",
    }
    for verdict in _ORDER:
        some = tuple(claim for claim in here if claim.verdict is verdict)
        if some:
            yield ClaimGroup(titles[verdict], some)
    absent: dict[str, list[Claim]] = {}
    for claim in here:
        if claim.verdict is Verdict.NOT_APPLICABLE:
            absent.setdefault(claim.reason, []).append(claim)
    for reason, some_claims in absent.items():
        yield ClaimGroup(f"{_claims(some_claims)} not apply to this model", tuple(some_claims), True, reason)
    needing = tuple(claim for claim in claims if needs_base(run, claim))
    if needing:
        verb = "needs" if len(needing) == 1 else "need"
        reasons = {claim.reason for claim in needing}
        yield ClaimGroup(
            f"{len(needing)} claim{'s' if len(needing) != 1 else ''} {verb} a base to compare with",
            needing,
            True,
            reasons.pop() if len(reasons) == 1 else "",
        )
    left = tuple(claim for claim in claims if is_left_out(run, claim))
    if left:
        title = f"{len(left)} claim{'s are' if len(left) != 1 else ' is'} not asked in this run, by design"
        yield ClaimGroup(title, left, True)


def _claims(claims: Sequence[Claim]) -> str:
    return "1 claim does" if len(claims) == 1 else f"{len(claims)} claims do"


def _nearest(here: Iterable[Claim]) -> tuple[Claim, Effect] | None:
    """The comparison furthest on the wrong side of its threshold, in comparable units; None: there is none."""
    found = [
        (drawn.units, claim, effect)
        for claim in here
        if claim.verdict not in (Verdict.NOT_APPLICABLE, Verdict.ERROR)
        for effect in claim.compared
        if (drawn := forest.drawn(effect)) is not None and effect.relation is not None and drawn.units < 0
    ]
    first = min(found, key=lambda one: one[0], default=None)
    return None if first is None else first[1:]
