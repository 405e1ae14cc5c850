"""The measurement table: what it refuses, and that it gives back what was put in."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditkit.stats.measurement import Measurement, MeasurementError

pytestmark = pytest.mark.unit

ROWS = [
    {"item": "q1", "condition": "clean", "value": 2.0, "topic": "botany", "pair": "a"},
    {"item": "q1", "condition": "corrupt", "value": 1.0, "topic": "botany", "pair": "a"},
    {"item": "q2", "condition": "clean", "value": 3.0, "topic": "physics", "pair": "a"},
    {"item": "q2", "condition": "corrupt", "value": float("nan"), "topic": "physics", "pair": "a"},
]

tables = st.integers(1, 12).flatmap(
    lambda n: st.tuples(
        st.lists(st.text(min_size=1, max_size=6), min_size=n, max_size=n, unique=True),
        st.lists(st.sampled_from("abcd"), min_size=n, max_size=n),
        st.dictionaries(
            st.text(min_size=1, max_size=4),
            st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=n, max_size=n),
            min_size=1,
            max_size=3,
        ),
    )
)


def build(rows: list[dict[str, object]], *factors: str) -> Measurement:
    return Measurement.from_rows("logit difference", "logit", rows, factors or ["topic"])


def test_rows_become_one_line_per_item_and_one_column_per_condition():
    built = build(ROWS, "topic", "pair")
    assert built.conditions == ("clean", "corrupt")
    assert list(built.clusters.columns) == ["topic", "pair"]
    assert list(built.condition("clean")) == [2.0, 3.0]
    assert np.isnan(built.condition("corrupt")[1])


def test_an_item_measured_twice_under_a_condition_is_refused():
    with pytest.raises(MeasurementError, match="'q1' occurs twice under condition 'clean'"):
        build([*ROWS, ROWS[0]])


def test_an_item_in_two_clusters_is_refused():
    with pytest.raises(MeasurementError, match="two labels of one cluster factor"):
        build([ROWS[0], ROWS[1] | {"topic": "physics"}])


def test_a_label_that_some_rows_of_an_item_lack_is_refused():
    with pytest.raises(MeasurementError, match="two labels of one cluster factor"):
        build([ROWS[0], {k: v for k, v in ROWS[1].items() if k != "topic"}])


@pytest.mark.parametrize("key", ["item", "condition", "value", "topic"])
def test_a_missing_key_is_named(key):
    with pytest.raises(MeasurementError, match=f"lack \\['{key}'\\]"):
        build([{k: v for k, v in row.items() if k != key} for row in ROWS])


def test_no_rows_at_all_are_refused():
    with pytest.raises(MeasurementError, match="rows lack"):
        build([])


@pytest.mark.parametrize("key", ["item", "condition"])
def test_a_row_without_item_or_condition_is_refused_and_numbered(key):
    with pytest.raises(MeasurementError, match="row 2 has no item or no condition"):
        build([*ROWS[:2], ROWS[2] | {key: None}, ROWS[3]])


def test_an_item_without_cluster_label_is_refused():
    with pytest.raises(MeasurementError, match="needs a cluster label"):
        build([row | {"topic": None} for row in ROWS])


def test_values_and_clusters_must_list_the_same_items():
    built = build(ROWS)
    with pytest.raises(MeasurementError, match="same items in the same order"):
        Measurement("m", "logit", built.values, built.clusters.iloc[::-1])


def test_item_ids_must_be_unique():
    values = pd.DataFrame({"clean": [1.0, 2.0]}, index=["q1", "q1"])
    with pytest.raises(MeasurementError, match="'q1' occurs twice"):
        Measurement("m", "logit", values, pd.DataFrame({"topic": ["a", "b"]}, index=values.index))


def test_conditions_must_be_unique():
    values = pd.DataFrame([[1.0, 2.0]], index=["q1"], columns=["clean", "clean"])
    with pytest.raises(MeasurementError, match="condition 'clean' occurs twice"):
        Measurement("m", "logit", values, pd.DataFrame({"topic": ["a"]}, index=values.index))


@pytest.mark.parametrize("count", [0, 3])
def test_none_or_three_cluster_factors_are_refused(count):
    values = build(ROWS).values
    clusters = pd.DataFrame({f"f{i}": ["a", "b"] for i in range(count)}, index=values.index)
    with pytest.raises(MeasurementError, match=f"got {count}"):
        Measurement("m", "logit", values, clusters)


def test_an_unknown_condition_is_named_with_those_that_were_measured():
    with pytest.raises(MeasurementError, match="no condition 'patched'; measured were clean, corrupt"):
        build(ROWS).condition("patched")


def test_with_conditions_adds_and_leaves_the_original_alone():
    built = build(ROWS)
    extended = built.with_conditions({"patched": np.array([1.5, 2.5])})
    assert extended.conditions == ("clean", "corrupt", "patched")
    assert list(extended.condition("patched")) == [1.5, 2.5]
    assert built.conditions == ("clean", "corrupt")


def test_with_conditions_never_replaces_what_was_measured():
    with pytest.raises(MeasurementError, match="'clean' is already measured"):
        build(ROWS).with_conditions({"clean": np.array([0.0, 0.0])})


def test_rows_carry_claim_clusters_and_unit():
    row = build(ROWS, "topic", "pair").rows("suite/claim")[0]
    assert (row.claim, row.measurement, row.condition, row.item) == (
        "suite/claim",
        "logit difference",
        "clean",
        "q1",
    )
    assert (row.clusters, row.value, row.unit) == ("topic=botany;pair=a", 2.0, "logit")


@given(tables)
def test_rows_give_back_the_table(drawn):
    items, labels, conditions = drawn
    rows = [
        {"item": item, "condition": condition, "value": value, "topic": label}
        for condition, values in conditions.items()
        for item, label, value in zip(items, labels, values, strict=True)
    ]
    built = build(rows)
    back = built.rows("claim")
    again = build(
        [
            {
                "item": r.item,
                "condition": r.condition,
                "value": r.value,
                "topic": r.clusters.removeprefix("topic="),
            }
            for r in back
        ]
    )
    finite = built.values.where(np.isfinite(built.values))
    pd.testing.assert_frame_equal(again.values, finite)
    pd.testing.assert_frame_equal(again.clusters, built.clusters)
    assert len(back) == len(rows)
    assert all(row.value is None or np.isfinite(row.value) for row in back)
