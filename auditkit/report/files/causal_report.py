"""One causal claim as a `causal_report.json` of OpenInterp, schema version 0.1: does an edit move the behaviour?

The schema asks for six diagnostics and one of five verdicts, and has a place for a claim's numbers in the evidence of a
diagnostic. What auditkit did not measure stands there as not applied, never as passed. Its verdict is `causal` for a
claim that passes and `inconclusive` for every other: `correlative_only` and `epiphenomenal_confirmed` also say whether
the behaviour can be detected without a lever, which a claim about an edit does not ask. The headline has our verdict.
"""

from __future__ import annotations

import json
from typing import Any

from auditkit.record.canonical import canonical
from auditkit.record.escaping import path_part, printed
from auditkit.record.schema import Claim, Control, Effect, Run, Verdict
from auditkit.report import wording

OPENINTERP = ("0.1",)
"""Versions of its schema that are written."""
SUBJECTS = ("circuit", "steering_vector", "intervention")
"""What a report can be about, of the schema's types; those that are left name detectors, which no edit tests."""
_LONGEST_HEADLINE = 300
_GUARDS = "guards"
_SENSITIVITY = "sensitivity: "
_READABLE = (Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE)


class NoCausalReport(ValueError):
    """A claim that no causal report can be made of, in one line."""


def reportable(run: Run) -> list[str]:
    """The ids of the claims that a causal report can be made of."""
    return [claim.id for claim in run.claims if not _unfit(claim)]


def render_causal_report(run: Run, claim_id: str, subject: str) -> str:
    """The report of one claim, as JSON.

    Args:
        subject: what is edited; one of `SUBJECTS`.

    Raises:
        NoCausalReport: the run has no such claim, or it does not say that an edit has an effect.
    """
    run = canonical(run)
    claim = next((one for one in run.claims if one.id == claim_id), None)
    why = "the run holds no such claim" if claim is None else _unfit(claim)
    if claim is None or why:
        others = ", ".join(reportable(run)) or "none"
        raise NoCausalReport(
            f"{claim_id}: {why} (claims of this run that a causal report can be made of: {others})"
        )
    said = {
        "schema_version": OPENINTERP[-1],
        "report_id": path_part(
            f"auditkit-{claim.id}-{run.plan_sha256[:12]}-{run.model.weights_sha256[:12]}", "claim"
        ),
        "subject": {"type": subject, "identifier": claim.id, "model_id": run.model.spec},
        "date": run.created,
        "diagnostics": _diagnostics(run, claim),
        "verdict": "causal" if claim.verdict is Verdict.PASS else "inconclusive",
        "headline": printed(f"{wording.WORDS[claim.verdict]}: {claim.statement}")[:_LONGEST_HEADLINE],
    }
    return printed(json.dumps(said, indent=1, ensure_ascii=True)) + "\n"


def _unfit(claim: Claim) -> str:
    """Why no causal report can be made of a claim; empty where one can."""
    if not any(note.startswith(_GUARDS) for note in claim.notes):
        return "its notes name no guards of edits, so it is not known to rest on edits of activations"
    if claim.verdict not in _READABLE or claim.effect is None:
        return f"it is {wording.WORDS[claim.verdict]}, so it has no number that may be read"
    if not _claims_an_effect(claim.effect):
        return "it does not say that an edit has an effect, but that a difference stays small"
    return ""


def _claims_an_effect(effect: Effect) -> bool:
    """Whether the comparison keeps the effect away from zero, on one side."""
    if effect.threshold is None:
        return False
    above = effect.relation in (">", ">=") and effect.threshold >= 0
    return above or (effect.relation in ("<", "<=") and effect.threshold <= 0)


def _diagnostics(run: Run, claim: Claim) -> dict[str, Any]:
    """The six diagnostics of the schema, by the names that it gives them."""
    controls = [one for one in claim.controls if one.verdict is not None and not one.name.startswith(_SENSITIVITY)]
    check = run.cross_check
    return {
        "saturation_direction": _diagnostic(
            "Does the same edit elsewhere, or along another direction, do as much?",
            _all_hold(controls),
            {"controls": [_control(one) for one in controls]},
        )
        if controls
        else _not_applied("no control of the claim is judged apart from its comparisons"),
        "env_coupling": _diagnostic(
            "Does another adapter, with its own way to run the model, give the same numbers?",
            "pass" if check.agrees else "fail",
            {"cross_check": wording.cross_check(check)},
        )
        if check is not None and check.agrees is not None
        else _not_applied("the run has no cross-check through another adapter"),
        "template_lock": _not_applied("the claim does not vary the chat template"),
        "marginal_fit": _not_applied("nothing is fitted to a target"),
        "capacity_sweep": _not_applied("nothing is fitted, so there is no capacity to vary"),
        "epiphenomenal_prior": _diagnostic(
            "Does the edit move the behaviour as far as the claim says, by the whole interval?",
            {Verdict.PASS: "pass", Verdict.FAIL: "fail"}.get(claim.verdict, "na"),
            {
                "verdict": wording.WORDS[claim.verdict],
                "reason": claim.reason,
                "comparisons": [_effect(effect) for effect in claim.compared],
                "shown_beside": [_control(one) for one in claim.controls if one.verdict is None],
                "plan_sha256": run.plan_sha256,
            },
        ),
    }


def _diagnostic(note: str, result: str, evidence: dict[str, Any]) -> dict[str, Any]:
    return {"applied": True, "result": result, "evidence": evidence, "note": note}


def _not_applied(why: str) -> dict[str, Any]:
    return {"applied": False, "result": "na", "note": f"not applied: {why}"}


def _all_hold(controls: list[Control]) -> str:
    verdicts = {one.verdict for one in controls}
    if verdicts == {Verdict.PASS}:
        return "pass"
    return "fail" if Verdict.FAIL in verdicts else "na"


def _control(one: Control) -> dict[str, Any]:
    verdict = None if one.verdict is None else wording.WORDS[one.verdict]
    return {"name": one.name, "verdict": verdict, "effect": None if one.effect is None else _effect(one.effect)}


def _effect(effect: Effect) -> dict[str, Any]:
    return {
        "name": effect.name,
        "estimate": effect.estimate,
        "lower": effect.lower,
        "upper": effect.upper,
        "level": 1 - effect.alpha,
        "unit": effect.unit,
        "to_be": wording.threshold(effect),
        "items": effect.n,
        "clusters": effect.clusters,
        "method": effect.method,
    }
