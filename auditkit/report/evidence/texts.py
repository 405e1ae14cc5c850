"""The pages of a folder of evidence: what it holds, every claim with its controls, the methods, and the limits."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping

from auditkit.record.escaping import markdown as text
from auditkit.record.identity import model_digest
from auditkit.record.schema import Claim, Control, Effect, Run, Verdict
from auditkit.report import wording
from auditkit.report.answers.headline import answer
from auditkit.report.files.markdown import verdict

_DIGEST = re.compile(r"[0-9a-f]{40,64}(\+dirty)?")

LIMITS = (
    "The claims hold for the model whose digests stand in README.md, on the suites' own prompts, most of them in "
    "English. Another revision, number type, chat template or deployment was not measured.",
    "A verdict is decided by a 95 % interval. Of claims whose truth lies exactly at the threshold, one in forty is "
    "decided wrongly on each side.",
    "A claim that is INCONCLUSIVE or NOT APPLICABLE says nothing in favour of the model.",
    "The record can be derived again from its items without the model. That the items are what the model gave can "
    "only be shown by measuring again.",
    "Digests show a later change to whoever keeps the digest of the record elsewhere. Nothing in this folder is "
    "signed.",
)
"""What no run shows, in sentences."""


def render_index(run: Run, record_sha256: str, digests: Mapping[str, str]) -> str:
    """README.md of the folder.

    Args:
        digests: file of the folder -> its SHA-256.
    """
    model, said = run.model, answer(run)
    lines = [
        f"# Evidence of an audit: {text(model.name)}\n",
        f"**{verdict(run.summary.verdict)}**: {text(said.sentence)}\n",
        *(f"{text(more)}\n" for more in said.more),
        "This folder is evidence of what was measured, and no statement of compliance with any law or framework.\n",
        "| | |\n| --- | --- |",
        *_pairs(_identity(run, record_sha256)),
        "\n## Files\n",
        "| file | content | SHA-256 |\n| --- | --- | --- |",
        *(
            f"| `{name}` | {_CONTENT.get(name, wording.MISSING)} | `{digest}` |"
            for name, digest in digests.items()
        ),
        "\n## Is it what was measured?\n",
        "```console\nauditkit verify .\n```\n",
        "computes every effect again from `items.parquet` and every verdict from the effects, compares every file with "
        "`manifest.json`, and prints the digest of the record. It ends with 0 where all of it holds.\n",
        "## Signed\n",
        "Responsible person, date, signature: ________________________________\n",
    ]
    return "\n".join(lines)


_CONTENT = {
    "audit.html": "the report, for people",
    "audit.json": "the record that everything else is made from",
    "items.parquet": "every measured value by item",
    "claims.csv": "the claims as a table, unrounded",
    "claims.md": "every claim with its controls and reason",
    "methods.md": "how the numbers were computed, and of what",
    "limits.md": "what was not tested, what was not decided, and what no run shows",
    "correspondence.md": "for which item of a framework the claims can be cited",
    "correspondence.csv": "the same, a row for each item and claim",
}


def _identity(run: Run, record_sha256: str) -> dict[str, str]:
    model, baseline = run.model, run.baseline
    return {
        "measured": run.created,
        "model": f"{model.spec} ({model.source})",
        "revision": model.revision,
        "weights, SHA-256": model.weights_sha256 or wording.NO_DIGEST,
        "tokenizer, SHA-256": model.tokenizer_sha256,
        "identity of the model, SHA-256": model_digest(model) if wording.identity(model) else "",
        "compared with": "" if baseline is None else f"{baseline.name} (record {baseline.audit_sha256})",
        "record, SHA-256": record_sha256,
        "plan, SHA-256": run.plan_sha256,
        "items, SHA-256": run.items_sha256,
        "auditkit": run.tool.version,
        "commit of the suites": run.tool.git or "",
    }


def _pairs(values: Mapping[str, str]) -> Iterator[str]:
    return (f"| {text(name)} | {_value(value)} |" for name, value in values.items() if value)


def _value(value: str) -> str:
    """A digest as code, so that it can be copied; every other text as text."""
    return f"`{value}`" if _DIGEST.fullmatch(value) else text(value)


def render_claims(run: Run) -> str:
    """Every claim, by suite: statement, verdict, comparisons, controls, change since the baseline, waiver."""
    lines = ["# Claims\n", "A verdict is decided by the whole interval. The report has the figures.\n"]
    for suite, claims in wording.suites(run).items():
        lines.append(f"## {text(suite)}\n\n{text(claims[0].source)}\n")
        lines += [line for claim in claims for line in _claim(claim)]
    return "\n".join(lines)


def _claim(claim: Claim) -> Iterator[str]:
    yield f"### {text(claim.id)}\n\n{text(claim.statement)}\n"
    yield f"**{verdict(claim.verdict)}**: {text(claim.reason)}\n"
    yield from (f"- compared: {_effect(effect)}" for effect in claim.compared)
    yield f"- threshold: {text(claim.threshold_source)}"
    yield from (_control(one) for one in claim.controls)
    yield from (f"- {text(remark)}" for remark in wording.remarks(claim))
    yield from (f"- note: {text(note)}" for note in claim.notes)
    yield ""


def _control(one: Control) -> str:
    if one.verdict is None:
        return f"- beside, judged by nobody: {text(one.name)}: {_effect(one.effect)}"
    return f"- control {text(one.name)}: {wording.WORDS[one.verdict]}: {_effect(one.effect)} {text(one.reason)}"


def _effect(effect: Effect | None) -> str:
    return wording.MISSING if effect is None else text(wording.line(effect))


def render_methods(run: Run) -> str:
    """How the numbers were computed, by method, and of which data, code and versions."""
    effects = [effect for claim in run.claims for effect in claim.compared]
    methods = Counter(effect.method for effect in effects)
    settings = dict(sorted(run.plan.settings.items())) | {"profile": run.profile, "device": run.model.device}
    lines = [
        "# Methods\n",
        "Each comparison of a claim names its method in `audit.json`. These are all of this run:\n",
        *(f"- {text(method)} ({count} comparisons)" for method, count in methods.most_common()),
        "\n## Settings\n\n| | |\n| --- | --- |",
        *_pairs(settings),
        "\n## Versions\n\n| | |\n| --- | --- |",
        *_pairs({"Python": run.environment.python, **run.environment.packages}),
        "\n## Data\n\n| file | SHA-256 |\n| --- | --- |",
        *_pairs(dict(sorted(run.plan.data.items()))),
        f"\nThe record lists the digests of {len(run.plan.code)} modules that computed the numbers, and of every "
        "claim.\n",
    ]
    return "\n".join(lines)


def render_limits(run: Run) -> str:
    """What was not tested, what was not decided, and what no run shows."""
    lines = ["# Limits\n", *(f"- {one}" for one in LIMITS), ""]
    if run.cross_check is None:
        lines.append("- No other adapter measured any of these numbers again (`--cross-check`).\n")
    else:
        lines.append(f"- {text(wording.cross_check(run.cross_check))}\n")
    if run.untested:
        lines += ["## Not tested\n", *(f"- {text(one.what)}: {text(one.reason)}" for one in run.untested), ""]
    for value in (Verdict.ERROR, Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.NOT_APPLICABLE):
        claims = [claim for claim in run.claims if claim.verdict is value]
        if claims:
            lines += [f"## {wording.WORDS[value]}\n"]
            lines += [*(f"- {text(claim.id)}: {text(claim.reason)}" for claim in claims), ""]
    if run.waivers:
        lines += ["## Waivers\n", *(f"- {text(wording.waiver(one))}" for one in run.waivers), ""]
    return "\n".join(lines)
