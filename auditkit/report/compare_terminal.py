"""Two runs in the terminal: the sentence that answers, what got worse with its differences, and the rest as counts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from auditkit.record.escaping import plain
from auditkit.record.schema import Run
from auditkit.report import wording
from auditkit.report.compare import ClaimInBoth, counted, needing_baseline, not_compared, sentences
from auditkit.report.terminal import verdict, wrapped

_LISTED = ("fails now", "is broken now", "is no longer decided", "is gone", "still fails", "is still open")
"""What became of the claims that are listed one by one, since somebody has to look at them."""
_NAMED = 3
"""Claims without a comparison that are named for each reason."""


def comparison(was: Run, now: Run, table: Sequence[ClaimInBoth], colour: bool = False) -> Iterator[str]:
    """Lines that compare the claims of `was` and `now`; claims that got worse come first."""
    assert now.baseline is not None
    first, *more = sentences(was, now, table)
    yield from wrapped(first)
    yield ""
    for name, run in (("baseline", was), ("candidate", now)):
        yield f"{name:<10}{verdict(run.summary.verdict, colour)} {plain(run.model.name)}, {plain(run.created)}"
    for sentence in (*more, f"{wording.changes(now)}."):
        yield from wrapped(sentence)
    for difference in now.baseline.plan_differences:
        yield from wrapped(f"the plan differs: {difference}", indent=2)
    kind = ""
    for row in (row for row in table if row.kind in _LISTED):
        if row.kind != kind:
            kind = row.kind
            yield from ("", counted(row.kind, sum(other.kind == kind for other in table)).capitalize())
        yield from _claim(row, colour)
    for reason, some in not_compared(table).items():
        yield ""
        yield from wrapped(f"{counted('is not comparable', len(some))}: {reason}")
        named = ", ".join(row.id for row in some[:_NAMED])
        rest = f" and {len(some) - _NAMED} more" if len(some) > _NAMED else ""
        yield from wrapped(f"{named}{rest}", indent=2)
    needing = needing_baseline(table)
    if needing:
        yield ""
        yield from wrapped(
            f"{len(needing)} of the claims judge a change, and the candidate was measured without a baseline; measure "
            f"it with --baseline {now.baseline.run} to decide them"
        )


def _claim(row: ClaimInBoth, colour: bool) -> Iterator[str]:
    waived = " (waived)" if row.now is not None and row.now.waiver is not None else ""
    both = (row.now,) if row.about_change else (row.was, row.now)
    sides = [verdict(one.verdict, colour) if one else f"{wording.MISSING:<17}" for one in both]
    yield f"  {' → '.join(sides)} {plain(row.id)}{waived}"
    changes = [pair.change for pair in row.pairs if pair.change is not None]
    for change in changes[: wording.AT_ONCE]:
        allowed = f", allowed: {wording.threshold(change)}" if change.threshold is not None else ""
        yield f"    {wording.moved(change)}: {plain(change.name)}: {plain(wording.effect_text(change))}{allowed}"
    if changes[wording.AT_ONCE :]:
        yield f"    {wording.further(changes[wording.AT_ONCE :])}"
    if row.now is not None and row.now.reason:
        yield from wrapped(row.now.reason, indent=4)
    if row.reason:
        yield from wrapped(f"difference: {row.reason}", indent=4)
