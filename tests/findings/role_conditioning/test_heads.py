"""Heads that tell "you" from others, with a planted difference; ablations equal plain forward hooks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from auditkit.adapters.chat import plain
from auditkit.adapters.hf.adapter import HFAdapter
from auditkit.claims.evidence import figure, gathering, present
from auditkit.claims.outcomes import Inconclusive, NotApplicable
from auditkit.engine.patching.plain import patch
from auditkit.findings.role_conditioning.measurements import ablation as role_ablation
from auditkit.findings.role_conditioning.measurements.ablation import (
    ABLATIONS,
    EVEN,
    HALF,
    MEAN,
    MLPS,
    ZERO,
    RoleAblation,
    graded,
)
from auditkit.findings.role_conditioning.measurements.conditioning import RoleConditioning
from auditkit.findings.role_conditioning.measurements.entropy import MEASURES, REPAIRED
from auditkit.findings.role_conditioning.measurements.heads import RoleHeads
from auditkit.findings.role_conditioning.prompts.sets import NEUTRAL, SELF
from auditkit.methods.patching import difference
from auditkit.record.figures import drawing_of
from tests.planted.roles import HEADS, SIZE, open_random

pytestmark = pytest.mark.unit

HEAD = (2, 1)


@pytest.fixture(scope="module")
def adapter() -> HFAdapter:
    adapter = open_random()
    unembed, ids = adapter.module.lm_head.weight, adapter.tokenizer.get_vocab()
    unembed[ids["I"]] = unembed[ids["you"]]  # so that what heads do decides between the two
    unembed[ids["I"]][0] += 1.0
    return adapter


@pytest.fixture(scope="module")
def heads(adapter: HFAdapter) -> RoleHeads:
    """As read, with noise in place of differences, and one head whose entropy falls on self prompts."""
    role = RoleConditioning(adapter, seed=0)
    arm = role.arm()
    draw, n = np.random.default_rng(0), MEASURES.index(REPAIRED)
    values = {category: value.copy() for category, value in arm.values.items()}
    for value in values.values():
        value[:, n] = 0.5 + 0.05 * draw.normal(size=value[:, n].shape)
    values[SELF][:, n, HEAD[0], HEAD[1]] -= 0.1
    values[NEUTRAL][:, n, 0, 0] = 0.01  # no candidate, however it differs
    role._arms[arm.matched.format] = replace(arm, values=values)
    return RoleHeads(role)


def test_the_planted_head_is_found_and_confirmed(heads: RoleHeads) -> None:
    found = heads.found
    assert found.confirmed == (HEAD,)
    assert found.signs[HEAD] == -1
    assert found.strongest[0] == HEAD
    assert (0, 0) not in found.strongest
    assert heads.singled_out() > 0  # the comparison of the claim; a second head found by chance lowers the mean
    assert not set(found.discovery) & set(found.confirmation)


def test_without_a_difference_none_is_confirmed_and_claims_say_so(heads: RoleHeads) -> None:
    arm = heads.arm
    draw = np.random.default_rng(5)
    values = {c: 0.5 + 0.05 * draw.normal(size=value.shape) for c, value in arm.values.items()}
    role = RoleConditioning(heads.role.adapter, seed=0)
    role._arms[arm.matched.format] = replace(arm, values=values)
    nothing = RoleHeads(role)
    assert nothing.found.confirmed == ()
    with pytest.raises(Inconclusive, match="no_head_confirmed"):
        assert nothing.singled_out() > 0
    with pytest.raises(NotApplicable, match="no head qualified"):
        nothing.those()
    with pytest.raises(NotApplicable, match="no head qualified"):
        RoleAblation(nothing).moved(MEAN)


def test_figures_stand_in_place_of_the_magnitude_map(heads: RoleHeads) -> None:
    with gathering() as evidence:
        maps, confounder, dots, table = map(drawing_of, heads.figures())
    assert maps.outlined == [(HEAD[1], HEAD[0])]
    assert len(confounder.values) == 4
    assert dots.groups[0].name.startswith("layer 2, head 1, d = ")
    rows, n = list(heads.found.confirmation), MEASURES.index(REPAIRED)
    for dot, values in zip(dots.groups[0].dots, heads.arm.values.values(), strict=True):
        own = np.sort(values[rows, n, *HEAD])
        assert dot.spread == pytest.approx(np.quantile(own, [0.1, 0.25, 0.5, 0.75, 0.9]))
        assert (own < dot.spread[1]).mean() == pytest.approx(0.25, abs=0.05)
    assert len(dots.groups) == 6
    assert len(table.rows) == 4
    tenths = [cell.endswith(" (top tenth)") for row in table.rows for cell in row[1:]]
    assert 1 <= sum(tenths) <= 2  # of 16 heads
    assert tenths[3 * HEAD[0]]  # the planted one leads its layer
    assert [grid.name for grid in evidence.grids] == ["heads, to discover", "heads, to confirm"]


def plain_log_odds(adapter: HFAdapter, ids: tuple[int, ...], hooks: dict[int, object]) -> float:
    """Log odds of I against you, with hooks on the output projections of some layers."""
    handles = [
        adapter.module.model.layers[n].self_attn.o_proj.register_forward_pre_hook(h) for n, h in hooks.items()
    ]
    try:
        logits = adapter.module(torch.tensor([ids])).logits[0, -1]
    finally:
        for handle in handles:
            handle.remove()
    vocabulary = adapter.tokenizer.get_vocab()
    return float(logits[vocabulary["I"]] - logits[vocabulary["you"]])


def test_ablations_are_what_plain_hooks_do(
    adapter: HFAdapter, heads: RoleHeads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(role_ablation, "SETS", 2)
    ablation = RoleAblation(heads, n_items=18)
    sets = ablation._confirming
    table = ablation._measured(SELF, sets)
    layer, head = HEAD
    own = slice(head * SIZE, (head + 1) * SIZE)

    def scaled(factor: float):
        def hook(_, args):
            changed = args[0].clone()
            changed[..., own] *= factor
            return (changed,)

        return hook

    def averaged(_, args):
        changed = args[0].clone()
        changed[..., own] = ablation._average[layer][head]
        return (changed,)

    for row, each in enumerate(sets[:3]):
        ids = plain(adapter.chat, f"Question: {each.prompts[SELF]}\nAnswer: Well,").ids
        base = plain_log_odds(adapter, ids, {})
        assert table.condition("as it is")[row] == pytest.approx(base, abs=1e-4)
        for name, hook in ((ZERO, scaled(0.0)), (HALF, scaled(0.5)), (MEAN, averaged)):
            moved = abs(plain_log_odds(adapter, ids, {layer: hook}) - base)
            assert table.condition(f"moved, {name}")[row] == pytest.approx(moved, abs=1e-4)


@pytest.mark.parametrize("strength", role_ablation.STRENGTHS)
def test_graded_mean_ablations_are_what_plain_hooks_do(
    adapter: HFAdapter, heads: RoleHeads, monkeypatch: pytest.MonkeyPatch, strength: float
) -> None:
    """Part of what a head, or the MLP of its layer, gives is replaced by its mean; at 0 nothing moves."""
    ablation = RoleAblation(heads)
    (each, *_), (layer, head) = ablation._confirming, HEAD
    conditions = ablation._conditions(SELF, [each])
    own = slice(head * SIZE, (head + 1) * SIZE)
    average = {MEAN: ablation._average[layer][head], MLPS: ablation._average_mlp[layer]}
    block = adapter.module.model.layers[layer]

    def of_head(_, args):
        changed = args[0].clone()
        changed[..., own] += strength * (average[MEAN] - changed[..., own])
        return (changed,)

    def of_mlp(_module, _args, out):
        return out + strength * (average[MLPS] - out)

    pair = ablation._pair(SELF, each)
    base = plain_log_odds(adapter, pair.base.ids, {})
    names = [graded(name, strength) for name in (MEAN, MLPS)]
    measured = patch(adapter, [pair], {name: conditions[name] for name in names})
    got = [float(difference(measured.conditions[name])[0]) for name in names]
    assert got[0] == pytest.approx(plain_log_odds(adapter, pair.base.ids, {layer: of_head}), abs=1e-4)
    handle = block.mlp.register_forward_hook(of_mlp)
    try:
        assert got[1] == pytest.approx(plain_log_odds(adapter, pair.base.ids, {}), abs=1e-4)
    finally:
        handle.remove()
    moved = [abs(value - base) for value in got]
    assert max(moved) < 1e-4 if strength == 0 else min(moved) > 1e-4


def test_even_attention_of_a_head_is_the_running_mean_of_its_values(
    adapter: HFAdapter, heads: RoleHeads, monkeypatch: pytest.MonkeyPatch
) -> None:
    ablation = RoleAblation(heads)
    sets = ablation._confirming[:3]
    table = ablation._measured(SELF, sets)
    layer, head = HEAD
    values: list[torch.Tensor] = []
    attention = adapter.module.model.layers[layer].self_attn
    seen = attention.v_proj.register_forward_hook(lambda _m, _a, out: values.append(out))

    def even(_, args):
        group = head // (HEADS // 2)
        value = values[-1][..., group * SIZE : (group + 1) * SIZE]
        changed = args[0].clone()
        changed[..., head * SIZE : (head + 1) * SIZE] = (
            value.cumsum(1) / torch.arange(1, value.shape[1] + 1)[:, None]
        )
        return (changed,)

    try:
        for row, each in enumerate(sets):
            ids = plain(adapter.chat, f"Question: {each.prompts[SELF]}\nAnswer: Well,").ids
            moved = abs(plain_log_odds(adapter, ids, {layer: even}) - plain_log_odds(adapter, ids, {}))
            assert table.condition(f"moved, {EVEN}")[row] == pytest.approx(moved, abs=1e-4)
    finally:
        seen.remove()


def test_random_heads_are_of_the_same_depth_and_others(heads: RoleHeads) -> None:
    ablation = RoleAblation(heads, chosen=[(0, 0), (0, 1), (3, 3)])
    drawn = {ablation._random_heads(n) for n in range(10)}
    assert len(drawn) > 5
    for some in drawn:
        assert len(set(some)) == 3
        assert not set(some) & {(0, 0), (0, 1), (3, 3)}
        assert all(abs(a[0] - b[0]) <= role_ablation.NEAR for a, b in zip(some, ablation.those, strict=True))
    assert ablation._random_heads(1) == ablation._random_heads(1)


def test_heads_are_compared_with_every_random_set_on_items_that_did_not_find_them(
    heads: RoleHeads, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A set that is strong only on the items to confirm must not escape: each half's values are compared with all."""
    monkeypatch.setattr(role_ablation, "SETS", 3)
    monkeypatch.setattr(RoleAblation, "_require_answers", lambda self, table: None)
    assert heads.other_way.found.confirmed == (HEAD,)
    assert set(heads.other_way.found.discovery) == set(heads.found.confirmation)
    ablation = RoleAblation(heads)
    over = ablation.over_random()
    assert [each.name.rsplit(" ", 1)[1] for each in over] == ["0", "1", "2"]
    ids = list(heads.arm.matched.table.index)
    first, second = ([ids[row] for row in rows] for rows in (heads.found.confirmation, heads.found.discovery))
    asked = list(over[0].measurement.values.index)
    assert {item in first for item in asked} == {True, False}
    assert {item in second for item in asked} == {True, False}
    for number, each in enumerate(over):
        for part in (ablation, ablation._other_way):
            table = part._table(SELF)
            rows = each.measurement.values.index.get_indexer(table.values.index)
            by_hand = table.condition(f"moved, {MEAN}") - table.condition(f"moved, random set {number}")
            assert each.numerator[rows] == pytest.approx(by_hand)


