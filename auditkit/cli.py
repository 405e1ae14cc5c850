"""The `auditkit` command: what can be said without running pytest."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

USAGE_ERROR = 4
INTEGRITY = 11


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 0, or 4 with one line on standard error for bad input.

    A baseline that is missing or damaged ends with 11, as it does in a run, and so do runs that cannot be compared or
    merged. What `diff` and `merge` find decides their exit code like that of a run.
    """
    arguments = _parser().parse_args(argv)
    match arguments.command:
        case "models":
            return _models()
        case "report":
            return _report(arguments.run)
        case "show":
            return _show(arguments)
        case "diff":
            return _diff(arguments)
        case "merge":
            return _merge(arguments)
        case "github":
            return _github(arguments)
        case "calibrate":
            return _calibrate(arguments)
        case _:
            return _baseline(arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="auditkit", description="Audits of language models.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("models", help="list the model names, where each comes from, and which are cached")
    report = commands.add_parser("report", help="write the report of a recorded run again; needs no model")
    report.add_argument("run", type=Path, help="run folder, for example reports/latest")
    show = commands.add_parser("show", help="a recorded run in the terminal, what blocks first")
    show.add_argument("run", metavar="RUN", help="run folder, its audit.json, or the name of a baseline")
    show.add_argument("--claim", metavar="ID", help="all of one claim")
    diff = commands.add_parser("diff", help="two recorded runs item by item, in the terminal and on one page")
    diff.add_argument(
        "was", metavar="A", help="the baseline: run folder, its audit.json, or the name of a baseline"
    )
    diff.add_argument("now", metavar="B", help="the candidate, likewise")
    diff.add_argument(
        "--out", type=Path, metavar="FILE", help="the page to write (default: diff-<A>.html in the folder of B)"
    )
    merge = commands.add_parser("merge", help="make one run of the shards of one plan (pytest --shard I/N)")
    merge.add_argument("runs", metavar="RUN", nargs="+", help="run folder of a shard")
    github = commands.add_parser(
        "github", help="in GitHub Actions: annotations to the log, and the summary to the job's page"
    )
    github.add_argument("run", metavar="RUN", help="run folder, its audit.json, or the name of a baseline")
    calibrate = commands.add_parser("calibrate", help="propose thresholds and margins from a recorded run")
    calibrate.add_argument("run", type=Path, help="run folder, for example reports/latest")
    calibrate.add_argument(
        "--against",
        metavar="A",
        help="run of the same model with another --seed (run folder, its audit.json, or the name of a baseline), to "
        "propose margins of comparisons with a baseline; RUN must have been recorded with it as --baseline",
    )
    calibrate.add_argument("--out", type=Path, metavar="FILE", help="TOML file to write (default: print it)")
    calibrate.add_argument(
        "--table",
        choices=["family", "model", "default"],
        default="family",
        help="whom the numbers are for: models of this family (default), this model alone, or all",
    )
    baseline = commands.add_parser("baseline", help="name recorded runs, to compare with by --baseline NAME")
    actions = baseline.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="every recorded run, with its names")
    setting = actions.add_parser("set", help="give a recorded run a name")
    setting.add_argument("name", metavar="NAME")
    setting.add_argument("run", type=Path, metavar="RUN", help="run folder, for example reports/latest")
    showing = actions.add_parser("show", help="what a baseline is, after checking that it is whole")
    showing.add_argument("name", metavar="NAME")
    for action in (show, diff, merge, github, calibrate, listing, setting, showing):
        action.add_argument(
            "--audit-dir", type=Path, default=Path("reports"), metavar="DIR", help="folder of run folders"
        )
    return parser


def _models() -> int:
    from auditkit.adapters.catalogue import CATALOGUE, DEFAULT_MODEL
    from auditkit.adapters.loading import cached

    rows = [("NAME", "KIND", "CACHED", "SOURCE")]
    for alias, entry in CATALOGUE.items():
        name = f"{alias} (default)" if alias == DEFAULT_MODEL else alias
        rows.append((name, entry.kind, "yes" if cached(alias) else "no", entry.origin))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print("\nAny local directory, .gguf file or hub id (owner/name) can be given too.")
    return 0


