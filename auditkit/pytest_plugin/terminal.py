"""The terminal's part of an audit: progress lines, what came of each run, and claims by model.

A run is summed up as on its page: the sentence that answers, a row for each suite, then what needs a human with the
command that goes on. `-q` leaves out the rows, `-qq` all but the sentence; `-v` adds every claim with its evidence.
pytest's own section of failures would print the source and fixtures of each claim that fails, so claims are taken out
of it, unless somebody asks with `-vv`, `--tb` or `-r`. An exception is no answer but a fault of the code: its traceback
stays, once for each place where it was raised.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from auditkit.pytest_plugin.gate import write_gate
from auditkit.pytest_plugin.outcomes import asks_for_a_list, asks_for_tracebacks, markup
from auditkit.record.escaping import line, plain
from auditkit.record.plan import UNREACHED
from auditkit.record.schema import Run, Verdict
from auditkit.report import brief, wording
from auditkit.report import terminal as screen
from auditkit.report.answers.kinds import needs_base

if TYPE_CHECKING:
    from auditkit.pytest_plugin.run import WrittenRun

_SHOWN = ("failed", "error")
"""Kinds of reports that pytest shows with their tracebacks, and lists."""
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


@contextmanager
def without_claims(reporter: pytest.TerminalReporter) -> Iterator[None]:
    """Keep pytest's tracebacks, within the block, to tests that are no claims and to the first of each exception."""
    before = {name: list(reporter.stats[name]) for name in _SHOWN if name in reporter.stats}
    if not asks_for_tracebacks(reporter.config) and not asks_for_a_list(reporter.config):
        seen: set[str] = set()
        _keep(reporter, lambda report: _is_news(report, seen))
    try:
        yield
    finally:
        reporter.stats.update(before)


def leave_out_claims(reporter: pytest.TerminalReporter) -> None:
    """Keep pytest's list of what failed to tests that are no claims: our own section has the claims."""
    if not asks_for_a_list(reporter.config):
        _keep(reporter, lambda report: not _is_claim(report))


def _keep(reporter: pytest.TerminalReporter, shown: Callable[[pytest.TestReport], bool]) -> None:
    for name in _SHOWN:
        kept = [report for report in reporter.stats.pop(name, []) if shown(report)]
        if kept:  # an empty list would make a heading
            reporter.stats[name] = kept


def _is_claim(report: pytest.TestReport) -> bool:
    return getattr(report, "auditkit_verdict", None) is not None


def _is_news(report: pytest.TestReport, seen: set[str]) -> bool:
    """Whether pytest's own sections show a report; `seen` has the places of exceptions that were shown."""
    if not _is_claim(report):
        return True
    raised = str(getattr(report, "auditkit_raised", ""))
    if not raised or raised in seen:
        return False
    seen.add(raised)
    return True


def summarize(reporter: pytest.TerminalReporter, run: WrittenRun) -> None:
    """What a run came to: the sentence that answers, a row for each suite, what needs a human, the verdict, where the
    report is, and the record's digest."""
    result, folder = run.record, run.folder
    level, colour = reporter.verbosity, reporter.hasmarkup
    reporter.ensure_newline()
    reporter.section(f"audit of {plain(result.model.name)}")
    if run.cut_off:
        write_line(reporter, _cut_off(result), yellow=True)
    blocks = [list(screen.sentences(result))]
    if level >= 0:
        blocks.append(list(screen.suites(result)))
    if level > -2:
        most = None if level > 0 else screen.MOST_NEEDED
        blocks.append(list(screen.attention(result, str(folder), colour, most, short=level < 0)))
    for number, lines in enumerate(filter(None, blocks)):
        for text in ("", *lines) if number else lines:
            reporter.write_line(text)
    if level > 0:
        write_line(reporter, "")
        _details(reporter, result)
    write_line(reporter, "")
    reporter.write(f"verdict: {result.summary.verdict}", bold=True, **markup(result.summary.verdict))
    write_line(reporter, f" ({result.summary.reason})")
    if level > -2:
        write_gate(reporter, result, level > 0)
    check = result.cross_check
    if check is not None:
        write_line(reporter, f"cross-check: {wording.cross_check(check)}", **_AGREEMENT[check.agrees])
    if run.remark:
        write_line(reporter, run.remark, yellow=True)
    write_line(reporter, f"report: {folder / 'audit.html'}")
    write_line(reporter, f"record: SHA-256 {run.record_sha256}")