def test_each_half_is_measured_in_the_heads_that_the_other_half_found(heads: RoleHeads) -> None:
    estimate = heads.singled_out()
    assert len(estimate.numerator) == len(heads.arm.matched)
    gap = heads._differences
    for way in (heads, heads.other_way):
        found = way.found
        ids = heads.arm.matched.table.index[list(found.confirmation)]
        values = np.mean([found.signs[h] * gap[list(found.confirmation)][:, *h] for h in found.signs], axis=0)
        rows = estimate.measurement.values.index.get_indexer(ids)
        assert estimate.numerator[rows] == pytest.approx(values)


def test_a_model_that_does_not_speak_as_itself_is_told_so(heads: RoleHeads) -> None:
    ablation = RoleAblation(heads)
    table = ablation._measured(SELF, ablation._confirming)
    turned = replace(table, values=table.values.assign(**{"as it is": -np.abs(table.condition("as it is"))}))
    with pytest.raises(NotApplicable, match="does not answer questions about itself with 'I'"):
        ablation._require_answers(turned)


CLAIMS = {
    "search": lambda ablation: (figure(*ablation.heads.figures()), ablation.heads.singled_out()),
    "moved": lambda ablation: ablation.moved(MEAN),
    "every ablation": lambda ablation: (present(ablation), ablation.over_random()),
    "neutral answers": lambda ablation: ablation.moved(MEAN, NEUTRAL),
}


