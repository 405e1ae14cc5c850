"""What the terminal shows of an audit: a line now and then, the table of claims, and claims by model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pytest

from auditkit.plugin.gate import write_gate
from auditkit.plugin.outcomes import markup
from auditkit.record.schema import Claim, Run, Verdict
from auditkit.report import wording

if TYPE_CHECKING:
    from auditkit.plugin.run import AuditRun

_AGREEMENT = {True: {"green": True}, False: {"red": True}, None: {"yellow": True}}


def say(config: pytest.Config, line: str) -> None:
    """One line now, where there is a terminal to say it on."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None:
        reporter.write_line(line)


def summarize(reporter: pytest.TerminalReporter, run: AuditRun) -> None:
    """The table of claims and the path of the report."""
    result, folder = run.result, run.folder
    assert result is not None
    assert folder is not None
    reporter.ensure_newline()
    reporter.section(f"audit of {result.model.name}")
    for claim in result.claims:
        reporter.write(f"{wording.WORDS[claim.verdict]:<16}", **markup(claim.verdict))
        reporter.write(f"{claim.id}\n")
        reporter.write_line(f"{'':<16}{wording.line(claim.effect) if claim.effect else claim.reason}")
        if claim.effect and claim.verdict is not Verdict.PASS:
            reporter.write_line(f"{'':<16}{claim.reason}")
        for line in wording.remarks(claim):
            reporter.write_line(f"{'':<16}{line}")
    summary = result.summary
    reporter.write_line("")
    reporter.write(f"verdict: {summary.verdict}", bold=True, **markup(summary.verdict))
    reporter.write(f" ({summary.reason})\n")
    overruled = [claim.id for claim in result.claims if _overruled(claim)]
    if overruled:
        reporter.write_line(
            f"pytest counts {', '.join(overruled)} as failed, since Holm's correction comes after the last claim; "
            "verdict and exit code are the corrected ones (in the run's junit.xml too, not in pytest's --junitxml)",
            yellow=True,
        )
    write_gate(reporter, result)
    check = result.cross_check
    if check is not None:
        reporter.write_line(f"cross-check: {wording.cross_check(check)}", **_AGREEMENT[check.agrees])
    if run.remark:
        reporter.write_line(run.remark, yellow=True)
    reporter.write_line(f"report: {folder / 'audit.html'}")


def _overruled(claim: Claim) -> bool:
    """Whether pytest was told of a FAIL that did not survive the correction within its family."""
    judged_again = claim.family is not None and claim.family.alone is Verdict.FAIL
    return judged_again and claim.verdict is not Verdict.FAIL and claim.waiver is None


def compare(reporter: pytest.TerminalReporter, runs: Sequence[Run]) -> None:
    """Verdicts of several models: one row per claim, one column per model."""
    table = {claim.id: dict[int, Verdict]() for run in runs for claim in run.claims}
    for column, run in enumerate(runs):
        for claim in run.claims:
            table[claim.id][column] = claim.verdict
    names = [run.model.name for run in runs]
    widths = [max(len(name), *map(len, wording.WORDS.values())) + 2 for name in names]
    reporter.section("claims by model")
    reporter.write_line("".join(f"{name:<{width}}" for name, width in zip(names, widths, strict=True)) + "claim")
    for claim_id, verdicts in table.items():
        for column, width in enumerate(widths):
            verdict = verdicts.get(column)
            word = wording.WORDS[verdict] if verdict is not None else wording.MISSING
            reporter.write(f"{word:<{width}}", **(markup(verdict) if verdict is not None else {}))
        reporter.write(f"{claim_id}\n")
    for run, width in zip(runs, widths, strict=True):
        reporter.write(f"{wording.WORDS[run.summary.verdict]:<{width}}", bold=True, **markup(run.summary.verdict))
    reporter.write("verdict\n", bold=True)
