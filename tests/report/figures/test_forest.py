"""Where estimates, intervals and thresholds fall on a forest plot, and what a change did to a claim."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from auditkit.record.schema import Effect, Relation, Verdict
from auditkit.report.figures import forest
from tests.report.conftest import build_run
from tests.report.conftest import effect as sample

pytestmark = pytest.mark.unit

RELATIONS: tuple[Relation, ...] = (">=", ">", "<=", "<", "within")
LINE = forest.place(0.0)


def effect(**changes: Any) -> Effect:
    fields: dict[str, Any] = {"name": "e", "unit": "logit"}
    return msgspec.structs.replace(sample(0.5, 0.4, 0.6), **(fields | changes))


def places(path: str) -> list[float]:
    """Where a path's lines start and end, from left to right."""
    return [float(x) for x in re.findall(r"[MH]([-\d.]+)", path)]


def whisker(effect: Effect) -> list[float]:
    """Left and right end of the interval."""
    drawn = forest.drawn(effect)
    assert drawn
    return places(drawn.whisker)[:2]


def test_the_threshold_is_one_unit_and_lies_at_the_same_place_in_every_row() -> None:
    for threshold, relation in ((0.3, ">="), (0.3, "<="), (-3.0, "<="), (-0.02, ">="), (0.25, "within"), (0, ">")):
        one = effect(threshold=threshold, relation=relation)
        drawn, scale = forest.drawn(one), forest.scale_of(one)
        assert drawn
        assert scale
        assert places(drawn.ticks)[0] == LINE
        assert places(drawn.region)[0] == LINE
        assert abs(scale.unit) == pytest.approx(abs(threshold) or 0.1)


def test_the_claimed_side_lies_to_the_right_and_equivalence_has_a_second_limit() -> None:
    right = forest.WIDTH - 10
    for relation in RELATIONS[:4]:
        drawn = forest.drawn(effect(relation=relation))
        assert drawn
        assert places(drawn.region) == [LINE, right, LINE]
        assert drawn.ticks.count("M") == 1
    for estimate in (-0.5, 0.1):
        within = forest.drawn(effect(estimate=estimate, relation="within", threshold=0.25))
        assert within
        assert places(within.region) == [LINE, forest.place(2), LINE]
        assert places(within.ticks) == [LINE, forest.place(2)]
        assert places(within.zero) == [forest.place(1)]
    ratio = forest.drawn(effect(unit="times", threshold=0.8))
    assert ratio
    assert places(ratio.zero) == [forest.place(0.25)], "a ratio of 1 is no effect"


finite = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e12, max_value=1e12)
small = st.integers(-40, 40).map(lambda tenths: tenths / 10)


@given(small, small, small, small.filter(bool), st.sampled_from(RELATIONS))
def test_an_interval_lies_in_the_shade_exactly_where_it_lies_on_the_claimed_side(
    a: float, b: float, c: float, threshold: float, relation: Relation
) -> None:
    """Recomputed from the numbers: PASS is an interval inside, FAIL one outside."""
    lower, estimate, upper = sorted((a, b, c))
    assume(lower < upper)
    threshold = abs(threshold) if relation == "within" else threshold
    holds = {
        ">=": lower > threshold, ">": lower > threshold, "<=": upper < threshold, "<": upper < threshold,
        "within": -threshold < lower and upper < threshold,
    }[relation]  # fmt: skip
    one = effect(estimate=estimate, lower=lower, upper=upper, threshold=threshold, relation=relation)
    scale = forest.scale_of(one)
    assert scale
    ends = sorted((scale.units(lower), scale.units(upper)))
    # The far limit of equivalence is 2 units from the near one.
    assert holds == (ends[0] > 1e-9 and (relation != "within" or ends[1] < 2 - 1e-9))
    assert ends[0] - 1e-9 <= scale.units(estimate) <= ends[1] + 1e-9
    if relation == "within":
        assert scale.units(estimate) == pytest.approx((threshold - abs(estimate)) / threshold)


@given(small, small, small, st.sampled_from(RELATIONS[:4]))
def test_a_threshold_of_zero_is_drawn_in_half_widths(a: float, b: float, c: float, relation: Relation) -> None:
    lower, estimate, upper = sorted((a, b, c))
    assume(lower < upper)
    scale = forest.scale_of(effect(estimate=estimate, lower=lower, upper=upper, threshold=0.0, relation=relation))
    assert scale
    assert abs(scale.units(upper) - scale.units(lower)) == pytest.approx(2)


def test_without_a_unit_nothing_is_drawn_and_the_reason_is_said() -> None:
    nothing = effect(threshold=0, relation=">", lower=None, upper=None, mde=None)
    assert forest.drawn(nothing) is None
    assert "no interval" in forest.undrawn(nothing)
    assert forest.drawn(effect(estimate=None)) is None
    assert forest.undrawn(effect(estimate=None)) == "not measured"
    assert forest.drawn(msgspec.structs.replace(nothing, mde=0.2)), "the minimum detectable effect is a unit too"


