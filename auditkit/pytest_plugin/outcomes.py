"""Verdicts in pytest's terms: the outcome of a report, its letter and colour, and the words of a failed assert."""

from __future__ import annotations

from typing import cast, get_args

import pytest

from auditkit.claims.verdicts import blocks
from auditkit.pytest_plugin.options import options_of
from auditkit.record.escaping import plain
from auditkit.record.schema import Claim, Relation, Verdict
from auditkit.report import wording

MARKUP = {Verdict.PASS: "green", Verdict.FAIL: "red", Verdict.ERROR: "red"}


def markup(verdict: Verdict) -> dict[str, bool]:
    return {MARKUP.get(verdict, "yellow"): True}


def set_outcome(report: pytest.TestReport, claim: Claim, item: pytest.Item) -> None:
    """Give a report the outcome that stands for the claim's verdict under the run's profile."""
    vars(report).pop("wasxfail", None)  # a mark of pytest's own, by which it would count the claim as expected
    if claim.waiver is not None:
        vars(report).update(auditkit_waived=True)
    if claim.verdict is Verdict.PASS:
        report.outcome, report.longrepr = "passed", None
    elif blocks(claim, options_of(item.config).profile):
        report.outcome = "failed"
        if claim.verdict is not Verdict.FAIL or claim.lack is not None or not report.longrepr:
            report.longrepr = f"{plain(claim.id)}: {plain(claim.reason)}"
    else:
        report.outcome = "skipped"
        report.longrepr = (str(item.path), item.location[1] or 0, f"{claim.verdict}: {plain(claim.reason)}")
    vars(report).update(auditkit_verdict=str(claim.verdict))


def explain(op: str, left: object, right: object) -> list[str] | None:
    """Explanation of a failed `assert estimate >= number` for pytest."""
    from auditkit.stats.effects.base import Comparable

    if not isinstance(left, Comparable) or op not in get_args(Relation):
        return None
    relation = cast(Relation, op)
    if isinstance(right, Comparable):
        return [
            plain(f"{left.name} {op} {right.name}"),
            plain(wording.line((left - right).describe(relation, 0.0))),
        ]
    if isinstance(right, int | float):
        return [plain(f"{left.name} {op} {right:g}"), plain(wording.line(left.describe(relation, float(right))))]
    return None
