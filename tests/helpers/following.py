"""Claims whose verdict follows from their effect, for records that `auditkit verify` accepts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from auditkit.claims.verdicts import summarize
from auditkit.record.differences import plan_digest
from auditkit.record.manifest import write_manifest
from auditkit.record.schema import Claim, Run, Verdict
from auditkit.record.store import AUDIT_JSON

ENDS = {Verdict.PASS: (0.4, 0.6), Verdict.INCONCLUSIVE: (0.2, 0.6), Verdict.FAIL: (0.1, 0.2)}
"""Interval of an effect that is compared with ">= 0.3"."""


def coming_to(claim: Claim, verdict: Verdict) -> Claim:
    """The claim with an effect that makes this verdict."""
    if verdict not in ENDS:
        ended = "exception" if verdict is Verdict.ERROR else "not applicable"
        return msgspec.structs.replace(claim, verdict=verdict, effect=None, ended=ended)
    assert claim.effect is not None
    lower, upper = ENDS[verdict]
    effect = msgspec.structs.replace(claim.effect, lower=lower, upper=upper, estimate=(lower + upper) / 2)
    return msgspec.structs.replace(claim, verdict=verdict, effect=effect)


def write_again(folder: Path, document: dict[str, Any]) -> None:
    """Write an edited record so that its digests and its summary follow, as a run that came to this would."""
    run = msgspec.convert(document, Run)
    run = msgspec.structs.replace(run, plan_sha256=plan_digest(run.plan), summary=summarize(run.claims))
    (folder / AUDIT_JSON).write_text(json.dumps(msgspec.to_builtins(run)))
    write_manifest(folder)
