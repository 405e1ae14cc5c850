"""The JUnit file: what build servers read.

One test case per claim, in one test suite per suite. The format knows passed, failed, broken and skipped
only, so a verdict that is neither good nor bad news is "skipped" with its reason, and an undecided claim
fails where the profile says that undecided blocks. A waived claim is "skipped" too, and names its waiver.
Numbers travel as properties; what was not measured is left out.

What is decided over many claims has test cases of its own, in a last suite: that something passed at all, each
family, the cross-check, the comparison with the baseline. Something in the file fails or is broken exactly when the
run's exit code is not 0.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from auditkit.claims.verdicts import blocks, exit_code
from auditkit.record.canonical import canonical
from auditkit.record.escaping import printed
from auditkit.record.schema import Claim, Effect, Run, Verdict
from auditkit.report import wording

Outcome = Literal["failure", "error", "skipped"]

GATES = "auditkit.gates"


@dataclass(frozen=True)
class _Case:
    """A test case of the file; `outcome` None: passed."""

    suite: str
    name: str
    outcome: Outcome | None
    kind: str
    message: str
    text: str
    properties: Mapping[str, object]
    seconds: float = 0.0
    place: Mapping[str, str] = field(default_factory=dict)


def render_junit(run: Run, record_sha256: str = "") -> bytes:
    """The claims of `run` as JUnit XML.

    Args:
        record_sha256: digest of the run's audit.json, so that a later edit of it shows.
    """
    run = canonical(run)
    suites = {name: [_case(claim, run) for claim in claims] for name, claims in wording.suites(run).items()}
    suites.setdefault(GATES, []).extend(_gates(run))
    root = ET.Element(
        "testsuites", {"name": "auditkit", **_totals([one for some in suites.values() for one in some])}
    )
    about = {
        "model": run.model.name,
        "model.source": run.model.source,
        "model.weights_sha256": run.model.weights_sha256 or None,
        "model.identity_sha256": wording.identity(run.model) or None,
        "plan_sha256": run.plan_sha256,
        "record_sha256": record_sha256 or None,
        "profile": run.profile,
        "seed": run.seed,
        "auditkit": run.tool.version,
        "verdict": run.summary.verdict.value,
        "reason": run.summary.reason,
        "exit_code": exit_code(run.summary, run.profile),
        "baseline": wording.changes(run) if run.baseline else None,
        **{f"waiver.{number}": wording.waiver(w) for number, w in enumerate(run.waivers, start=1)},
    }
    for name, cases in suites.items():
        element = ET.SubElement(
            root,
            "testsuite",
            {**_totals(cases), "name": printed(name), "timestamp": printed(run.created)},
        )
        _properties(element, about)
        for case in cases:
            _write(element, case)
    ET.indent(root)
    return bytes(ET.tostring(root, encoding="utf-8", xml_declaration=True)) + b"\n"


def _case(claim: Claim, run: Run) -> _Case:
    said = "" if claim.waiver is None else f" ({wording.waiver(claim.waiver)})"
    outcome: Outcome | None = None
    if blocks(claim, run.profile):
        outcome = "error" if claim.verdict is Verdict.ERROR else "failure"
    elif claim.verdict is not Verdict.PASS:
        outcome = "skipped"
    file, _, line = claim.location.rpartition(":")
    return _Case(
        suite=claim.suite,
        name=claim.id.removeprefix(f"{claim.suite}/"),
        outcome=outcome,
        kind=claim.verdict.value,
        message=f"{wording.WORDS[claim.verdict]}{said}: {claim.reason}",
        text=f"{claim.statement}\n{claim.reason}\n{claim.rerun}",
        properties=_claim_properties(claim),
        seconds=claim.cost.seconds,
        place={"file": file, "line": line} if file else {},
    )


def _gates(run: Run) -> Iterator[_Case]:
    """Test cases for what is decided over many claims."""
    passed = run.summary.passed
    yield _gate(
        "something passed",
        None if passed else "failure",
        f"{passed} of {len(run.claims)} claims passed; a run in which none does has shown nothing",
    )
    families: dict[str, list[Claim]] = {}
    for claim in run.claims:
        if claim.family is not None:
            families.setdefault(claim.family.name, []).append(claim)
    for name, members in families.items():
        failed = [claim.id for claim in members if claim.verdict is Verdict.FAIL and claim.waiver is None]
        chance = [claim.id for claim in members if wording.by_chance(claim)]
        message = (
            f"{len(failed)} of {len(members)} claims fail after Holm's correction: {', '.join(failed) or 'none'}"
        )
        message += f"; failed alone, which can be chance among so many: {', '.join(chance)}" if chance else ""
        values = {f"p_adjusted.{claim.id}": claim.family.p_adjusted for claim in members if claim.family}
        yield _gate(f"family {name}", "failure" if failed else None, message, {"size": len(members), **values})
    if run.cross_check is not None:
        outcome: dict[bool | None, Outcome | None] = {True: None, False: "error", None: "skipped"}
        message = wording.cross_check(run.cross_check)
        yield _gate("cross-check", outcome[run.cross_check.agrees], message)
    if run.baseline is not None:
        apart = [c.id for c in run.claims if c.change is not None and not c.change.comparable]
        apart += sorted(run.baseline.absent)
        message = wording.changes(run) + (f"; not compared: {', '.join(apart)}" if apart else "")
        yield _gate("changes since baseline", "skipped" if apart else None, message)


def _gate(name: str, outcome: Outcome | None, message: str, values: Mapping[str, object] | None = None) -> _Case:
    return _Case(GATES, name, outcome, "gate", message, message, {"result": message, **(values or {})})


def _totals(cases: list[_Case]) -> dict[str, str]:
    outcomes = Counter(case.outcome for case in cases)
    return {
        "tests": str(len(cases)),
        "failures": str(outcomes["failure"]),
        "errors": str(outcomes["error"]),
        "skipped": str(outcomes["skipped"]),
        "time": f"{sum(case.seconds for case in cases):.3f}",
    }


def _write(suite: ET.Element, case: _Case) -> None:
    attributes = {"classname": case.suite, "name": case.name, **case.place, "time": f"{case.seconds:.3f}"}
    element = ET.SubElement(suite, "testcase", {name: printed(value) for name, value in attributes.items()})
    _properties(element, case.properties)
    if case.outcome is not None:
        found = ET.SubElement(element, case.outcome, message=printed(case.message))
        if case.outcome != "skipped":
            found.set("type", case.kind)
            found.text = printed(case.text)


def _claim_properties(claim: Claim) -> dict[str, object]:
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
    if claim.family is not None:
        values |= {f"family.{name}": value for name, value in msgspec.to_builtins(claim.family).items()}
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
    return values


def _statistics(name: str, effect: Effect | None) -> dict[str, object]:
    if effect is None:
        return {}
    return {f"{name}.{field}": value for field, value in msgspec.to_builtins(effect).items()}


def _properties(parent: ET.Element, values: Mapping[str, object]) -> None:
    """Name and value pairs under `parent`; what was not measured is left out, never a 0 or "None"."""
    element = ET.SubElement(parent, "properties")
    for name, value in values.items():
        if value is not None:
            ET.SubElement(element, "property", name=printed(name), value=printed(str(value)))
