"""As X, do Y, where persona and task add up by construction, and where they do not; and what cannot be measured."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from auditkit.adapters.hf.adapter import HFAdapter
from auditkit.claims.outcomes import Inconclusive, NotApplicable
from auditkit.engine.continuation.generation import generate
from auditkit.engine.continuation.timed import Continued
from auditkit.engine.edits import replace
from auditkit.engine.sites import block_input
from auditkit.findings.persona_composition.measurements import geometry as geometry_module
from auditkit.findings.persona_composition.measurements.behaviour import ADDITIVE as ADDED
from auditkit.findings.persona_composition.measurements.behaviour import (
    BARE,
    CLEAN,
    FEWEST,
    REMOVED,
    TEXT_CELLS,
    Behaviour,
)
from auditkit.findings.persona_composition.measurements.cells import CELLS, SITES, WINDOW, Cells, Design
from auditkit.findings.persona_composition.measurements.geometry import (
    APART,
    INDEPENDENT,
    OTHER,
    SUM,
    TASK,
    Geometry,
    against_others,
    cosine,
)
from auditkit.findings.persona_composition.measurements.patches import (
    ADDITIVE,
    EVERY,
    FILLER,
    ITSELF,
    REFERENCES,
    Patches,
)
from auditkit.findings.persona_composition.measurements.vectors import (
    AFTER,
    CACHED,
    HOST,
    ORACLE,
    PERSONA,
    PERSONA_LATE,
    POSITIONS,
    PREFIX,
    Vectors,
)
from auditkit.findings.persona_composition.prompts import packaged_grid
from auditkit.record.figures import drawing_of
from auditkit.report.figures.drawing import render_svg
from tests.planted.composing import grid, open_additive, unmarked

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def additive() -> HFAdapter:
    return open_additive()


@pytest.fixture(scope="module")
def cells(additive: HFAdapter) -> Cells:
    return Cells(Design(additive, grid(), n_cells=18))


@pytest.fixture(scope="module")
def patches(cells: Cells) -> Patches:
    return Patches(cells, deepest=0.55)


@pytest.fixture(scope="module")
def bent() -> Cells:
    return Cells(Design(open_additive(bent_from=2), grid(), n_cells=18))


@pytest.mark.parametrize("seed", [0, 3])
def test_cells_meet_new_personas_and_tasks_as_long_as_there_are_some(additive: HFAdapter, seed: int) -> None:
    for which, sizes in ((grid(), (6, 12, 36)), (packaged_grid(), (CELLS, TEXT_CELLS))):
        cells = Design(additive, which, seed=seed).cells
        assert len({cell.id for cell in cells}) == len(cells) == len(which.personas) * len(which.tasks)
        for count in sizes:
            few = Design(additive, which, seed=seed, n_cells=count).cells
            assert few == cells[:count], "more cells contain the fewer"
            each, rest = divmod(count, len(which.personas))
            for names in ([cell.persona.name for cell in few], [cell.task for cell in few]):
                assert set(Counter(names).values()) <= {each, each + 1}
                assert len(set(names)) == (len(which.personas) if each else rest)


def test_the_suite_spends_every_cell_on_another_persona_and_task(additive: HFAdapter) -> None:
    assert len(packaged_grid().personas) == len(packaged_grid().tasks) >= CELLS
    assert TEXT_CELLS >= FEWEST
    drawn = {tuple(cell.id for cell in Design(additive, packaged_grid(), seed=n, n_cells=6).cells) for n in (0, 1)}
    assert len(drawn) == 2, "another seed, other cells"


def test_states_are_those_of_the_whole_prompt_at_the_sites(cells: Cells) -> None:
    adapter, prompts = cells.adapter, cells.prompts
    for row in (0, 7):
        prompt, answer = prompts[row], cells.answers[row]
        ids = torch.tensor([[*prompt.ids, *answer[:2]]])
        hidden = adapter.module(ids, output_hidden_states=True).hidden_states
        at = {"p_user_last": len(prompt) - 2, "p_last": len(prompt) - 1, "g1": len(prompt), "g2": len(prompt) + 1}
        for site, position in at.items():
            for k, layer in enumerate(cells.layers):
                got = cells.xy[row, SITES.index(site), k]
                torch.testing.assert_close(got, hidden[layer][0, position], rtol=1e-5, atol=1e-4)


def test_where_all_adds_up_the_sum_points_home_and_nothing_is_left(cells: Cells) -> None:
    geometry = Geometry(cells)
    np.testing.assert_allclose(geometry.columns[SUM][:, :, 0], 1.0, atol=1e-5)
    assert float(geometry.ratio.max()) < 1e-3
    for site in SITES:
        for factor, other in OTHER.items():
            assert float(geometry.compare(site, 0.4, SUM, other).numerator.mean()) > 0.02
            assert geometry.shuffled(site, 0.4, factor).p <= 0.01


def test_where_all_adds_up_the_prediction_is_the_state_and_beats_all_others(patches: Patches) -> None:
    assert patches.plumbing() >= 1.0
    for site in SITES:
        for layer in patches.layers:
            for what in (ADDITIVE, ITSELF):
                assert float(patches.totals(site, layer, what).max()) < 1e-6
                assert patches.agreement(site, layer, what) == 1.0
            # Nothing reads p_user_last, and the first token of the window is predicted at every other site.
            assert (float(patches.totals(site, layer, "BB").min()) > 1e-3) == (site != "p_user_last")
    layers = patches.sites_that_matter(SITES[1:])
    assert set(layers) == set(SITES[1:])
    for site, layer in layers.items():
        assert patches.near(site, layer).describe().estimate == 1.0
        assert float(patches.typical(site, layer).logs.numerator.max()) < math.log(1e-6)
        for reference in REFERENCES[:-1]:
            assert float(patches.costlier(site, layer, reference).logs.numerator.min()) > math.log(100)
        others = patches.other_baselines(site, layer)
        for name in (*patches.cells.design.grid.baselines, FILLER):
            assert float(others.condition(name).max()) < 1e-6
        assert float(patches.typical_with(site, layer, EVERY).logs.numerator.max()) < math.log(1e-6)


def test_where_each_persona_stands_in_one_cell_intervals_are_those_of_independent_cells(bent: Cells) -> None:
    """Clusters of both factors coincide with the cells, so the interval is the t interval of a mean of six."""
    few = Cells(Design(bent.adapter, bent.design.grid, n_cells=6))
    patches, geometry, vectors = Patches(few, deepest=0.85), Geometry(few), Vectors(few, depth=0.55)
    layer = few.layers[-1]
    estimates = [geometry.compare("p_last", 0.85, SUM, other) for other in (*OTHER.values(), TASK)]
    estimates += [patches.costlier("p_last", layer, reference) for reference in REFERENCES]
    estimates += [patches.typical("p_last", layer), patches.typical_with("p_last", layer, EVERY)]
    for estimate in (*estimates, vectors.left(ORACLE), patches.rises()):
        effect = estimate.describe()
        assert None not in (effect.lower, effect.upper), effect.name
        assert (effect.n, effect.clusters, effect.df) == (6, 6, 5.0)
        assert not any("wide interval" in caution for caution in estimate._cautions)
    values = geometry.compare("p_last", 0.85, SUM, OTHER["persona"]).numerator
    known = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    apart = estimates[0].describe()
    assert (apart.lower, apart.upper) == pytest.approx(tuple(known))
    logs = patches.typical("p_last", layer).logs.numerator
    known = stats.ttest_1samp(logs, 0.0).confidence_interval(0.95)
    typical = patches.typical("p_last", layer).describe()
    assert (typical.lower, typical.upper) == pytest.approx(tuple(np.exp(known)))


@pytest.mark.parametrize("count", [6, 18, 36])
def test_another_persona_is_never_the_cells_own_and_all_are_taken_equally_often(bent: Cells, count: int) -> None:
    few = Cells(Design(bent.adapter, bent.design.grid, n_cells=count))
    patches, whole = Patches(few, deepest=0.55), bent.design.grid
    people = {persona.name: persona.text for persona in whole.personas}
    for factor, texts in (("persona", people), ("task", dict(whole.tasks))):
        taken = patches._others(factor, texts)
        own = [texts[name] for name in few.table[factor]]
        assert not [one for one, other in zip(own, taken, strict=True) if one == other]
        assert set(Counter(taken).values()) == {count // 6}
        assert len(set(zip(own, taken, strict=True))) == min(count, 30), "six names, of which five are others"


def test_behind_a_bend_it_no_longer_adds_up(bent: Cells) -> None:
    patches = Patches(bent, deepest=0.85)
    layers = np.array(patches.layers)
    worst = np.array([patches.totals("p_last", layer, ADDITIVE).mean() for layer in layers])
    assert worst[layers <= 2].max() < 1e-6
    assert worst[layers > 2].min() > 1e-3
    last = patches.costlier("p_last", int(layers[-1]), "BB")
    expected = patches.totals("p_last", int(layers[-1]), "BB") / patches.totals(
        "p_last", int(layers[-1]), ADDITIVE
    )
    np.testing.assert_allclose(np.exp(last.logs.numerator), expected)


def test_a_divergence_that_rises_at_every_layer_has_a_rank_correlation_of_one(
    patches: Patches, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    order = {"rising": 1, "falling": -1}
    size = len(patches.cells.cells)
    monkeypatch.setattr(
        patches, "totals", lambda site, layer, what: np.exp(order[what] * layer + rng.uniform(0, 0.5, size))
    )
    assert patches.rises(what="rising").numerator.tolist() == pytest.approx([1.0] * size)
    assert patches.rises(what="falling").numerator.tolist() == pytest.approx([-1.0] * size)


def test_the_window_is_the_sum_over_plain_hooked_runs(bent: Cells) -> None:
    """KL by the plain module: the state at one position overwritten by a plain pre-hook, 10 tokens summed."""
    patches, adapter = Patches(bent, deepest=0.55), bent.adapter
    layer = bent.layers[-1]
    for site, given in (("p_last", 0), ("g1", 1), ("g2", 2)):
        for row in (0, 5):
            prompt, answer = bent.prompts[row], bent.answers[row]
            ids = torch.tensor([[*prompt.ids, *answer[: given + WINDOW - 1]]])
            position = len(prompt) - 2 + SITES.index(site)
            k = SITES.index(site), bent.layers.index(layer)
            state = bent.xb[row][k] + bent.by[row][k] - bent.bb[row][k]

            def hook(module: Any, args: Any, kwargs: Any, at: int = position, value: Any = state) -> Any:
                hidden = args[0].clone()
                hidden[0, at] = value
                return (hidden, *args[1:]), kwargs

            with torch.no_grad():
                clean = adapter.module(ids).logits[0, -WINDOW:].double().log_softmax(-1)
                handle = adapter.module.model.layers[layer].register_forward_pre_hook(hook, with_kwargs=True)
                other = adapter.module(ids).logits[0, -WINDOW:].double().log_softmax(-1)
                handle.remove()
            expected = float((clean.exp() * (clean - other)).sum())
            assert expected > 1e-4
            assert patches.totals(site, layer, ADDITIVE)[row] == pytest.approx(expected, abs=1e-5)


def test_closures_are_what_the_model_makes_them(cells: Cells) -> None:
    """One state mends one token, keys and values of the words mend all, and those behind them nothing."""
    vectors = Vectors(cells, depth=0.55)
    measured = vectors.measurement
    host = measured.condition(HOST)
    np.testing.assert_allclose(measured.condition(PREFIX), 0, atol=1e-6)
    np.testing.assert_allclose(measured.condition(ORACLE), measured.condition(CACHED), atol=1e-6)
    assert (measured.condition(ORACLE + POSITIONS) < measured.condition(ORACLE)).all()
    assert 0 < 1 - measured.condition(ORACLE).sum() / host.sum() < 0.5
    left = vectors.left(ORACLE)
    np.testing.assert_allclose(np.exp(left.logs.numerator), measured.condition(ORACLE) / host)
    assert left >= 0.5
    aligned = vectors.aligned
    assert len(aligned.values) == 18
    np.testing.assert_allclose(aligned.condition(PERSONA), 0, atol=1e-6)
    np.testing.assert_allclose(aligned.condition(PERSONA_LATE), aligned.condition(HOST), rtol=1e-5)
    np.testing.assert_allclose(aligned.condition(AFTER), aligned.condition(HOST), rtol=1e-5)


def test_where_host_and_target_hardly_differ_there_is_no_distance_to_close(
    cells: Cells, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = Vectors(cells, depth=0.55)
    values = vectors.measurement.values * (1e-3 / vectors.measurement.condition(HOST).max())
    monkeypatch.setattr(vectors, "measurement", dataclasses.replace(vectors.measurement, values=values))
    with pytest.raises(NotApplicable, match="no distance to close"):
        vectors.left(ORACLE)


def test_texts_are_scored_by_own_minus_other_personas_and_edits_do_what_they_say(additive: HFAdapter) -> None:
    behaviour = Behaviour(Design(additive, grid(), n_cells=6), depth=0.55, tokens=8, fewest=6)
    cell = next(cell for cell in behaviour.design.cells if cell.persona.name == "p0")
    assert behaviour.score(cell, "so word0 it is") == 1.0
    assert behaviour.score(cell, "Word1 and word2") == pytest.approx(1 - 1 / 5)
    assert behaviour.score(cell, "word10 word100") == pytest.approx(-1 / 5)
    assert behaviour.texts[ADDED] == behaviour.texts[CLEAN], "the prediction is the state"
    assert set(behaviour.measurement.conditions) == {CLEAN, ADDED, REMOVED, BARE}
    assert behaviour.against(ADDED, CLEAN).numerator.tolist() == [0.0] * 6


def test_generation_with_kept_keys_and_values_is_generation_without(bent: Cells) -> None:
    site = block_input.layer(bent.layers[-1])["last"]
    states = (bent.xb + bent.by - bent.bb)[:, SITES.index("p_last"), -1]
    runs = [Continued(p, (replace(site, state),)) for p, state in zip(bent.prompts, states, strict=True)]
    kept, again = (generate(bent.adapter, runs, 12, cached=cached) for cached in (True, False))
    assert (kept.method, again.method) == ("cached", "whole")
    assert kept.tokens == again.tokens


# -- the null --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [10, 3])
def test_independent_states_give_the_stated_null(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(geometry_module, "EXCHANGED", most)
    rng, known = np.random.default_rng(0), dict[Any, torch.Tensor]()
    names = [(f"p{i}", f"t{j}") for i in range(6) for j in range(6)]
    texts = grid()

    def of(persona: str | None, task: str | None) -> torch.Tensor:
        rows = []
        for own_persona, own_task in names:
            key = persona or own_persona, task or own_task
            if key not in known:
                known[key] = torch.from_numpy(rng.normal(size=(4, 1, 4000))).float()
            rows.append(known[key])
        return torch.stack(rows)

    table = pd.DataFrame(names, index=["+".join(n) for n in names], columns=["persona", "task"])
    people = {persona.name: persona for persona in texts.personas}
    fake: Any = SimpleNamespace(
        seed=0, layers=(1,), layer=lambda depth: 1, of=of, table=table, design=SimpleNamespace(grid=texts),
        some=lambda rows, texts: torch.stack([of(*pair)[row] for row, pair in zip(rows, texts, strict=True)]),
        cells=[SimpleNamespace(persona=people[p], task=t) for p, t in names], prompts=[],
        xy=of(None, None), xb=of(None, texts.baseline_task), by=of(texts.baseline, None),
        bb=of(texts.baseline, texts.baseline_task),
    )  # fmt: skip
    geometry = Geometry(fake)
    means = {name: float(values.mean()) for name, values in geometry.columns.items()}
    assert means[SUM] == pytest.approx(geometry_module.NULL_SUM, abs=0.02)
    assert means[APART] == pytest.approx(geometry_module.NULL_APART, abs=0.02)
    assert float(np.median(geometry.ratio)) == pytest.approx(geometry_module.NULL_RATIO, abs=0.03)
    assert means[INDEPENDENT] == pytest.approx(0.0, abs=0.02)
    assert means[OTHER["persona"]] == pytest.approx(means[SUM], abs=0.02)
    assert geometry.shuffled("p_last", 0.4, "persona").p > 0.01


def test_names_are_exchanged_within_groups_of_nearly_equal_size(
    cells: Cells, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Geometry(cells)._sums
    monkeypatch.setattr(geometry_module, "EXCHANGED", 4)
    geometry = Geometry(cells)
    rows = np.arange(len(cells.cells))
    for factor, values in geometry._sums.items():
        groups, own = geometry._groups[factor], geometry._own[factor]
        assert sorted(map(len, groups)) == [3, 3]
        assert sorted(np.concatenate(groups).tolist()) == list(range(6))
        means = []
        for row in rows:
            (group,) = (group for group in groups if own[row] in group)
            np.testing.assert_allclose(values[row, group], whole[factor][row, group], atol=1e-6)
            assert np.isnan(np.delete(values[row], group, axis=0)).all()
            others = [name for name in group if name != own[row]]
            means.append(values[row, others].mean(axis=0))
        np.testing.assert_allclose(geometry.columns[OTHER[factor]].mean(axis=0), np.mean(means, axis=0))
        assert geometry.shuffled("p_last", 0.4, factor).p <= 0.05


@pytest.mark.parametrize("groups", [1, 3])
def test_an_interval_against_other_names_holds_the_truth_where_they_are_drawn_too(groups: int) -> None:
    """24 cells with a name each: what a name brings where it stands in other cells is as random as the rest."""
    draw, n, rounds = np.random.default_rng(groups), 24, 4000
    together = np.equal.outer(np.arange(n) % groups, np.arange(n) % groups)
    held = {"as drawn": 0, "as fixed": 0}
    for _ in range(rounds):
        receives, gives = draw.normal(size=(2, n))
        values = receives[:, None] + gives + draw.normal(size=(n, n))
        values[~together] = np.nan
        home = draw.normal(size=n) + receives
        means = np.nanmean(np.where(np.eye(n, dtype=bool), np.nan, values), axis=1)
        projected = against_others(values, np.arange(n))
        assert projected.mean() == pytest.approx(means.mean())
        for how, others in (("as drawn", projected), ("as fixed", means)):
            low, high = stats.ttest_1samp(home - others, 0.0).confidence_interval(0.95)
            held[how] += low <= 0.0 <= high
    assert held["as drawn"] / rounds == pytest.approx(0.95, abs=0.012)
    assert held["as fixed"] / rounds < 0.90


def test_a_vector_without_length_has_no_direction() -> None:
    assert cosine(np.zeros(3), np.ones(3)) == 0.0
    assert cosine(np.array([[1.0, 0.0]]), np.array([[2.0, 0.0]])).tolist() == [1.0]


# -- what cannot be measured -----------------------------------------------------------------------------------


def test_a_template_without_a_generation_prompt_has_no_place_to_look_at(
    additive: HFAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = "{% for m in messages %}<{{ m.role }}> {{ m.content }} {% endfor %}"
    monkeypatch.setattr(additive.tokenizer, "chat_template", bare)
    with pytest.raises(NotApplicable, match="adds no generation prompt"):
        Design(additive, grid())


@pytest.mark.parametrize(("personas", "tasks"), [(2, 6), (6, 2)])
def test_fewer_than_three_personas_or_tasks_decide_nothing(additive: HFAdapter, personas: int, tasks: int) -> None:
    with pytest.raises(Inconclusive, match=f"too_few_clusters: {personas} personas and {tasks} tasks"):
        Design(additive, grid(personas, tasks))


def test_empty_answers_decide_nothing_and_say_so() -> None:
    with pytest.raises(Inconclusive, match=r"0 cells of 0 personas .* left out: p\d\+t\d: the answer is empty"):
        Cells(Design(open_additive(silent=True), grid(), n_cells=6))


def test_a_grid_without_markers_has_no_behaviour(additive: HFAdapter) -> None:
    with pytest.raises(NotApplicable, match="no markers"):
        Behaviour(Design(additive, unmarked()), depth=0.5)


def test_few_cells_generate_nothing(additive: HFAdapter) -> None:
    runs = additive.meter.runs
    with pytest.raises(Inconclusive, match="too_few_items: 6 cells"):
        Behaviour(Design(additive, grid(), n_cells=6), depth=0.5)
    assert additive.meter.runs == runs


def test_where_no_site_matters_nothing_is_concluded(patches: Patches, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("auditkit.findings.persona_composition.measurements.patches.MATTERS", 1e6)
    with pytest.raises(NotApplicable, match="no site matters"):
        patches.sites_that_matter(SITES[1:])


def test_every_figure_can_be_drawn(cells: Cells, patches: Patches, additive: HFAdapter) -> None:
    layers = patches.sites_that_matter(SITES[1:])
    behaviour = Behaviour(Design(additive, grid(), n_cells=6), depth=0.55, tokens=8, fewest=6)
    figures = [
        *Geometry(cells).at(0.4).figures(),
        *patches.figures(),
        *patches.references(layers),
        *patches.baselines(layers).figures(),
        *Vectors(cells, depth=0.55).figures(),
        *behaviour.figures(),
        *behaviour.steered().figures("direction"),
    ]
    assert len(figures) >= 15
    for drawn in figures:
        assert drawn.kind == "table" or render_svg(drawn, "f").startswith("<svg")
        assert drawing_of(drawn)
