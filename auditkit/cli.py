"""The `auditkit` command: what can be said without running pytest."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

USAGE_ERROR = 4


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 0, or 4 with one line on standard error for bad input."""
    parser = argparse.ArgumentParser(prog="auditkit", description="Audits of language models.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("models", help="list the model names, where each comes from, and which are cached")
    report = commands.add_parser("report", help="write the report of a recorded run again; needs no model")
    report.add_argument("run", type=Path, help="run folder, for example reports/latest")
    arguments = parser.parse_args(argv)
    return _models() if arguments.command == "models" else _report(arguments.run)


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
        print(f"auditkit: {error}", file=sys.stderr)
        return USAGE_ERROR
    except OSError as error:
        print(f"auditkit: cannot write the report to {run}: {error.strerror or error}", file=sys.stderr)
        return USAGE_ERROR
    return 0


if __name__ == "__main__":
    sys.exit(main())