def _cut_off(run: Run) -> str:
    measured = sum(not claim.reason.startswith(UNREACHED) for claim in run.claims)
    return f"This run was cut off: {measured} of {len(run.claims)} claims were measured."


def _details(reporter: pytest.TerminalReporter, run: Run) -> None:
    """Every claim with its evidence, its changes since the baseline and its waiver; those that lack a baseline by name
    only."""
    for claim in run.claims:
        reporter.write(f"{wording.WORDS[claim.verdict]:<16}", **markup(claim.verdict))
        write_line(reporter, claim.id)
        if needs_base(run, claim):
            continue
        write_line(reporter, f"{'':<16}{wording.line(claim.effect) if claim.effect else claim.reason}")
        if claim.effect and claim.verdict is not Verdict.PASS:
            write_line(reporter, f"{'':<16}{claim.reason}")
        if wording.by_chance(claim):
            write_line(reporter, f"{'':<16}{brief.BY_CHANCE}")
        for remark in wording.remarks(claim):
            write_line(reporter, f"{'':<16}{remark}")


def compare(reporter: pytest.TerminalReporter, runs: Sequence[Run]) -> None:
    """Verdicts of several models: one row per claim, one column per model, named above the table by numbers.

    Claims on which all models have one verdict, and which need nobody, are counted; with `-v` each has its row.
    """
    table = {claim.id: dict[int, Verdict]() for run in runs for claim in run.claims}
    for column, run in enumerate(runs):
        for claim in run.claims:
            table[claim.id][column] = claim.verdict
    names = [plain(run.model.name) for run in runs]
    urgent = {claim.id for run in runs for claim in run.claims if brief.needs_a_human(claim, run.profile)}
    rows = {
        claim_id: verdicts
        for claim_id, verdicts in table.items()
        if reporter.verbosity > 0 or claim_id in urgent or len({verdicts.get(i) for i in range(len(runs))}) > 1
    }
    reporter.section("claims by model")
    longest = max(map(len, (*rows, "claim")), default=0)
    widths = [max(len(name), *map(len, wording.WORDS.values())) + 2 for name in names]
    words = dict(wording.WORDS)
    if sum(widths) + longest > screen.width():
        words = dict(wording.GLYPHS)
        for number, name in enumerate(names, 1):
            write_line(reporter, f"{number:>2}  {name}")
        write_line(reporter, ", ".join(f"{words[verdict]} {wording.WORDS[verdict]}" for verdict in Verdict))
        names = [str(number) for number in range(1, len(names) + 1)]
        widths = [len(name) + 2 for name in names]
    write_line(reporter, "".join(f"{name:<{width}}" for name, width in zip(names, widths, strict=True)) + "claim")
    for claim_id, verdicts in rows.items():
        _row(reporter, [verdicts.get(column) for column in range(len(runs))], widths, words)
        write_line(reporter, claim_id)
    if len(rows) < len(table):
        write_line(reporter, f"{len(table) - len(rows)} more with the same verdict on all models (-v shows each)")
    _row(reporter, [run.summary.verdict for run in runs], widths, words, bold=True)
    reporter.write("verdict\n", bold=True)


def _row(
    reporter: pytest.TerminalReporter,
    verdicts: Sequence[Verdict | None],
    widths: Sequence[int],
    words: Mapping[Verdict, str],
    **style: bool,
) -> None:
    for verdict, width in zip(verdicts, widths, strict=True):
        word = words[verdict] if verdict is not None else wording.MISSING
        reporter.write(f"{word:<{width}}", **style, **(markup(verdict) if verdict is not None else {}))
