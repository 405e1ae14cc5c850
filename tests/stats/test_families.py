"""Holm over a family of claims, Benjamini-Hochberg over an exploratory grid, and split halves."""

from __future__ import annotations

import unittest.mock

import msgspec
import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from auditkit.claims.evidence import Decision, gathering
from auditkit.record.schema import Claim, Control, Cost, Effect, FamilyPlace, Verdict
from auditkit.stats.families import (
    adjusted_by_benjamini_hochberg,
    adjusted_by_holm,
    cautious,
    claim_p,
    explore,
    fail_within_claim,
    holm,
)
from auditkit.stats.halves import halves
from auditkit.stats.measurement import MeasurementError

pytestmark = pytest.mark.unit

seeds = st.integers(0, 10**6)


def claim(
    p: float | None, verdict: Verdict = Verdict.FAIL, *, family: str | None = "f", df: int | None = None, also=()
):
    def effect(p: float | None) -> Effect:
        return Effect(
            name="e", estimate=1.0, lower=0.5, upper=1.5, unit="logit", relation=">=", threshold=2.0, alpha=0.05,
            n=9, clusters=9, standardized=None, mde=None, items_needed=None, method="mean", p_fail=p, df=df,
        )  # fmt: skip

    return Claim(
        id="s/c", suite="s", statement="", source="", verdict=verdict, reason="as it was", threshold_source="",
        effect=effect(p), also=tuple(map(effect, also)), cost=Cost(seconds=0.0, token_layers=0, share_of_minimum=None),
        family=FamilyPlace(name=family) if family else None,
    )  # fmt: skip


# -- Holm ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verdict", [Verdict.INCONCLUSIVE, Verdict.NOT_APPLICABLE])
def test_a_claim_whose_control_vouches_for_nothing_makes_no_fail_of_its_family_easier(verdict):
    """A small p-value that nobody may read would rank first and leave the others a milder level."""
    beside = Control(name="donor", effect=None, verdict=verdict, reason="")
    silent = msgspec.structs.replace(claim(1e-6, Verdict.INCONCLUSIVE), controls=(beside,))
    assert claim_p(silent) == 1.0
    assert [one.verdict for one in holm([silent, claim(0.02)])] == [Verdict.INCONCLUSIVE] * 2
    readable = msgspec.structs.replace(silent, controls=(msgspec.structs.replace(beside, verdict=Verdict.PASS),))
    assert claim_p(readable) == 1e-6


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=2, max_size=12))
def test_a_fail_stands_exactly_where_holm_rejects(ps):
    """Holm's procedure in its step-down form: the i-th smallest of m against level / (m - i)."""
    claims = [claim(p, Verdict.FAIL if p <= 0.025 else Verdict.PASS) for p in ps]
    standing = set()
    for i, index in enumerate(np.argsort(ps, kind="stable")):
        if ps[index] > 0.025 / (len(ps) - i):
            break
        standing.add(int(index))
    for index, (before, after) in enumerate(zip(claims, holm(claims), strict=True)):
        assert after.family.alone is before.verdict
        if before.verdict is Verdict.FAIL:
            assert after.verdict is (Verdict.FAIL if index in standing else Verdict.INCONCLUSIVE)
            assert after.reason.startswith("as it was" if index in standing else "holm: ")
        else:
            assert (after.verdict, after.reason) == (before.verdict, before.reason)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(Verdict), st.none() | st.floats(0, 1)), max_size=8))
def test_a_family_makes_nothing_better_than_undecided(members):
    claims = [claim(p, verdict) for verdict, p in members]
    for before, after in zip(claims, holm(claims), strict=True):
        assert after.verdict is before.verdict or (before.verdict, after.verdict) == (
            Verdict.FAIL,
            Verdict.INCONCLUSIVE,
        )
    assert [c.verdict for c in holm(holm(claims))] == [c.verdict for c in holm(claims)]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_adjusted_p_values_are_those_of_statsmodels(ps):
    from statsmodels.stats.multitest import multipletests

    with unittest.mock.patch("gc.collect"):
        _, expected, _, _ = multipletests(ps, method="holm")
    assert adjusted_by_holm(ps) == pytest.approx(list(expected), abs=1e-15)
    assert adjusted_by_benjamini_hochberg(ps) == list(stats.false_discovery_control(ps, method="bh"))


