"""`auditkit card`, `export` and `log`: a recorded run in a model card, in the forms of other places, in a tracker."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from auditkit.cli.shared import RUN, folder_of, note_if_old, refused, say_plainly, unusable, with_reports

_RELATIONSHIPS = ("first_party", "third_party", "collaborative", "other")
_HUB, _EVERY, _OPENINTERP = "hub", "every-eval-ever", "openinterp"
TRACKERS = ("mlflow", "wandb", "trackio")


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands."""
    card = commands.add_parser("card", help="put a recorded run into an existing model card")
    card.add_argument("run", metavar="RUN", help=RUN)
    card.add_argument("--into", type=Path, required=True, metavar="README.md", help="the card, which is changed")
    card.set_defaults(command=_card)
    export = commands.add_parser("export", help="write a recorded run in the form of another place")
    export.add_argument("run", metavar="RUN", help=RUN)
    export.add_argument("--to", choices=[_HUB, _EVERY, _OPENINTERP], required=True, help="the form")
    export.add_argument("--out", type=Path, required=True, metavar="FILE", help="file to write")
    export.add_argument("--dataset", metavar="OWNER/NAME", help="hub: the benchmark data set of the results")
    export.add_argument("--url", metavar="URL", help="hub: where the report can be read")
    export.add_argument("--organization", metavar="NAME", help="every-eval-ever: who measured")
    export.add_argument(
        "--relationship",
        choices=_RELATIONSHIPS,
        default="other",
        help="every-eval-ever: relationship of the evaluator to the model (default: other)",
    )
    export.add_argument("--claim", metavar="ID", help="openinterp: the causal claim that the report is about")
    export.add_argument(
        "--subject", metavar="TYPE", help="openinterp: what is edited: circuit, steering_vector or intervention"
    )
    export.add_argument(
        "--schema-version", metavar="V", help="version of the form's schema (default: the newest known)"
    )
    export.set_defaults(command=_export)
    log = commands.add_parser("log", help="write a recorded run into an experiment tracker")
    log.add_argument("run", metavar="RUN", help=RUN)
    log.add_argument(
        "--to", choices=TRACKERS, action="append", required=True, help="the tracker; may be given several times"
    )
    log.set_defaults(command=_log)
    for command in (card, export, log):
        with_reports(command)


def _card(arguments: argparse.Namespace) -> int:
    from auditkit.gate.verified import require_verified
    from auditkit.record.store import RecordError, atomic_write
    from auditkit.report.files.card import CardError, into_card

    note_if_old(arguments.run)
    path: Path = arguments.into
    try:
        run = require_verified(folder_of(arguments.run, arguments.audit_dir))
        card = into_card(path.read_text(encoding="utf-8"), run)
        atomic_write(path, card.encode())
    except RecordError as error:
        return unusable(error)
    except CardError as error:
        return refused(f"card: {path} cannot take the section: {error}")
    except UnicodeDecodeError:
        return refused(f"card: {path} is no text in UTF-8")
    except OSError as error:
        return refused(f"card: cannot read or write {path}: {error.strerror or error}")
    say_plainly(f"{path}: {len(run.claims)} claims of {run.model.name}, {run.summary.verdict}")
    return 0


def _export(arguments: argparse.Namespace) -> int:
    from auditkit.gate.verified import require_verified
    from auditkit.record.store import RecordError, atomic_write
    from auditkit.report.files.causal_report import NoCausalReport, render_causal_report
    from auditkit.report.files.exports import EVERY_EVAL_EVER, exported, render_every_eval, render_hub_results

    if (why := _unfit(arguments)) is not None:
        return refused(f"export: {why}")
    note_if_old(arguments.run)
    out: Path = arguments.out
    try:
        run = require_verified(folder_of(arguments.run, arguments.audit_dir))
        if arguments.to == _HUB:
            text = render_hub_results(run, arguments.dataset, arguments.url)
        elif arguments.to == _EVERY:
            version = arguments.schema_version or EVERY_EVAL_EVER[-1]
            text = render_every_eval(run, arguments.organization, arguments.relationship, version)
        else:
            text = render_causal_report(run, arguments.claim, arguments.subject)
        out.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(out, text.encode())
    except RecordError as error:
        return unusable(error)
    except NoCausalReport as error:
        return refused(f"export: {error}")
    except OSError as error:
        return refused(f"export: cannot write {out}: {error.strerror or error}")
    if arguments.to == _OPENINTERP:
        say_plainly(f"{out}: {arguments.claim}")
        return 0
    kept = len(exported(run))
    say_plainly(f"{out}: {kept} claims with a number; {len(run.claims) - kept} without one are not in it")
    return 0


def _unfit(arguments: argparse.Namespace) -> str | None:
    """Why the options do not say what the form needs; None where they do."""
    from auditkit.report.files.causal_report import OPENINTERP, SUBJECTS
    from auditkit.report.files.exports import EVERY_EVAL_EVER

    version = arguments.schema_version
    known = {_HUB: (), _EVERY: EVERY_EVAL_EVER, _OPENINTERP: OPENINTERP}[arguments.to]
    if version is not None and version not in known:
        if not known:
            return f"the form of --to {_HUB} has no schema versions; leave out --schema-version"
        return (
            f"the schema version {version} of {arguments.to} is not known; this auditkit writes {', '.join(known)}"
        )
    if arguments.to == _HUB:
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", arguments.dataset or "", re.ASCII):
            return (
                "--to hub needs --dataset OWNER/NAME, the benchmark data set on the Hub that the results belong to"
            )
        return None
    if arguments.to == _OPENINTERP:
        if arguments.subject not in SUBJECTS:
            return f"--to {_OPENINTERP} needs --subject, what is edited: one of {', '.join(SUBJECTS)}"
        return (
            None if arguments.claim else f"--to {_OPENINTERP} needs --claim ID, since a report is about one claim"
        )
    return None if arguments.organization else "--to every-eval-ever needs --organization NAME, who measured"


def _log(arguments: argparse.Namespace) -> int:
    from auditkit.gate.verified import require_verified
    from auditkit.record.store import RecordError
    from auditkit.report.trackers.stores import TrackerError, log, missing

    if (why := missing(arguments.to)) is not None:
        return refused(f"log: {why}")
    note_if_old(arguments.run)
    try:
        folder = folder_of(arguments.run, arguments.audit_dir)
        run = require_verified(folder)
        for tracker in dict.fromkeys(arguments.to):
            say_plainly(f"{tracker}: {log(tracker, folder, run)}")
    except RecordError as error:
        return unusable(error)
    except TrackerError as error:
        return refused(f"log: {error}")
    return 0
