"""Overlaps against chance: the published recount, exact enumeration, and figures that can be drawn."""

from __future__ import annotations

from itertools import combinations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import hypergeom

from auditkit.methods.scanning.overlap import (
    Overlap,
    frequency,
    frequent,
    overlap,
    pair_figure,
    pair_overlaps,
    sets_figure,
    stability,
)
from auditkit.methods.scanning.pvalues import empirical_pvalues
from auditkit.methods.scanning.scan import scan
from auditkit.methods.separation.rotations import (
    OtherBases,
    in_other_bases,
    massive_units,
    random_rotation,
    without,
)
from auditkit.record.figures import drawing_of
from auditkit.report.figures.drawing import render_svg

pytestmark = pytest.mark.unit


def of_sizes(sizes: list[int], total: int) -> Overlap:
    return overlap([range(size) for size in sizes], total)


def seen(observed: int, sizes: list[int], total: int) -> float:
    """z of an overlap of which only sizes are known."""
    null = of_sizes(sizes, total)
    return (observed - null.expected) / null.sd


# Unions over 99 runs (docs/protocols/persona_localization.md, Recount of the overlaps).
RELAT, DEONT, NIHIL, UTILI, VIRTUE = 2612, 3218, 2642, 2774, 2830
CONSERV, LIBER, IMMI, LGBTQ = 2959, 2519, 2356, 1667


def test_published_overlaps_are_what_chance_gives() -> None:
    assert of_sizes([RELAT, DEONT, NIHIL, UTILI, VIRTUE], 4096).expected == pytest.approx(619, abs=0.5)
    assert of_sizes([CONSERV, LIBER, IMMI, LGBTQ], 4096).expected == pytest.approx(426, abs=0.5)
    assert of_sizes([NIHIL, UTILI], 4096).expected == pytest.approx(1789, abs=0.5)
    assert seen(1771, [NIHIL, UTILI], 4096) == pytest.approx(-1.3, abs=0.05)
    assert of_sizes([CONSERV, LIBER], 4096).expected == pytest.approx(1820, abs=0.5)
    assert seen(1859, [CONSERV, LIBER], 4096) == pytest.approx(2.8, abs=0.05)


@pytest.mark.parametrize("sizes", [[3, 4], [2, 3, 4], [1, 2, 2, 3]])
def test_mean_and_variance_are_those_of_all_sets(sizes: list[int]) -> None:
    """Enumerated: the first set may stay fixed, every other runs through all sets of its size."""
    total = 5
    shared = [set(range(sizes[0]))]
    for size in sizes[1:]:
        shared = [left & set(chosen) for left in shared for chosen in combinations(range(total), size)]
    counts = np.array([len(left) for left in shared])
    null = of_sizes(sizes, total)
    assert null.expected == pytest.approx(counts.mean())
    assert null.sd == pytest.approx(counts.std())


def test_the_chance_of_a_pair_is_exact() -> None:
    one = overlap([[0, 1, 2], [1, 2, 3]], 6)
    counts = np.array([len({0, 1, 2} & set(other)) for other in combinations(range(6), 3)])
    assert one.observed == 2
    assert one.p() == pytest.approx((counts >= 2).mean())
    assert one.p(more=False) == pytest.approx((counts <= 2).mean())
    with pytest.raises(ValueError, match="two sets, here are 3"):
        overlap([[0], [0], [0]], 4).p()


def test_random_sets_overlap_as_expected() -> None:
    rng = np.random.default_rng(0)
    z = [overlap([rng.permutation(300)[:k] for k in (60, 90)], 300).z for _ in range(300)]
    assert np.mean(np.array(z, dtype=float)) == pytest.approx(0, abs=0.2)
    assert np.std(np.array(z, dtype=float)) == pytest.approx(1, abs=0.15)


def test_sets_that_leave_no_room_have_no_z() -> None:
    assert overlap([[], [1, 2]], 5).z is None
    assert overlap([range(5), [1, 2]], 5).z is None
    assert overlap([[], [1]], 5).ratio is None


@given(st.lists(st.sets(st.integers(0, 19)), min_size=2, max_size=4))
def test_exclusive_parts_add_up(sets: list[set[int]]) -> None:
    named = {f"p{i}": sorted(units) for i, units in enumerate(sets)}
    drawing = sets_figure(named, 20)
    assert list(drawing.sizes) == [len(units) for units in sets]
    assert sum(part.size for part in drawing.intersections) == len(set.union(*sets))
    for i, units in enumerate(sets):
        assert sum(part.size for part in drawing.intersections if i in part.members) == len(units)
    outside = np.prod([1 - len(units) / 20 for units in sets])
    assert sum(part.expected or 0 for part in drawing.intersections) == pytest.approx(20 * (1 - outside))


def test_figures_can_be_drawn_and_say_how_to_read_them() -> None:
    rng = np.random.default_rng(0)
    named = {name: rng.permutation(50)[:20] for name in ("openness", "virtue ethics", "liberal")}
    for drawing in (pair_figure(named, 50), sets_figure(named, 50)):
        titled = drawing.titled("Overlaps")
        assert msgspec.json.encode(drawing_of(titled)) == msgspec.json.encode(drawing)
        assert "<svg" in render_svg(titled, "x")
        assert "50" in drawing.caption
    matrix = np.array(pair_figure(named, 50).values, dtype=float)
    np.testing.assert_array_equal(matrix, matrix.T)  # NaN counts as equal
    assert np.isnan(np.diagonal(matrix)).all()  # None
    assert matrix[0, 2] == pair_overlaps(named, 50)["openness", "liberal"].z


