"""Two models: changes by layer, heads found and found again, and profiles of models by depth, with known answers."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd
import pytest

import auditkit
from auditkit.adapters.loading import load as loading
from auditkit.claims.evidence import gathering
from auditkit.claims.outcomes import Inconclusive, NotApplicable
from auditkit.findings.role_conditioning.measurements import models as role_models
from auditkit.findings.role_conditioning.measurements.changes import LayerChanges, compared_with
from auditkit.findings.role_conditioning.measurements.conditioning import RFC, RoleConditioning
from auditkit.findings.role_conditioning.measurements.did import (
    BY_HEAD,
    ByHead,
    DifferenceInDifferences,
    focus_change,
    from_items,
    on_baseline,
    past_by_head,
    recorded,
)
from auditkit.findings.role_conditioning.measurements.models import (
    Profile,
    block_p,
    compare,
    correlation,
    read_profile,
    spearman,
)
from auditkit.gate.changes import Counterpart, Past
from auditkit.record.baseline import Recorded
from auditkit.record.figures import drawing_of
from auditkit.record.schema import Run
from auditkit.record.store import RecordError, write_run
from auditkit.stats.effects.mean import Estimate
from auditkit.stats.measurement import Measurement
from tests.planted.roles import open_random

pytestmark = pytest.mark.unit

ITEMS, FRAMES = 54, 18


def labels(n: int = ITEMS) -> pd.DataFrame:
    index = pd.Index([f"i{k}" for k in range(n)], name="item")
    return pd.DataFrame({"frame": [f"f{k % FRAMES}" for k in range(n)]}, index=index)


def profile(values: np.ndarray, seed: int, noise: float = 0.05) -> list[Estimate]:
    """One RFC per layer around `values`, over the same items."""
    draw, table, made = np.random.default_rng(seed), labels(), []
    for layer, value in enumerate(values):
        neutral = draw.uniform(0.4, 0.6, ITEMS)
        top = neutral * (value + noise * draw.normal(size=ITEMS))
        name = f"RFC, layer {layer} of {len(values)}, plain text"
        measured = Measurement(
            name, "of even spread", pd.DataFrame({"neutral": neutral}, index=table.index), table
        )
        made.append(Estimate(name, "of the neutral entropy", measured, top, neutral))
    return made


# -- layers --------------------------------------------------------------------------------------------------------


def test_a_change_everywhere_is_seen_and_rests_on_no_single_layer() -> None:
    change = LayerChanges(RFC, profile(np.full(12, 0.05), 1), profile(np.full(12, 0.15), 2), seed=0)
    assert change.median() < -0.05
    assert change.leave_one_out() < 0.25
    assert change.mean().estimate == pytest.approx(-0.1, abs=0.02)
    for layer in change.changes():
        assert layer.describe().estimate == pytest.approx(-0.1, abs=0.05)


def test_a_mean_that_is_one_layer_is_told_apart() -> None:
    """The work's headline for one family: +0.0475 over 28 layers, of which the first alone makes 1.36."""
    now = np.zeros(28)
    now[0] = 1.36
    change = LayerChanges(RFC, profile(now, 1, noise=0.01), profile(np.zeros(28), 2, noise=0.01), seed=0)
    assert change.mean() > 0.03
    assert change.leave_one_out() > 0.9
    assert change.median().equals(0.0, within=0.01)
    assert change.mean(without=0).equals(0.0, within=0.01)
    section = change.by_layer(published=change)
    drawings = [drawing_of(figure) for figure in section.figures()]
    assert [series.name for series in drawings[0].series] == [
        "candidate minus base",
        "candidate minus base, published entropy",
    ]
    assert [series.name for series in drawings[1].series][::2] == ["base", "base, published entropy"]
    assert [row[0] for row in drawings[2].rows][:2] == ["nothing", "layer 0"]
    assert abs(drawings[2].rows[1][2]) < 0.1  # what is left of the mean without layer 0
    assert any("which ignores intervals" in note for note in section.notes())


def test_no_change_is_undecided_or_unchanged() -> None:
    change = LayerChanges(RFC, profile(np.full(12, 0.1), 1), profile(np.full(12, 0.1), 2), seed=0)
    assert change.median().equals(0.0, within=0.05)
    with pytest.raises(Inconclusive, match="no_mean_change: mean over layers of the change of RFC is"):
        change.leave_one_out()


def test_models_of_another_depth_are_refused_and_told_where_to_go() -> None:
    with pytest.raises(NotApplicable, match="compare by relative depth"):
        LayerChanges(RFC, profile(np.zeros(12), 1), profile(np.zeros(10), 2), seed=0)


