"""Short names of models: the last part of a path or hub id, and as many parts more as tell it from the others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from auditkit.record.schema import Run


def told_apart(specs: Sequence[str]) -> list[str]:
    """One name per model: the shortest end of its path or hub id that no other model's path ends in.

    Args:
        specs: what users write after `--model`. A path that exists is made absolute first.
    """
    parts = [_parts(spec) for spec in specs]
    return ["/".join(own[-_needed(own, [other for other in parts if other != own]) :]) for own in parts]


def apart(*runs: Run) -> tuple[Run, ...]:
    """Runs whose models have names of their own, where two models of one name were given by different paths."""
    names = [run.model.name for run in runs]
    if len(set(names)) == len(names):
        return runs
    longer = told_apart([run.model.spec for run in runs])
    return tuple(
        run
        if names.count(run.model.name) == 1
        else msgspec.structs.replace(run, model=msgspec.structs.replace(run.model, name=name))
        for run, name in zip(runs, longer, strict=True)
    )


def _needed(own: tuple[str, ...], others: Sequence[tuple[str, ...]]) -> int:
    """How many parts from the end tell one path from the others; all where none do."""
    lengths = range(1, len(own) + 1)
    return next((n for n in lengths if all(other[-n:] != own[-n:] for other in others)), len(own))


def _parts(spec: str) -> tuple[str, ...]:
    try:
        path = Path(spec).expanduser()
        path = path.resolve() if path.exists() else Path(spec)
    except (OSError, RuntimeError, ValueError):
        return (spec,)
    return tuple(part for part in path.parts if part != path.anchor) or (spec,)