def gathered(ablation: RoleAblation, claim: str) -> tuple[set[str], set[str], set[str]]:
    """Notes, names of grids and titles of figures under a claim that uses these ablations."""
    with gathering() as evidence:
        CLAIMS[claim](ablation)
    titles = {drawing.title for drawing in evidence.figures}
    return set(evidence.notes), {grid.name for grid in evidence.grids}, titles


def test_claims_have_the_same_notes_grids_and_figures_alone_and_in_either_order(
    heads: RoleHeads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(role_ablation, "SETS", 2)
    monkeypatch.setattr(RoleAblation, "_require_answers", lambda self, table: None)
    alone = {claim: gathered(RoleAblation(RoleHeads(heads.role)), claim) for claim in CLAIMS}
    for order in (list(CLAIMS), list(CLAIMS)[::-1]):
        ablation = RoleAblation(RoleHeads(heads.role))
        assert {claim: gathered(ablation, claim) for claim in order} == alone
    assert [len(grids) for _, grids, _ in alone.values()] == [4, 2, 4, 2]  # both halves, or one
    notes, _, _ = alone["every ablation"]
    assert any(note.startswith("guards (ablation, self, halves exchanged)") for note in notes)


def test_every_ablation_is_shown(heads: RoleHeads, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(role_ablation, "SETS", 3)
    ablation = RoleAblation(heads)
    monkeypatch.setattr(RoleAblation, "_require_answers", lambda self, table: None)
    with gathering() as evidence:
        present(ablation)
    dots, of_heads, of_mlps, ranking = map(drawing_of, evidence.figures)
    names = [dot.name for dot in dots.groups[0].dots]
    assert names == list(ABLATIONS)
    assert [len(group.dots) for group in dots.groups] == [6, 6]
    for curves in (of_heads, of_mlps):
        assert [series.x for series in curves.series] == [[0.0, 0.25, 0.5, 0.75, 1.0]] * 2
        assert all(abs(series.y[0]) < 1e-5 < series.y[-1] for series in curves.series)
    assert len(ranking.groups[0].dots) == 4
    assert any(note.startswith("guards (ablation, self)") for note in evidence.notes)
