"""`auditkit compare`: several recorded runs by claim, on one page."""

from __future__ import annotations

import argparse
from pathlib import Path

from auditkit.cli.shared import INTEGRITY, RUN, folder_of, note_if_old, refused, say, say_plainly, with_reports


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    compare = commands.add_parser(
        "compare",
        help="compare several recorded runs (models, or checkpoints in their order) by claim, on one page",
    )
    compare.add_argument("runs", metavar="RUN", nargs="+", help=RUN)
    compare.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="where to write compare.html and compare.csv (default: DIR/compare)",
    )
    compare.add_argument(
        "--note", default="", metavar="TEXT", help="a sentence for the page that says what the runs are"
    )
    with_reports(compare)
    compare.set_defaults(command=_compare)


def _compare(arguments: argparse.Namespace) -> int:
    from auditkit.gate.verified import require_verified
    from auditkit.record.store import RecordError, atomic_write
    from auditkit.report.several.matrix import scorecard
    from auditkit.report.several.page import render_several
    from auditkit.report.several.table import render_table
    from auditkit.report.several.terminal import lines
    from auditkit.report.wording import distrust

    for text in arguments.runs:
        note_if_old(text)
    try:
        folders = [folder_of(text, arguments.audit_dir) for text in arguments.runs]
        twice = next((folder for folder in folders if folders.count(folder) > 1), None)
        if twice is not None or len(folders) < 2:
            named = f"{twice.name} is named twice" if twice is not None else "one run was named"
            return refused(f"compare needs at least two different runs; {named}")
        runs = [require_verified(folder) for folder in folders]
    except RecordError as error:
        return refused(str(error), INTEGRITY)
    out: Path = arguments.out or arguments.audit_dir / "compare"
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, text in {
            "compare.html": render_several(runs, arguments.note),
            "compare.csv": render_table(runs),
        }.items():
            atomic_write(out / name, text.encode())
    except OSError as error:
        return refused(f"cannot write to {out}: {error.strerror or error}")
    say(lines(scorecard(runs)))
    say_plainly(f"page: {out / 'compare.html'}")
    return INTEGRITY if any(distrust(run.cross_check) for run in runs) else 0
