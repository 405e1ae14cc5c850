"""What kind of claim each claim of a run is, and the words that its verdict has for a reader.

One verdict, FAIL, means two things: a published finding does not hold on this model, which is a result, or a check
that a release depends on went wrong, which blocks it. The record keeps the one verdict. A reader gets two words.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from auditkit.record.baseline import NO_BASELINE
from auditkit.record.schema import Claim, Run, Verdict

_CITATION = re.compile(r"\barXiv:\s*\d|\bdoi\b|\b10\.\d{4,}/|\([^()]*\b(?:19|20)\d\d\b", re.IGNORECASE)

FINDING_WORDS = {
    Verdict.PASS: "holds",
    Verdict.FAIL: "does not hold",
    Verdict.INCONCLUSIVE: "undecided",
    Verdict.NOT_APPLICABLE: "does not apply",
    Verdict.ERROR: "not readable",
}
CHECK_WORDS = FINDING_WORDS | {
    Verdict.PASS: "passes",
    Verdict.FAIL: "blocks",
    Verdict.INCONCLUSIVE: "still open",
}
NEEDS_BASE = "needs a base"
BY_DESIGN = "not asked here"
WAIVED = "waived"


def is_finding(claim: Claim) -> bool:
    """Whether the claim is a published finding: its source cites a publication (arXiv, DOI, or a year in brackets).

    Every other claim is a check, by which a release is judged.
    """
    return _CITATION.search(claim.source) is not None


def needs_base(run: Run, claim: Claim) -> bool:
    """Whether the claim compares with a baseline that this run does not have."""
    return run.baseline is None and claim.verdict is Verdict.NOT_APPLICABLE and NO_BASELINE in claim.reason


def is_left_out(run: Run, claim: Claim) -> bool:
    """Whether this run does not ask the claim by design, other than for want of a baseline."""
    return claim.lack == "not asked" and not needs_base(run, claim)


def word(run: Run, claim: Claim) -> str:
    """The verdict of a claim in the word that a reader acts on: "does not hold" for a finding, "blocks" for a check."""
    if needs_base(run, claim):
        return NEEDS_BASE
    if is_left_out(run, claim):
        return BY_DESIGN
    if claim.waiver is not None and claim.waiver.state == "applied":
        return WAIVED
    return (FINDING_WORDS if is_finding(claim) else CHECK_WORDS)[claim.verdict]


def asked(run: Run, claims: Iterable[Claim]) -> list[Claim]:
    """The claims that this run puts to its model: without those that need a baseline or are left out by design."""
    return [claim for claim in claims if not needs_base(run, claim) and not is_left_out(run, claim)]


def short(claim: Claim) -> str:
    """The claim's name as words: "no group gets worse decisions (gender)"."""
    name, _, parameters = claim.id.rpartition("/")[2].partition("[")
    words = name.replace("_", " ").strip()
    words += f" ({parameters.removesuffix(']')})" if parameters else ""
    return words if len(words) <= 90 else f"{words[:87].rstrip()}…"
