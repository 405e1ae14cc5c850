"""What the terminal shows of an audit: a line now and then, the table of claims, and claims by model."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import pytest

from auditkit.pytest_plugin.gate import write_gate
from auditkit.pytest_plugin.outcomes import markup
from auditkit.record.schema import Run, Verdict
from auditkit.report import wording

if TYPE_CHECKING:
    from auditkit.pytest_plugin.run import WrittenRun

_BY_CHANCE = (
    "pytest showed it as F, and so does its own --junitxml: alone it failed, and whether that can be chance is known "
    "only at the end"
)
_AGREEMENT = {True: {"green": True}, False: {"red": True}, None: {"yellow": True}}


def say(config: pytest.Config, line: str) -> None:
    """One line now, where there is a terminal to say it on."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None:
        reporter.write_line(line)


def correct(config: pytest.Config, by_chance: Collection[str]) -> None:
    """Count claims as undecided that pytest has counted as failed, since their family was judged at the end only.

    Args:
        by_chance: node ids.
    """
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or not by_chance:
        return
    failed = reporter.stats.pop("failed", [])
    moved = [report for report in failed if report.nodeid in by_chance]
    reporter.stats.setdefault("inconclusive", []).extend(moved)
    if len(moved) < len(failed):
        reporter.stats["failed"] = [report for report in failed if report not in moved]


def summarize(reporter: pytest.TerminalReporter, run: WrittenRun) -> None:
    """The table of claims and the path of the report."""
    result, folder = run.record, run.folder
    reporter.ensure_newline()
    reporter.section(f"audit of {result.model.name}")
    for claim in result.claims:
        reporter.write(f"{wording.WORDS[claim.verdict]:<16}", **markup(claim.verdict))
        reporter.write(f"{claim.id}\n")
        reporter.write_line(f"{'':<16}{wording.line(claim.effect) if claim.effect else claim.reason}")
        if claim.effect and claim.verdict is not Verdict.PASS:
            reporter.write_line(f"{'':<16}{claim.reason}")
        if wording.by_chance(claim):
            reporter.write_line(f"{'':<16}{_BY_CHANCE}")
        for line in wording.remarks(claim):
            reporter.write_line(f"{'':<16}{line}")
    summary = result.summary
    reporter.write_line("")
    reporter.write(f"verdict: {summary.verdict}", bold=True, **markup(summary.verdict))
    reporter.write(f" ({summary.reason})\n")
    write_gate(reporter, result)
    check = result.cross_check
    if check is not None:
        reporter.write_line(f"cross-check: {wording.cross_check(check)}", **_AGREEMENT[check.agrees])
    if run.remark:
        reporter.write_line(run.remark, yellow=True)
    reporter.write_line(f"report: {folder / 'audit.html'}")


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
