"""Several runs in the terminal: the sentences of the page, one line for each run, and the claims that change."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from auditkit.record.escaping import line, plain
from auditkit.report.several import words
from auditkit.report.several.matrix import Scorecard

_WIDTH = 100
_LISTED = 10
"""Claims that change and are named one by one; the page has all."""


def lines(card: Scorecard) -> Iterator[str]:
    """Lines that say what the page says first."""
    for sentence in words.sentences(card):
        yield from _wrapped(sentence)
    yield ""
    for place, label in enumerate(card.labels):
        counts = ", ".join(words.counted(state, count) for state, count in words.tally(card.rows, place).items())
        yield from _wrapped(f"{place + 1:>2}  {label}: {counts}", indent=4, first=0)
    changes = words.changed(card)
    if changes:
        yield ""
    for change in changes[:_LISTED]:
        yield from _wrapped(f"{change.row.id} {change.course}. {change.sentence}", indent=2, first=0)
    if len(changes) > _LISTED:
        yield f"{len(changes) - _LISTED} more claims change; the page names them"


def _wrapped(text: str, indent: int = 0, first: int | None = None) -> Iterator[str]:
    start = " " * (indent if first is None else first)
    wrapped = textwrap.wrap(plain(text), _WIDTH, initial_indent=start, subsequent_indent=" " * indent)
    yield from map(line, wrapped)
