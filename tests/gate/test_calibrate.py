"""Calibration: proposals follow their rule, hold what the rule promises, and are read back."""

from __future__ import annotations

import math
import tomllib
from datetime import date
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from auditkit.claims.evidence import gathering
from auditkit.claims.outcomes import Threshold, sides
from auditkit.gate.calibrate import propose, propose_from_two, reach, render_thresholds
from auditkit.gate.thresholds import read_thresholds
from auditkit.record.schema import Claim, Cost, Effect, Relation, Run, Verdict
from auditkit.record.store import write_run
from auditkit.stats.effects.mean import Estimate, mean_difference
from auditkit.stats.effects.rate import rate
from auditkit.stats.halves import CrossFitted
from auditkit.stats.measurement import Measurement

pytestmark = pytest.mark.unit

DAY = date(2026, 11, 21)
SQRT2 = math.sqrt(2)


def effect(
    relation: Relation, estimate: float, lower: float | None, upper: float | None, call: int | None, **more
) -> Effect:
    made = Effect(
        name="e", estimate=estimate, lower=lower, upper=upper, unit="logit", relation=relation, threshold=0.5,
        alpha=0.05, n=9, clusters=9, standardized=None, mde=None, items_needed=None, method="mean",
        threshold_call=call,
    )  # fmt: skip
    return msgspec.structs.replace(made, **more)


def run_of(sample: Run, *effects: Effect, name: str = "one") -> Run:
    claim = Claim(
        id=f"suite/{name}", suite="suite", statement="s", source="", verdict=Verdict.PASS, reason="because",
        threshold_source="", effect=effects[0] if effects else None, also=effects[1:],
        cost=Cost(seconds=0.0, token_layers=0, share_of_minimum=None),
    )  # fmt: skip
    return msgspec.structs.replace(sample, claims=(claim,))


@pytest.mark.parametrize(
    ("relation", "expected"),
    [
        (">=", 1 - 0.2 * (1 + SQRT2)),
        ("<", 1 + 0.1 * (1 + SQRT2)),
        ("within", 1 + 0.1 * (1 + SQRT2 * stats.norm.ppf(0.9875) / stats.norm.ppf(0.975))),
    ],
)
def test_the_interval_s_end_is_moved_out_by_the_rule(a_run: Run, relation: Relation, expected: float) -> None:
    (proposal,) = propose(run_of(a_run, effect(relation, 1.0, 0.8, 1.1, 1)))
    assert proposal.value == pytest.approx(expected, rel=0.01)
    outward = proposal.value <= expected if relation == ">=" else proposal.value >= expected
    assert outward, "rounding makes nothing stricter"


comparisons = st.lists(
    st.tuples(
        st.floats(-3, 3),
        st.floats(1e-3, 3),
        st.floats(1e-3, 3),
        st.sampled_from([None, 4, 7, 24]),
        st.sampled_from([0.05, 0.033]),
    ),
    min_size=1,
    max_size=12,
)


@given(comparisons, st.sampled_from([">=", ">", "<=", "<", "within"]), st.integers(-6, 6))
@settings(max_examples=80, deadline=None)
def test_the_same_model_on_the_same_items_never_fails_its_own_thresholds(
    a_run: Run, measured: list[tuple], relation: Relation, power: int
) -> None:
    """Whatever the relation, degrees of freedom, level, sign, scale, and number of comparisons with one number."""
    scale = 10.0**power
    effects = [
        effect(relation, scale * centre, scale * (centre - below), scale * (centre + above), 1, df=df, alpha=alpha)
        for centre, below, above, df, alpha in measured
    ]
    (proposal,) = propose(run_of(a_run, *effects))
    assert proposal.value is not None
    for one in effects:
        assert sides(relation, one.lower, one.upper, proposal.value) == (True, False)


@pytest.mark.parametrize("df", [4, 7, 14, 24, None])
def test_the_reach_is_what_drawing_says(df: int | None) -> None:
    rng = np.random.default_rng(0)
    bound = stats.t.ppf(0.975, df) if df else stats.norm.ppf(0.975)
    now, later = (np.sqrt(rng.chisquare(df, 200_000) / df) if df else 1.0 for _ in range(2))
    passes = SQRT2 * rng.normal(size=200_000) + bound * later <= reach(df, df, bound, SQRT2, 0.025) * now
    assert passes.mean() == pytest.approx(0.975, abs=5 * math.sqrt(0.975 * 0.025 / 200_000))


