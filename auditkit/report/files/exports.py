"""Results in the forms of other places: the Hub's `.eval_results` and the schema of Every Eval Ever.

Neither has a place for a verdict, so it stands in the details, with the threshold. A claim without a number is left out
of both, and counted for whoever writes the file.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from auditkit.record.canonical import canonical
from auditkit.record.escaping import printed
from auditkit.record.schema import Claim, Effect, Run
from auditkit.report import wording

EVERY_EVAL_EVER = ("0.2.1", "0.3.0")
"""Versions of its schema that are written, the newest last. What a run fills is the same in all of them."""
_SHARES = ("share", "accuracy", "probability", "fraction", "rate")
_UNBOUNDED = sys.float_info.max


def exported(run: Run) -> list[Claim]:
    """The claims that have a number."""
    return [claim for claim in run.claims if claim.effect is not None and claim.effect.estimate is not None]


def render_hub_results(run: Run, dataset: str, url: str | None = None) -> str:
    """The content of a file in a model repository's folder `.eval_results`: an entry for each claim with a number.

    Args:
        dataset: id of the benchmark data set on the Hub that the entries belong to.
        url: where the report can be read.
    """
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml
    from huggingface_hub.utils import yaml_dump  # type: ignore[attr-defined]  # offered, and not listed

    run = canonical(run)
    entries = [
        EvalResultEntry(
            dataset_id=dataset,
            task_id=printed(claim.id),
            value=effect.estimate,
            date=run.created,
            source_url=url,
            source_name=None if url is None else "auditkit",
            notes=printed(f"{_verdict(claim)}: {wording.effect_text(effect)}, to be {wording.threshold(effect)}"),
        )
        for claim, effect in _with_effects(run)
    ]
    return printed(str(yaml_dump(eval_result_entries_to_yaml(entries), sort_keys=False)))


def render_every_eval(run: Run, organization: str, relationship: str, version: str = EVERY_EVAL_EVER[-1]) -> str:
    """The run by the schema of Every Eval Ever, as JSON.

    Args:
        organization: who measured.
        relationship: of the evaluator to the model, by that schema: first_party, third_party, collaborative or other.
        version: of the schema; one of `EVERY_EVAL_EVER`.
    """
    run = canonical(run)
    model, created = run.model, int(datetime.fromisoformat(run.created).timestamp())
    said = {
        "schema_version": version,
        "evaluation_id": f"auditkit/{model.spec}/{created}",
        "evaluation_timestamp": run.created,
        "retrieved_timestamp": str(created),
        "source_metadata": {
            "source_name": "auditkit",
            "source_type": "evaluation_run",
            "source_organization_name": organization,
            "evaluator_relationship": relationship,
        },
        "eval_library": {"name": "auditkit", "version": run.tool.version, "additional_details": _details(run)},
        "model_info": {
            "name": model.name,
            "id": model.spec,
            "additional_details": {
                **({"weights_sha256": model.weights_sha256} if model.weights_sha256 else {}),
                "dtype": model.dtype,
                "adapter": model.adapter,
                "source": model.source,
                # whoever audits runs the weights, but for those that only a server has
                "deployment_type": "self_deployed" if model.weights_sha256 else "unknown",
                "model_availability": "unknown",
            },
        },
        "evaluation_results": [_result(run, claim, effect) for claim, effect in _with_effects(run)],
    }
    return printed(json.dumps(said, indent=1, ensure_ascii=True)) + "\n"


def _with_effects(run: Run) -> Iterable[tuple[Claim, Effect]]:
    return ((claim, claim.effect) for claim in exported(run) if claim.effect is not None)


def _details(run: Run) -> dict[str, str]:
    return {
        "plan_sha256": run.plan_sha256,
        "seed": str(run.seed),
        "profile": run.profile,
        "verdict": run.summary.verdict.value,
        "claims_without_a_number": str(len(run.claims) - len(exported(run))),
    }


def _result(run: Run, claim: Claim, effect: Effect) -> dict[str, Any]:
    uncertainty: dict[str, Any] = {"num_samples": effect.n}
    if effect.lower is not None and effect.upper is not None:
        uncertainty["confidence_interval"] = {
            "lower": effect.lower,
            "upper": effect.upper,
            "confidence_level": 1 - effect.alpha,
            "method": effect.method,
        }
    return {
        "evaluation_name": claim.id,
        "source_data": {"dataset_name": claim.suite, "source_type": "other"},
        "evaluation_timestamp": run.created,
        "metric_config": _metric(claim, effect),
        "score_details": {
            "score": effect.estimate,
            "details": {
                "verdict": _verdict(claim),
                "threshold": wording.threshold(effect),
                "unit": effect.unit,
                "clusters": str(effect.clusters),
                "reason": claim.reason,
            },
            "uncertainty": uncertainty,
        },
    }


def _metric(claim: Claim, effect: Effect) -> dict[str, Any]:
    """What the number is. The schema wants bounds of every number: ±1 for shares and their differences, and the
    greatest number that there is for what has no bound, such as logits."""
    share = any(word in effect.unit for word in _SHARES) and abs(effect.estimate or 0.0) <= 1
    bound = 1.0 if share else _UNBOUNDED
    return {
        "evaluation_description": claim.statement,
        "lower_is_better": effect.relation in ("<", "<="),
        "score_type": "continuous",
        "min_score": -bound,
        "max_score": bound,
        "additional_details": {
            "metric": effect.name,
            "relation": str(effect.relation or "shown only"),
            "bounds": "of a share or a difference of shares" if share else "none: the unit has no bound",
        },
    }


def _verdict(claim: Claim) -> str:
    return wording.WORDS[claim.verdict] + (" (waived)" if claim.waiver is not None else "")