def _report(run: Path) -> int:
    from auditkit.record.store import RecordError, read_run
    from auditkit.report import write_outputs

    try:
        folder = run.resolve() if run.is_dir() else run.resolve().parent
        print(write_outputs(folder, read_run(run)))
    except RecordError as error:
        return _refused(str(error))
    except OSError as error:
        return _refused(f"cannot write the report to {run}: {error.strerror or error}")
    return 0


def _show(arguments: argparse.Namespace) -> int:
    import difflib

    from auditkit.record.store import RecordError, read_run
    from auditkit.report.terminal import details, overview, plain

    try:
        folder = _folder(arguments.run, arguments.audit_dir)
        run = read_run(folder)
    except RecordError as error:
        return _refused(str(error))
    if arguments.claim is None:
        _say(overview(run, _coloured()))
        print(f"\npage: {folder / 'audit.html'}")
        return 0
    claims = [claim.id for claim in run.claims]
    if arguments.claim not in claims:
        near = difflib.get_close_matches(arguments.claim, claims, n=1, cutoff=0.0)
        hint = f"; did you mean {plain(near[0])}?" if near else ""
        return _refused(f"the run holds no claim {plain(arguments.claim)!r}{hint}")
    _say(details(run, arguments.claim, _coloured()))
    return 0


def _diff(arguments: argparse.Namespace) -> int:
    from auditkit.record.baseline import read_recorded
    from auditkit.record.store import RecordError, atomic_write, item_rows
    from auditkit.report.compare import comparison_code, render_comparison, rows
    from auditkit.report.terminal import comparison
    from auditkit.stats.changes import compare

    try:
        folders = [_folder(text, arguments.audit_dir) for text in (arguments.was, arguments.now)]
        was, now = (read_recorded(folder, folder.name) for folder in folders)
        run = compare(now.run, item_rows(now.items), was)
    except RecordError as error:
        return _refused(str(error), INTEGRITY)
    out = arguments.out or now.folder / f"diff-{was.folder.name}.html"
    try:
        atomic_write(out, render_comparison(was.run, run).encode())
    except OSError as error:
        return _refused(f"cannot write {out}: {error.strerror or error}")
    table = rows(was.run, run)
    _say(comparison(was.run, run, table, _coloured()))
    print(f"page: {out}")
    return comparison_code(was.run, run, table)


def _merge(arguments: argparse.Namespace) -> int:
    from auditkit.record.baseline import read_recorded
    from auditkit.record.store import RecordError, new_run_folder, require_writable
    from auditkit.report import write_folder
    from auditkit.report.merge import merge
    from auditkit.report.terminal import overview
    from auditkit.stats.verdicts import exit_code

    try:
        folders = dict.fromkeys(_folder(text, arguments.audit_dir) for text in arguments.runs)
        run, items = merge([read_recorded(folder, folder.name) for folder in folders])
    except RecordError as error:
        return _refused(str(error), INTEGRITY)
    try:
        require_writable(arguments.audit_dir)
        folder = new_run_folder(arguments.audit_dir, run.model.name)
        run, remark = write_folder(folder, run, items)
    except RecordError as error:
        return _refused(str(error))
    except OSError as error:
        return _refused(f"cannot write the run to {arguments.audit_dir}: {error.strerror or error}")
    _say(overview(run, _coloured()))
    print(f"\n{remark}" if remark else "")
    print(f"page: {folder / 'audit.html'}")
    return exit_code(run.summary, run.profile)


def _github(arguments: argparse.Namespace) -> int:
    import os

    from auditkit.record.store import RecordError, read_run
    from auditkit.report import render_annotations, render_markdown

    try:
        run = read_run(_folder(arguments.run, arguments.audit_dir))
    except RecordError as error:
        return _refused(str(error))
    _say(render_annotations(run))
    summary = os.environ.get("GITHUB_STEP_SUMMARY")
    try:
        if summary:
            with open(summary, "a", encoding="utf-8") as stream:
                stream.write(render_markdown(run))
    except OSError as error:
        return _refused(f"cannot write the summary to {summary}: {error.strerror or error}")
    return 0


