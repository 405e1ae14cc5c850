"""`auditkit calibrate`: thresholds and margins proposed from recorded runs."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from pathlib import Path

from auditkit.cli.shared import note_if_old, refused, say, say_plainly, unusable, with_reports


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    calibrate = commands.add_parser("calibrate", help="propose thresholds and margins from a recorded run")
    calibrate.add_argument("run", type=Path, help="run folder, for example reports/latest")
    calibrate.add_argument(
        "--against",
        metavar="A",
        help="run of the same model with another --seed (run folder, its audit.json, or the name of a baseline), to "
        "propose margins of comparisons with a baseline; RUN must have been recorded with it as --baseline",
    )
    calibrate.add_argument(
        "--benign",
        nargs="+",
        type=Path,
        metavar="RUN",
        help="gate runs of other harmless fine-tunes of the same base, to propose margins that such fine-tunes pass; "
        "RUN is one of them, too",
    )
    calibrate.add_argument("--out", type=Path, metavar="FILE", help="TOML file to write (default: print it)")
    calibrate.add_argument(
        "--table",
        choices=["family", "model", "default"],
        default="family",
        help="which models the thresholds apply to: those of this family (default), this model alone, or all",
    )
    calibrate.set_defaults(command=_calibrate)
    with_reports(calibrate)


def _calibrate(arguments: argparse.Namespace) -> int:
    from auditkit.gate import benign
    from auditkit.gate.calibrate import RULE, propose, propose_from_two, render_thresholds
    from auditkit.gate.verified import require_verified
    from auditkit.record.baseline import find_baseline
    from auditkit.record.store import RecordError, atomic_write

    run, out, rule = arguments.run, arguments.out, RULE
    if arguments.against is not None and arguments.benign is not None:
        return refused("give --against or --benign: margins come from two runs of one model, or from fine-tunes")
    note_if_old(run)
    try:
        folder, *others = [_folder(path) for path in (run, *(arguments.benign or ()))]
        record = require_verified(folder)
        if others:
            for one in others:
                require_verified(one)
            proposals, rule = benign.propose_from_benign([folder, *others]), benign.RULE
        elif arguments.against is None:
            proposals = propose(record)
        elif (other := find_baseline(arguments.against, arguments.audit_dir)) is None:
            return refused(f"no recorded run {arguments.against}; give a run folder or the name of a baseline")
        else:
            require_verified(other)
            proposals = propose_from_two(folder, other)
        text = render_thresholds(record, folder.name, proposals, arguments.table, datetime.now(UTC).date(), rule)
        found = sum(proposal.value is not None for proposal in proposals)
        if out is None:
            say(text.removesuffix("\n").split("\n"))
        else:
            atomic_write(out, text.encode())
            say_plainly(f"{out}: {found} thresholds proposed, {len(proposals) - found} left as they are")
    except (RecordError, ValueError) as error:
        return unusable(error)
    except OSError as error:
        return refused(f"cannot write {out}: {error.strerror or error}")
    return 0


def _folder(path: Path) -> Path:
    """The folder of a run that is named by it or by its record."""
    return (path if path.is_dir() else path.parent).resolve()
