"""The model card section: what was audited and with which verdicts, with metadata that a hub can read.

The metadata are a `model-index`, the form in which model cards state results. Every verdict is in the table, the bad
ones too, and a claim without a number stands there with its reason. In an existing card the section stands between two
markers, so that it can be replaced, and everything else stays as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from auditkit.record.canonical import canonical
from auditkit.record.escaping import markdown as text
from auditkit.record.escaping import printed
from auditkit.record.schema import Claim, Run
from auditkit.report import wording
from auditkit.report.files.markdown import verdict

if TYPE_CHECKING:
    from huggingface_hub import EvalResult, ModelCardData

BEGIN, END = "<!-- auditkit: begin -->", "<!-- auditkit: end -->"
"""Around the section in an existing card."""
_DATASET = "auditkit"
"""Type of the data set in the metadata of our results, by which they are told from those of others."""
MOST = 500
"""Claims that a card holds; the page and the table of claims hold all."""


class CardError(ValueError):
    """An existing card that cannot take the section, in one line."""


def render_card(run: Run) -> str:
    """YAML metadata and a Markdown section; what does not fit is counted."""
    run = canonical(run)
    shown = _shown(run)
    return f"---\n{_metadata(run, shown)}---\n\n{_section(run, shown)}"


def into_card(card: str, run: Run) -> str:
    """An existing model card with the section between its markers (at the end where it has none) and the results of the
    run among its metadata, in place of earlier ones of ours.

    Raises:
        CardError: it has no metadata, metadata that cannot be read, or markers that do not fit together.
    """
    from huggingface_hub import ModelCard
    from huggingface_hub.repocard import REGEX_YAML_BLOCK

    run = canonical(run)
    shown = _shown(run)
    if REGEX_YAML_BLOCK.search(card) is None:
        raise CardError(
            "it has no front matter, where the Hub reads results: begin the file with a line ---, metadata such as "
            "'license: apache-2.0', and another line ---"
        )
    try:
        read = ModelCard(card)
    except Exception as error:  # the reader raises whatever the YAML or its results run into
        raise CardError(f"its front matter cannot be read: {printed(str(error)).splitlines()[0]}") from None
    data = cast("ModelCardData", read.data)
    others = [one for one in data.eval_results or () if one.dataset_type != _DATASET]
    if results := [*others, *_results(run, shown)]:
        data.eval_results = results
        data.model_name = data.get("model_name") or printed(run.model.name)
    data.tags = list(dict.fromkeys([*(data.tags or ()), "auditkit"]))
    read.text = _between(read.text, f"{BEGIN}\n{_section(run, shown)}\n{END}")
    whole = str(read)  # YAML breaks a long text at a blank, and the next line may begin like a command
    return printed(whole[: len(whole) - len(read.text)]) + read.text


def _between(text: str, section: str) -> str:
    """The text of a card with the section in place of the marked one.

    Raises:
        CardError: a marker is missing, or stands there twice or before its partner.
    """
    counts = text.count(BEGIN), text.count(END)
    if counts == (0, 0):
        return f"{text.rstrip()}\n\n{section}\n"
    if counts != (1, 1) or text.index(BEGIN) > text.index(END):
        raise CardError(f"the markers {BEGIN} and {END} must stand there once each, in this order, or not at all")
    return text[: text.index(BEGIN)] + section + text[text.index(END) + len(END) :]


def _shown(run: Run) -> list[Claim]:
    """The claims that a card holds."""
    order = [*wording.needing_attention(run), *run.claims]
    kept = {claim.id for claim in list({claim.id: claim for claim in order}.values())[:MOST]}
    return [claim for claim in run.claims if claim.id in kept]


def _section(run: Run, shown: list[Claim]) -> str:
    model = run.model
    lines = [
        "## Behavioural audit\n",
        f"**{verdict(run.summary.verdict)}**: {text(run.summary.reason)}\n",
        f"Audited on {text(run.created)} with auditkit {text(run.tool.version)}: weights "
        f"{text(wording.weights(model))}, {text(model.dtype)}, adapter {text(model.adapter)}, seed {run.seed}, "
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


def _results(run: Run, claims: list[Claim]) -> list[EvalResult]:
    from huggingface_hub import EvalResult

    return [
        EvalResult(
            task_type="text-generation",
            task_name="Behavioural audit",
            dataset_type=_DATASET,
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


def _metadata(run: Run, claims: list[Claim]) -> str:
    from huggingface_hub import ModelCardData

    results = _results(run, claims)
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
