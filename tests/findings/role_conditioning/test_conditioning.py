"""RFC and RSI against hand calculations, and the length null: even attention is zero repaired and not as published."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import auditkit
from auditkit.adapters.chat import plain
from auditkit.adapters.hf.adapter import HFAdapter
from auditkit.adapters.protocol import Component, Support
from auditkit.claims.outcomes import Inconclusive, NotApplicable
from auditkit.engine.attention import entropy
from auditkit.findings.role_conditioning.figures import RoleFigures
from auditkit.findings.role_conditioning.measurements.checks import excess, magnitudes
from auditkit.findings.role_conditioning.measurements.conditioning import (
    AGGREGATIONS,
    INDICES,
    PER_HEAD,
    PER_PROMPT,
    RFC,
    RSI,
    MeasuredFormat,
    RoleConditioning,
)
from auditkit.findings.role_conditioning.measurements.entropy import (
    FIRST_KEYS,
    MAGNITUDE,
    MEASURES,
    PUBLISHED,
    REPAIRED,
    even_spread,
    repaired_entropies,
    uniform_pattern,
)
from auditkit.findings.role_conditioning.prompts.matching import CHAT, enough, matched, matched_by_length
from auditkit.findings.role_conditioning.prompts.sets import (
    CONFOUNDER,
    DEFAULT_SETS,
    NEUTRAL,
    SELF,
    RoleSet,
    role_sets,
    spread,
)
from auditkit.findings.role_conditioning.references import focus
from auditkit.record.figures import Curves, Heatmap, drawing_of
from auditkit.stats.effects.exact import exactly
from auditkit.stats.effects.mean import Estimate
from auditkit.stats.halves import two_halves
from auditkit.stats.measurement import Measurement
from tests.planted.roles import open_random

pytestmark = pytest.mark.unit


def listed(lengths: dict[str, list[int]]) -> dict[str, list[str]]:
    """Prompts of random words with these numbers of words."""
    draw = np.random.default_rng(0)
    return {
        category: [" ".join(f"w{n}" for n in draw.integers(20, size=size)) for size in sizes]
        for category, sizes in lengths.items()
    }


LISTS = listed(
    {
        SELF: [3, 4, 4, 5, 6],
        CONFOUNDER: [4, 5, 6, 6, 7, 8, 9],
        NEUTRAL: [4, 5, 5, 6, 7, 7, 8],
        "third": [4, 5, 6, 7],
    }
)


@pytest.fixture(scope="module")
def adapter() -> HFAdapter:
    return open_random()


@pytest.fixture(scope="module")
def role(adapter: HFAdapter) -> RoleConditioning:
    return RoleConditioning(adapter, seed=3)


@pytest.fixture(scope="module")
def even() -> HFAdapter:
    return open_random(even=True)


# -- length null ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", INDICES)
def test_even_attention_is_zero_repaired_and_its_length_null_as_published(even: HFAdapter, name: str) -> None:
    role = RoleConditioning(even, seed=0, lists=LISTS)
    repaired = role.arm().index(name).describe()
    assert abs(repaired.estimate or 0.0) < 1e-6
    for way in AGGREGATIONS:
        null = role.length_null(name, way)
        published = role.published(name, way)
        assert abs(null) > 0.02
        assert published.estimate == pytest.approx(null, abs=1e-6)
    for layer in role.per_layer(name):
        assert abs(layer.describe().estimate or 0.0) < 1e-6


@pytest.mark.parametrize("name", INDICES)
def test_intervals_of_even_attention_hold_zero_repaired_and_not_as_published(even: HFAdapter, name: str) -> None:
    """Lists of different lengths, as the published ones: what differs is the length, and looks like a finding."""
    long = {SELF: [3, 4, 5, 6, 7], NEUTRAL: [5, 6, 7, 8, 9], CONFOUNDER: [7, 8, 9, 10, 11]}
    role = RoleConditioning(even, seed=0, lists=listed({c: 6 * sizes for c, sizes in long.items()}))
    repaired = role.arm().index(name)
    assert np.abs(repaired.numerator).max() < 1e-6  # on every item, so there is nothing to have an interval of
    assert exactly(repaired, population="these items", size=len(repaired.numerator)).equals(0.0, within=1e-6)
    for way in AGGREGATIONS:
        assert role.published(name, way) > 0.02


def test_even_attention_on_the_projects_sets_is_zero_in_every_way(even: HFAdapter) -> None:
    role = RoleConditioning(even, seed=0)
    for name in INDICES:
        assert abs(role.arm().index(name).describe().estimate or 0.0) < 1e-6
        assert abs(role.length_null(name, PER_PROMPT)) < 1e-12
        assert role.arm().even_index(name).numerator == pytest.approx(np.zeros(len(role.arm().matched)), abs=1e-12)


def test_even_attention_is_alike_for_all_roles_and_not_focused_and_other_attention_is(
    even: HFAdapter, role: RoleConditioning
) -> None:
    """The reference of "no difference between roles": without focus the indices are zero whatever is asked."""
    arm = RoleConditioning(even, seed=0).arm()
    assert focus(arm).numerator == pytest.approx(np.zeros(len(arm.matched)), abs=1e-6)
    (layers, *_) = role.arm().bands().values()
    focused = focus(role.arm(), layers, "the first band")
    assert focused.name == "focus on neutral questions, the first band, plain text"
    assert focused.numerator == pytest.approx(1 - role.arm().of(NEUTRAL, layers=layers))
    assert focused.describe().lower > 0.02


def test_length_null_by_hand() -> None:
    role = RoleConditioning(open_random(even=True, layers=1), seed=0, lists=LISTS)
    lengths = {category: [1 + len(text.split()) for text in texts] for category, texts in LISTS.items()}
    mean = {category: np.mean([even_spread(n) for n in own]) for category, own in lengths.items()}
    pooled = {c: sum(n * even_spread(n) for n in own) / sum(own) for c, own in lengths.items()}
    assert role.length_null(RFC, PER_PROMPT) == pytest.approx(1 - mean[SELF] / mean[NEUTRAL])
    assert role.length_null(RSI, PER_HEAD) == pytest.approx((pooled[CONFOUNDER] - pooled[SELF]) / pooled[NEUTRAL])


# -- numbers -------------------------------------------------------------------------------------------------------


def by_frame(arm: MeasuredFormat) -> np.ndarray:
    """(item,) weights that sum to 1, the same for every frame."""
    frames = arm.matched.table["frame"]
    counts = frames.value_counts()
    return np.array([1 / counts[frame] for frame in frames]) / len(counts)


def test_indices_are_ratios_of_means_over_items(role: RoleConditioning) -> None:
    arm = role.arm()
    weights = by_frame(arm)
    mean = {c: weights @ v[:, MEASURES.index(REPAIRED)].mean((2,)) for c, v in arm.values.items()}  # (layer,)
    for layer, estimate in enumerate(role.per_layer(RFC)):
        assert estimate.describe().estimate == pytest.approx(1 - mean[SELF][layer] / mean[NEUTRAL][layer])
        assert f"layer {layer} of {arm.layers}" in estimate.name
    rsi = (mean[CONFOUNDER].mean() - mean[SELF].mean()) / mean[NEUTRAL].mean()
    assert arm.index(RSI).describe().estimate == pytest.approx(rsi)


def test_published_numbers_by_loops(role: RoleConditioning) -> None:
    arm = role.arm()
    h = {c: v[:, MEASURES.index(PUBLISHED)] for c, v in arm.values.items()}  # (item, layer, head)
    weights = by_frame(arm)
    tokens = weights * np.array(arm.matched.lengths)
    per_prompt = [
        1 - weights @ h[SELF][:, n].mean(1) / (weights @ h[NEUTRAL][:, n].mean(1)) for n in range(arm.layers)
    ]
    per_head = [
        np.mean([
            1 - (tokens @ h[SELF][:, n, k]) / (tokens @ h[NEUTRAL][:, n, k]) for k in range(arm.heads)
        ]) for n in range(arm.layers)
    ]  # fmt: skip
    assert role.published(RFC, PER_PROMPT).estimate == pytest.approx(np.mean(per_prompt))
    assert role.published(RFC, PER_HEAD).estimate == pytest.approx(np.mean(per_head))
    assert role.published(RFC, PER_HEAD, [2]).estimate == pytest.approx(per_head[2])


def test_a_difference_in_either_direction_uses_all_items_and_errs_as_often_as_one_side(
    role: RoleConditioning, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, either = role.arm().index(RFC), role.either_way(RFC)
    sign = np.sign(whole.describe().estimate)
    assert either.numerator == pytest.approx(sign * whole.numerator)
    assert either.describe().estimate == pytest.approx(abs(whole.describe().estimate))
    # Nothing there: a difference is shown in 2.5 % of cases, both directions together; never the opposite.
    draw, shown, against = np.random.default_rng(0), 0, 0
    for _ in range(300):
        noise = an_estimate(draw.normal(size=54) + np.repeat(draw.normal(size=18), 3))
        monkeypatch.setattr(type(role.arm()), "index", lambda self, name, noise=noise: noise)
        effect = role.either_way(RFC).describe()
        shown += effect.lower > 0
        against += effect.upper < 0
    assert 1 <= shown <= 15
    assert against == 0


def test_memory_of_reading_does_not_hold_patterns(role: RoleConditioning) -> None:
    assert all(value.shape == (len(MEASURES), 4, 4) for value in role._known.values())


def test_the_chat_template_is_read_from_the_question_on(role: RoleConditioning) -> None:
    found = role.arm(CHAT).matched
    assert set(found.firsts) == {5}  # <begin> You are kind. <user>
    assert len(found) >= 40
    assert len(found.prompts) == 4


# -- permutations --------------------------------------------------------------------------------------------------


def an_estimate(values: np.ndarray, name: str = "x") -> Estimate:
    index = pd.Index([f"i{n}" for n in range(len(values))], name="item")
    clusters = pd.DataFrame({"frame": [f"f{n // 3}" for n in range(len(values))]}, index=index)
    return Estimate(name, "1", Measurement(name, "1", pd.DataFrame({"v": values}, index=index), clusters), values)


def test_false_alarms_are_as_many_as_stated(role: RoleConditioning) -> None:
    values = np.random.default_rng(0).normal(size=54) + 3.0  # labels are permuted: the mean does not matter
    assert role.false_alarms(an_estimate(values)) <= 0.10
    assert 0.01 < role.false_alarms(an_estimate(values)).mean().describe().estimate < 0.10


def test_a_layer_that_stands_out_does_so_among_all(role: RoleConditioning) -> None:
    draw = np.random.default_rng(2)
    noise = [an_estimate(draw.normal(size=54), f"layer {n}") for n in range(20)]
    planted = an_estimate(draw.normal(size=54) + 1.0, "planted")
    p = role.permutation_p([*noise, planted])
    assert p[-1] < 0.01
    assert (p[:-1] > 0.05).all()


# -- prompts -------------------------------------------------------------------------------------------------------


def test_sets_that_do_not_match_are_dropped_with_a_count(adapter: HFAdapter) -> None:
    good = role_sets()[0]
    longer = RoleSet("odd-1", "odd", {**good.prompts, SELF: good.prompts[SELF] + " w1"})
    found = matched(adapter.chat, [good, longer])
    assert list(found.table.index) == [good.id]
    assert found.left_out.startswith("1 of 2 sets are left out (plain text)")
    with pytest.raises(NotApplicable, match="none of 1 sets"):
        matched(adapter.chat, [longer])


def test_lists_are_matched_by_length_and_the_rest_is_counted(adapter: HFAdapter) -> None:
    found = matched_by_length(adapter.chat, LISTS, seed=0)
    sizes = [{len(prompts[n]) for prompts in found.prompts.values()} for n in range(len(found))]
    assert all(len(size) == 1 for size in sizes)
    assert len(found) == 3  # 5, 6 and 7 tokens: one third-person prompt each
    assert found.left_out.startswith("11 of 23 prompts (5 self, 7 confounder, 4 third, 7 neutral) are left out")
    with pytest.raises(NotApplicable, match="no number of tokens occurs in every category"):
        matched_by_length(adapter.chat, listed({SELF: [3], CONFOUNDER: [4], NEUTRAL: [5]}), seed=0)


def test_plain_text_begins_with_one_special_token_in_every_family(adapter: HFAdapter) -> None:
    tokenizer = adapter.chat.tokenizer
    assert plain(adapter.chat, "w1 w2").ids[0] == tokenizer.bos_token_id
    kept = tokenizer.bos_token
    try:
        tokenizer.bos_token = None
        assert plain(adapter.chat, "w1 w2").ids[0] == tokenizer.eos_token_id
    finally:
        tokenizer.bos_token = kept


def test_by_default_every_frame_is_asked_and_more_items_repeat_the_fewer(adapter: HFAdapter) -> None:
    few, default, more = (RoleConditioning(adapter, seed=3, n_items=n).sets for n in (20, None, 80))
    assert len(default) == DEFAULT_SETS
    assert {each.frame for each in default} == {each.frame for each in role_sets()}
    assert max(Counter(each.frame for each in default).values()) == 2
    assert len(few) == len({each.frame for each in few}) == 20
    assert default == more[:DEFAULT_SETS]
    assert few == default[:20]
    assert len(RoleConditioning(adapter, seed=3, sets=role_sets()).sets) == len(role_sets())
    assert len(RoleConditioning(adapter, seed=3, n_items=999).sets) == len(role_sets())


def test_some_sets_are_spread_over_frames_and_nested() -> None:
    dealt = spread(role_sets(), seed=1)
    assert sorted(each.id for each in dealt) == sorted(each.id for each in role_sets())
    assert len({each.frame for each in dealt[:12]}) == 12
    assert dealt == spread(tuple(reversed(role_sets())), seed=1)


def test_as_many_sets_are_taken_as_it_needs_for_so_many_to_match(adapter: HFAdapter) -> None:
    good, other, third = role_sets()[:3]
    odd = RoleSet("odd-1", "odd", {**good.prompts, SELF: good.prompts[SELF] + " w1"})
    assert enough(adapter.chat, [good, odd, other, third], 2) == (good, odd, other)
    assert enough(adapter.chat, [good, odd], 2) == (good, odd)
    assert enough(adapter.chat, [good, odd], None) == (good, odd)


def test_few_frames_are_undecided(adapter: HFAdapter) -> None:
    """Two halves need ten frames; a difference in either direction, which needs no halves, needs five."""
    with pytest.raises(Inconclusive, match="too_few_clusters: 6 frames"):
        two_halves(RoleConditioning(adapter, seed=0, n_items=6).arm().matched.table, 0, "heads")
    with pytest.raises(Inconclusive, match="too_few_clusters: 4 clusters"):
        assert RoleConditioning(adapter, seed=0, n_items=4).either_way(RFC) > 0


def test_a_family_whose_attention_cannot_be_read_says_so(
    adapter: HFAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter, "support", lambda: {Component.PATTERN: Support(False, "arithmetic of its own")})
    with pytest.raises(NotApplicable, match="arithmetic of its own"):
        RoleConditioning(adapter, seed=0).arm()


# -- checks and figures --------------------------------------------------------------------------------------------


def test_entropies_are_those_of_the_formula_for_every_length_of_the_prompts(role: RoleConditioning) -> None:
    """Even attention over q + 1 keys has ln(q + 1), attention to one key has none; this holds for any model."""
    for n in sorted(set(role.arm().matched.lengths)):
        even = entropy(uniform_pattern(n).double()).numpy()
        assert even == pytest.approx(np.log(np.arange(1, n + 1)), abs=1e-6)
        assert np.abs(repaired_entropies(torch.eye(n)).nan_to_num().numpy()).max() <= 1e-5


def test_mean_attention_is_one_over_the_length_in_every_head_of_any_model(role: RoleConditioning) -> None:
    arm = role.arm()
    lengths = np.array(arm.matched.lengths, dtype=float)[:, None, None]
    for values in arm.values.values():
        assert values[:, MEASURES.index(MAGNITUDE)] == pytest.approx(
            np.broadcast_to(1 / lengths, values[:, 0].shape), abs=1e-6
        )
    assert excess(role) <= 1e-5
    table = drawing_of(magnitudes(role))
    assert all(row[1] == pytest.approx(row[3], abs=1e-6) and row[2] < 1e-6 for row in table.rows)


def test_figures_fit_their_kinds_and_hold_every_layer(role: RoleConditioning) -> None:
    plots = RoleFigures(role)
    figures = (
        plots.side_by_side(),
        *plots.indices(RFC).figures(),
        *plots.entropy(),
        plots.gaps(),
        *plots.first_keys(),
        plots.ends(),
        plots.separation(role.formats),
        plots.layers(RSI),
    )
    drawings = [drawing_of(figure) for figure in figures]
    assert len(drawings) == 10
    by_head = next(drawing for drawing in drawings if isinstance(drawing, Heatmap))
    first = np.tensordot(
        by_frame(role.arm()), role.arm().values[SELF][:, MEASURES.index(FIRST_KEYS)], 1
    )  # (layer, head)
    assert np.array(by_head.values) == pytest.approx(first.T)
    assert all(drawing.caption for drawing in drawings)
    table = drawings[0]
    assert [row[0] for row in table.rows][:3] == [
        "RFC as published, per prompt",
        "RFC as published, per head",
        "RFC, published entropy, lengths matched",
    ]
    assert all(
        len(series.x) == 4 for drawing in drawings[1:] if isinstance(drawing, Curves) for series in drawing.series
    )


def test_the_docs_list_figures_that_are_drawn() -> None:
    """Nine plots and two comparisons, each with figures whose titles are in the code."""
    root = Path(auditkit.__file__).parents[1]
    folder = root / "auditkit" / "findings" / "role_conditioning"
    code = "".join(path.read_text() for path in sorted(folder.rglob("*.py")))
    code = code.replace("{name}", "RFC").replace("{self.name}", "RFC").replace('"', "'")
    lines = (root / "docs" / "findings" / "role_conditioning.md").read_text().splitlines()
    rows = [line.split("|")[1:3] for line in lines if re.match(r"\| (\d|base against)", line)]
    assert [plot.split()[0] for plot, _ in rows] == [*"123456789", "base", "base"]
    for plot, figures in rows:
        named = re.findall(r"\*([^*]+)\*", figures.replace("RSI", "RFC").replace('"', "'"))
        assert named, plot
        assert [name for name in named if f"'{name}" not in code] == [], plot
