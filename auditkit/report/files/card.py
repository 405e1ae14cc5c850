"""The model card section: what was audited and with which verdicts, with metadata that a hub can read.

The metadata are a `model-index`, the form in which model cards state results. Every verdict is in the table, the bad
ones too, and a claim without a number stands there with its reason.
"""

from __future__ import annotations

from auditkit.record.canonical import canonical
from auditkit.record.escaping import markdown as text
from auditkit.record.escaping import printed
from auditkit.record.schema import Claim, Run
from auditkit.report import wording
from auditkit.report.files.markdown import verdict

MOST = 500
"""Claims that a card holds; the page and the table of claims hold all."""


def render_card(run: Run) -> str:
    """YAML metadata and a Markdown section; what does not fit is counted."""
    run = canonical(run)
    model = run.model
    order = [*wording.needing_attention(run), *run.claims]
    kept = {claim.id for claim in list({claim.id: claim for claim in order}.values())[:MOST]}
    shown = [claim for claim in run.claims if claim.id in kept]
    lines = [
        f"---\n{_metadata(run, shown)}---\n",
        "## Behavioural audit\n",
        f"**{verdict(run.summary.verdict)}**: {text(run.summary.reason)}\n",
        f"Audited on {text(run.created)} with auditkit {text(run.tool.version)}: weights "
        f"{text(model.weights_sha256[:12])}, {text(model.dtype)}, adapter {text(model.adapter)}, seed {run.seed}, "
        f"profile {run.profile}, plan {text(run.plan_sha256[:12])}. A verdict is decided by the whole interval.\n",
    ]
    if run.baseline is not None:
        lines.append(f"Compared with {text(wording.changes(run))}.\n")
    grouped: dict[str, list[Claim]] = {}
    for claim in shown:
        grouped.setdefault(claim.suite, []).append(claim)
    for suite, claims in grouped.items():
        lines.append(f"### {text(suite)}\n\n{text(claims[0].source)}\n")
        lines.append("| Verdict | Claim | Effect | Threshold | Items |\n| --- | --- | --- | --- | --- |")
        lines += [*map(_row, claims), ""]
    if len(shown) < len(run.claims):
        lines.append(f"{len(run.claims) - len(shown)} more claims are in the report.\n")
    if run.untested:
        lines.append("### Not tested\n")
        lines += [f"- {text(entry.what)}: {text(entry.reason)}" for entry in run.untested[:MOST]]
        if len(run.untested) > MOST:
            lines.append(f"- {len(run.untested) - MOST} more are in the report")
        lines.append("")
    return "\n".join(lines)


def _metadata(run: Run, claims: list[Claim]) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    results = [
        EvalResult(
            task_type="text-generation",
            task_name="Behavioural audit",
            dataset_type="auditkit",
            dataset_name=printed(claim.suite) or wording.MISSING,
            dataset_revision=run.plan_sha256[:12],
            metric_type=printed(claim.id),
            metric_name=printed(claim.statement),
            metric_value=claim.effect.estimate,
            metric_args={
                "verdict": wording.WORDS[claim.verdict] + (" (waived)" if claim.waiver is not None else ""),
                "interval": [claim.effect.lower, claim.effect.upper],
                "threshold": wording.threshold(claim.effect),
                "unit": printed(claim.effect.unit),
                "items": claim.effect.n,
            },
        )
        for claim in claims
        if claim.effect is not None and claim.effect.estimate is not None
    ]
    if not results:
        return "tags:\n- auditkit\n"
    data = ModelCardData(model_name=printed(run.model.name), eval_results=results, tags=["auditkit"])
    return printed(f"{data}\n")  # YAML breaks a long text at a blank, and the next line may begin like a command


def _row(claim: Claim) -> str:
    effect = claim.effect
    cells = [verdict(claim.verdict) + (" (waived)" if claim.waiver is not None else ""), text(claim.statement)]
    if effect is None:
        cells += [text(claim.reason), wording.MISSING, wording.MISSING]
    else:
        cells += [
            text(wording.effect_text(effect)),
            text(wording.threshold(effect)),
            text(wording.population(effect)),
        ]
    return "| " + " | ".join(cells) + " |"