@pytest.mark.parametrize("clusters", [5, 8, 15, 25])
@pytest.mark.parametrize("groups", [1, 12])
def test_the_same_model_on_fresh_items_passes_as_often_as_promised(a_run: Run, clusters: int, groups: int) -> None:
    """97.5 % together, whether one or twelve comparisons share the number; by √2 half-widths it was 90.7 % with 5
    clusters and one comparison."""
    rng = np.random.default_rng(clusters)
    bound = stats.t.ppf(0.975, clusters - 1)

    def run() -> list[Effect]:
        found = []
        for _ in range(groups):
            values = rng.normal(1, 0.4, clusters)
            half = bound * values.std(ddof=1) / math.sqrt(clusters)
            mean = float(values.mean())
            found.append(effect(">", mean, mean - half, mean + half, 1, df=clusters - 1))
        return found

    passed = 0
    for _ in range(400):
        (proposal,) = propose(run_of(a_run, *run()))
        passed += all(one.lower > proposal.value for one in run())
    assert passed / 400 >= 0.975 - 3 * math.sqrt(0.975 * 0.025 / 400)


def test_every_comparison_with_one_number_is_served(a_run: Run) -> None:
    """Today's first group needs 0.3, the ninth 0.9: the proposal is that of the ninth, and a little more for all."""
    groups = [
        effect("within", 0.1 * k, 0.1 * k - 0.1, 0.1 * k + 0.1, 1, name=f"group {k}", df=24) for k in range(9)
    ]
    alone = propose(run_of(a_run, groups[8]))[0].value
    (together,) = propose(run_of(a_run, *groups))
    assert together.value > alone > 0.9
    assert "and 8 more comparisons" in together.reason
    lost = effect("within", 0.1, None, None, 1, name="group 9")
    (nothing,) = propose(run_of(a_run, *groups, lost))
    assert nothing.value is None
    assert "1 of 10 comparisons (group 9)" in nothing.reason


@pytest.mark.parametrize(
    ("relation", "estimate", "half", "span"),
    [("within", 0.1, 0.6, (-1.0, 1.0)), (">=", 0.5, 0.4, (0.0, 1.0)), ("<", 0.7, 0.3, (0.0, 1.0))],
)
def test_a_number_that_every_model_would_pass_is_not_proposed(
    a_run: Run, relation: Relation, estimate: float, half: float, span: tuple[float, float]
) -> None:
    ends = estimate, estimate - half, estimate + half
    (proposal,) = propose(run_of(a_run, effect(relation, *ends, 1, least=span[0], greatest=span[1])))
    assert proposal.value is None
    assert "every model would pass" in proposal.reason
    assert propose(run_of(a_run, effect(relation, *ends, 1)))[0].value is not None
    (fine,) = propose(
        run_of(
            a_run, effect(relation, estimate, estimate - 0.01, estimate + 0.01, 1, least=span[0], greatest=span[1])
        )
    )
    assert fine.value is not None


def test_effects_know_the_range_of_shares() -> None:
    index = pd.Index([f"i{i}" for i in range(12)], name="item")
    clusters = pd.DataFrame({"c": range(12)}, index=index)
    right = pd.DataFrame({"a": [0.0, 1.0] * 6, "b": [1.0, 1.0, 0.0] * 4}, index=index)
    shares = Measurement("m", "1", right, clusters)
    hits = rate(shares, "a", name="a")
    difference = mean_difference(shares, "a", "b", name="d")
    for effect_, ends in ((hits, (0, 1)), (hits - 0.25, (-0.25, 0.75)), (difference, (-1, 1))):
        assert (effect_.describe().least, effect_.describe().greatest) == ends
    logits = Measurement("m", "logit", right, clusters)
    assert mean_difference(logits, "a", "b", name="d").describe().least is None


def paired_effect(relation: Relation, method: str = "mean", **more) -> Effect:
    return effect(
        relation, None, None, None, 1, name="gap minus the baseline", method=method, threshold=0.25, **more
    )