def test_claims_that_were_not_measured_count():
    failing, lost = claim(0.01), claim(None, Verdict.ERROR)
    assert holm([failing, claim(0.9, Verdict.PASS)])[0].verdict is Verdict.FAIL
    assert holm([failing, claim(0.9, Verdict.PASS), lost])[0].verdict is Verdict.INCONCLUSIVE


def test_a_claim_alone_and_claims_without_a_family_stay_as_they_are():
    assert holm([claim(0.024, also=(0.9, 0.9))])[0].verdict is Verdict.FAIL
    free = [claim(0.024, family=None)] * 9
    assert holm(free) == tuple(free)
    apart = holm([claim(0.02, family="f"), claim(0.02, family="g")])
    assert [c.verdict for c in apart] == [Verdict.FAIL, Verdict.FAIL]


def test_the_p_value_of_a_claim_pays_for_its_comparisons():
    assert claim_p(claim(0.01, also=(0.5,))) == 0.02
    assert claim_p(claim(0.0)) == 0.0  # an exact comparison is wrong without doubt
    assert claim_p(claim(0.01, Verdict.ERROR)) == 1.0
    assert claim_p(claim(None)) == 1.0


@given(st.floats(1e-9, 0.4), st.integers(4, 200))
def test_far_tails_are_judged_with_caution(p, df):
    assert p < cautious(p, df) < 0.5
    assert claim_p(claim(p, df=df)) == pytest.approx(stats.t.sf(stats.t.isf(p, df), min(df / 2, 10)))


def test_the_record_holds_what_the_family_said():
    (one, _) = holm([claim(0.02), claim(0.9, Verdict.PASS)])
    assert (one.family.size, one.family.p, one.family.p_adjusted) == (2, 0.02, 0.04)
    assert (one.family.alone, one.family.alone_reason) == (Verdict.FAIL, "as it was")
    assert msgspec.json.decode(msgspec.json.encode(one), type=Claim) == one


# -- the comparisons of one claim ------------------------------------------------------------------------------


def decision(p: float | None, verdict: Verdict, df: int | None = None) -> Decision:
    return Decision(verdict, "as it was", claim(p, df=df).effect, "paper")


def judged(ps, df: int | None = None) -> list[Decision]:
    return [decision(p, Verdict.FAIL if p <= 0.025 else Verdict.PASS, df) for p in ps]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=2, max_size=13), st.sampled_from([None, 4, 7, 30]))
def test_a_claim_fails_where_holm_over_its_comparisons_rejects(ps, df):
    """The first step of Holm decides whether anything stands: the claim's p-value in a family says the same."""
    before = judged(ps, df)
    after = fail_within_claim(before)
    stands = any(d.verdict is Verdict.FAIL for d in after)
    whole = claim(ps[0], df=df, also=ps[1:])
    whole = msgspec.structs.replace(whole, also=tuple(d.effect for d in before[1:]), effect=before[0].effect)
    assert stands == (claim_p(whole) <= 0.025)
    for old, new in zip(before, after, strict=True):
        if new.verdict is old.verdict:
            assert new is old
        else:
            assert (old.verdict, new.verdict) == (Verdict.FAIL, Verdict.INCONCLUSIVE)
            assert new.reason.startswith("holm: as it was, but among ")
            assert new.effect is old.effect
    assert fail_within_claim(after) == after


def test_one_of_thirteen_that_barely_fails_is_undecided_and_a_blatant_one_fails():
    others = [decision(0.5, Verdict.PASS, 24)] * 12
    barely, *_ = fail_within_claim([decision(0.011, Verdict.FAIL, 24), *others])
    assert barely.verdict is Verdict.INCONCLUSIVE
    assert "among 13 comparisons" in barely.reason
    blatant, *_ = fail_within_claim([decision(1e-9, Verdict.FAIL, 24), *others])
    assert blatant.verdict is Verdict.FAIL


def test_a_single_comparison_and_an_exact_one_need_no_correction():
    alone = [decision(0.024, Verdict.FAIL, 4)]
    assert fail_within_claim(alone) == tuple(alone)
    assert fail_within_claim([]) == ()
    exact = [decision(0.0, Verdict.FAIL), decision(None, Verdict.INCONCLUSIVE), decision(1.0, Verdict.PASS)]
    assert fail_within_claim(exact) == tuple(exact)


