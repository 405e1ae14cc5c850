"""The claims as a CSV table: one row per claim, for a spreadsheet or a data frame.

Numbers stand as they were measured, unrounded, and a cell is empty where nothing was. A spreadsheet takes a text that
begins with one of = + - @ for a formula and runs it; such a text gets an apostrophe in front.
"""

from __future__ import annotations

import csv
import io
from typing import Any

import msgspec

from auditkit.record.canonical import canonical
from auditkit.record.escaping import cell
from auditkit.record.schema import Claim, Effect, Run
from auditkit.report import wording

_EFFECT = tuple(Effect.__struct_fields__)


def render_csv(run: Run) -> str:
    """The claims of `run` in their order; `effect.*` is the deciding comparison, `change.*` its paired difference."""
    run = canonical(run)
    sink = io.StringIO(newline="")
    rows = [_row(claim) for claim in run.claims]
    table = csv.DictWriter(sink, _COLUMNS, restval="")
    table.writeheader()
    table.writerows(rows)
    return sink.getvalue()


def _row(claim: Claim) -> dict[str, Any]:
    values: dict[str, Any] = {
        "id": claim.id,
        "suite": claim.suite,
        "verdict": claim.verdict.value,
        "waived": claim.waiver is not None,
        "statement": claim.statement,
        "reason": claim.reason,
        "source": claim.source,
        "threshold_source": claim.threshold_source,
        "seconds": claim.cost.seconds,
        "token_layers": claim.cost.token_layers,
        "location": claim.location,
        "rerun": claim.rerun,
    }
    if claim.effect is not None:
        values |= {f"effect.{name}": value for name, value in msgspec.structs.asdict(claim.effect).items()}
    if claim.family is not None:
        values |= {"family": claim.family.name, "family.p_adjusted": claim.family.p_adjusted}
        values["family.alone"] = claim.family.alone and claim.family.alone.value
    change = claim.change
    if change is not None:
        values |= {"baseline.verdict": change.verdict and change.verdict.value, "comparable": change.comparable}
        values["change.reason"] = change.reason
        moved = wording.change_of(claim, claim.effect)
        if moved is not None:
            values |= {f"change.{name}": getattr(moved, name) for name in ("estimate", "lower", "upper")}
    return {name: _cell(value) for name, value in values.items()}


_COLUMNS = (
    *("id", "suite", "verdict", "waived", "statement", "reason"),
    *(f"effect.{name}" for name in _EFFECT),
    *("family", "family.p_adjusted", "family.alone"),
    *("baseline.verdict", "comparable", "change.estimate", "change.lower", "change.upper", "change.reason"),
    *("source", "threshold_source", "seconds", "token_layers", "location", "rerun"),
)


def _cell(value: Any) -> Any:
    if not isinstance(value, str):
        return str(value).lower() if isinstance(value, bool) else value
    return cell(value)
