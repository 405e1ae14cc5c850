"""`auditkit baseline`: names of recorded runs, to compare with by --baseline NAME."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from auditkit.cli.shared import INTEGRITY, note_if_old, refused, say_plainly, with_reports

if TYPE_CHECKING:
    from auditkit.record.baseline import Recorded


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its actions."""
    baseline = commands.add_parser(
        "baseline", help="name recorded runs, so that --baseline NAME compares with them"
    )
    actions = baseline.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="list every recorded run with its names")
    setting = actions.add_parser("set", help="give a recorded run a name")
    setting.add_argument("name", metavar="NAME")
    setting.add_argument("run", type=Path, metavar="RUN", help="run folder, for example reports/latest")
    showing = actions.add_parser(
        "show", help="print what a baseline holds, after checking that its files are complete and unchanged"
    )
    showing.add_argument("name", metavar="NAME")
    baseline.set_defaults(command=_baseline)
    for action in (listing, setting, showing):
        with_reports(action)


def _baseline(arguments: argparse.Namespace) -> int:
    from auditkit.adapters.loading.catalogue import CATALOGUE
    from auditkit.gate.verified import require_verified
    from auditkit.record.baseline import named_baseline, read_names, set_name
    from auditkit.record.store import AUDIT_JSON, RecordError, read_run

    reports: Path = arguments.audit_dir
    try:
        if arguments.action == "list":
            names = read_names(reports)
            for file in sorted(reports.glob(f"2*/{AUDIT_JSON}")):
                label = ", ".join(name for name, entry in names.items() if entry.run == file.parent.name)
                try:
                    run = read_run(file)
                    say_plainly(f"{file.parent.name}  {run.summary.verdict}  {run.model.name}  {label}".rstrip())
                except RecordError as error:
                    say_plainly(f"{file.parent.name}  not readable: {error}")
            gone = {
                name: entry.run for name, entry in names.items() if not (reports / entry.run / AUDIT_JSON).exists()
            }
            for name, folder in gone.items():
                say_plainly(f"{folder}  MISSING  {name}")
        elif arguments.action == "set":
            if arguments.name in CATALOGUE:
                return refused(f"'{arguments.name}' is the name of a model; choose another for the recorded run")
            note_if_old(arguments.run)
            folder = arguments.run if arguments.run.is_dir() else arguments.run.parent
            if (folder / AUDIT_JSON).exists():
                require_verified(folder.resolve())
            recorded = set_name(reports, arguments.name, arguments.run)
            say_plainly(
                f"{arguments.name} is {recorded.folder.name}: {recorded.run.summary.verdict}, {recorded.run.model.name}"
            )
        else:
            recorded = named_baseline(reports, arguments.name)
            for key, value in _facts(recorded).items():
                say_plainly(f"{key:<20}{value}")
    except RecordError as error:
        return refused(str(error), INTEGRITY)
    except OSError as error:
        return refused(f"cannot write to {reports}: {error.strerror or error}")
    return 0


def _facts(recorded: Recorded) -> dict[str, object]:
    from auditkit.report.wording import NO_DIGEST, identity, no_identity

    run = recorded.run
    return {
        "run": recorded.folder.name,
        "verdict": f"{run.summary.verdict} ({run.summary.reason})",
        "model": run.model.name,
        "weights SHA-256": run.model.weights_sha256 or NO_DIGEST,
        "identity SHA-256": identity(run.model) or no_identity(run.model),
        "created": run.created,
        "auditkit": run.tool.version,
        "seed": run.seed,
        "plan SHA-256": run.plan_sha256,
        "audit.json SHA-256": recorded.audit_sha256,
        "claims": len(run.claims),
        "items": len(recorded.items),
    }
