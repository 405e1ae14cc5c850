"""The JUnit file: what build servers read.

One test case per claim, in one test suite per suite. The format knows passed, failed, broken and skipped
only, so a verdict that is neither good nor bad news is "skipped" with its reason, and an undecided claim
fails where the profile says that undecided blocks. A waived claim is "skipped" too, and names its waiver.
Numbers travel as properties; what was not measured is left out.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import Counter
from typing import Literal

import msgspec

from auditkit.record.canonical import canonical
from auditkit.record.schema import Claim, Effect, Run, Verdict
from auditkit.report import wording

Outcome = Literal["failure", "error", "skipped"]


def render_junit(run: Run) -> bytes:
    """The claims of `run` as JUnit XML."""
    run = canonical(run)
    root = ET.Element("testsuites", name="auditkit")
    for suite, claims in wording.suites(run).items():
        element = ET.SubElement(
            root,
            "testsuite",
            _totals(claims, run) | {"name": wording.clean(suite), "timestamp": wording.clean(run.created)},
        )
        _properties(
            element,
            {
                "model": run.model.name,
                "model.source": run.model.source,
                "model.weights_sha256": run.model.weights_sha256,
                "plan_sha256": run.plan_sha256,
                "profile": run.profile,
                "seed": run.seed,
                "auditkit": run.tool.version,
                "baseline": wording.changes(run) if run.baseline else None,
                **{f"waiver.{number}": wording.waiver(w) for number, w in enumerate(run.waivers, start=1)},
            },
        )
        for claim in claims:
            _testcase(element, claim, run)
    root.attrib |= _totals(list(run.claims), run)
    ET.indent(root)
    return bytes(ET.tostring(root, encoding="utf-8", xml_declaration=True)) + b"\n"


def _outcome(claim: Claim, run: Run) -> Outcome | None:
    if claim.waiver is not None:
        return "skipped"
    match claim.verdict:
        case Verdict.PASS:
            return None
        case Verdict.FAIL:
            return "failure"
        case Verdict.ERROR:
            return "error"
        case Verdict.INCONCLUSIVE:
            return "failure" if run.profile == "release" else "skipped"
        case Verdict.NOT_APPLICABLE:
            return "skipped"


def _totals(claims: list[Claim], run: Run) -> dict[str, str]:
    outcomes = Counter(_outcome(claim, run) for claim in claims)
    return {
        "tests": str(len(claims)),
        "failures": str(outcomes["failure"]),
        "errors": str(outcomes["error"]),
        "skipped": str(outcomes["skipped"]),
        "time": f"{sum(claim.cost.seconds for claim in claims):.3f}",
    }


def _testcase(suite: ET.Element, claim: Claim, run: Run) -> None:
    case = ET.SubElement(
        suite,
        "testcase",
        classname=wording.clean(claim.suite),
        name=wording.clean(claim.id.removeprefix(f"{claim.suite}/")),
        time=f"{claim.cost.seconds:.3f}",
    )
    values: dict[str, object] = {
        "id": claim.id,
        "verdict": claim.verdict.value,
        "statement": claim.statement,
        "source": claim.source,
        "reason": claim.reason,
        "threshold_source": claim.threshold_source,
        "cost.token_layers": claim.cost.token_layers,
        "cost.share_of_minimum": claim.cost.share_of_minimum,
    }
    if claim.waiver is not None:
        values["waiver"] = wording.waiver(claim.waiver)
    if claim.change is not None:
        values["baseline.verdict"] = claim.change.verdict.value if claim.change.verdict else None
        values["baseline.comparable"] = str(claim.change.comparable).lower()
        values["baseline.reason"] = claim.change.reason or None
        for index, effect in enumerate(claim.change.effects, start=1):
            values |= _statistics(f"change.{index}", effect)
    values |= _statistics("effect", claim.effect)
    for index, effect in enumerate(claim.also, start=1):
        values |= _statistics(f"also.{index}", effect)
    for index, control in enumerate(claim.controls, start=1):
        values[f"control.{index}"] = control.name
        values[f"control.{index}.verdict"] = control.verdict.value if control.verdict else "shown"
        values |= _statistics(f"control.{index}.effect", control.effect)
    _properties(case, values)
    outcome = _outcome(claim, run)
    if outcome is not None:
        said = "" if claim.waiver is None else f" ({wording.waiver(claim.waiver)})"
        message = wording.clean(f"{wording.WORDS[claim.verdict]}{said}: {claim.reason}")
        element = ET.SubElement(case, outcome, message=message)
        if outcome != "skipped":
            element.set("type", claim.verdict.value)
            element.text = wording.clean(f"{claim.statement}\n{claim.reason}\n{claim.rerun}")


def _statistics(name: str, effect: Effect | None) -> dict[str, object]:
    if effect is None:
        return {}
    return {f"{name}.{field}": value for field, value in msgspec.to_builtins(effect).items()}


def _properties(parent: ET.Element, values: dict[str, object]) -> None:
    """Name and value pairs under `parent`; what was not measured is left out, never a 0 or "None"."""
    element = ET.SubElement(parent, "properties")
    for name, value in values.items():
        if value is not None:
            ET.SubElement(element, "property", name=name, value=wording.clean(str(value)))