def test_two_open_models_are_compared_directly() -> None:
    one, two = (RoleConditioning(open_random(seed=seed, layers=2), seed=0) for seed in (0, 1))
    change = LayerChanges(RFC, one.per_layer(RFC), two.per_layer(RFC), seed=0)
    expected = [
        a.describe().estimate - b.describe().estimate
        for a, b in zip(one.per_layer(RFC), two.per_layer(RFC), strict=True)
    ]
    assert change.median().estimate == pytest.approx(np.median(expected))
    assert [c.describe().estimate for c in change.changes()] == pytest.approx(expected)


# -- against a recorded run ----------------------------------------------------------------------------------------


def past(run: Run, rows: list, tmp_path: Path, layers: int) -> Past:
    model = msgspec.structs.replace(run.model, layers=layers)
    run = msgspec.structs.replace(run, model=model)
    frame = pd.DataFrame(msgspec.to_builtins(rows))
    return Past(Recorded("base", tmp_path, run, "ab", frame), run.plan, model)


def record(run: Run, ask) -> tuple[Run, list]:
    """`run` with one claim, and the rows that `ask` records for it, without a baseline."""
    run = msgspec.structs.replace(run, claims=run.claims[:1])
    with gathering() as evidence, pytest.raises(NotApplicable, match="no baseline"):
        ask(Counterpart(run.claims[0].id, "suite", None))
    return run, [msgspec.structs.replace(row, claim=run.claims[0].id) for row in evidence.items.values()]


def test_layers_are_compared_with_a_recorded_run(a_run: Run, tmp_path: Path) -> None:
    base, now = profile(np.full(6, 0.2), 1), profile(np.full(6, 0.1), 2)
    run, rows = record(a_run, lambda baseline: compared_with(baseline, 6, base))
    then = compared_with(Counterpart(run.claims[0].id, "suite", past(run, rows, tmp_path, 6)), 6, now)
    assert [e.numerator.tolist() for e in then] == [e.numerator.tolist() for e in base]
    assert LayerChanges(RFC, now, then, seed=0).median() < -0.05
    with pytest.raises(Inconclusive, match="the baseline has 5 layers and this model 6"):
        compared_with(Counterpart(run.claims[0].id, "suite", past(run, rows, tmp_path, 5)), 6, now)


def test_heads_are_compared_with_a_recorded_run(a_run: Run, tmp_path: Path) -> None:
    one, two = (RoleConditioning(open_random(seed=seed, layers=2), seed=0, n_items=20).arm() for seed in (0, 1))
    run, rows = record(a_run, lambda baseline: on_baseline(baseline, one))
    assert sum(row.measurement == BY_HEAD and not row.effect for row in rows) == len(one.matched) * 2 * 2 * 4
    then = on_baseline(Counterpart(run.claims[0].id, "suite", past(run, rows, tmp_path, 2)), two)
    assert np.array_equal(then.own, ByHead.of(one).own)
    assert np.array_equal(then.neutral, ByHead.of(one).neutral)
    with pytest.raises(NotApplicable, match="no baseline"):
        past_by_head(Counterpart("another claim", "suite", None), ByHead.of(two))
    elsewhere = past_by_head(Counterpart("another claim", "suite", past(run, rows, tmp_path, 2)), ByHead.of(two))
    assert np.array_equal(elsewhere.own, then.own)
    other = ByHead(then.table, then.own[:, :, :3], then.neutral[:, :, :3])
    items = pd.DataFrame(msgspec.to_builtins(rows))
    with pytest.raises(Inconclusive, match="the baseline recorded 8 heads and this model has 6"):
        from_items(items, other)
    with pytest.raises(Inconclusive, match="the baseline recorded no values of entropy by head"):
        from_items(items[items["measurement"] != BY_HEAD], ByHead.of(two))
    with pytest.raises(Inconclusive, match="1 items are in one of the two runs only"):
        from_items(items[items["item"] != rows[0].item], ByHead.of(two))
    assert recorded(one).conditions[0] == "self 0.0"


# -- heads ---------------------------------------------------------------------------------------------------------


def by_head(planted: float, seed: int) -> tuple[ByHead, ByHead]:
    """Candidate and base of 5 x 4 heads; head (3, 1) loses `planted` of its entropy on self prompts."""
    draw, shape = np.random.default_rng(seed), (ITEMS, 5, 4)
    base = ByHead(labels(), *(draw.uniform(0.4, 0.6, shape) for _ in range(2)))
    now = replace(
        base, own=base.own + 0.02 * draw.normal(size=shape), neutral=base.neutral + 0.02 * draw.normal(size=shape)
    )
    now.own[:, 3, 1] -= planted
    return now, base