def _folder(text: str, reports: Path) -> Path:
    """The run folder that `text` names: the folder, its audit.json, or the name of a baseline.

    Raises:
        RecordError: there is none.
    """
    from auditkit.record.baseline import find_baseline
    from auditkit.record.store import AUDIT_JSON, RecordError

    path = Path(text)
    folder = path.parent if path.name == AUDIT_JSON else path
    if (folder / AUDIT_JSON).exists():
        return folder.resolve()
    named = find_baseline(text, reports) if path.name == text and not path.exists() else None
    if named is None:
        raise RecordError(
            f"no recorded run {text}: it is no folder with an {AUDIT_JSON}, and no name of a baseline"
        )
    return named


def _coloured() -> bool:
    import os

    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _say(lines: Iterable[str]) -> None:
    """Print lines; a terminal that cannot show a sign gets another in its place, and not an error."""
    encoding = sys.stdout.encoding or "utf-8"
    for line in lines:
        print(line.encode(encoding, "replace").decode(encoding))


def _calibrate(arguments: argparse.Namespace) -> int:
    from auditkit.record.baseline import find_baseline
    from auditkit.record.store import RecordError, atomic_write, read_run
    from auditkit.stats.calibrate import propose, propose_from_two, render_thresholds

    run, out = arguments.run, arguments.out
    try:
        record = read_run(run)
        folder = (run if run.is_dir() else run.parent).resolve()
        if arguments.against is None:
            proposals = propose(record)
        elif (other := find_baseline(arguments.against, arguments.audit_dir)) is None:
            return _refused(f"no recorded run {arguments.against}; give a run folder or the name of a baseline")
        else:
            proposals = propose_from_two(folder, other)
        text = render_thresholds(record, folder.name, proposals, arguments.table, datetime.now(UTC).date())
        found = sum(proposal.value is not None for proposal in proposals)
        if out is None:
            print(text, end="")
        else:
            atomic_write(out, text.encode())
            print(f"{out}: {found} thresholds proposed, {len(proposals) - found} left as they are")
    except (RecordError, ValueError) as error:
        return _refused(str(error))
    except OSError as error:
        return _refused(f"cannot write {out}: {error.strerror or error}")
    return 0


def _baseline(arguments: argparse.Namespace) -> int:
    from auditkit.adapters.catalogue import CATALOGUE
    from auditkit.record.baseline import named_baseline, read_names, set_name
    from auditkit.record.store import AUDIT_JSON, RecordError, read_run

    reports: Path = arguments.audit_dir
    try:
        if arguments.action == "list":
            names = read_names(reports)
            for file in sorted(reports.glob(f"2*/{AUDIT_JSON}")):
                called = ", ".join(name for name, entry in names.items() if entry.run == file.parent.name)
                try:
                    run = read_run(file)
                    print(f"{file.parent.name}  {run.summary.verdict}  {run.model.name}  {called}".rstrip())
                except RecordError as error:
                    print(f"{file.parent.name}  not readable: {error}")
            gone = {
                name: entry.run for name, entry in names.items() if not (reports / entry.run / AUDIT_JSON).exists()
            }
            for name, folder in gone.items():
                print(f"{folder}  MISSING  {name}")
        elif arguments.action == "set":
            if arguments.name in CATALOGUE:
                return _refused(f"'{arguments.name}' is the name of a model; choose another for the recorded run")
            recorded = set_name(reports, arguments.name, arguments.run)
            print(
                f"{arguments.name} is {recorded.folder.name}: {recorded.run.summary.verdict}, {recorded.run.model.name}"
            )
        else:
            recorded = named_baseline(reports, arguments.name)
            run = recorded.run
            for key, value in {
                "run": recorded.folder.name,
                "verdict": f"{run.summary.verdict} ({run.summary.reason})",
                "model": run.model.name,
                "weights SHA-256": run.model.weights_sha256,
                "created": run.created,
                "auditkit": run.tool.version,
                "seed": run.seed,
                "plan SHA-256": run.plan_sha256,
                "audit.json SHA-256": recorded.audit_sha256,
                "claims": len(run.claims),
                "items": len(recorded.items),
            }.items():
                print(f"{key:<20}{value}")
    except RecordError as error:
        return _refused(str(error), INTEGRITY)
    except OSError as error:
        return _refused(f"cannot write to {reports}: {error.strerror or error}")
    return 0


def _refused(message: str, code: int = USAGE_ERROR) -> int:
    print(f"auditkit: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
