"""What a recorded claim says."""

from __future__ import annotations

from auditkit.record.schema import Claim


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
    }
