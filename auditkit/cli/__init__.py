"""The `auditkit` command: audits from any folder, and what recorded runs say. One module per group of commands."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from auditkit.cli import (
    audit,
    baselines,
    calibrate,
    comparing,
    data,
    fleet,
    gate,
    models,
    new_suite,
    plan,
    publishing,
    runs,
    several,
    verify,
)
from interp_auditkit import mistaken

BROKEN_PIPE = 141
"""Exit code of a command whose reader has gone, as a shell says it (128 + SIGPIPE): it says nothing of a verdict."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 0, or 4 with one line on standard error for bad input.

    A baseline that is missing or damaged ends with 11, as it does in a run, and so do runs that cannot be compared or
    merged. What `audit`, `gate`, `diff` and `merge` find decides their exit code like that of a run.
    """
    if (
        said := mistaken()
    ):  # here too: the unrelated distribution's own script leads here, since it has the same name
        print(f"auditkit: {said}", file=sys.stderr)
        return 4
    given = list(sys.argv[1:] if argv is None else argv)
    if given[:1] == ["audit"]:
        return audit.audit(given[1:])
    parser = argparse.ArgumentParser(prog="auditkit", description="Audits of language models.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for group in (
        audit,
        new_suite,
        models,
        data,
        runs,
        verify,
        plan,
        publishing,
        comparing,
        several,
        calibrate,
        baselines,
        gate,
        fleet,
    ):
        group.add(commands)
    arguments = parser.parse_args(given)
    try:
        code: int = arguments.command(arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # `auditkit show RUN | head`: whoever reads has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # where Python flushes to when it ends
        return BROKEN_PIPE
    return code