def test_a_planted_head_is_found_and_found_again() -> None:
    did = DifferenceInDifferences(*by_head(0.15, 1), seed=0)
    assert did.top(1) == [(3, 1)]
    assert did.found_again([(3, 1)]) >= 0.5
    p = did.pairing_p([(3, 1), (0, 0), (1, 1), (2, 2), (4, 3)])
    assert p[0] < 0.01
    assert np.median(p[1:]) > 0.1
    rows = drawing_of(did.best_heads().figures()[0]).rows
    assert rows[0][0] == "layer 3, head 1"
    assert rows[0][-1] == "confirmed"
    assert len(rows) == 10


def test_without_a_change_the_best_heads_are_not_found_again() -> None:
    for seed in (1, 2, 3):
        did = DifferenceInDifferences(*by_head(0.0, seed), seed=0)
        with pytest.raises((Inconclusive, AssertionError)):
            assert did.found_again() >= 0.5


def test_each_half_is_measured_in_the_best_heads_of_the_other() -> None:
    did = DifferenceInDifferences(*by_head(0.05, 2), seed=0)
    estimate = did.found_again()
    assert len(estimate.numerator) == ITEMS
    for found_on, measured_on in (did.split, did.split[::-1]):
        heads = did.top(rows=found_on)
        sizes = np.array([did.log_ratios(found_on).mean(0)[head] for head in heads])
        again = np.stack([did.log_ratios(measured_on)[:, *head] for head in heads], 1) * np.sign(sizes)
        rows = estimate.measurement.values.index.get_indexer(did.now.table.index[measured_on])
        assert estimate.numerator[rows] == pytest.approx(again.mean(1) / np.abs(sizes).mean())


def test_every_use_of_the_halves_notes_how_items_were_split() -> None:
    did, notes = DifferenceInDifferences(*by_head(0.05, 2), seed=0), []
    for use in (did.top, did.found_again, did.best_heads):
        with gathering() as evidence:
            use()
        notes.append(evidence.notes)
    assert notes[0] == notes[1] == notes[2]
    assert notes[0][0].startswith("split half 'difference in differences' by frame: 27 items to discover")


def test_formulas_as_published() -> None:
    now, base = by_head(0.15, 4)
    did = DifferenceInDifferences(now, base, seed=0)
    rows = list(range(ITEMS))
    e = 0.05 * np.median(base.own[:, 2, 0])
    i = 7
    expected = np.log((now.own[i, 2, 0] + e) / (base.own[i, 2, 0] + e)) - np.log(
        (now.neutral[i, 2, 0] + e) / (base.neutral[i, 2, 0] + e)
    )
    assert did.log_ratios(rows)[i, 2, 0] == pytest.approx(expected)
    score, median, consistency = did.scores(rows)
    d = (now.own - base.own) - (now.neutral - base.neutral)
    share = max((d[:, 2, 0] > 0).mean(), (d[:, 2, 0] < 0).mean())
    assert consistency[2, 0] == pytest.approx(share)

    def z(x: np.ndarray) -> np.ndarray:
        return (x - x.mean()) / x.std(ddof=1)

    assert score == pytest.approx(z(np.abs(median)) + z(consistency) + z(-np.median(base.own, axis=0)))


def test_change_of_focus_with_a_ratio_for_each_head() -> None:
    now, base = by_head(0.0, 5)
    now.own[:] -= 0.02
    base.neutral[:, 4, 2] = now.neutral[:, 4, 2] = 1e-4  # no ratio to speak of
    change = focus_change(now, base, seed=0)
    ratios = [side.own.mean(0) / side.neutral.mean(0) for side in (base, now)]
    by_layer = [np.mean([(ratios[0] - ratios[1])[n, h] for h in range(4) if (n, h) != (4, 2)]) for n in range(5)]
    assert change.estimate == pytest.approx(np.median(by_layer))
    assert change > 0.02
    nothing = replace(base, neutral=np.zeros_like(base.neutral))
    with pytest.raises(Inconclusive, match="no_heads"):
        focus_change(now, nothing, seed=0)


def test_heads_with_hardly_any_entropy_are_no_candidates() -> None:
    now, base = by_head(0.0, 1)
    base.own[:, 0, 0] = 0.001
    now.own[:, 0, 0] = 0.03
    did = DifferenceInDifferences(now, base, seed=0)
    score, _, _ = did.scores(did.split[0])
    assert np.unravel_index(score.argmax(), score.shape) == (0, 0)  # what the published score would choose
    assert (0, 0) not in did.top()


