"""Incomplete crossings: balanced, nested, and shorter intervals from as many runs."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditkit.stats.design import incomplete_crossing
from auditkit.stats.effects.mean import Estimate
from auditkit.stats.measurement import Measurement

pytestmark = pytest.mark.unit


def dealt(rows: int, columns: int, each: int, seed: int = 0) -> list[tuple[str, str]]:
    names = [f"row {n}" for n in range(rows)], [f"column {n}" for n in range(columns)]
    return incomplete_crossing(*names, each, seed=seed, name="x")


sizes = st.integers(1, 40)
designs = st.tuples(sizes, sizes, st.integers(1, 12), st.integers(0, 99))


@given(designs)
def test_every_row_meets_as_many_columns_and_none_twice(design: tuple[int, int, int, int]) -> None:
    rows, columns, each, _ = design
    cells = dealt(*design)
    assert len(set(cells)) == len(cells) == rows * min(each, columns)
    assert set(Counter(row for row, _ in cells).values()) == {min(each, columns)}


@given(designs)
def test_columns_are_met_equally_often_in_every_turn(design: tuple[int, int, int, int]) -> None:
    rows, columns, *_ = design
    cells = dealt(*design)
    for start in range(0, len(cells), rows):
        turn = Counter(column for _, column in cells[start : start + rows])
        assert set(turn.values()) <= {rows // columns, -(-rows // columns)}
    # By any number of first combinations too: what one turn leaves out, others meet.
    for count in range(1, len(cells) + 1):
        uses = Counter({f"column {n}": 0 for n in range(columns)})
        uses.update(column for _, column in cells[:count])
        assert max(uses.values()) - min(uses.values()) <= 3


@given(designs, sizes, st.integers(0, 6))
def test_a_larger_design_repeats_the_smaller_one(
    design: tuple[int, int, int, int], more_rows: int, more_each: int
) -> None:
    rows, columns, each, seed = design
    assert set(dealt(*design)) <= set(dealt(rows + more_rows, columns, each + more_each, seed))


@given(designs)
def test_the_order_of_the_columns_does_not_matter(design: tuple[int, int, int, int]) -> None:
    rows, columns, each, seed = design
    names = [f"row {n}" for n in range(rows)], [f"column {n}" for n in reversed(range(columns))]
    assert incomplete_crossing(*names, each, seed=seed, name="x") == dealt(*design)


def test_seeds_and_names_deal_differently() -> None:
    names = [f"row {n}" for n in range(10)], [f"column {n}" for n in range(20)]
    drawn = {tuple(incomplete_crossing(*names, 3, seed=seed, name=name)) for seed in (0, 1) for name in "xy"}
    assert len(drawn) == 4


@pytest.mark.parametrize(
    ("rows", "columns", "each", "message"),
    [
        (["a"], ["b"], 0, "at least one column, not 0"),
        (["a", "a"], ["b"], 1, "occurs twice"),
        (["a"], ["b", "b"], 1, "occurs twice"),
    ],
)
def test_what_cannot_be_dealt_is_refused(rows: list[str], columns: list[str], each: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        incomplete_crossing(rows, columns, each, seed=0, name="x")


def test_many_clusters_in_as_many_runs_make_shorter_intervals() -> None:
    """144 runs where two thirds of the variance lie between columns: 24 of them against 6."""
    widths: dict[int, list[float]] = {6: [], 24: []}
    draw = np.random.default_rng(0)
    for _ in range(60):
        rows, columns = draw.normal(size=24) * 0.3, draw.normal(size=24)
        for count in widths:
            cells = dealt(24, count, 6)
            where = [(int(row.split()[1]), int(column.split()[1])) for row, column in cells]
            values = np.array([rows[r] + columns[c] for r, c in where]) + draw.normal(size=len(cells)) * 0.6
            index = pd.Index([f"{row}|{column}" for row, column in cells])
            clusters = pd.DataFrame(cells, columns=["row", "column"], index=index)
            table = pd.DataFrame({"value": values}, index=index)
            effect = Estimate(
                "x", "1", Measurement("m", "1", table, clusters), values, None, ("value",)
            ).describe()
            assert effect.lower is not None
            assert effect.upper is not None
            widths[count].append(effect.upper - effect.lower)
    assert np.mean(widths[24]) < 0.6 * np.mean(widths[6])
