"""From a test item to a claim: its identity, its statement, and its verdict from what was gathered."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence

import msgspec
import pytest

from auditkit.claims.evidence import Evidence
from auditkit.claims.outcomes import NotApplicable
from auditkit.claims.suites import again, question_of
from auditkit.claims.verdicts import concluded, deciding, ended_by
from auditkit.pytest_plugin.options import MODEL_FIXTURE, options_of, refusal
from auditkit.record.escaping import shell_join
from auditkit.record.naming import told_apart
from auditkit.record.plan import PlannedClaim
from auditkit.record.schema import Claim, Cost, FamilyPlace, Lack, Verdict
from auditkit.stats.alternatives import held_to
from auditkit.stats.families import fail_within_claim

NO_XFAIL = "a claim that need not block has a waiver (--waivers)"
"""What to do in place of pytest's `xfail`, which has no owner and no day on which it ends."""


def claim_id(item: pytest.Item) -> str:
    """Suite folder and function name: stable when files move and lines shift, and the same for every model.

    `@pytest.mark.claim(id="...")` replaces it.
    """
    marker = item.get_closest_marker("claim")
    if marker is not None and "id" in marker.kwargs:
        return str(marker.kwargs["id"])
    return f"{item.path.parent.name}/{_without_model(item, item.name).removeprefix('test_')}"


def suite_of(item: pytest.Item) -> str:
    """The suite of a claim, by name."""
    return claim_id(item).split("/")[0]


def statement_of(item: pytest.Item) -> str:
    """The claim in words: the test function's docstring, in one line."""
    return " ".join((inspect.getdoc(getattr(item, "obj", None)) or "").split())


def planned(item: pytest.Item, options: str) -> PlannedClaim:
    """The claim that a test is going to measure.

    Args:
        options: command-line options that measure the same thing again.
    """
    return PlannedClaim(
        id=claim_id(item),
        suite=item.path.parent.name,
        statement=_told(item),
        source=" ".join((inspect.getdoc(getattr(item, "module", None)) or "").split()),
        rerun=f"{_command(item)} {options}",
        family=family_of(item),
        location=":".join(map(str, (item.location[0], (item.location[1] or 0) + 1))),
        question=question_of(item.path.parent),
    )


def _command(item: pytest.Item) -> str:
    """The command that measures the claim again, without its options."""
    return shell_join(again(item.path, _without_model(item, item.nodeid), item.config.invocation_params.dir))


def _told(item: pytest.Item) -> str:
    """The statement as a report shows it: claims of one test that differ in a parameter name theirs."""
    _, parametrized, parameters = _without_model(item, item.name).partition("[")
    return f"{statement_of(item)} [{parameters}" if parametrized else statement_of(item)


def check_claims(items: Sequence[pytest.Item]) -> None:
    """Refuse claims without a statement and two claims of one identity, before anything runs.

    Raises:
        pytest.UsageError: naming the tests.
    """
    seen: dict[str, str] = {}
    for item in items:
        if not statement_of(item):
            raise refusal(f"{item.nodeid} has no docstring; a claim's docstring is its statement")
        identity = claim_id(item)
        if identity in seen:
            raise refusal(
                f"{item.nodeid} and {seen[identity]} are both claim '{identity}'; "
                "rename one or give it @pytest.mark.claim(id=...)"
            )
        seen[identity] = item.nodeid


def family_of(item: pytest.Item) -> FamilyPlace | None:
    """The family a claim is declared in, by `@pytest.mark.claim(family="...")` on the test or its module."""
    names = [marker.kwargs["family"] for marker in item.iter_markers("claim") if "family" in marker.kwargs]
    return FamilyPlace(name=str(names[0])) if names else None


def conclude(
    plan: PlannedClaim, evidence: Evidence, error: BaseException | None, skipped: str | None, cost: Cost
) -> Claim:
    """The claim of a finished test.

    Args:
        evidence: what it gathered.
        error: the exception that ended it, if any.
        skipped: reason of a pytest skip, if it was skipped.
    """
    verdict, reason, lack = verdict_of(evidence, error, skipped)
    decision = deciding(evidence.decisions, verdict)
    compared = [one.effect for one in evidence.decisions]
    return msgspec.structs.replace(
        plan.claim(verdict, reason, cost),
        threshold_source=decision.threshold_source if decision is not None else "",
        effect=decision.effect if decision is not None else None,
        also=tuple(d.effect for d in evidence.decisions if d is not decision),
        controls=tuple(evidence.controls),
        figures=tuple(evidence.figures),
        examples=decision.examples if decision is not None else (),
        grids=tuple(evidence.grids),
        notes=tuple(evidence.notes),
        lack=lack,
        alternatives=tuple(held_to(one, compared) for one in evidence.alternatives),
        ended="skipped" if skipped is not None else ended_by(error),
    )


def verdict_of(
    evidence: Evidence, error: BaseException | None, skipped: str | None = None
) -> tuple[Verdict, str, Lack | None]:
    """Verdict and reason of a test that has ended, and what it lacked where it does not apply.

    A FAIL is judged among the comparisons of its claim, and the evidence then says what came of it.
    """
    evidence.decisions[:] = fail_within_claim(evidence.decisions)
    verdict, reason = _verdict(evidence, error, skipped)
    return verdict, reason, _lack(verdict, error, skipped)


def model_ids(specs: Sequence[str]) -> list[str]:
    """One short name per model, for the ids of tests."""
    names = [re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-") or "model" for name in told_apart(specs)]
    return [name if names.count(name) == 1 else f"{name}-{number}" for number, name in enumerate(names, 1)]


def model_of(item: pytest.Item) -> str:
    """The model that the item is measured on."""
    specs = options_of(item.config).specs
    if len(specs) == 1:
        return specs[0]
    return str(item.callspec.params[MODEL_FIXTURE])  # type: ignore[attr-defined]  # of functions, not of items in general


def _without_model(item: pytest.Item, name: str) -> str:
    """The name or node id that the test has in a run with one model; the model's id comes last in it."""
    specs = options_of(item.config).specs
    if len(specs) == 1:
        return name
    own = model_ids(specs)[specs.index(model_of(item))]
    return name.removesuffix(f"[{own}]") if name.endswith(f"[{own}]") else name.removesuffix(f"-{own}]") + "]"


def _lack(verdict: Verdict, error: BaseException | None, skipped: str | None) -> Lack | None:
    """What kept a claim from being applied; a comparison that says so by itself found no behaviour."""
    if verdict is not Verdict.NOT_APPLICABLE:
        return None
    if skipped is not None:
        return "skipped"
    return error.lack if isinstance(error, NotApplicable) else "behaviour"


def _verdict(evidence: Evidence, error: BaseException | None, skipped: str | None) -> tuple[Verdict, str]:
    if skipped is not None:
        return Verdict.NOT_APPLICABLE, f"skipped: {skipped}"
    if isinstance(error, pytest.xfail.Exception):
        return Verdict.ERROR, f"xfail ended the claim before it was measured ({error}); {NO_XFAIL}"
    return concluded(evidence, error)
