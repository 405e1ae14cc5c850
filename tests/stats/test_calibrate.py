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
from hypothesis import given
from hypothesis import strategies as st

from auditkit.record.schema import Claim, Cost, Effect, Relation, Run, Verdict
from auditkit.stats.calibrate import propose, render_thresholds
from auditkit.stats.estimates import Estimate
from auditkit.stats.measurement import Measurement
from auditkit.stats.thresholds import read_thresholds
from auditkit.stats.verdicts import sides

pytestmark = pytest.mark.unit

DAY = date(2026, 11, 21)
SQRT2 = math.sqrt(2)


def effect(
    relation: Relation, estimate: float, lower: float | None, upper: float | None, call: int | None
) -> Effect:
    return Effect(
        name="e", estimate=estimate, lower=lower, upper=upper, unit="logit", relation=relation, threshold=0.5,
        alpha=0.05, n=9, clusters=9, standardized=None, mde=None, items_needed=None, method="mean",
        threshold_call=call,
    )  # fmt: skip


def run_of(sample: Run, *effects: Effect, name: str = "one") -> Run:
    claim = Claim(
        id=f"suite/{name}", suite="suite", statement="s", source="", verdict=Verdict.PASS, reason="because",
        threshold_source="", effect=effects[0] if effects else None, also=effects[1:],
        cost=Cost(seconds=0.0, token_layers=0, share_of_minimum=None),
    )  # fmt: skip
    return msgspec.structs.replace(sample, claims=(claim,))


@pytest.mark.parametrize(
    ("relation", "expected"),
    [(">=", 1 - 0.2 * (1 + SQRT2)), ("<", 1 + 0.1 * (1 + SQRT2)), ("within", 1 + 0.1 * (1 + SQRT2))],
)
def test_the_interval_s_end_is_moved_out_by_the_rule(a_run: Run, relation: Relation, expected: float) -> None:
    (proposal,) = propose(run_of(a_run, effect(relation, 1.0, 0.8, 1.1, 1)))
    assert proposal.value == pytest.approx(expected, rel=0.01)
    outward = proposal.value <= expected if relation == ">=" else proposal.value >= expected
    assert outward, "rounding makes nothing stricter"


@given(
    st.floats(-1e6, 1e6),
    st.floats(1e-6, 1e3),
    st.floats(1e-6, 1e3),
    st.sampled_from([">=", ">", "<=", "<", "within"]),
)
def test_what_was_measured_passes_its_own_proposal(
    a_run: Run, centre: float, below: float, above: float, relation: Relation
) -> None:
    lower, upper = centre - below, centre + above
    (proposal,) = propose(run_of(a_run, effect(relation, centre, lower, upper, 1)))
    assert sides(relation, lower, upper, proposal.value)[0]


def test_the_same_model_on_fresh_items_passes_as_often_as_promised(a_run: Run) -> None:
    """97.5 % for a one-sided comparison: 400 pairs of runs, with five standard errors of room."""
    rng = np.random.default_rng(0)

    def measured() -> Effect:
        values = np.repeat(rng.normal(1, 0.4, 20), 3) + rng.normal(0, 0.4, 60)
        index = pd.Index([f"i{i}" for i in range(60)], name="item")
        clusters = pd.DataFrame({"topic": np.repeat(np.arange(20), 3).astype(str)}, index=index)
        table = pd.DataFrame({"p": values}, index=index)
        return Estimate("e", "logit", Measurement("m", "logit", table, clusters), values).describe(">", 0.0)

    passed = 0
    for _ in range(400):
        first = msgspec.structs.replace(measured(), threshold_call=1)
        (proposal,) = propose(run_of(a_run, first))
        passed += measured().lower > proposal.value
    share = passed / 400
    assert abs(share - 0.975) < 5 * math.sqrt(0.975 * 0.025 / 400)


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
    assert "square root of 2" in told["rule"]
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
