"""`auditkit verify`: does a recorded run say what follows from its items, and is each file as the run wrote it?"""

from __future__ import annotations

import argparse

from auditkit.cli.shared import INTEGRITY, RUN, folder_of, refused, say, with_reports


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    verify = commands.add_parser(
        "verify",
        help="compute effects and verdicts of a record again from its items, without the model, and compare",
    )
    verify.add_argument("run", metavar="RUN", help=RUN)
    verify.set_defaults(command=_verify)
    with_reports(verify)


def _verify(arguments: argparse.Namespace) -> int:
    from auditkit.gate.verified import verified_folder
    from auditkit.record.escaping import plain
    from auditkit.record.manifest import record_digest
    from auditkit.record.store import RecordError

    try:
        folder = folder_of(arguments.run, arguments.audit_dir)
        run, found, problems = verified_folder(folder)
        digest = record_digest(folder)
    except RecordError as error:
        return refused(str(error), INTEGRITY)
    say(plain(problem) for problem in problems)
    every = found.effects + len(found.not_computed)
    said = f"{found.effects} of {every} effects of {len(run.claims)} claims were computed again from the items"
    say([said, f"record: SHA-256 {digest}"])
    if problems:
        return refused(f"{folder.name} does not hold: {len(problems)} of its statements do not follow", INTEGRITY)
    say([f"verified: {run.summary.verdict}"])
    return 0
