"""Declared sequential designs: critical values against published ones, and what a plan decides when."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from auditkit.claims.evidence import gathering
from auditkit.claims.outcomes import Inconclusive
from auditkit.claims.verdicts import judge
from auditkit.record.schema import Verdict
from auditkit.stats.boundaries import one_sided_levels
from auditkit.stats.measurement import MeasurementError
from auditkit.stats.sequential import Looks, sequentially

pytestmark = pytest.mark.unit

FIFTHS = (0.2, 0.4, 0.6, 0.8, 1.0)
RATIOS = tuple(a / b for a, b in itertools.pairwise(FIFTHS))
VALUES = np.random.default_rng(4).normal(0.0, 1.0, 60)


@pytest.fixture(scope="session")
def growing(estimate):
    """growing(values, asked) -> measure(n): the first n values, every item a cluster; `asked` collects n."""

    def make(values, asked=None):
        def measure(n):
            if asked is not None:
                asked.append(n)
            return estimate(values[:n])

        return measure

    return make


# -- critical values -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spending", "published"),
    [
        # Two-sided 5 %, five equal looks (Lan & DeMets; Jennison & Turnbull 2000, tables 7.1 and 7.2; R's ldbounds).
        (lambda t: 2 * stats.norm.sf(stats.norm.isf(0.0125) / np.sqrt(t)), [4.877, 3.357, 2.680, 2.290, 2.031]),
        (lambda t: 0.025 * np.log(1 + (np.e - 1) * t), [2.438, 2.427, 2.410, 2.397, 2.386]),
    ],
    ids=["O'Brien-Fleming", "Pocock"],
)
def test_critical_values_are_the_published_ones(spending, published):
    fractions = tuple(float(spending(t) / 0.025) for t in FIFTHS)
    levels = one_sided_levels(fractions, RATIOS, 0.025)
    assert stats.norm.isf(levels) == pytest.approx(published, abs=2e-3)


def test_looks_at_independent_data_are_corrected_as_independent():
    levels = one_sided_levels((0.5, 1.0), (1e-9,), 0.025)
    assert levels == pytest.approx((0.0125, 0.0125 / (1 - 0.0125)), rel=1e-3)


def test_a_look_at_the_same_data_again_has_little_to_spend_on():
    levels = one_sided_levels((0.5, 1.0), (1.0,), 0.025)
    assert levels[0] == 0.0125
    assert 0.0125 < levels[1] <= 0.025


@given(st.lists(st.integers(5, 200), min_size=2, max_size=6, unique=True).map(sorted), st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_no_more_than_the_whole_error_is_ever_spent(looks, seed):
    """Random walks with the assumed correlations cross with the chance that was declared."""
    plan = Looks(tuple(looks))
    rng = np.random.default_rng(seed)
    fractions = tuple(n / looks[-1] for n in looks)
    ratios = tuple(a / b for a, b in itertools.pairwise(looks))
    bounds = stats.norm.isf(one_sided_levels(fractions, ratios, 0.025))
    steps = rng.normal(size=(20_000, len(looks))) * np.sqrt(np.diff([0, *looks]))
    walks = steps.cumsum(axis=1) / np.sqrt(looks)
    crossed = (walks > bounds).any(axis=1).mean()
    assert crossed <= 0.025 + 4 * np.sqrt(0.025 / 20_000)
    if max(ratios) < 0.98:
        assert crossed >= 0.025 - 4 * np.sqrt(0.025 / 20_000)
    assert all(0 < level < 0.05 for level in plan.levels([(n,) for n in looks]))


def test_looks_with_too_few_clusters_spend_nothing():
    plan = Looks((10, 20, 30))
    levels = plan.levels([(2,), (4,), (6,)])
    assert levels[:2] == [0, 0]
    assert levels[2] == pytest.approx(2 * stats.t.sf(stats.t.isf(0.025, 2.5), 5), rel=1e-6)


def test_a_plan_of_one_look_is_the_ordinary_interval():
    assert Looks((40,)).levels([(40,)]) == [pytest.approx(0.05)]


@pytest.mark.parametrize("looks", [(), (4, 10), (10, 10), (20, 10)])
def test_a_plan_must_rise_from_enough_items(looks):
    with pytest.raises(ValueError, match="looks must be rising"):
        Looks(looks)


def test_a_plan_by_steps():
    assert Looks.every(10, first=20, most=45).looks == (20, 30, 40, 45)
    with pytest.raises(ValueError, match="at least one item"):
        Looks.every(0, first=20, most=45)


# -- deciding --------------------------------------------------------------------------------------------------


def test_a_clear_claim_ends_at_the_first_look(growing):
    asked: list[int] = []
    with gathering() as evidence:
        assert sequentially(Looks((20, 40, 60)), growing(VALUES + 3, asked)) >= 0.5
    assert asked == [20]
    assert evidence.decisions[0].reason.endswith("at look 1 of 3, with 20 of at most 60 items")
    assert "looks at 20, 40, 60 items" in evidence.notes[0]
    assert len([row for row in evidence.items.values() if not row.effect]) == 20


def test_an_unclear_claim_asks_for_more_and_ends_undecided_at_the_last_look(growing):
    asked: list[int] = []
    centred = np.concatenate([part - part.mean() for part in np.split(VALUES, 3)])
    with gathering() as evidence, pytest.raises(Inconclusive, match="at look 3 of 3"):
        _ = sequentially(Looks((20, 40, 60)), growing(centred, asked)) >= 0.0
    assert asked == [20, 40, 60]
    verdict, reason = judge(evidence)
    assert verdict is Verdict.INCONCLUSIVE
    assert "needs" not in reason
    assert evidence.decisions[0].effect.items_needed is None


def test_more_items_decide_what_the_first_look_could_not(growing):
    undecided = growing(VALUES[:20] - VALUES[:20].mean() + 0.3)(20)
    with pytest.raises(Inconclusive):
        _ = undecided > 0.0
    values = np.concatenate([VALUES[:20] - VALUES[:20].mean() + 0.3, 1 + 0.2 * VALUES[20:]])
    decision = sequentially(Looks((20, 60)), growing(values)) > 0.0
    assert decision.verdict is Verdict.PASS
    effect = decision.effect
    assert "look 2 of 2" in effect.method
    assert (effect.n, effect.alpha) == (60, 0.05)
    plain = growing(values)(60).describe()
    assert effect.upper - effect.lower > plain.upper - plain.lower


def test_a_fail_has_a_p_value_that_allows_for_every_look(growing):
    measured = sequentially(Looks((20, 40, 60)), growing(VALUES + 3))
    decision = measured._decision("<=", 0.5)
    assert decision.verdict is Verdict.FAIL
    assert measured.taken[0].describe("<=", 0.5).p_fail < decision.effect.p_fail <= 0.025
    assert not measured.equals(0.0, within=0.5)


def test_items_must_be_added_and_not_drawn_again(estimate):
    rng = np.random.default_rng(0)
    with pytest.raises(MeasurementError, match="other values at the next"):
        _ = sequentially(Looks((20, 40)), lambda n: estimate(rng.normal(size=n))) > 0.0
    with pytest.raises(MeasurementError, match="a look at 40 items got 20"):
        _ = sequentially(Looks((20, 40)), lambda n: estimate(VALUES[:20] - VALUES[:20].mean())) > 0.0
    renamed = estimate(VALUES - VALUES.mean())
    with pytest.raises(MeasurementError, match="missing at the next"):
        _ = (
            sequentially(
                Looks((20, 40)), lambda n: renamed._taken(np.arange(60 - n, 60) if n > 20 else np.arange(n))
            )
            > 0
        )


def test_degenerate_looks_decide_nothing(estimate):
    with pytest.raises(Inconclusive, match=r"^constant: .*at look 2 of 2"):
        _ = sequentially(Looks((10, 20)), lambda n: estimate([1.0] * n)) > 0.0
    with pytest.raises(Inconclusive, match=r"^non_finite: "):
        _ = sequentially(Looks((10, 20)), lambda n: estimate([np.nan, *VALUES[: n - 1] + 5])) > 0.0
