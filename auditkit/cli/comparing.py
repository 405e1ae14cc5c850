"""`auditkit diff` and `merge`: two recorded runs beside each other, and the shards of one plan as one run."""

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
    with_reports,
)


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands."""
    diff = commands.add_parser(
        "diff", help="compare two recorded runs item by item, in the terminal and on one page"
    )
    diff.add_argument("was", metavar="A", help=f"the baseline: {RUN}")
    diff.add_argument("now", metavar="B", help="the candidate, named in the same ways")
    diff.add_argument(
        "--out", type=Path, metavar="FILE", help="the page to write (default: diff-<A>.html in the folder of B)"
    )
    diff.set_defaults(command=_diff)
    merge = commands.add_parser("merge", help="make one run of the shards of one plan (pytest --shard I/N)")
    merge.add_argument("runs", metavar="RUN", nargs="+", help="run folder of a shard")
    merge.set_defaults(command=_merge)
    for command in (diff, merge):
        with_reports(command)


def _diff(arguments: argparse.Namespace) -> int:
    from auditkit.gate.changes import compare
    from auditkit.gate.verified import verified_recorded
    from auditkit.record.naming import apart
    from auditkit.record.store import RecordError, atomic_write, item_rows
    from auditkit.report.compare import comparison_code, rows
    from auditkit.report.compare_page import render_comparison
    from auditkit.report.compare_terminal import comparison

    for text in (arguments.was, arguments.now):
        note_if_old(text)
    try:
        folders = [folder_of(text, arguments.audit_dir) for text in (arguments.was, arguments.now)]
        was, now = (verified_recorded(folder, folder.name) for folder in folders)
        then, run = apart(was.run, compare(now.run, item_rows(now.items), was))
    except RecordError as error:
        return refused(str(error), INTEGRITY)
    out = arguments.out or now.folder / f"diff-{was.folder.name}.html"
    try:
        atomic_write(out, render_comparison(then, run).encode())
    except OSError as error:
        return refused(f"cannot write {out}: {error.strerror or error}")
    table = rows(then, run)
    say(comparison(then, run, table, coloured()))
    say_plainly(f"page: {out}")
    return comparison_code(then, run, table)


def _merge(arguments: argparse.Namespace) -> int:
    from auditkit.claims.verdicts import exit_code
    from auditkit.gate.merge import merge
    from auditkit.gate.verified import verified_recorded
    from auditkit.record.manifest import record_digest
    from auditkit.record.store import RecordError, new_run_folder, require_writable
    from auditkit.report import write_folder
    from auditkit.report.terminal import overview
    from auditkit.report.wording import distrust

    try:
        folders = dict.fromkeys(folder_of(text, arguments.audit_dir) for text in arguments.runs)
        run, items = merge([verified_recorded(folder, folder.name) for folder in folders], distrust)
    except RecordError as error:
        return refused(str(error), INTEGRITY)
    try:
        require_writable(arguments.audit_dir)
        folder = new_run_folder(arguments.audit_dir, run.model.name)
        run, remark = write_folder(folder, run, items)
    except RecordError as error:
        return refused(str(error))
    except OSError as error:
        return refused(f"cannot write the run to {arguments.audit_dir}: {error.strerror or error}")
    say(overview(run, coloured()))
    say_plainly("")
    if remark:
        say_plainly(remark)
    say_plainly(f"page: {folder / 'audit.html'}")
    say_plainly(f"record: SHA-256 {record_digest(folder)}")
    return exit_code(run.summary, run.profile)
