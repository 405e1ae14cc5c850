"""From a test item to a claim: its identity, its statement, and its verdict from what was gathered."""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Sequence
from pathlib import Path

import pytest

from auditkit.adapters.errors import ModelError
from auditkit.plugin.surroundings import versions
from auditkit.record.differences import claim_digest, data_digests, shared_digest
from auditkit.record.evidence import Evidence
from auditkit.record.schema import Claim, Cost, FamilyPlace, Plan, Verdict
from auditkit.stats.intervals import ALPHA
from auditkit.stats.verdicts import Inconclusive, NotApplicable, NotReadable, deciding, judge


def claim_id(item: pytest.Item) -> str:
    """Suite folder and function name: stable when files move and lines shift.

    `@pytest.mark.claim(id="...")` replaces it.
    """
    marker = item.get_closest_marker("claim")
    if marker is not None and "id" in marker.kwargs:
        return str(marker.kwargs["id"])
    return f"{item.path.parent.name}/{item.name.removeprefix('test_')}"


def statement_of(item: pytest.Item) -> str:
    """The claim in words: the test function's docstring, in one line."""
    return " ".join((inspect.getdoc(getattr(item, "obj", None)) or "").split())


def family_of(item: pytest.Item) -> FamilyPlace | None:
    """The family a claim is declared in, by `@pytest.mark.claim(family="...")` on the test or its module."""
    names = [marker.kwargs["family"] for marker in item.iter_markers("claim") if "family" in marker.kwargs]
    return FamilyPlace(name=str(names[0])) if names else None


def check_claims(items: Sequence[pytest.Item]) -> None:
    """Refuse claims without a statement and two claims of one identity, before anything runs.

    Raises:
        pytest.UsageError: naming the tests.
    """
    seen: dict[str, str] = {}
    for item in items:
        if not statement_of(item):
            raise pytest.UsageError(f"{item.nodeid} has no docstring; a claim's docstring is its statement")
        identity = claim_id(item)
        if identity in seen:
            raise pytest.UsageError(
                f"{item.nodeid} and {seen[identity]} are both claim '{identity}'; "
                "rename one or give it @pytest.mark.claim(id=...)"
            )
        seen[identity] = item.nodeid


def plan_of(
    items: Sequence[pytest.Item], root: Path, thresholds: dict[str, str], settings: dict[str, object]
) -> Plan:
    """What is going to be asked: claims, the code and data of their suites, the project's data, settings, versions."""
    import auditkit.data

    folders = {item.path.parent for item in items}
    shared = {folder: shared_digest(folder, root) for folder in folders}
    return Plan(
        claims={
            claim_id(item): claim_digest(item.path, _qualified(item), statement_of(item), shared[item.path.parent])
            for item in items
        },
        thresholds=thresholds,
        data=data_digests(Path(auditkit.data.__file__).parent, folders),
        settings={name: str(value) for name, value in {**settings, "alpha": ALPHA}.items()},
        versions=versions(),
    )


def _qualified(item: pytest.Item) -> str:
    """Name of the test function in its module, "Class.test_name" in a class."""
    return getattr(getattr(item, "function", None), "__qualname__", item.name)


def conclude(
    item: pytest.Item,
    evidence: Evidence,
    error: BaseException | None,
    skipped: str | None,
    cost: Cost,
    options: str,
) -> Claim:
    """The claim of a finished test.

    Args:
        evidence: what it gathered.
        error: the exception that ended it, if any.
        skipped: reason of a pytest skip, if it was skipped.
        options: command-line options that measure the same thing again.
    """
    verdict, reason = _verdict(evidence, error, skipped)
    decision = deciding(evidence.decisions, verdict)
    others = tuple(d.effect for d in evidence.decisions if d is not decision)
    module = getattr(item, "module", None)
    return Claim(
        id=claim_id(item),
        suite=item.path.parent.name,
        statement=statement_of(item),
        source=" ".join((inspect.getdoc(module) or "").split()),
        verdict=verdict,
        reason=reason,
        threshold_source=decision.threshold_source if decision is not None else "",
        effect=decision.effect if decision is not None else None,
        also=others,
        controls=tuple(evidence.controls),
        figures=tuple(evidence.figures),
        examples=decision.examples if decision is not None else (),
        family=family_of(item),
        grids=tuple(evidence.grids),
        notes=tuple(evidence.notes),
        cost=cost,
        rerun=f"pytest {shlex.quote(item.nodeid)} {options}",
    )


def lost(item: pytest.Item, reason: str) -> Claim:
    """A claim that was planned and never finished: an ERROR, never absent."""
    cost = Cost(seconds=0.0, token_layers=0, share_of_minimum=None)
    return conclude(item, Evidence(), NotReadable(reason), None, cost, "")


def _verdict(evidence: Evidence, error: BaseException | None, skipped: str | None) -> tuple[Verdict, str]:
    if skipped is not None:
        return Verdict.NOT_APPLICABLE, f"skipped: {skipped}"
    match error:
        case None:
            return judge(evidence)
        case NotApplicable():
            return Verdict.NOT_APPLICABLE, str(error)
        case NotReadable() | ModelError():
            return Verdict.ERROR, str(error)
        case Inconclusive():
            verdict, reason = judge(evidence)
            return (verdict, reason) if verdict is not Verdict.PASS else (Verdict.INCONCLUSIVE, str(error))
        case AssertionError():
            verdict, reason = judge(evidence)
            if verdict is Verdict.PASS:
                first = (str(error).splitlines() or ["assertion failed"])[0]
                return Verdict.ERROR, f"an assertion that compares no effect failed: {first}"
            return verdict, reason
        case _:
            first = (str(error).splitlines() or [""])[0]
            return Verdict.ERROR, f"{type(error).__name__}: {first}"
