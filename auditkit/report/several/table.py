"""The scorecard as a CSV table: one row for each claim and run, numbers as they were measured."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from auditkit.record.canonical import canonical
from auditkit.record.escaping import cell
from auditkit.record.schema import Run
from auditkit.report.several.matrix import scorecard

_NUMBERS = ("estimate", "lower", "upper", "threshold")
_COLUMNS = (
    *("claim", "suite", "run", "label", "model", "seed", "state", "verdict", "asked_otherwise", "why"),
    *("effect", *_NUMBERS, "relation", "unit"),
)


def render_table(runs: Sequence[Run]) -> str:
    """The scorecard of runs in the order that was given; a cell is empty where a run has no number."""
    card = scorecard([canonical(run) for run in runs])
    sink = io.StringIO(newline="")
    table = csv.DictWriter(sink, _COLUMNS, restval="")
    table.writeheader()
    for row in card.rows:
        for one in row.cells:
            run = card.runs[one.run]
            texts = {
                "claim": row.id,
                "suite": row.suite,
                "label": card.labels[one.run],
                "model": run.model.name,
                "state": one.state,
                "verdict": one.claim.verdict.value if one.claim is not None else "",
                "asked_otherwise": one.otherwise,
                "why": one.why,
            }
            numbers = {}
            if one.effect is not None:
                texts |= {
                    "effect": one.effect.name,
                    "relation": one.effect.relation or "",
                    "unit": one.effect.unit,
                }
                numbers = {name: getattr(one.effect, name) for name in _NUMBERS}
            table.writerow(
                {"run": one.run + 1, "seed": run.seed}
                | {name: cell(text) for name, text in texts.items()}
                | {name: value for name, value in numbers.items() if value is not None}
            )
    return sink.getvalue()
