"""The page of several runs: sentences first, then the scorecard, what changes along the order, and bias by knowledge.

Like the audit page it is one file without requests and without a script, and every text of a run is escaped.
"""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from auditkit.record import escaping
from auditkit.record.canonical import canonical
from auditkit.record.schema import Run
from auditkit.report import wording
from auditkit.report.html import environment, own, policy
from auditkit.report.several import drawing, words
from auditkit.report.several.matrix import MEASURED, SEVERAL, STATES, Scorecard, scorecard
from auditkit.report.several.pareto import against


def render_several(runs: Sequence[Run], note: str = "") -> str:
    """The page of runs in the order that was given; the same runs give the same text.

    Args:
        note: what the runs are, in the words of whoever compares them.
    """
    card = scorecard([canonical(run) for run in runs])
    changes = words.changed(card)
    named = {change.row.id for change in changes}
    others = [row for row in card.rows if row.id not in named]
    style = own("style.css") + own("compare.css")
    page = (
        environment()
        .get_template("several.html.j2")
        .render(
            card=card,
            note=note,
            sentences=words.sentences(card),
            changes=changes,
            facts=_facts(card),
            model=card.runs[0].model.name if len({run.model.name for run in card.runs}) == 1 else "",
            suites=card.suites(),
            tally=words.tally,
            several=SEVERAL,
            states=STATES,
            measured=MEASURED,
            moved=[row for row in others if words.unlike(row)],
            steady=[row for row in others if not words.unlike(row) and drawing.trend(row) is not None],
            without=[row for row in others if drawing.trend(row) is None],
            trend=drawing.trend,
            planes=[(one, drawing.plane(one.pairs)) for one in against(card)],
            missing_knowledge=_without_planes(card),
            apart=words.not_joined(card),
            shape=drawing,
            policy=policy(style),
            # Safe: the style sheets are files of this package and hold no "</style".
            style=Markup(style),
        )
    )
    return escaping.document(page)


def _facts(card: Scorecard) -> list[dict[str, str]]:
    """What tells the runs apart, one entry for each."""
    return [
        {
            "Model": run.model.name,
            "Seed": str(run.seed),
            "Items": _items(run),
            "Parameters": f"{run.model.parameters:,}",
            "Weights": wording.weights(run.model),
            "Tokenizer": run.model.tokenizer_sha256[:12],
            "Baseline": run.baseline.run if run.baseline is not None else "none",
            "Date": run.created,
            "Verdict": wording.WORDS[run.summary.verdict],
        }
        for run in card.runs
    ]


def _items(run: Run) -> str:
    items = run.plan.settings.get("items", "None")
    return (
        f"effort {run.plan.settings.get('effort', 'standard')}" if items == "None" else f"{items} per measurement"
    )


def _without_planes(card: Scorecard) -> bool:
    """Whether the runs hold claims of identity_bias, of which no pair of measures can be read."""
    return any(row.suite == "identity_bias" for row in card.rows) and not against(card)
