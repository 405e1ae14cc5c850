"""`auditkit card` and `auditkit export`: a recorded run in a model card, and in the forms of other places."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from auditkit.cli.shared import RUN, folder_of, note_if_old, refused, say_plainly, unusable, with_reports

_RELATIONSHIPS = ("first_party", "third_party", "collaborative", "other")


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands."""
    card = commands.add_parser("card", help="put a recorded run into an existing model card")
    card.add_argument("run", metavar="RUN", help=RUN)
    card.add_argument("--into", type=Path, required=True, metavar="README.md", help="the card, which is changed")
    card.set_defaults(command=_card)
    export = commands.add_parser("export", help="write a recorded run in the form of another place")
    export.add_argument("run", metavar="RUN", help=RUN)
    export.add_argument("--to", choices=["hub", "every-eval-ever"], required=True, help="which form")
    export.add_argument("--out", type=Path, required=True, metavar="FILE", help="file to write")
    export.add_argument("--dataset", metavar="OWNER/NAME", help="hub: the benchmark data set of the results")
    export.add_argument("--url", metavar="URL", help="hub: where the report can be read")
    export.add_argument("--organization", metavar="NAME", help="every-eval-ever: who measured")
    export.add_argument(
        "--relationship",
        choices=_RELATIONSHIPS,
        default="other",
        help="every-eval-ever: the evaluator's to the model",
    )
    export.add_argument(
        "--schema-version", metavar="V", help="every-eval-ever: version of its schema (default: 0.2.1)"
    )
    export.set_defaults(command=_export)
    for command in (card, export):
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
    from auditkit.report.files.exports import exported, render_every_eval, render_hub_results

    if (why := _unfit(arguments)) is not None:
        return refused(f"export: {why}")
    note_if_old(arguments.run)
    out: Path = arguments.out
    try:
        run = require_verified(folder_of(arguments.run, arguments.audit_dir))
        if arguments.to == "hub":
            text = render_hub_results(run, arguments.dataset, arguments.url)
        else:
            text = render_every_eval(run, arguments.organization, arguments.relationship)
        out.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(out, text.encode())
    except RecordError as error:
        return unusable(error)
    except OSError as error:
        return refused(f"export: cannot write {out}: {error.strerror or error}")
    kept = len(exported(run))
    say_plainly(f"{out}: {kept} claims with a number; {len(run.claims) - kept} without one are not in it")
    return 0


def _unfit(arguments: argparse.Namespace) -> str | None:
    """Why the options do not say what the form needs; None where they do."""
    from auditkit.report.files.exports import EVERY_EVAL_EVER

    if arguments.to == "hub":
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", arguments.dataset or "", re.ASCII):
            return (
                "--to hub needs --dataset OWNER/NAME, the benchmark data set on the Hub that the results belong to"
            )
        return None
    version = arguments.schema_version
    if version is not None and version not in EVERY_EVAL_EVER:
        known = ", ".join(EVERY_EVAL_EVER)
        return f"the schema version {version} of every-eval-ever is not known; this auditkit writes {known}"
    return None if arguments.organization else "--to every-eval-ever needs --organization NAME, who measured"
