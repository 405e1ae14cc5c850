"""Localization of personas, on activations in which the answer is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t
from sklearn.metrics import calinski_harabasz_score
from threadpoolctl import threadpool_info, threadpool_limits

from auditkit.claims.evidence import figure, gathering, note, present
from auditkit.claims.outcomes import Inconclusive, NotApplicable
from auditkit.data.errors import DataError
from auditkit.findings.identity_bias.measurements.verdicts import every
from auditkit.findings.persona_localization.figures import DRAWN, PCA, TSNE, embedded, pictures
from auditkit.findings.persona_localization.measurements.blocks import BLOCKS, in_blocks
from auditkit.findings.persona_localization.measurements.indices import NAMES, LayerIndices
from auditkit.findings.persona_localization.measurements.layers import (
    NORM,
    RAW,
    UNIT,
    WORDS,
    LayerSeparability,
    over_dealings,
    p_value,
)
from auditkit.findings.persona_localization.measurements.material import (
    PERSONAS,
    PersonaActivations,
    _loaded,
    one_thread,
    persona_items,
)
from auditkit.findings.persona_localization.measurements.scans import PROBE, VARIANTS, PersonaScans, persona_scan
from auditkit.findings.persona_localization.measurements.specificity import Specificity
from auditkit.findings.persona_localization.measurements.units import PersonaUnits
from auditkit.methods.separation.indices import principal_points
from auditkit.methods.separation.permutation import Significance
from auditkit.stats.halves import halves
from tests.planted.seen_personas import LAYERS, UNITS, invented

pytestmark = pytest.mark.unit

FIVE = {name: range(10 * i, 10 * i + 10) for i, name in enumerate("abcde")}


@pytest.fixture(scope="module")
def five() -> PersonaActivations:
    """Five personas, each with ten units of its own from layer 3 on."""
    return invented(FIVE, by=1.4)


# -- statements --------------------------------------------------------------------------------------------------


def test_the_projects_statements_are_drawn_in_whole_pairs() -> None:
    some = persona_items(n_items=6, seed=1)
    assert tuple(one.persona for one in some) == PERSONAS
    for one in some:
        assert (len(one.ids), int(one.positive.sum()), one.fewest_groups()) == (12, 6, 6)
        for group in np.unique(one.groups):
            assert sorted(one.positive[one.groups == group]) == [False, True]
    assert {one.topic for one in some} == {"personality", "ethics", "politics"}
    more = persona_items(n_items=7, seed=1)
    assert set(some[0].ids) < set(more[0].ids)
    assert set(persona_items(n_items=6, seed=2)[0].ids) != set(some[0].ids)
    with pytest.raises(ValueError, match="no statements of 'robot'"):
        persona_items(personas=("robot",))


def test_given_files_replace_them(tmp_path: Path) -> None:
    lines = [
        f'{{"statement": "Number {i} is {i % 2}", "answer_matching_behavior": " {("Yes", "No")[i % 2]}", '
        '"label_confidence": 0.9}'
        for i in range(10)
    ]
    for name in ("anti-immigration", "robot"):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    some = persona_items(f"{tmp_path}#robot,anti-immigration", n_items=3)
    assert [(one.persona, one.topic) for one in some] == [("anti-immigration", "politics"), ("robot", "other")]
    assert {int(one.positive.sum()) for one in some} == {3}
    assert some[0].source.startswith("those of ")
    with pytest.raises(DataError, match="no file of the persona 'x'"):
        persona_items(f"{tmp_path}#x")


def test_one_thread_inside_and_as_many_as_before_behind() -> None:
    def threads() -> list[int]:
        return [one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"]

    with threadpool_limits(2, user_api="blas"):
        before = threads()
        with one_thread(), one_thread():
            assert set(threads()) == {1}
        found = _loaded.cache_info().misses
        with one_thread():
            assert set(threads()) == {1}
        assert _loaded.cache_info().misses == found, "libraries are not searched again"
        assert threads() == before


def test_massive_units_can_be_left_out() -> None:
    activations = invented({"a": range(5)}, pairs=4)
    activations._read.values[:, 2, 7] = 5000
    assert [one.unit for one in activations.massive(2)] == [7]
    assert activations.at(activations.personas[0], 2).shape == (8, UNITS)
    smaller = invented({"a": range(5)}, pairs=4)
    smaller._massive = False
    smaller._read.values[:, 2, 7] = 5000
    assert smaller.at(smaller.personas[0], 2).shape == (8, UNITS - 1)
    assert smaller.at(smaller.personas[0], 1).shape == (8, UNITS)


# -- layers ------------------------------------------------------------------------------------------------------


def test_what_is_planted_late_separates_late(five: PersonaActivations) -> None:
    layers = LayerSeparability(five, permutations=199)
    layers.require()
    assert five.late == range(4, 6)
    assert layers.after(0).equals(0.5, within=0.1)
    # 0.466 each; the interval of a cross-validated AUC is wider than that of independent values by the root of two.
    assert layers.late() - layers.after(0) > 0.35
    assert layers.late(UNIT) - layers.after(0, UNIT) > 0.35
    assert layers.late(RAW) > layers.words()
    assert layers.labels_at_random().equals(0.5, within=0.02)
    with gathering() as evidence:
        present(layers)
        figure(layers.by_persona())
    assert [one.kind for one in evidence.figures] == ["curves", "heatmap"]
    lines = {line["name"]: line for line in evidence.figures[0].data["series"]}
    assert lines[RAW]["y"][5] > 0.9 > lines["labels at random"]["upper"][5]


def test_noise_separates_nowhere() -> None:
    layers = LayerSeparability(invented({"a": range(0), "b": range(0)}), permutations=199)
    with pytest.raises(NotApplicable, match="labels dealt at random reach too"):
        layers.require()


def test_the_best_layer_is_compared_with_every_earlier_one_on_statements_that_did_not_choose_it(
    five: PersonaActivations,
) -> None:
    layers = LayerSeparability(five)
    with gathering() as evidence:
        late, over_earlier = layers.peaks()
    assert len(over_earlier) == five.late[0] == 4
    assert len(late.numerator) == sum(len(one.ids) for one in five.personas)  # each half is judged by the other's
    assert any("by one half of the statements" in note for note in evidence.notes)
    assert over_earlier[0] > 0.3
    assert over_earlier[2] > 0.3
    with pytest.raises(Inconclusive):  # block 3 is as good
        assert over_earlier[3] > 0
    with pytest.raises(Inconclusive):
        every(over_earlier, lambda difference: difference > 0)
    # By hand: the values of each half are those of the layer that the other half prefers.
    columns = {str(n): layers._parts(RAW, n) for n in range(LAYERS)}
    whole = five.measurement("AUC", "AUC", columns)
    split = halves(whole, five.seed, "layers")
    for found_on, judged_on in ((split.discovery, split.confirmation), (split.confirmation, split.discovery)):
        best = whole.only(found_on).values[["4", "5"]].mean().idxmax()
        rows = late.measurement.values.index.get_indexer(list(judged_on))
        assert late.numerator[rows] == pytest.approx(whole.values.loc[list(judged_on), best])


def test_words_that_tell_the_label_are_what_layers_are_held_against() -> None:
    layers = LayerSeparability(invented({"a": range(10), "b": range(10, 20)}, by=0.3, words=True))
    assert not layers.late() > layers.words()


def test_growth_of_the_norm_alone_is_seen_as_such() -> None:
    layers = LayerSeparability(invented({"a": range(0), "b": range(0)}, norm=0.08))
    assert not layers.late(NORM) <= 0.6
    assert layers.late(UNIT) < layers.late(NORM)


def test_the_order_of_statements_changes_nothing(five: PersonaActivations) -> None:
    turned = invented(FIVE, by=1.4)
    order = np.random.default_rng(1).permutation(120)
    for number, one in enumerate(turned.personas):
        rows = slice(120 * number, 120 * (number + 1))
        turned._read.values[rows] = turned._read.values[rows][order]
        for name in ("positive", "groups"):
            object.__setattr__(one, name, getattr(one, name)[order])
        for name in ("ids", "texts"):
            object.__setattr__(one, name, tuple(getattr(one, name)[i] for i in order))
    one, other = (LayerSeparability(some) for some in (five, turned))
    assert one.after(4).describe().estimate == pytest.approx(other.after(4).describe().estimate, abs=1e-12)
    assert LayerIndices(five)._means("raw", 4) == pytest.approx(LayerIndices(turned)._means("raw", 4), abs=1e-9)
    scans = [PersonaScans(some, 5, permutations=9) for some in (five, turned)]
    found = [[held.discovery.units.tolist() for held in some.held.values()] for some in scans]
    assert found[0] == found[1]
    assert PersonaUnits(five, 5, runs=4).units(five.personas[0]).tolist() == (
        PersonaUnits(turned, 5, runs=4).units(turned.personas[0]).tolist()
    )


def test_the_order_of_personas_changes_nothing(five: PersonaActivations) -> None:
    turned = five.asked_about(five.personas[::-1])
    one, other = (
        [
            *(
                LayerSeparability(some).after(layer, of).describe().estimate
                for layer in (0, 4)
                for of in (RAW, NORM)
            ),
            PersonaScans(some, 5, permutations=9).significance().describe().estimate,
            PersonaUnits(some, 5, runs=2).jaccard().describe().estimate,
            *LayerIndices(some, dealings=3)._means("unit norm", 4).ravel(),
        ]
        for some in (five, turned)
    )
    assert one == pytest.approx(other, abs=1e-12)


def test_too_few_statements_are_undecided() -> None:
    few = invented({"a": range(5)}, pairs=4)
    for asked in (
        lambda: LayerSeparability(few).after(0),
        lambda: PersonaScans(few).held,
        lambda: PersonaUnits(few).jaccard(),
    ):
        with pytest.raises(Inconclusive, match="too_few_statements: a has 4"):
            asked()


# -- published indices -------------------------------------------------------------------------------------------


def test_indices_leave_the_band_of_dealt_labels_where_something_was_planted() -> None:
    with gathering() as evidence:
        indices = LayerIndices(invented({"a": range(10), "b": range(10, 20)}, by=1.4))
        present(indices)
        figure(indices.by_persona())
        figure(indices.by_scale())
    assert [one.kind for one in evidence.figures] == ["curves"] * 4 + ["table"] * 2
    for one, name in zip(evidence.figures, NAMES, strict=False):
        lines = {line["name"]: line for line in one.data["series"]}
        for scale in ("raw", "unit norm"):
            true, dealt = lines[scale], lines[f"{scale}, labels at random"]
            assert true["lower"][5] < true["y"][5] < true["upper"][5]
            inside = [
                low <= y <= high for low, y, high in zip(dealt["lower"], true["y"], dealt["upper"], strict=True)
            ]
            assert sum(inside[:3]) >= 2, name
            assert inside[3:] == [False] * 3, name
            assert (true["y"][5] < dealt["y"][5]) == (name == "Davies-Bouldin")
    rows = evidence.figures[4].data["rows"]
    assert [row[0] for row in rows[:2]] == ["a, block 0", "a, block 5"]
    assert {row[2] for row in rows[1::2]} == {1 / 200}
    assert np.median([row[2] for row in rows[::2]]) > 0.05
    assert "at 3 by silhouette, 3 by Calinski-Harabasz, 3 by Davies-Bouldin" in evidence.notes[0]


def test_an_interval_of_an_index_is_the_jackknifes_over_blocks(five: PersonaActivations) -> None:
    indices, place = LayerIndices(five, dealings=2), 1
    effect = indices._effect("raw", 4, place)
    every = []
    for block in range(BLOCKS):
        values = []
        for items in five.personas:
            points, _ = principal_points(five.at(items, 4), components=4)
            kept = in_blocks(items, 0) != block
            values.append(calinski_harabasz_score(points[kept], items.positive[kept]))
        every.append(np.mean(values))
    error = np.sqrt((BLOCKS - 1) / BLOCKS * ((every - np.mean(every)) ** 2).sum())
    assert effect.lower is not None
    assert effect.estimate is not None
    assert effect.estimate - effect.lower == pytest.approx(t.ppf(0.975, BLOCKS - 1) * error)


def test_indices_of_few_statements_have_no_interval_and_of_too_few_are_left_out() -> None:
    for pairs, known in ((9, True), (4, False)):
        with gathering() as evidence:
            indices = LayerIndices(invented({"a": range(5)}, pairs=pairs))
            present(indices)
            figure(indices.by_persona())
            figure(indices.by_scale())
        line = evidence.figures[0].data["series"][0]
        assert [value is not None for value in line["y"]] == [known] * LAYERS
        assert line["lower"] == [None] * LAYERS
        assert any("there are no indices: statements are too few" in text for text in evidence.notes) != known
    five = invented({"a": range(5)})
    five._read.values[3, 2, 1] = np.nan
    with pytest.raises(ValueError, match="1 activations are NaN"):
        LayerIndices(five).figures()


# -- scans -------------------------------------------------------------------------------------------------------


def test_a_planted_subset_is_found_on_statements_that_were_not_looked_at(five: PersonaActivations) -> None:
    scans = PersonaScans(five, permutations=99)
    assert scans.precision() >= 0.75
    assert scans.recall() >= 0.65
    assert scans.significance() <= 0.01
    assert scans.among_negatives() > 0.005
    assert scans.auc() - scans.auc(PROBE) >= -0.1
    for items, held in zip(five.personas, scans.held.values(), strict=True):
        inside = np.isin(FIVE[items.persona], held.discovery.units % UNITS)
        assert inside.mean() >= 0.7
    with gathering() as evidence:
        figure(scans.by_persona())
        figure(scans.beside_detectors())
    assert [len(one.data["rows"]) for one in evidence.figures] == [5, 8]


def test_each_half_of_the_statements_is_judged_by_the_units_of_the_other(five: PersonaActivations) -> None:
    scans = PersonaScans(five, permutations=0)
    precision, auc, probe = scans.precision(), scans.auc(), scans.auc(PROBE)
    everything = sum(len(one.ids) for one in five.personas)
    assert len(precision.numerator) == len(auc.numerator) == len(probe.numerator) == everything
    first, second = scans._both_ways
    for items, one, other in zip(five.personas, first, second, strict=True):
        assert set(one.discovery.scanned) == set(other.confirmation.scanned)
        assert not set(other.discovery.scanned) & set(other.confirmation.scanned)
        names = [items.ids[row] for row in other.confirmation.scanned]
        rows = precision.measurement.values.index.get_indexer(names)
        assert precision.numerator[rows].tolist() == (other.confirmation.found & other.truth).tolist()
    hits = sum((one.confirmation.found & one.truth).sum() for one in (*first, *second))
    assert precision.describe().estimate == pytest.approx(
        hits / sum(one.confirmation.found.sum() for one in (*first, *second))
    )
    # The probe is the one of the table of detectors.
    shown = next(one for one in scans._detectors["a"] if one.name == PROBE)
    assert scans._scores(PROBE, five.personas[0], first[0]) == pytest.approx(shown.scores)


def test_precision_in_noise_is_chance() -> None:
    scans = PersonaScans(invented(dict.fromkeys("abcdef", range(0)), words=True), permutations=19)
    assert not scans.precision() >= 0.75
    assert scans.significance() > 0.01
    assert not scans.auc() > scans.auc(WORDS)


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=30), st.floats(-5, 5))
@settings(max_examples=50, deadline=None)
def test_a_pvalue_is_a_share_of_dealings(null: list[float], score: float) -> None:
    found = Significance(score, np.array(null))
    assert p_value("p", found).describe().estimate == pytest.approx(found.p)


def test_dealings_are_compared_exactly() -> None:
    mean = over_dealings("x", "1", np.array([0.0, 0.5]))
    assert mean >= 0.25
    assert not mean > 0.25


def test_a_scan_in_other_bases_finds_directions_as_well(five: PersonaActivations) -> None:
    with gathering() as evidence:
        note(PersonaScans(five).rotation(0.75, rotations=4))
        note(PersonaScans(invented({"a": range(0), "b": range(0)})).rotation(0.75, rotations=4))
    assert "precision on held-out statements of 5 personas" in evidence.notes[0]
    assert "survives rotation, so it is about directions" in evidence.notes[0]
    assert "below 0.75 before any, so no claim is there to survive" in evidence.notes[1]


def test_a_scan_in_other_ways_is_judged_on_the_same_halves(five: PersonaActivations) -> None:
    scans = PersonaScans(five, permutations=0)
    with gathering() as evidence:
        figure(scans.in_other_ways())
    rows = {row[0]: row[1:] for row in evidence.figures[0].data["rows"]}
    assert set(rows) == set(VARIANTS)
    held = [scans.held[items.persona] for items in five.one_of_each_topic()]
    hits = sum((one.confirmation.found & one.truth).sum() for one in held)
    precision, recall = (
        hits / sum(some.sum() for some in of)
        for of in ([one.confirmation.found for one in held], [one.truth for one in held])
    )
    assert rows[next(iter(VARIANTS))][1:3] == pytest.approx([precision, recall], abs=1e-3)
    # Everything planted goes upwards, so the tail that looks downwards finds the statements that were not moved.
    assert rows["released p-values (downwards)"][1] < 0.6 < 0.75 < rows["upwards only"][1]


# -- specificity -------------------------------------------------------------------------------------------------


def specific(activations: PersonaActivations) -> Specificity:
    layers, scans = LayerSeparability(activations), PersonaScans(activations, permutations=0)
    return Specificity(activations, layers, scans, PersonaUnits(activations, runs=4))


@pytest.mark.parametrize("of_topics", [True, False])
def test_what_a_scan_finds_best_is_said(of_topics: bool) -> None:
    planted = {name: range(0) if of_topics else range(10 * i, 10 * i + 10) for i, name in enumerate("ab")}
    activations = invented(planted, by=1.4)
    if of_topics:
        activations._read.values[:120, :, 50:60] += 0.9  # whatever the label
    specificity = specific(activations)
    with gathering() as evidence:
        present(specificity.detection())
        note(*specificity.overlaps())
    said = "personas are not what it finds best" if of_topics else "finds personas better than topics"
    assert said in next(text for text in evidence.notes if text.startswith("specificity:"))
    assert "specificity of units: the median z" in evidence.notes[-1]
    assert [group["name"] for group in evidence.figures[0].data["groups"]] == ["personas", "topics"]


def test_topics_are_asked_of_statements_for_and_against_alike() -> None:
    activations = invented({name: range(0) for name in "abc"}, pairs=20)
    topics = specific(activations).topics
    assert topics is not None
    assert [one.persona for one in topics.personas] == [
        "topic 0, not topic 1", "topic 1, not topic 2", "topic 2, not topic 0",
    ]  # fmt: skip
    label_of = {f"{name}-{i}": i % 2 == 0 for name in "abc" for i in range(40)}
    assert len({name for one in topics.personas for name in one.ids}) == 3 * 40
    for one in topics.personas:
        for kind in (one.positive, ~one.positive):
            assert np.bincount([label_of[name] for name in np.array(one.ids)[kind]]).tolist() == [10, 10]
        rows = [int(name[2:]) + 40 * "abc".index(name[0]) for name in one.ids]
        np.testing.assert_array_equal(topics.at(one, 4), activations._read.values[rows, 4])


def test_specificity_of_few_statements_or_one_topic_is_not_measured() -> None:
    for moved, pairs in (({"a": range(10)}, 60), ({"a": range(10), "b": range(10)}, 8)):
        specificity = specific(invented(moved, pairs=pairs))
        with gathering() as evidence:
            present(specificity.detection())
            note(*specificity.overlaps())
        assert ["is not measured" in text for text in evidence.notes] == [True, True]


# -- units -------------------------------------------------------------------------------------------------------


def test_planted_units_are_found_again_and_again(five: PersonaActivations) -> None:
    units = PersonaUnits(five, runs=10)
    for items in five.personas:
        assert np.isin(FIVE[items.persona], units.units(items)).mean() >= 0.9
    assert units.jaccard() >= 0.3
    assert units.alike() >= 1.5
    apart = units.jaccard(disjoint=True)
    with gathering() as evidence:
        present(units.by_persona())
        present(units.overlaps())
    assert evidence.figures[0].data["rows"][0][6] == pytest.approx(apart.numerator[0], abs=1e-3)


def test_shared_and_unshared_units_have_the_right_sign() -> None:
    activations = invented({"a": range(20), "b": range(20), "c": range(30, 50)}, by=0.9)
    units = PersonaUnits(activations, runs=30)
    assert units.shared("a", "b") > 0
    assert units.shared("a", "c") < 0
    assert units.shared("a", "b").measurement.clusters.nunique().item() == BLOCKS
    with gathering() as evidence:
        note(*units.rank("a", "b"))
        note(units.rotation("a", "b", sign=1))
    assert "as high with 0.33" in evidence.notes[0]
    assert "random rotations" in evidence.notes[1]
    with pytest.raises(NotApplicable, match="no statements of robot"):
        units.shared("a", "robot")


def test_the_interval_of_an_overlap_is_the_jackknifes() -> None:
    activations = invented({"a": range(20), "b": range(10, 30)}, by=1.0)
    units = PersonaUnits(activations, runs=20)
    shared = units.shared("a", "b")
    without = shared.measurement.condition("z without the block")
    error = np.sqrt((BLOCKS - 1) / BLOCKS * ((without - without.mean()) ** 2).sum())
    effect = shared.describe()
    assert effect.upper is not None
    assert effect.estimate is not None
    assert effect.upper - effect.estimate == pytest.approx(t.ppf(0.975, BLOCKS - 1) * error)


def test_runs_come_in_complements_of_whole_groups(five: PersonaActivations) -> None:
    units = PersonaUnits(five, runs=6)
    items = five.personas[0]
    _, seen = units._runs(items)
    assert (seen[0::2] ^ seen[1::2]).all()
    assert (seen.sum(axis=1) == BLOCKS // 2).all()
    blocks = in_blocks(items, 0)
    for group in np.unique(items.groups):
        assert len(set(blocks[items.groups == group])) == 1
    assert np.bincount(blocks).tolist() == [12] * BLOCKS


def test_a_single_scan_names_each_unit_once(five: PersonaActivations) -> None:
    found = persona_scan(five.personas[0], five.at(five.personas[0], LAYERS - 1), 0)
    assert len(np.unique(found)) == len(found)
    assert np.isin(range(10), found).mean() >= 0.9


# -- pictures ----------------------------------------------------------------------------------------------------


def test_pictures_are_of_statements_at_several_depths() -> None:
    for pairs in (10, 60):
        with gathering() as evidence:
            figure(*pictures(invented({"a": range(10)}, pairs=pairs)))
        titles = [one.title for one in evidence.figures]
        drawn = [*((layer, PCA) for layer in (0, 1, 2, 4, 5)), (5, TSNE)]
        assert titles == [f"a after block {layer}, {method}" for layer, method in drawn]
        for one in evidence.figures:
            assert [len(cloud["x"]) for cloud in one.data["clouds"]] == [min(pairs, DRAWN)] * 2
            assert ("48 of the 120" in one.data["caption"]) == (pairs == 60)


@pytest.mark.parametrize("method", [PCA, TSNE])
def test_a_picture_does_not_depend_on_the_order_of_statements(method: str) -> None:
    values = np.random.default_rng(0).normal(size=(12, 5))
    order = np.random.default_rng(1).permutation(12)
    points, _ = embedded(values, method, 0)
    again, _ = embedded(values[order], method, 0)
    np.testing.assert_allclose(points[order], again, atol=1e-9)
    if method == PCA:  # the components hold as much variance as the two largest singular values say
        singular = np.linalg.svd(values - values.mean(0), compute_uv=False)
        np.testing.assert_allclose((points**2).sum(axis=0), singular[:2] ** 2)