@pytest.mark.parametrize("df", [4, 24])
def test_a_claim_of_ten_at_their_thresholds_fails_by_chance_no_more_often_than_one(df):
    rng = np.random.default_rng(5)
    failed = 0
    for _ in range(800):
        p = stats.t.cdf(rng.standard_t(df, 10), df)
        failed += any(d.verdict is Verdict.FAIL for d in fail_within_claim(judged(p, df)))
    assert failed / 800 <= 0.025 + 3 * np.sqrt(0.025 / 800)


# -- exploring -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_exploring_bounds_the_share_of_false_discoveries(estimate):
    rng = np.random.default_rng(1)
    shares = []
    for _ in range(40):
        sites = [estimate(rng.normal(1.2 if i < 5 else 0.0, 1.0, 15), name=f"site {i}") for i in range(40)]
        found = explore("heads", sites, ">", 0.0, rate=0.1)
        false = sum(int(site.name.split()[1]) >= 5 for site in found)
        shares.append(false / max(len(found), 1))
        assert len(found) >= 1
    assert np.mean(shares) <= 0.1 * 35 / 40 + 2 * np.std(shares) / np.sqrt(40)


def test_a_grid_is_recorded_as_exploratory_and_decides_nothing(estimate):
    sites = [estimate(np.linspace(0.5, 1, 12), name="a"), estimate([1.0] * 12, name="b")]
    with gathering() as evidence:
        found = explore("heads", sites, "!=")
    assert [site.name for site in found] == ["a"]
    assert evidence.decisions == []
    (grid,) = evidence.grids
    assert [(cell.effect.name, cell.found) for cell in grid.cells] == [("a", True), ("b", False)]
    assert grid.cells[1].p == 1.0  # nothing can be told of constant values
    assert grid.cells[0].q == pytest.approx(2 * grid.cells[0].p)


def test_sides_of_exploring(estimate):
    up = [estimate(np.linspace(0.5, 1, 12))]
    assert explore("x", up, ">", 0.0) == up
    assert explore("x", up, "<", 0.0) == []
    assert explore("x", up, ">", 2.0) == []
    for bad in ({"estimates": [], "relation": ">"}, {"estimates": up, "relation": ">="}):
        with pytest.raises(ValueError, match="exploring needs"):
            explore("x", **bad)


# -- halves ----------------------------------------------------------------------------------------------------


def labelled(seed: int, factors: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(4, 60))
    index = pd.Index([f"i{k}" for k in range(n)], name="item")
    return pd.DataFrame({f"f{j}": rng.integers(0, 7, n) for j in range(factors)}, index=index)


@given(seeds, st.integers(1, 2))
def test_halves_share_no_cluster_and_lose_no_item(seed, factors):
    clusters = labelled(seed, factors)
    try:
        split = halves(clusters, seed, "claim")
    except MeasurementError:
        assume(False)
    parts = (split.discovery, split.confirmation, split.left_out)
    assert sorted(i for part in parts for i in part) == sorted(clusters.index)
    for factor in clusters:
        one, two = (set(clusters.loc[list(part), factor]) for part in parts[:2])
        assert not one & two
    if factors == 1:
        one, two = (set(clusters.loc[list(part), "f0"]) for part in parts[:2])
        assert split.left_out == ()
        assert abs(len(one) - len(two)) <= 1
    order = np.random.default_rng(seed).permutation(len(clusters))
    again = halves(clusters.iloc[order], seed, "claim")
    assert set(again.discovery) == set(split.discovery)


def test_another_name_or_seed_gives_another_split():
    clusters = pd.DataFrame({"f": range(40)}, index=[f"i{k}" for k in range(40)])
    one = halves(clusters, 0, "a")
    assert halves(clusters, 0, "a") == one
    assert one not in (halves(clusters, 0, "b"), halves(clusters, 1, "a"))


def test_a_measurement_is_split_and_the_split_is_noted(table):
    measured = table({"x": range(12)}, np.repeat(range(6), 2))
    with gathering() as evidence:
        split = halves(measured, 0, "claim")
    assert measured.only(split.discovery).conditions == ("x",)
    assert len(measured.only(split.confirmation).values) == 6
    assert "6 items to discover, 6 other items to confirm" in evidence.notes[0]


def test_one_cluster_cannot_be_split():
    with pytest.raises(MeasurementError, match="one cluster"):
        halves(pd.DataFrame({"f": [1, 1]}, index=["a", "b"]), 0, "claim")
    diagonal = pd.DataFrame({"f": [1, 2], "g": [1, 2]}, index=["a", "b"])
    with pytest.raises(MeasurementError, match="without an item"):
        _ = [halves(diagonal, seed, "claim") for seed in range(20)]