@pytest.mark.parametrize(
    ("relation", "method"), [("within", "mean"), (">", "paired non-inferiority"), ("<", "paired non-inferiority")]
)
def test_a_margin_comes_from_two_runs_of_one_model(a_run: Run, relation: Relation, method: str) -> None:
    """Simulated: a third and fourth run on other items differ by less than the margin, interval and all."""
    rng = np.random.default_rng(1)
    clusters, bound, guard = 8, stats.t.ppf(0.975, 7), stats.t.ppf(0.975, 6)

    def measured() -> Effect:
        values = rng.normal(1, 0.4, clusters)
        half = bound * values.std(ddof=1) / math.sqrt(clusters)
        return effect(">", values.mean(), values.mean() - half, values.mean() + half, None, df=7)

    passed = 0
    run = run_of(a_run, paired_effect(relation, method))
    for _ in range(300):
        one, other, third, fourth = (measured() for _ in range(4))
        (proposal,) = propose(run, lambda *_, e=one: e, lambda *_, e=other: e)
        assert proposal.value > 0
        assert proposal.key == "suite/one"
        error = math.hypot(third.estimate - third.lower, fourth.estimate - fourth.lower) / bound
        half = guard * error
        change = third.estimate - fourth.estimate
        low, high = change - half > -proposal.value, change + half < proposal.value
        passed += {"within": low and high, ">": low, "<": high}[relation]
    assert passed / 300 >= 0.975 - 3 * math.sqrt(0.975 * 0.025 / 300)


def test_what_two_runs_do_not_hold_is_said(a_run: Run) -> None:
    run = run_of(a_run, paired_effect("within"))
    whole, bare = effect(">", 1.0, 0.9, 1.1, None, df=7), effect(">", 1.0, None, None, None)
    for there, words in ((None, "not measured with an interval in both"), (bare, "no interval in the other run")):
        (proposal,) = propose(run, lambda *_: whole, lambda *_, e=there: e)
        assert proposal.value is None
        assert words in proposal.reason
    (proposal,) = propose(run)
    assert proposal.value is None


def test_the_margin_of_a_comparison_that_measured_a_change_is_positive(a_run: Run) -> None:
    worse = effect(">", -0.1, -0.2, 0.0, 1, name="gap minus the baseline", method="paired non-inferiority")
    assert propose(run_of(a_run, worse))[0].value == pytest.approx(0.1 + 0.1 * (1 + SQRT2), rel=0.01)
    better = effect(">", 1.0, 0.9, 1.1, 1, name="gap minus the baseline", method="paired non-inferiority")
    (proposal,) = propose(run_of(a_run, better))
    assert proposal.value is None
    assert "no margin" in proposal.reason


def test_a_margin_remembers_its_threshold_call(estimate) -> None:
    now, then = (estimate(np.linspace(0, 1, 12) + noise, name="gap") for noise in (np.arange(12) % 3 / 10, 0.0))
    decision = now.change_from(then)._decision("within", Threshold(0.5, "suite", 2))
    assert decision.effect.threshold_call == 2
    with gathering() as evidence:
        assert now.no_worse_than(then, by=Threshold(0.5, "suite", 3), better="higher")
    (kept,) = evidence.decisions
    assert (kept.effect.threshold_call, kept.effect.threshold, kept.threshold_source) == (3, -0.5, "suite")


def test_a_file_of_thresholds_says_that_no_digest_is_known(a_run: Run) -> None:
    served = msgspec.structs.replace(a_run, model=msgspec.structs.replace(a_run.model, weights_sha256=""))
    said = tomllib.loads(render_thresholds(served, "run", (), "default", date(2026, 1, 1)))["calibration"]
    assert (said["weights_sha256"], said["identity_sha256"]) == ("none known", "not known")


def test_runs_that_cannot_calibrate_a_margin_are_refused(a_run: Run, tmp_path: Path) -> None:
    def recorded(name: str, seed: str, weights: str) -> Path:
        plan = msgspec.structs.replace(a_run.plan, settings={**a_run.plan.settings, "seed": seed})
        model = msgspec.structs.replace(a_run.model, weights_sha256=weights)
        (tmp_path / name).mkdir()
        write_run(tmp_path / name, msgspec.structs.replace(a_run, plan=plan, model=model), [])
        return tmp_path / name

    one, same, other, stranger = (
        recorded(*what) for what in (("a", "0", "w"), ("b", "0", "w"), ("c", "1", "w"), ("d", "1", "x"))
    )
    with pytest.raises(ValueError, match="both run with --seed 0"):
        propose_from_two(one, same)
    with pytest.raises(ValueError, match=r"the models differ in: weights$"):
        propose_from_two(one, stranger)
    assert len(propose_from_two(one, other)) == len(a_run.claims)


