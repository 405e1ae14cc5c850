"""Several runs in the terminal: the sentences of the page, one line for each run, and the claims that change."""

from __future__ import annotations

from collections.abc import Iterator

from auditkit.report.several import words
from auditkit.report.several.matrix import Scorecard
from auditkit.report.terminal import wrapped

_LISTED = 10
"""Claims that change and are named one by one; the page has all."""


def lines(card: Scorecard) -> Iterator[str]:
    """Lines that say what the page says first."""
    for sentence in words.sentences(card):
        yield from wrapped(sentence)
    yield ""
    for place, label in enumerate(card.labels):
        counts = ", ".join(words.counted(state, count) for state, count in words.tally(card.rows, place).items())
        yield from wrapped(f"{place + 1} {label}: {counts}")
    changes = words.changed(card)
    if changes:
        yield ""
    for change in changes[:_LISTED]:
        yield from wrapped(f"{change.row.id} {change.course}. {change.sentence}")
    if len(changes) > _LISTED:
        yield f"{len(changes) - _LISTED} more claims change; the page names them"
