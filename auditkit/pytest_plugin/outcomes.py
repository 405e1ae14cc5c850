"""Verdicts in pytest's terms: the outcome of a report, its letter and colour, and the words of a failed assert."""

from __future__ import annotations

import re
from typing import cast, get_args

import pytest

from auditkit.claims.verdicts import blocks
from auditkit.pytest_plugin.options import options_of
from auditkit.record.escaping import line, plain
from auditkit.record.schema import Claim, Relation, Verdict
from auditkit.report import brief, wording

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
        raised = claim.verdict is Verdict.ERROR and claim.ended in ("exception", "failed assertion")
        if raised:
            vars(report).update(auditkit_raised=_place(report))
        wanted = raised or (
            asks_for_tracebacks(item.config) and claim.verdict is Verdict.FAIL and claim.lack is None
        )
        told = f"{plain(claim.id)}: {plain(brief.why(claim))}"
        traceback = str(report.longrepr or "").splitlines() if wanted else []
        report.longrepr = "\n".join([told, *map(line, traceback)])
    else:
        report.outcome = "skipped"
        report.longrepr = (str(item.path), item.location[1] or 0, f"{claim.verdict}: {plain(claim.reason)}")
    vars(report).update(auditkit_verdict=str(claim.verdict))


def asks_for_tracebacks(config: pytest.Config) -> bool:
    """Whether somebody wants pytest's own account of claims that fail: by `-vv`, or by a style given with `--tb`."""
    style, arguments = config.option.tbstyle, map(str, config.invocation_params.args)
    chosen = style != "auto" or any(text.startswith("--tb") for text in arguments)
    return (chosen and style != "no") or int(config.option.verbose) > 1


def asks_for_a_list(config: pytest.Config) -> bool:
    """Whether somebody wants pytest's list of what failed: by `-r` on the command line."""
    return any(re.match(r"-(?!-)\w*r", str(text)) for text in config.invocation_params.args)


def _place(report: pytest.TestReport) -> str:
    """Where an exception was raised, and which: the same for every claim that one fault stops."""
    crash = getattr(report.longrepr, "reprcrash", None)
    return f"{crash.path}:{crash.lineno}: {crash.message}" if crash is not None else str(report.longrepr)


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