def test_other_heads_or_items_are_refused() -> None:
    now, base = by_head(0.0, 1)
    with pytest.raises(NotApplicable, match="5 x 4 heads cannot be compared one by one with 5 x 3"):
        DifferenceInDifferences(now, ByHead(base.table, base.own[:, :, :3], base.neutral[:, :, :3]), seed=0)
    with pytest.raises(NotApplicable, match="different items"):
        DifferenceInDifferences(now, base.only(range(50)), seed=0)
    few = [row for row in range(ITEMS) if row % FRAMES < 6]
    with pytest.raises(Inconclusive, match="too_few_clusters: 6 frames"):
        DifferenceInDifferences(now.only(few), base.only(few), seed=0).top()


# -- models --------------------------------------------------------------------------------------------------------


def test_models_that_agree_by_depth_are_found_across_depths() -> None:
    wave = lambda n: 0.2 * np.sin(np.linspace(0, 9, n))  # noqa: E731
    one, other = Profile("one", RFC, profile(wave(30), 1, 0.02)), Profile("other", RFC, profile(wave(24), 2, 0.02))
    assert correlation(one, other) > 0.8
    assert spearman(one, other) > 0.8
    assert block_p(one, other) < 0.05


@pytest.mark.slow
def test_smooth_profiles_that_have_nothing_to_do_with_each_other_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(role_models, "PERMUTATIONS", 200)
    hits = 0
    for seed in range(12):
        draw = np.random.default_rng(seed)
        walks = [np.convolve(draw.normal(size=40), np.ones(6) / 6, "valid")[:30] for _ in range(2)]
        one, other = (Profile(str(n), RFC, profile(walk, n, 0.001)) for n, walk in enumerate(walks))
        hits += block_p(one, other, seed) < 0.05
    assert hits <= 3  # a plain test of 30 layers says so in half of them


def runs(a_run: Run, tmp_path: Path, depths: Sequence[int]) -> list[tuple[Path, list[Estimate]]]:
    """Recorded runs of models of these depths, with RFC alike by relative depth."""
    made = []
    for n, layers in enumerate(depths):
        estimates = profile(0.2 * np.sin(np.linspace(0, 5, layers)), n, 0.02)
        run, rows = record(a_run, lambda baseline, es=estimates: compared_with(baseline, len(es), es))
        run = msgspec.structs.replace(run, model=msgspec.structs.replace(run.model, name=f"model {n}"))
        folder = tmp_path / str(n)
        folder.mkdir()
        write_run(folder, run, rows)
        made.append((folder, estimates))
    return made


def test_runs_are_compared_from_their_records(a_run: Run, tmp_path: Path) -> None:
    recorded_runs = runs(a_run, tmp_path, (6, 8, 10))
    profiles = [read_profile(folder, RFC) for folder, _ in recorded_runs]
    for read, (_, estimates) in zip(profiles, recorded_runs, strict=True):
        assert [e.numerator.tolist() for e in read.layers] == [e.numerator.tolist() for e in estimates]
    figures = compare(profiles)
    assert [figure.kind for figure in figures] == ["curves", "table", "heatmap"]
    rows = drawing_of(figures[1]).rows
    assert [row[0] for row in rows] == ["model 0 and model 1", "model 0 and model 2", "model 1 and model 2"]
    assert all(row[1] > 0.8 for row in rows)
    assert len(compare(profiles[:2])) == 2
    with pytest.raises(ValueError, match="needs at least two profiles, not 1"):
        compare(profiles[:1])
    with pytest.raises(RecordError, match="holds no RSI by layer"):
        read_profile(tmp_path / "0", "RSI")
    shrunk = profiles[0].minus(profiles[0])
    assert shrunk.layers[0].describe().estimate == 0


def test_a_page_of_any_number_of_runs_is_made_without_a_model(
    a_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(Path(auditkit.__file__).parents[1] / "examples"))
    monkeypatch.setattr(loading, "load", lambda *_, **__: pytest.fail("a model was opened"))
    folders = [str(folder) for folder, _ in runs(a_run, tmp_path, (6, 8, 10, 12, 7))]
    page = tmp_path / "models.html"
    monkeypatch.setattr(sys, "argv", ["role_models.py", *folders, "--out", str(page)])
    importlib.import_module("role_models").main()
    said, text = capsys.readouterr().out, page.read_text()
    assert said.count(" prompts") == 5 * 4 / 2 + 1  # a row per pair, and a heading
    assert text.count("<svg") == 2  # profiles by depth, and correlations
    assert all(f"model {n}" in text for n in range(5))