def test_what_leaves_the_axis_is_an_arrow_with_its_number() -> None:
    wide = forest.drawn(effect(lower=-1000.0, upper=1000.0))
    assert wide
    assert wide.whisker == "M15 14l-5 5 5 5m-5-5H310m-5-5l5 5-5 5", "both ends are arrows"
    assert wide.beyond == ((10.0, "start", "−1,000"), (310.0, "end", "1,000"))
    far = forest.drawn(effect(estimate=5.94, lower=3.51, upper=8.37, threshold=0.25))
    assert far
    assert far.beyond == ((310.0, "end", "5.94"),)
    assert far.marker == far.diamond == "M310 19l-9-5v10z"
    assert far.whisker == "", "the arrow of the estimate says it"
    mirrored = forest.drawn(effect(estimate=5.94, lower=3.51, upper=8.37, threshold=0.25, relation="<="))
    assert mirrored
    assert mirrored.beyond == ((10.0, "start", "5.94"),)


def test_an_interval_with_one_end_goes_on_to_the_edge() -> None:
    no_upper = forest.drawn(effect(upper=None))
    assert no_upper
    assert places(no_upper.whisker)[1] == forest.WIDTH - 10
    assert no_upper.whisker.endswith("l5 5-5 5")
    mirrored = forest.drawn(effect(upper=None, relation="<="))
    assert mirrored
    assert mirrored.whisker.startswith("M15 14l-5 5 5 5m-5-5H"), "from the tip of an arrow at 10"
    only_marker = forest.drawn(effect(lower=None, upper=None))
    assert only_marker
    assert only_marker.whisker == ""
    assert only_marker.marker


@given(
    st.lists(
        st.tuples(st.none() | finite, st.none() | finite, st.none() | finite, st.none() | finite), min_size=1
    ),
    st.sampled_from((*RELATIONS, None)),
)
def test_everything_drawn_lies_inside(values: list[tuple[float | None, ...]], relation: Relation | None) -> None:
    for estimate, lower, upper, threshold in values:
        one = effect(estimate=estimate, lower=lower, upper=upper, threshold=threshold, relation=relation)
        for drawn in (forest.drawn(one), forest.drawn_change(one, effect(relation=relation))):
            if drawn:
                paths = (drawn.marker, drawn.diamond, drawn.whisker, drawn.ticks, drawn.region, drawn.zero)
                assert all(0 <= x <= forest.WIDTH for path in paths for x in places(path))
                assert "nan" not in "".join(paths)


# -- changes ---------------------------------------------------------------------------------------------------


@given(small, small.filter(bool), small.filter(bool), st.sampled_from(RELATIONS))
def test_a_change_is_worse_where_the_candidate_lies_further_from_the_claim(
    before: float, change: float, threshold: float, relation: Relation
) -> None:
    """Recomputed from both values: how far each lies inside the claimed side."""
    threshold = abs(threshold) if relation == "within" else threshold
    now = before + change

    def inside(value: float) -> float:
        return {"within": threshold - abs(value), ">": value, ">=": value, "<": -value, "<=": -value}[relation]

    assume(abs(inside(now) - inside(before)) > 1e-9)
    claimed = effect(estimate=now, relation=relation, threshold=threshold)
    moved = effect(estimate=change, lower=change - 1e-3, upper=change + 1e-3, relation=None, threshold=None)
    assume(not moved.lower <= 0 <= moved.upper)
    expected = "worse" if inside(now) < inside(before) else "better"
    assert forest.got(moved, claimed) == expected
    drawn = forest.drawn_change(moved, claimed)
    assert drawn
    assert (drawn.units < 0) == (expected == "worse"), "worse lies to the left"


def test_a_change_without_a_side_is_higher_or_lower() -> None:
    shown = effect(relation=None, threshold=None)
    moved = effect(estimate=-0.5, lower=-0.6, upper=-0.4, relation=None, threshold=None)
    assert forest.got(moved, shown) == forest.got(moved, None) == "lower"
    assert forest.got(msgspec.structs.replace(moved, upper=0.1), effect()) == "open"
    assert forest.got(msgspec.structs.replace(moved, lower=None, upper=None), effect()) == "open"


# -- rows ------------------------------------------------------------------------------------------------------


def test_a_claim_without_an_effect_has_a_row_with_the_reason() -> None:
    rows = [forest.claim_row(claim) for claim in build_run().claims]
    assert {row.verdict for row in rows if row.missing} == {Verdict.NOT_APPLICABLE, Verdict.ERROR}
    assert all((row.drawn is None) == bool(row.missing) for row in rows)


def test_rows_of_one_question_can_share_a_unit() -> None:
    narrow = effect(estimate=0.2, lower=0.1, upper=0.3, threshold=0.0, relation=">")
    wide = effect(estimate=0.2, lower=-0.8, upper=1.2, threshold=0.0, relation=">")
    unit = forest.common_unit([narrow, wide])
    drawn = [forest.drawn(one, unit) for one in (narrow, wide)]
    assert [row.units for row in drawn if row] == [pytest.approx(0.2)] * 2
    assert forest.common_unit([effect(lower=None, upper=None)]) is None
