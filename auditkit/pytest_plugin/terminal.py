"""The terminal's part of an audit: progress lines, the claims that need a human, and claims by model.

A claim that needs a human gets one line, the others are counted. With `-v` every claim is shown with its evidence.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from auditkit.claims.verdicts import blocks
from auditkit.pytest_plugin.gate import write_gate
from auditkit.pytest_plugin.outcomes import markup
from auditkit.record.escaping import line, plain
from auditkit.record.schema import Claim, Run, Verdict
from auditkit.report import wording

if TYPE_CHECKING:
    from auditkit.pytest_plugin.run import WrittenRun

_BY_CHANCE = (
    "pytest showed it as F, and so does its own --junitxml: alone it failed, and whether that can be chance is known "
    "only at the end"
)
_AGREEMENT = {True: {"green": True}, False: {"red": True}, None: {"yellow": True}}


def say(config: pytest.Config, text: str) -> None:
    """One line now, where there is a terminal to say it on."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None:
        write_line(reporter, text)


def write_line(reporter: pytest.TerminalReporter, text: str, **style: bool) -> None:
    """One line, or the rest of one, in which nothing is obeyed by the terminal or a build server."""
    reporter.write_line(line(text), **style)


@contextmanager
def hint_after(config: pytest.Config, seconds: float, hint: Callable[[], str]) -> Iterator[None]:
    """Say a line where the block is still at work after some seconds."""
    timer = threading.Timer(seconds, lambda: say(config, hint()))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


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
    """The claims that need a human, the number of the others, the run's verdict, its report and its record's digest.

    With `-v` every claim is shown with its evidence.
    """
    result, folder = run.record, run.folder
    reporter.ensure_newline()
    reporter.section(f"audit of {plain(result.model.name)}")
    every = reporter.verbosity > 0
    if every:
        _details(reporter, result.claims)
    else:
        _lines(reporter, result)
    summary = result.summary
    write_line(reporter, "")
    reporter.write(f"verdict: {summary.verdict}", bold=True, **markup(summary.verdict))
    write_line(reporter, f" ({summary.reason})")
    write_gate(reporter, result, every)
    check = result.cross_check
    if check is not None:
        write_line(reporter, f"cross-check: {wording.cross_check(check)}", **_AGREEMENT[check.agrees])
    if run.remark:
        write_line(reporter, run.remark, yellow=True)
    write_line(reporter, f"report: {folder / 'audit.html'}")
    write_line(reporter, f"record: SHA-256 {run.record_sha256}")


def needs_a_human(claim: Claim, profile: str) -> bool:
    """Whether somebody has to look at a claim: it blocks, lost what the baseline showed, or pytest showed it as F."""
    return blocks(claim, profile) or wording.lost(claim) or wording.by_chance(claim)


def _lines(reporter: pytest.TerminalReporter, run: Run) -> None:
    """One line per claim that needs a human, and the number of the others by verdict."""
    others = []
    for claim in run.claims:
        if needs_a_human(claim, run.profile):
            reporter.write(f"{wording.WORDS[claim.verdict]:<16}", **markup(claim.verdict))
            write_line(reporter, f"{plain(claim.id)}: {plain(_in_a_line(claim))}")
        else:
            others.append(claim)
    if others:
        write_line(reporter, f"{'':<16}other claims: {_counted(others)} (-v shows each)")


def _in_a_line(claim: Claim) -> str:
    """Why a claim needs a human."""
    text = claim.reason
    if wording.by_chance(claim):
        text = _BY_CHANCE
    elif claim.verdict is Verdict.FAIL and claim.effect is not None and claim.lack is None:
        text = wording.line(claim.effect)
    before = claim.change.verdict if claim.change is not None else None
    return text if before in (None, claim.verdict) else f"{text} ({wording.WORDS[before]} on the baseline)"


def _counted(claims: Iterable[Claim]) -> str:
    """Claims by verdict: "4 PASS, 1 FAIL (waived), 2 NOT APPLICABLE"."""
    counts = Counter((claim.verdict, claim.waiver is not None) for claim in claims)
    return ", ".join(
        f"{counts[verdict, waived]} {wording.WORDS[verdict]}{' (waived)' if waived else ''}"
        for verdict in Verdict
        for waived in (False, True)
        if counts[verdict, waived]
    )


def _details(reporter: pytest.TerminalReporter, claims: Iterable[Claim]) -> None:
    """Every claim with its evidence, its changes since the baseline and its waiver."""
    for claim in claims:
        reporter.write(f"{wording.WORDS[claim.verdict]:<16}", **markup(claim.verdict))
        write_line(reporter, claim.id)
        write_line(reporter, f"{'':<16}{wording.line(claim.effect) if claim.effect else claim.reason}")
        if claim.effect and claim.verdict is not Verdict.PASS:
            write_line(reporter, f"{'':<16}{claim.reason}")
        if wording.by_chance(claim):
            write_line(reporter, f"{'':<16}{_BY_CHANCE}")
        for remark in wording.remarks(claim):
            write_line(reporter, f"{'':<16}{remark}")


def compare(reporter: pytest.TerminalReporter, runs: Sequence[Run]) -> None:
    """Verdicts of several models: one row per claim, one column per model.

    Claims on which all models have one verdict, and which need nobody, are counted; with `-v` each has its row.
    """
    table = {claim.id: dict[int, Verdict]() for run in runs for claim in run.claims}
    for column, run in enumerate(runs):
        for claim in run.claims:
            table[claim.id][column] = claim.verdict
    names = [plain(run.model.name) for run in runs]
    widths = [max(len(name), *map(len, wording.WORDS.values())) + 2 for name in names]
    reporter.section("claims by model")
    write_line(reporter, "".join(f"{name:<{width}}" for name, width in zip(names, widths, strict=True)) + "claim")
    urgent = {claim.id for run in runs for claim in run.claims if needs_a_human(claim, run.profile)}
    rows = {
        claim_id: verdicts
        for claim_id, verdicts in table.items()
        if reporter.verbosity > 0 or claim_id in urgent or len({verdicts.get(i) for i in range(len(runs))}) > 1
    }
    for claim_id, verdicts in rows.items():
        for column, width in enumerate(widths):
            verdict = verdicts.get(column)
            word = wording.WORDS[verdict] if verdict is not None else wording.MISSING
            reporter.write(f"{word:<{width}}", **(markup(verdict) if verdict is not None else {}))
        write_line(reporter, claim_id)
    if len(rows) < len(table):
        write_line(reporter, f"{len(table) - len(rows)} more with the same verdict on all models (-v shows each)")
    for run, width in zip(runs, widths, strict=True):
        reporter.write(f"{wording.WORDS[run.summary.verdict]:<{width}}", bold=True, **markup(run.summary.verdict))
    reporter.write("verdict\n", bold=True)
