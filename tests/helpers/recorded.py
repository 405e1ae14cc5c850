"""What a recorded run holds, and what a claim of it says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from auditkit.record.schema import Claim
from auditkit.record.store import read_items


def content(folder: Path, *, processes: bool = True) -> tuple[dict[str, Any], list[Any]]:
    """The record without times, costs and the command, and its items.

    Args:
        processes: with the numbers of workers and threads.
    """
    record = json.loads((folder / "audit.json").read_text())
    record.pop("created")
    record.pop("command")  # pytester adds an option to a run in a process of its own
    for claim in record["claims"]:
        claim.pop("cost")
    if not processes:
        for name in ("threads", "workers"):
            record["environment"].pop(name)
        for claim in record["claims"]:
            claim["made_with"].pop("threads")
    return record, read_items(folder).to_dict("records")


def said(claim: Claim) -> dict[str, object]:
    """What a reader sees of a claim, in no order."""
    return {
        "statement": claim.statement,
        "verdict": claim.verdict,
        "reason": claim.reason,
        "effects": (claim.effect, claim.also),
        "beside": {control.name: control for control in claim.controls},
        "notes": set(claim.notes),
        "figures": {(figure.title, str(figure.data)) for figure in claim.figures},
        "grids": {grid.name: grid for grid in claim.grids},
        "alternatives": {(one.choice, one.other): one for one in claim.alternatives},
    }
