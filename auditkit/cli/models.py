"""`auditkit models`: the model names, where each comes from, and which are cached."""

from __future__ import annotations

import argparse


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    models = commands.add_parser(
        "models", help="list the model names, where each comes from, and which are cached"
    )
    models.set_defaults(command=_models)


def _models(_: argparse.Namespace) -> int:
    from auditkit.adapters.loading.catalogue import CATALOGUE, DEFAULT_MODEL
    from auditkit.adapters.loading.locating import cached

    rows = [("NAME", "KIND", "CACHED", "SOURCE")]
    for alias, entry in CATALOGUE.items():
        name = f"{alias} (default)" if alias == DEFAULT_MODEL else alias
        rows.append((name, entry.kind, "yes" if cached(alias) else "no", entry.origin))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print("\nAny local directory, .gguf file or hub id (owner/name) can be given too.")
    return 0
