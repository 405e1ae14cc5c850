"""`auditkit data SOURCE`: what a source of questions or bias items is, and what of it can be used; opens no model."""

from __future__ import annotations

import argparse

from auditkit.cli.shared import refused, say


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    data = commands.add_parser(
        "data",
        help="print what a file, folder or hub data set holds, which rows are usable, and why others are not",
    )
    data.add_argument("source", metavar="SOURCE", help="as after --data SUITE=: PATH, PATH#subject or owner/name")
    data.set_defaults(command=_data)


def _data(arguments: argparse.Namespace) -> int:
    from auditkit.cli.held import lines, parts_of  # here: it reads every finding's formats
    from auditkit.data.errors import DataError

    try:
        parts, unused = parts_of(arguments.source)
    except DataError as error:
        return refused(str(error))
    say(lines(arguments.source, parts, unused))
    return 0