# Runs


def test_frequent_units_are_those_of_half_the_runs() -> None:
    runs = [[0, 1], [1, 2], [1], [2, 3]]
    np.testing.assert_allclose(frequency(runs, 5), [0.25, 0.75, 0.5, 0.25, 0])
    np.testing.assert_array_equal(frequent(runs, 5), [1, 2])
    np.testing.assert_array_equal(frequent(runs, 5, 0.25), [0, 1, 2, 3])


def test_stability_by_hand_and_by_enumeration() -> None:
    assert stability([[0, 1, 2], [1, 2, 3], [0, 1, 2]], 9).jaccard == pytest.approx((1 / 2 + 1 + 1 / 2) / 3)
    jaccards = [len({0, 1} & set(c)) / len({0, 1} | set(c)) for c in combinations(range(6), 3)]
    assert stability([[0, 1], [3, 4, 5]], 6).chance == pytest.approx(np.mean(jaccards))


def test_the_chance_of_a_jaccard_index_is_that_of_the_hypergeometric_distribution() -> None:
    for small, large, total in ((3, 5, 9), (0, 4, 9), (40, 250, 576), (300, 400, 576), (2048, 3000, 4096)):
        shared = np.arange(max(0, small + large - total), small + 1)
        mass = hypergeom.pmf(shared, total, large, small)
        expected = float((mass * shared / (small + large - shared)).sum())
        found = stability([range(small), range(total - large, total)], total).chance
        assert found == pytest.approx(expected, rel=1e-10)


def test_random_runs_are_as_stable_as_chance() -> None:
    rng = np.random.default_rng(0)
    found = stability([rng.permutation(400)[: rng.integers(20, 60)] for _ in range(40)], 400)
    assert found.jaccard == pytest.approx(found.chance, rel=0.1)
    assert found.ratio == pytest.approx(1, rel=0.1)
    assert stability([[], []], 4).jaccard == 0


def test_bad_sets_are_named() -> None:
    with pytest.raises(ValueError, match="set 1 names units outside 0 to 4"):
        overlap([[0], [5]], 5)
    with pytest.raises(ValueError, match="set 0 names a unit twice"):
        overlap([[1, 1], [2]], 5)
    with pytest.raises(ValueError, match="at least two"):
        overlap([[1]], 5)
    with pytest.raises(ValueError, match="at least two runs"):
        stability([[1]], 5)
    with pytest.raises(ValueError, match="no runs"):
        frequency([], 5)


# The basis


def test_rotations_keep_distances_and_differ_by_name() -> None:
    one, other = random_rotation(40, 0, "a"), random_rotation(40, 0, "b")
    np.testing.assert_allclose(one @ one.T, np.eye(40), atol=1e-12)
    np.testing.assert_array_equal(one, random_rotation(40, 0, "a"))
    assert np.abs(one - other).max() > 0.1


def shared_units(turn, columns: list[np.ndarray]) -> float:
    """z of the overlap of what scans find for two personas that move along the two columns."""
    rng = np.random.default_rng(0)
    found = []
    for direction in columns:
        background, test = rng.normal(size=(200, 60)), rng.normal(size=(60, 60)) + direction
        found.append(scan(empirical_pvalues(turn(test), turn(background), "two-sided")).units)
    return overlap(found, 60).z or 0.0


def test_an_overlap_of_units_does_not_survive_rotation_but_one_of_directions_does() -> None:
    # Orthogonal patterns on the same twelve units: the personas share units and no direction.
    on = np.where(np.arange(60) < 12, 2.0, 0.0)
    units = in_other_bases(lambda turn: shared_units(turn, [on, on * (-1) ** np.arange(60)]), 60, rotations=20)
    assert units.own > 5
    assert units.survives(5.0) is False
    along = np.random.default_rng(2).normal(size=60)
    directions = in_other_bases(lambda turn: shared_units(turn, [along, along]), 60, rotations=20)
    assert directions.survives(2.0)
    assert "survives rotation, so it is about directions" in directions.says(2.0)


def test_what_a_rotation_says() -> None:
    rotated = np.array([0.0] * 19 + [9.0])
    assert OtherBases(5, rotated).survives(3) is False
    assert "does not survive rotation, so it is about these units" in OtherBases(5, rotated).says(3)
    assert "undecided" in OtherBases(5, np.array([0.0, 9.0])).says(3)
    assert "0 to 9 in 20 random rotations: below 3 before any" in OtherBases(1, rotated).says(3)
    with pytest.raises(ValueError, match="at least one rotation"):
        in_other_bases(lambda turn: 0.0, 4, rotations=0)


def test_massive_units_are_reported_and_left_out() -> None:
    values = np.random.default_rng(0).normal(size=(10, 50))
    values[:, 7] = 3000
    values[0, 9] = -2000
    found = {one.unit: one for one in massive_units(values)}
    assert set(found) == {7, 9}
    assert (found[7].share_of_rows, found[9].share_of_rows) == (1.0, 0.1)
    assert found[9].largest == 2000
    assert found[9].times_median == pytest.approx(2000 / np.median(np.abs(values[0])))
    rest, kept = without(values, list(found))
    assert not massive_units(rest)
    np.testing.assert_array_equal(kept, np.delete(np.arange(50), [7, 9]))
    np.testing.assert_array_equal(rest, values[:, kept])
