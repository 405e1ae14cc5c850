"""Shards of one plan become the run that was never split, and what is not one plan is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pandas as pd
import pytest

from auditkit.claims.verdicts import summarize
from auditkit.gate.merge import merge
from auditkit.gate.waivers import settled, waived
from auditkit.record.baseline import Recorded
from auditkit.record.plan import OTHER_SHARDS
from auditkit.record.schema import CrossCheck, FamilyPlace, ItemRow, Run, Untested, Verdict, Waiver
from auditkit.record.store import RecordError
from auditkit.report.wording import distrust
from auditkit.stats.families import holm

pytestmark = pytest.mark.unit

replace = msgspec.structs.replace


def recorded(name: str, run: Run, value: float = 1.0) -> Recorded:
    rows = [
        ItemRow(
            claim=claim.id, measurement="m", condition="c", item=f"i{i}", clusters="", value=value, unit="logit"
        )
        for claim in run.claims
        for i in range(2)
    ]
    items = pd.DataFrame(msgspec.to_builtins(rows), columns=list(ItemRow.__struct_fields__))
    return Recorded(name, Path(name), run, "", items)


_MADE: list[tuple[Run, list[Recorded]]] = []
"""Made once: correcting a family takes a second, since statsmodels collects garbage on every call."""


@pytest.fixture
def made(sample_run: Run) -> tuple[Run, list[Recorded]]:
    if not _MADE:
        whole = whole_of(sample_run)
        _MADE.append((whole, [recorded(name, part(whole, name)) for name in ("persona_patching", "composition")]))
    return _MADE[0]


@pytest.fixture
def whole(made: tuple[Run, list[Recorded]]) -> Run:
    return made[0]


@pytest.fixture
def shards(made: tuple[Run, list[Recorded]]) -> list[Recorded]:
    return list(made[1])


def whole_of(sample_run: Run) -> Run:
    """A run in one process, with a family over both suites of which one FAIL can be chance, and waivers."""
    p_values = {"neutral_personas_change_nothing": 0.006, "attention_reads_identity_words": 0.4}
    claims = [
        replace(
            claim,
            family=FamilyPlace(name="release"),
            effect=claim.effect and replace(claim.effect, p_fail=p_values.get(claim.id.split("/")[1], 0.9)),
        )
        for claim in sample_run.claims
    ]
    claims[5] = replace(claims[4], id="composition/far", verdict=Verdict.FAIL, effect=claims[2].effect)
    claims[5] = replace(claims[5], effect=replace(claims[5].effect, p_fail=1e-6))
    return judged(replace(sample_run, claims=tuple(claims), plan=planned(sample_run, claims), untested=()))


def planned(run: Run, claims: Any) -> Any:
    return replace(run.plan, claims={claim.id: claim.id for claim in claims})


def judged(run: Run, waive: bool = True) -> Run:
    """What the end of a run does to its claims."""
    entry = Waiver(claim="composition/far", owner="o", reason="r", expires="2999-01-01", state="applied")
    waivers = {entry.claim: entry} if waive else {}
    claims = tuple(waived(claim, waivers) for claim in holm(run.claims))
    return replace(run, claims=claims, waivers=settled(waivers, claims), summary=summarize(claims))


def part(run: Run, suite: str, **changes: Any) -> Run:
    """The run of one suite, as its shard would have recorded it."""
    left_out = (Untested(what=OTHER_SHARDS, reason=f"not {suite}"), Untested(what="attention", reason="no tap"))
    claims = tuple(claim for claim in run.claims if claim.suite == suite)
    return judged(replace(run, claims=claims, untested=left_out, **changes))


def test_shards_are_the_run_that_was_never_split(whole: Run, shards: list[Recorded]) -> None:
    assert shards[0].run.summary.failed == 1, "among four claims alone its p is small enough"
    for order in (shards, shards[::-1]):
        run, items = merge(order, distrust)
        assert run.claims == whole.claims
        assert [claim.verdict for claim in run.claims].count(Verdict.FAIL) == 1
        assert run.claims[2].verdict is Verdict.INCONCLUSIVE
        assert (run.summary, run.waivers) == (whole.summary, whole.waivers)
        assert run.summary.waived == 1, "its shard knew of it, the other called it not measured"
        assert run.untested == (Untested(what="attention", reason="no tap"),)
        assert [row.claim for row in items] == [claim.id for claim in whole.claims for _ in range(2)]
        assert run.command == ("auditkit", "merge", *(shard.name for shard in order))


def test_a_claim_that_two_runs_measured_alike_is_taken_once(whole: Run, shards: list[Recorded]) -> None:
    slower = tuple(replace(c, cost=replace(c.cost, seconds=99.0)) for c in whole.claims)
    both = recorded("both", replace(whole, claims=slower))
    run, items = merge([*shards, both], distrust)
    assert run.claims == whole.claims, "its verdict may be another in another family, and its seconds too"
    assert len(items) == 12


def test_machines_may_differ_and_are_all_named(whole: Run, shards: list[Recorded]) -> None:
    there = replace(whole.environment, cpu="other", threads=1, workers=3)
    model = replace(whole.model, spec="elsewhere", source="elsewhere", parity_max_abs=1.0)
    other = recorded(
        "far", part(whole, "composition", environment=there, model=model, created="2020-01-01T00:00:00Z")
    )
    run, _ = merge([shards[0], other], distrust)
    assert run.environment.cpu == f"{whole.environment.cpu} / other"
    assert (run.environment.threads, run.environment.workers) == (1, 4)
    assert (run.model.parity_max_abs, run.model.spec) == (1.0, whole.model.spec)
    assert run.created == "2020-01-01T00:00:00Z"


def test_one_cross_check_that_disagrees_makes_the_whole_an_error(whole: Run) -> None:
    check = CrossCheck(
        adapter="nnterp", asked=4, offered=9, measured=3, missing={"no head": 1}, largest=1e-6, where="mlp 1",
        allowed=1e-4, agrees=True, reason="",
    )  # fmt: skip
    bad = replace(check, largest=1.0, where="mlp 2", agrees=False)
    suites = ("persona_patching", "composition")
    pair = [recorded(s, part(whole, s, cross_check=c)) for s, c in zip(suites, (check, bad), strict=True)]
    run, _ = merge(pair, distrust)
    assert run.summary.verdict is Verdict.ERROR
    assert "do not agree" in run.summary.reason
    found = run.cross_check
    assert (found.asked, found.measured, found.missing, found.where) == (8, 6, {"no head": 2}, "mlp 2")


def change(run: Run, **fields: Any) -> Run:
    return replace(run, **fields)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            lambda r: change(r, plan=replace(r.plan, settings={**r.plan.settings, "seed": "1"})),
            "another plan: seed was",
        ),
        (lambda r: change(r, plan_sha256="00"), "another plan"),
        (lambda r: change(r, model=replace(r.model, weights_sha256="00")), "another model: weights_sha256 b179c9"),
        (
            lambda r: change(
                r, model=replace(r.model, identity={**r.model.identity, "config/rms_norm_eps": "1.0"})
            ),
            "another model: config (rms_norm_eps)",
        ),
        (
            lambda r: change(r, model=replace(r.model, identity={})),
            "whether both measured one model is not known, since a record does not hold its config",
        ),
        (
            lambda r: change(r, model=replace(r.model, weights_sha256="")),
            "whether both measured one model is not known, since the server that ran the weights states no digest",
        ),
        (lambda r: change(r, model=replace(r.model, device="cuda:1")), "another device: cpu there, cuda here"),
        (lambda r: change(r, model=replace(r.model, dtype="bfloat16")), "another model: dtype float32 there"),
        (lambda r: change(r, environment=replace(r.environment, python="3.12")), "another environment: python"),
        (lambda r: change(r, tool=replace(r.tool, git="00")), "another auditkit: git"),
        (lambda r: change(r, profile="release"), "another profile"),
        (lambda r: judged(r, waive=False), "other waivers"),
        (lambda r: change(r, claims=r.claims[:1]), "1 of 6 planned claims are in none of these runs (first: comp"),
        (lambda r: change(r, claims=(*r.claims, *r.claims)), "composition holds a claim twice"),
        (
            lambda r: change(r, claims=(*r.claims, replace(r.claims[0], id="x/y"))),
            "composition has a result of x/y, which it did not plan",
        ),
    ],
)
def test_what_is_not_one_plan_is_refused_in_one_line(
    whole: Run, shards: list[Recorded], changed: Any, said: str
) -> None:
    with pytest.raises(RecordError) as refused:
        merge([shards[0], recorded("composition", changed(shards[1].run))], distrust)
    assert said in str(refused.value)
    assert str(refused.value).startswith("cannot merge")
    assert "\n" not in str(refused.value)


def test_a_claim_with_two_results_is_refused(whole: Run, shards: list[Recorded]) -> None:
    verdict = replace(
        whole.claims[0], verdict=Verdict.ERROR, reason="not measured: the run ended before this claim"
    )
    effect = replace(whole.claims[0], effect=replace(whole.claims[0].effect, estimate=0.1))
    for other, value, said in (
        (verdict, 1.0, "as PASS and as ERROR; --resume"),
        (effect, 1.0, "with other numbers"),
        (whole.claims[0], 2.0, "with other numbers"),
    ):
        again = recorded("again", judged(replace(whole, claims=(other,))), value)
        with pytest.raises(
            RecordError, match="claim persona_patching/early_mlps_carry_the_persona is in"
        ) as refused:
            merge([*shards, again], distrust)
        assert said in str(refused.value)


def test_shards_with_two_baselines_are_refused_and_with_one_keep_what_it_alone_has(
    gated_run: Run, shards: list[Recorded]
) -> None:
    def gated(name: str, digest: str) -> Recorded:
        claims = tuple(claim for claim in gated_run.claims if claim.suite == name)
        others = {c.id: c.verdict for c in gated_run.claims if c.suite != name}
        baseline = replace(gated_run.baseline, audit_sha256=digest, absent={**gated_run.baseline.absent, **others})
        plan = planned(gated_run, gated_run.claims)
        waivers = tuple(
            replace(w, state="applied" if w.state != "expired" else "expired") for w in gated_run.waivers
        )
        return recorded(name, replace(gated_run, claims=claims, baseline=baseline, plan=plan, waivers=waivers))

    with pytest.raises(RecordError, match="another baseline: record it once"):
        merge([gated("persona_patching", "aa"), gated("composition", "bb")], distrust)
    run, _ = merge([gated("persona_patching", "aa"), gated("composition", "aa")], distrust)
    assert run.baseline.absent == gated_run.baseline.absent
    assert run.untested[-1].reason == "not comparable for 2 of 6 claims; each claim says why"
    assert {w.claim: w.state for w in run.waivers} == {
        claim.id: state
        for claim, state in zip(
            gated_run.claims, ("not needed", "not needed", "applied", "expired", "not needed"), strict=False
        )
    }
