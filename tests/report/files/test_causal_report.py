"""A causal claim as a causal report of OpenInterp, by the published schema, 0.1.

No library reads such a report: `openinterp` 0.3.1 and `openinterp-mcp` 0.2.0 on the package index hold no code for it.
So it is read back here twice, by structures that know no other field, and by jsonschema.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated, Any, Literal, get_args, get_type_hints

import msgspec
import pytest
from hostile import HOSTILE
from msgspec.structs import replace

from auditkit.record.schema import Claim, Control, CrossCheck, Run, Verdict
from auditkit.report.files.causal_report import SUBJECTS, NoCausalReport, render_causal_report, reportable

pytestmark = pytest.mark.unit

GUARDS = "guards (36 statements): the identity edit changed logits by at most 2.1e-05"
NAME = "persona_patching/early_mlps_carry_the_persona"


class Struct(msgspec.Struct, forbid_unknown_fields=True):
    """Of the published schema, 0.1, what a report fills; a field that it does not have is an error."""


class Subject(Struct):
    type: Literal["probe", "sae_feature", "steering_vector", "circuit", "intervention"]
    identifier: str
    model_id: str


class Diagnostic(Struct):
    applied: bool
    result: Literal["pass", "fail", "na"]
    note: str
    evidence: dict[str, Any] | None = None


class Diagnostics(Struct):
    saturation_direction: Diagnostic
    env_coupling: Diagnostic
    template_lock: Diagnostic
    marginal_fit: Diagnostic
    capacity_sweep: Diagnostic
    epiphenomenal_prior: Diagnostic


class Report(Struct):
    schema_version: Literal["0.1"]
    report_id: str
    subject: Subject
    date: str
    diagnostics: Diagnostics
    verdict: Literal[
        "causal", "correlative_only", "epiphenomenal_confirmed", "inconclusive", "structurally_locked"
    ]
    headline: Annotated[str, msgspec.Meta(max_length=300)]


DIAGNOSTIC = {
    "type": "object",
    "required": ["applied", "result"],
    "properties": {
        "applied": {"type": "boolean"},
        "result": {"enum": ["pass", "fail", "na"]},
        "evidence": {"type": "object"},
        "note": {"type": "string"},
    },
}
SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "required": ["schema_version", "report_id", "subject", "date", "diagnostics", "verdict"],
    "properties": {
        "schema_version": {"const": "0.1"},
        "report_id": {"type": "string"},
        "subject": {
            "type": "object",
            "required": ["type", "identifier"],
            "properties": {
                "type": {"enum": ["probe", "sae_feature", "steering_vector", "circuit", "intervention"]},
                "identifier": {"type": "string"},
                "model_id": {"type": "string"},
            },
        },
        "date": {"type": "string"},
        "diagnostics": {
            "type": "object",
            "required": list(Diagnostics.__struct_fields__),
            "properties": dict.fromkeys(Diagnostics.__struct_fields__, DIAGNOSTIC),
        },
        "verdict": {"enum": list(get_args(get_type_hints(Report)["verdict"]))},
        "headline": {"type": "string", "maxLength": 300},
    },
}
"""What the published schema asks of the fields that a report fills."""


@pytest.fixture
def edited(sample_run: Run) -> Run:
    """The sample run, whose first claim rests on guarded edits."""
    return with_first(sample_run, notes=(GUARDS,))


def with_first(run: Run, **changes: Any) -> Run:
    return replace(run, claims=(replace(run.claims[0], **changes), *run.claims[1:]))


def read(run: Run) -> Report:
    return msgspec.json.decode(render_causal_report(run, NAME, "circuit"), type=Report)


def test_a_claim_that_passes_is_causal_with_its_interval_and_controls(edited: Run) -> None:
    report, effect = read(edited), edited.claims[0].effect
    assert (report.verdict, report.subject.type, report.subject.identifier) == ("causal", "circuit", NAME)
    assert report.headline.startswith("PASS: Restoring MLP layers")
    lever = report.diagnostics.epiphenomenal_prior
    assert (lever.applied, lever.result) == (True, "pass")
    compared = lever.evidence["comparisons"][0]
    assert (compared["estimate"], compared["lower"], compared["upper"]) == (
        effect.estimate,
        effect.lower,
        effect.upper,
    )
    elsewhere = report.diagnostics.saturation_direction
    judged = [one.name for one in edited.claims[0].controls if one.verdict is not None]
    assert [one["name"] for one in elsewhere.evidence["controls"]] == judged
    assert elsewhere.result == "pass"


@pytest.mark.parametrize(("verdict", "result"), [(Verdict.FAIL, "fail"), (Verdict.INCONCLUSIVE, "na")])
def test_no_other_verdict_is_causal_and_the_headline_says_which_it_is(
    edited: Run, verdict: Verdict, result: str
) -> None:
    report = read(with_first(edited, verdict=verdict))
    assert report.verdict == "inconclusive"
    assert report.headline.startswith(f"{verdict}: ")
    assert report.diagnostics.epiphenomenal_prior.result == result


@pytest.mark.parametrize("subject", SUBJECTS)
def test_a_validator_of_json_schemas_finds_nothing_to_object_to(edited: Run, subject: str) -> None:
    validation = pytest.importorskip("jsonschema", reason="jsonschema is not installed (requirements/exports.txt)")
    validator = validation.Draft202012Validator(SCHEMA)
    validator.check_schema(SCHEMA)
    for verdict in (Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE):
        said = json.loads(render_causal_report(with_first(edited, verdict=verdict), NAME, subject))
        assert [error.message for error in validator.iter_errors(said)] == []
        assert datetime.fromisoformat(said["date"]).tzinfo is not None  # the schema's date-time
    lacking = {name: value for name, value in said.items() if name != "verdict"}
    assert [error.message for error in validator.iter_errors(lacking)] == ["'verdict' is a required property"]


def test_what_was_not_measured_is_not_applied(edited: Run) -> None:
    report = read(with_first(edited, controls=()))
    lacking = [name for name in Diagnostics.__struct_fields__ if not getattr(report.diagnostics, name).applied]
    assert lacking == [name for name in Diagnostics.__struct_fields__ if name != "epiphenomenal_prior"]
    assert {getattr(report.diagnostics, name).result for name in lacking} == {"na"}


@pytest.mark.parametrize(("agrees", "result"), [(True, "pass"), (False, "fail"), (None, "na")])
def test_a_cross_check_is_the_diagnostic_of_another_environment(
    edited: Run, agrees: bool | None, result: str
) -> None:
    check = CrossCheck(
        adapter="nnterp", asked=5, offered=9, measured=5, missing={}, largest=1e-5, where="mlp 3", allowed=1e-3,
        agrees=agrees, reason="" if agrees is not None else "nothing",
    )  # fmt: skip
    assert read(replace(edited, cross_check=check)).diagnostics.env_coupling.result == result


def test_a_control_that_does_not_hold_fails_its_diagnostic(edited: Run) -> None:
    controls = (*edited.claims[0].controls, Control(name="c", effect=None, verdict=Verdict.FAIL, reason="moved"))
    assert read(with_first(edited, controls=controls)).diagnostics.saturation_direction.result == "fail"


def test_a_sensitivity_reference_is_no_control_of_an_edit(edited: Run) -> None:
    reference = Control(name="sensitivity: tells a from b", effect=None, verdict=Verdict.PASS, reason="it does")
    assert not read(with_first(edited, controls=(reference,))).diagnostics.saturation_direction.applied


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"notes": ()}, "its notes name no guards of edits"),
        ({"verdict": Verdict.ERROR}, "it is ERROR"),
        ({"verdict": Verdict.NOT_APPLICABLE, "effect": None}, "it is NOT APPLICABLE"),
        ({"relation": "within", "threshold": 0.1}, "a difference stays small"),
        ({"relation": "<=", "threshold": 0.1}, "a difference stays small"),
    ],
)
def test_a_claim_that_says_nothing_of_an_edit_is_refused(edited: Run, changes: dict[str, Any], why: str) -> None:
    claim = edited.claims[0]
    if "relation" in changes:
        changes = {"effect": replace(claim.effect, **changes)}
    run = with_first(edited, **changes)
    assert reportable(edited) == [NAME]
    assert reportable(run) == []
    with pytest.raises(NoCausalReport, match=why) as error:
        render_causal_report(run, NAME, "circuit")
    assert "\n" not in str(error.value)


def test_a_claim_that_the_run_does_not_hold_is_refused_with_those_that_it_holds(edited: Run) -> None:
    with pytest.raises(NoCausalReport, match=f"a/b: the run holds no such claim .*{NAME}"):
        render_causal_report(edited, "a/b", "circuit")


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_a_text_of_a_run_stays_a_text(edited: Run, text: str) -> None:
    claim: Claim = replace(edited.claims[0], statement=text * 3, reason=text, notes=(GUARDS, text))
    run = replace(edited, claims=(claim,))
    written = render_causal_report(run, NAME, "intervention")
    assert msgspec.json.decode(written, type=Report).schema_version == "0.1"
    assert "##[" not in written
