"""`auditkit report`, `show` and `github`: what one recorded run says, on its page, in the terminal, in a job's log."""

from __future__ import annotations

import argparse
from pathlib import Path

from auditkit.cli.shared import (
    INTEGRITY,
    RUN,
    coloured,
    folder_of,
    note_if_old,
    refused,
    say,
    say_plainly,
    unusable,
    with_reports,
)


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands."""
    report = commands.add_parser("report", help="write the report of a recorded run again; needs no model")
    report.add_argument("run", type=Path, help="run folder, for example reports/latest")
    report.add_argument(
        "--evidence",
        type=Path,
        metavar="DIR",
        help="write a folder of evidence for an auditor in place of the report",
    )
    report.set_defaults(command=_report)
    show = commands.add_parser("show", help="print a recorded run in the terminal, with what blocks first")
    show.add_argument("run", metavar="RUN", help=RUN)
    show.add_argument("--claim", metavar="ID", help="show everything that the run recorded of one claim")
    show.set_defaults(command=_show)
    github = commands.add_parser(
        "github", help="in GitHub Actions: write annotations into the log, and the summary onto the job's page"
    )
    github.add_argument("run", metavar="RUN", help=RUN)
    github.set_defaults(command=_github)
    for command in (show, github):
        with_reports(command)


def _report(arguments: argparse.Namespace) -> int:
    from auditkit.gate.verified import require_verified
    from auditkit.record.store import RecordError
    from auditkit.report import write_outputs
    from auditkit.report.evidence.folder import NotEvidence, write_evidence

    run: Path = arguments.run
    evidence: Path | None = arguments.evidence
    note_if_old(run)
    try:
        folder = run.resolve() if run.is_dir() else run.resolve().parent
        record = require_verified(folder)
        if evidence is None:
            say_plainly(str(write_outputs(folder, record)))
        else:
            write_evidence(folder, record, evidence)
            say_plainly(
                f"{evidence}: evidence of {len(record.claims)} claims; check it with: auditkit verify {evidence}"
            )
    except RecordError as error:
        return unusable(error)
    except NotEvidence as error:
        return refused(f"report: {error}")
    except OSError as error:
        what = f"the report to {run}" if evidence is None else f"the evidence to {evidence}"
        return refused(f"cannot write {what}: {error.strerror or error}")
    return 0


def _show(arguments: argparse.Namespace) -> int:
    import difflib

    from auditkit.gate.verified import require_verified
    from auditkit.record.store import RecordError
    from auditkit.report.terminal import details, overview

    note_if_old(arguments.run)
    try:
        folder = folder_of(arguments.run, arguments.audit_dir)
        run = require_verified(folder)
    except RecordError as error:
        return unusable(error)
    if arguments.claim is None:
        here = Path.cwd()
        named = folder.relative_to(here) if folder.is_relative_to(here) else folder
        say(overview(run, coloured(), str(named)))
        say_plainly("")
        say_plainly(f"page: {folder / 'audit.html'}")
        return 0
    claims = [claim.id for claim in run.claims]
    if arguments.claim not in claims:
        near = difflib.get_close_matches(arguments.claim, claims, n=1, cutoff=0.0)
        hint = f"; did you mean {near[0]}?" if near else ""
        return refused(f"the run holds no claim '{arguments.claim}'{hint}")
    say(details(run, arguments.claim, coloured()))
    return 0


def _github(arguments: argparse.Namespace) -> int:
    import os

    from auditkit.gate.verified import require_verified
    from auditkit.record.begun import unfinished
    from auditkit.record.store import RecordError
    from auditkit.report import render_annotations, render_markdown

    old = unfinished(Path(arguments.run))
    if old:
        return refused(f"{old}; its verdict is not this job's, so nothing is reported", INTEGRITY)
    try:
        run = require_verified(folder_of(arguments.run, arguments.audit_dir))
    except RecordError as error:
        return unusable(error)
    say(render_annotations(run))
    summary = os.environ.get("GITHUB_STEP_SUMMARY")
    try:
        if summary:
            with open(summary, "a", encoding="utf-8") as stream:
                stream.write(render_markdown(run))
    except OSError as error:
        return refused(f"cannot write the summary to {summary}: {error.strerror or error}")
    return 0
