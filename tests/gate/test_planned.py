"""Plans of runs that are not made yet: half-widths and power from an earlier run's variances."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditkit.cli import main
from auditkit.gate.planned import EarlierRun, cannot_pass, earlier, planned, reference
from auditkit.record.plan import EFFORTS
from auditkit.record.schema import Effect, Run
from auditkit.record.store import write_run
from auditkit.stats.effects.mean import Estimate
from auditkit.stats.measurement import Measurement

pytestmark = pytest.mark.unit


def effect_of(values: np.ndarray, relation: str, threshold: float) -> Effect:
    index = pd.Index([f"item {n}" for n in range(len(values))])
    table = pd.DataFrame({"value": values}, index=index)
    clusters = pd.DataFrame({"topic": index}, index=index)
    estimate = Estimate("effect", "1", Measurement("m", "1", table, clusters), values, None, ("value",))
    return estimate.describe(relation, threshold)


def plan_of(values: np.ndarray, relation: str, threshold: float):
    effect = effect_of(values, relation, threshold)
    (one,) = planned(EarlierRun("m", "", "standard", {"suite/claim": (effect,)}), "suite")
    return one


@given(st.integers(8, 60), st.integers(0, 5), st.floats(0.05, 3))
def test_more_items_make_narrower_intervals_and_more_power(n: int, seed: int, margin: float) -> None:
    values = np.random.default_rng(seed).normal(size=n)
    one = plan_of(values, "within", margin)
    effect = one.effect
    assert one.half_width["standard"] == pytest.approx((effect.upper - effect.lower) / 2)
    for less, more in (("quick", "standard"), ("standard", "thorough")):
        assert one.half_width[more] < one.half_width[less]
        assert one.power[more] >= one.power[less]
    for effort in EFFORTS:
        assert not one.cannot_pass(effort) or one.power[effort] == 0, "what cannot pass has no power"


@pytest.mark.parametrize("effort", ["standard", "thorough"])
def test_the_power_of_no_difference_is_that_of_experiments_without_one(effort: str) -> None:
    draw, n, margin, rounds = np.random.default_rng(3), 20, 0.75, 4000
    values = draw.normal(size=n)
    one = plan_of((values - values.mean()) / values.std(ddof=1), "within", margin)
    count = int(n * EFFORTS[effort])
    drawn = draw.normal(size=(rounds, count))
    from scipy import stats

    half = stats.t.ppf(0.975, count - 1) * drawn.std(axis=1, ddof=1) / np.sqrt(count)
    passed = np.mean(np.abs(drawn.mean(axis=1)) + half < margin)
    assert one.power[effort] == pytest.approx(passed, abs=0.05)


def test_a_claim_whose_interval_is_wider_than_its_margin_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    wide, narrow, other = (
        effect_of(np.random.default_rng(1).normal(size=20), relation, threshold)
        for relation, threshold in (("within", 0.1), ("within", 5.0), (">", 0.0))
    )
    claims = {
        "suite/wide": (narrow, wide),
        "suite/narrow": (narrow,),
        "suite/other": (other,),
        "else/wide": (wide,),
    }
    plans = list(planned(EarlierRun("m", "", "standard", claims), "suite"))
    assert [one.claim for one in plans] == ["suite/wide", "suite/narrow", "suite/other"]
    assert cannot_pass(plans, "standard") == ["suite/wide"], "its hardest comparison decides"


def test_a_run_with_fewer_items_is_planned_by_its_share() -> None:
    effect = effect_of(np.random.default_rng(2).normal(size=16), ">=", 0.0)
    quick, whole = (
        next(iter(planned(EarlierRun("m", "", effort, {"suite/claim": (effect,)}), "suite")))
        for effort in ("quick,other=thorough", "thorough,suite=standard")
    )
    assert quick.half_width["quick"] == pytest.approx(whole.half_width["standard"])
    assert quick.power["quick"] == whole.power["standard"]


def test_the_newest_run_of_the_model_is_taken_and_else_the_reference(tmp_path: Path, a_run: Run) -> None:
    suite = next(iter(reference().suites()))
    assert earlier(tmp_path, a_run.model.name, [suite]).get(suite) == reference()
    compared = EarlierRun.of(a_run, "")
    assert compared.claims, "the recorded run compares something"
    own = next(iter(compared.suites()))
    assert earlier(tmp_path, a_run.model.name, [own]).get(own) is None
    for stamp in ("20250711T000000Z", "20250712T000000Z"):
        folder = tmp_path / f"{stamp}-{a_run.model.name}"
        folder.mkdir()
        write_run(folder, a_run, [])
    broken = tmp_path / f"20250713T000000Z-{a_run.model.name}"
    broken.mkdir()
    (broken / "audit.json").write_text("{}")
    settings = {**a_run.plan.settings, "items": "6"}
    for stamp, changed in (
        ("20250714T000000Z", {"settings": settings}),
        ("20250715T000000Z", {"data": {**a_run.plan.data, f"{own}/--data": "0" * 64}}),
    ):
        other = tmp_path / f"{stamp}-{a_run.model.name}"
        other.mkdir()
        plan = msgspec.structs.replace(a_run.plan, **changed)
        write_run(other, msgspec.structs.replace(a_run, plan=plan), [])
    partly = tmp_path / f"20250716T000000Z-{a_run.model.name}"
    partly.mkdir()
    write_run(partly, msgspec.structs.replace(a_run, claims=a_run.claims[:1]), [])
    found = earlier(tmp_path, a_run.model.name, [own]).get(own)
    assert (found.run, found.claims) == (f"20250712T000000Z-{a_run.model.name}", compared.claims)
    assert earlier(tmp_path, "another", [own]).get(own) is None
    assert earlier(tmp_path, a_run.model.name, [own], but=a_run.seed + 1).get(own) == found
    assert earlier(tmp_path, a_run.model.name, [own], but=a_run.seed).get(own) is None, "the same items"


def test_the_reference_run_has_the_suites_of_the_project_and_nothing_of_its_items() -> None:
    suites = Path(__file__).parents[2] / "suites"
    own = {path.name for path in suites.iterdir() if (path / "conftest.py").exists()}
    assert {"identity_bias", "persona_patching"} <= reference().suites() <= own
    effects = [effect for effects in reference().claims.values() for effect in effects]
    assert all(effect.recipe is None and effect.lower is not None for effect in effects)


def test_the_command_plans_before_a_model_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--audit-dir", str(tmp_path)]
    assert main(["plan", "--model", "./no/such/model", "suites/identity_bias", *where]) == 0
    said = capsys.readouterr().out
    assert "identity_bias: by the variances of the reference run of the package of smollm2-135m-instruct" in said
    assert "persona_patching" not in said
    (line,) = [line for line in said.splitlines() if line.startswith("identity_bias/sentences_are_not_likelier")]
    assert "within 0.5" in line
    assert "claims of no difference cannot pass, since their intervals are wider than their margins" in said
    assert main(["plan", "--model", "m", *where]) == 0
    said = capsys.readouterr().out
    assert {
        line.split(":")[0] for line in said.splitlines() if ": by the variances of " in line
    } == reference().suites()


def test_a_demanded_power_ends_with_10_and_names_what_has_less(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--audit-dir", str(tmp_path), "--model", "m", "identity_bias"]
    assert main(["plan", "--power", "0.8", *where]) == 10
    assert "claims have a power below 80%: identity_bias/" in capsys.readouterr().out
    weakest = min(one.power["thorough"] for one in planned(reference(), "role_conditioning"))
    assert weakest > 0
    where[-1] = "role_conditioning"
    assert main(["plan", "--effort", "thorough", "--power", str(weakest * 0.99), *where]) == 0
    assert main(["plan", "--effort", "thorough", "--power", str(weakest * 1.01), *where]) == 10
    where[-1] = "no_such_suite"
    for refused in (
        ["plan", "--power", "1.5", *where],
        ["plan", *where],
        ["plan"],
        ["plan", "--power", "0.8", "run"],
    ):
        capsys.readouterr()
        assert main(refused) == 4
        printed = capsys.readouterr()
        assert printed.out == ""
        assert len(printed.err.splitlines()) == 1


def test_an_effect_survives_the_file() -> None:
    assert msgspec.json.decode(msgspec.json.encode(reference()), type=EarlierRun) == reference()