def test_a_margin_of_what_is_cross_fitted_has_its_doubled_variance(a_run: Run, tmp_path: Path) -> None:
    """Rows do not say that they were cross-fitted; the comparison with the baseline, of one run, does."""
    index, claim = [f"item {n}" for n in range(12)], a_run.claims[0]
    fitted: list[CrossFitted] = []
    for seed in range(2):
        values = np.random.default_rng(seed).normal(1.0, 0.3, 12)
        table = Measurement("m", "1", pd.DataFrame({"a": values}, index), pd.DataFrame({"topic": index}, index))
        plain = Estimate("found", "1", table, values)
        with gathering() as evidence:
            plain.keep_effect()
        rows = [msgspec.structs.replace(row, claim=claim.id) for row in evidence.items.values()]
        fitted.append(CrossFitted.of(plain))
        change = fitted[seed].change_from(fitted[0])._decision("within", Threshold(0.5, "suite", 1)).effect
        judged = msgspec.structs.replace(claim, effect=change if seed else None, also=())
        plan = msgspec.structs.replace(a_run.plan, settings={**a_run.plan.settings, "seed": str(seed)})
        (tmp_path / str(seed)).mkdir()
        write_run(tmp_path / str(seed), msgspec.structs.replace(a_run, plan=plan, claims=(judged,)), rows)
    (proposal,) = propose_from_two(tmp_path / "1", tmp_path / "0")
    there, here = (one.describe() for one in fitted)
    (wanted,) = propose(msgspec.structs.replace(a_run, claims=(judged,)), lambda *_: here, lambda *_: there)
    assert proposal.value == wanted.value
    assert proposal.value is not None


def test_the_file_is_read_back_with_its_provenance(a_run: Run, tmp_path: Path) -> None:
    run = run_of(
        a_run, effect(">=", 1.0, 0.8, 1.2, 2), effect("<", 1.0, 0.8, 1.2, 1), effect(">", 1.0, 0.9, 1.1, None)
    )
    text = render_thresholds(run, "20261121T000000Z-m", propose(run), "family", DAY)
    (tmp_path / "thresholds.toml").write_text(text)
    read = read_thresholds(tmp_path / "thresholds.toml", ["suite/one"]).applying_to(["other"], a_run.model.family)
    assert {key: float(value) for key, value in read.items()} == {("suite/one", 1): 1.49, ("suite/one", 2): 0.517}
    source = read["suite/one", 1].source
    assert source == "calibration run 20261121T000000Z-m of m, 2026-11-21 (thresholds.toml [family.llama])"
    told = tomllib.loads(text)["calibration"]
    assert (told["run"], told["model"], told["auditkit"]) == ("20261121T000000Z-m", "m", a_run.tool.version)
    assert "97.5 %" in told["rule"]
    assert "asked for here: >= 0.5" in text


@pytest.mark.parametrize("name", ["a\nb", 'quote " and \\', "half \x7f", "☂ # ]", "\x00"])
def test_hostile_names_stay_inside_their_strings(a_run: Run, tmp_path: Path, name: str) -> None:
    run = run_of(a_run, effect(">=", 1.0, 0.8, 1.2, 1), name=name)
    run = msgspec.structs.replace(run, model=msgspec.structs.replace(run.model, name=name, family=name))
    for table in ("family", "model", "default"):
        text = render_thresholds(run, name, propose(run), table, DAY)
        (tmp_path / "t.toml").write_text(text)
        assert len(read_thresholds(tmp_path / "t.toml", [f"suite/{name}"]).applying_to([name], name)) == 1


def test_what_cannot_be_proposed_is_said_and_left_as_it_is(a_run: Run) -> None:
    nothing, no_call = run_of(a_run), run_of(a_run, effect(">", 1.0, 0.9, 1.1, None))
    for run in (nothing, no_call):
        (proposal,) = propose(run)
        assert proposal.value is None
        assert "no comparison with a threshold() call" in proposal.reason
    (proposal,) = propose(run_of(a_run, effect(">", 1.0, None, None, 1)))
    assert (proposal.value, proposal.reason) == (None, "no interval to propose from: because")
    text = render_thresholds(nothing, "r", propose(nothing), "default", DAY)
    assert tomllib.loads(text)["default"] == {}
