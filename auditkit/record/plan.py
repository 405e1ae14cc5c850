"""What is going to be asked, before anything is measured: the claims, and the record they will make.

A planned claim that never finishes is still part of the record, as an ERROR: what is absent from a report cannot be
told from what was never asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from auditkit.record.schema import Claim, Cost, FamilyPlace, Verdict

EFFORTS = {"quick": 0.25, "standard": 1.0, "thorough": 2.0}
"""`--effort` -> items of a measurement as a share of its own number."""
OF_SUITE = "="
"""Joins a suite and its effort, as in "quick,traits=standard"."""


def effort_of(asked: str, suite: str) -> str:
    """The effort of a suite: `asked` names one for all suites, and behind commas those of single suites."""
    return of_single_suites(asked).get(suite, asked.split(",")[0])


def of_single_suites(asked: str) -> dict[str, str]:
    """Suite -> its effort, of the suites that have one of their own."""
    return dict(one.split(OF_SUITE, 1) for one in asked.split(",")[1:])


def share_of(asked: str, suite: str) -> float:
    """Items of a suite's measurements as a share of its own; 1 for an effort that looks more than once."""
    return EFFORTS.get(effort_of(asked, suite), 1.0)


@dataclass(frozen=True)
class Look:
    """One of several looks at a claim.

    Attributes:
        share: items of a measurement as a share of its own number.
        spends: share of the error. All looks together spend 1, so by Bonferroni's rule they err at most as often as one
            look, whatever the items have in common.
    """

    share: float
    spends: float


STEPWISE = "stepwise"
"""The effort at which an undecided claim is looked at again."""
LOOKS = (Look(1.0, 0.1), Look(3.0, 0.9))
"""The looks of that effort. The last interval is 2 % wider than one that spends all."""

UNREACHED = "not measured: the run ended before this claim"
"""Reason of a planned claim that an interrupted run did not come to."""

OTHER_SHARDS = "claims of other shards"
"""What a shard has not tested; merging all shards takes the entry out."""


@dataclass(frozen=True)
class PlannedClaim:
    """A claim as far as it is known before it is measured; the fields are those of `schema.Claim`."""

    id: str
    suite: str
    statement: str
    source: str
    rerun: str
    family: FamilyPlace | None = None
    location: str = ""
    question: str = ""

    def claim(self, verdict: Verdict, reason: str, cost: Cost) -> Claim:
        """The claim with a verdict and no evidence yet."""
        return Claim(
            id=self.id,
            suite=self.suite,
            statement=self.statement,
            source=self.source,
            verdict=verdict,
            reason=reason,
            threshold_source="",
            effect=None,
            family=self.family,
            cost=cost,
            rerun=self.rerun,
            location=self.location,
            question=self.question,
        )

    def lost(self, reason: str) -> Claim:
        """The claim when it was not measured to its end: an ERROR, never absent."""
        return self.claim(Verdict.ERROR, reason, Cost(seconds=0.0, token_layers=0, share_of_minimum=None))


def completed(
    planned: Sequence[PlannedClaim], done: Mapping[str, Claim], lost: Mapping[str, str]
) -> tuple[Claim, ...]:
    """Every planned claim in the plan's order: as it was measured, or as lost with the reason.

    Args:
        done: claim id -> measured claim.
        lost: claim id -> why it was not measured to its end, where that is known.
    """
    return tuple(done.get(claim.id) or claim.lost(lost.get(claim.id, UNREACHED)) for claim in planned)
