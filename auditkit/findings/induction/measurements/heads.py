"""Induction heads and previous-token heads: found on one half of the sequences, confirmed on the other half.

An induction head gives at least `LEAST_ATTENTION` of its attention to the token after the previous occurrence, and more
than to each of four other places: the key at the same distance in the shuffled sequences, the previous occurrence
itself, the token before it, and the token before the query. A previous-token head gives as much to the token before the
query, and more than to the token two back and to the token after the previous occurrence.

A head is found where its mean score on one half reaches the least attention and exceeds its first control there, and
confirmed where all of this holds on the other half. Each half of the sequences finds heads for the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from auditkit.claims.outcomes import NotApplicable
from auditkit.claims.shared import SharedMeasurements
from auditkit.findings.induction.measurements.repeats import Repeats
from auditkit.findings.induction.measurements.scores import (
    BEFORE,
    DISTANCE,
    DUPLICATE,
    MATCH,
    PREVIOUS,
    TWO_BACK,
)
from auditkit.methods.head_search import Head, Searched, label, search
from auditkit.stats.effects.mean import Estimate, mean_difference
from auditkit.stats.halves import CrossFitted, Halves, joined, two_halves
from auditkit.stats.measurement import Measurement

LEAST_ATTENTION = 0.4
"""Share of a head's attention from which it is called by its score; see docs/decisions/induction.md."""


@dataclass(frozen=True)
class Kind:
    """What a kind of head is searched by.

    Attributes:
        name: of such heads, in the plural.
        score: what they have much of.
        against: scores that it must exceed, the first one also on the half on which heads are found.
        does: what candidates do, as the end of "12 heads ...".
    """

    name: str
    score: str
    against: tuple[str, ...]
    does: str


INDUCTION = Kind(
    "induction heads",
    MATCH,
    (DISTANCE, DUPLICATE, BEFORE, PREVIOUS),
    "attend to the token after the previous occurrence",
)
PREVIOUS_TOKEN = Kind("previous-token heads", PREVIOUS, (TWO_BACK, MATCH), "attend to the token before")


class InductionHeads:
    """Heads of one model by what they do on repeated tokens; searched once for each half.

    Args:
        repeats: the sequences and what was measured on them.
    """

    def __init__(self, repeats: Repeats) -> None:
        self.repeats = repeats
        self._searches = SharedMeasurements()
        self._discovered: dict[tuple[Kind, bool], dict[Head, Estimate]] = {}

    @property
    def halves(self) -> tuple[Halves, Halves]:
        """The split of the sequences, and the same with its halves exchanged.

        Raises:
            Inconclusive: too few sequences for two halves.
        """
        table = self.repeats.table("sequences", "1", {}).clusters
        return two_halves(table, self.repeats.seed, "induction").both_ways

    def rows(self, exchanged: bool) -> tuple[list[int], list[int]]:
        """Numbers of the sequences to find heads on, and of those to confirm them on."""
        way, ids = self.halves[exchanged], np.array(self.repeats.sequences.ids)
        one, other = (np.flatnonzero(np.isin(ids, some)).tolist() for some in (way.discovery, way.confirmation))
        return one, other

    def searched(
        self, kind: Kind = INDUCTION, exchanged: bool = False, least: float = LEAST_ATTENTION
    ) -> Searched:
        """Heads of one kind, found on one half.

        Args:
            exchanged: found on the second half and confirmed on the first.
            least: share of attention that the score must reach.

        Raises:
            NotApplicable: as `Repeats.measured`. Inconclusive: too few sequences.
        """
        return self._searches.get((kind, exchanged, least), lambda: self._search(kind, exchanged, least))

    def _search(self, kind: Kind, exchanged: bool, least: float) -> Searched:
        repeats, (one, other) = self.repeats, self.rows(exchanged)
        strong = repeats.scores(kind.score)[one].mean(0) >= least
        if (kind, exchanged) not in self._discovered:  # the same whatever the least attention is
            self._discovered[kind, exchanged] = repeats.every_head(kind.score, kind.against[0], one)
        discovery = self._discovered[kind, exchanged]

        def contrasts(head: Head) -> list[Estimate]:
            enough = replace(
                repeats.head(head, kind.score, rows=other) - least,
                name=f"{label(*head)}, {kind.score} minus {least:g}",
            )
            over = [repeats.head(head, kind.score, against, other) for against in kind.against]
            return [enough, *(replace(each, name=f"{label(*head)}, {each.name}") for each in over)]

        return search(
            f"{kind.name}{', halves exchanged' if exchanged else ''}",
            discovery,
            contrasts,
            [head for head in discovery if strong[head]],
            described=kind.does,
        )

    def held_out(
        self, kind: Kind = INDUCTION, against: str | None = None, least: float = LEAST_ATTENTION
    ) -> CrossFitted:
        """Mean score of the heads that the other half found, or by how much it exceeds another score of theirs.

        Where a half found none, its strongest head stands in. Where heads were found and none is confirmed, the
        estimate decides nothing.

        Raises:
            NotApplicable, Inconclusive: as `searched`.
        """
        ways = [self.searched(kind, exchanged, least) for exchanged in (False, True)]
        over = "" if against is None else f" minus {against}"
        one, other = (
            self.repeats.mean(way.judged, kind.score, against, self.rows(exchanged)[1])
            for exchanged, way in zip((False, True), ways, strict=True)
        )
        estimate = joined(f"{kind.name} that the other half found: {kind.score}{over}", one, other)
        if any(way.confirmed for way in ways) or not any(way.found for way in ways):
            return estimate
        return replace(estimate, refused=f"no_head_confirmed: {ways[0]}; with the halves exchanged none either")

    def by_row(self, kind: Kind = INDUCTION) -> Mapping[int, tuple[Head, ...]]:
        """Sequence -> the heads that the other half found, for the sequences of a half for which heads were found.

        Raises:
            NotApplicable: no head of this kind is confirmed on either half. Inconclusive: as `searched`.
        """
        ways = [self.searched(kind, exchanged) for exchanged in (False, True)]
        if not any(way.confirmed for way in ways):
            raise NotApplicable(f"the model has no {kind.name}: {ways[0]}")
        return {
            row: way.found
            for exchanged, way in zip((False, True), ways, strict=True)
            if way.found
            for row in self.rows(exchanged)[1]
        }


def listed(heads: Sequence[Head]) -> str:
    """Heads in words."""
    return "; ".join(label(*head) for head in heads)


def difference(table: Measurement, one: str, other: str, name: str) -> CrossFitted:
    """Mean of one condition minus another over sequences, each measured in the heads that the other half found."""
    both = Measurement(table.name, table.unit, table.values[[one, other]], table.clusters, table.prompts)
    return CrossFitted.of(mean_difference(both, one, other, name=name))
