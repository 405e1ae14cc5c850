"""The planted circuit is found exactly, and what it does is measured; without one nothing is found."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from auditkit.adapters.hf.adapter import HFAdapter
from auditkit.claims.outcomes import Inconclusive, NotApplicable
from auditkit.engine.edits import Edited
from auditkit.engine.forward import donate
from auditkit.engine.patching.paths import path
from auditkit.engine.sites import head, k, mlp, z
from auditkit.findings.induction.measurements.ablation import ABLATIONS, MEAN, SHARE, InductionAblation, some_of
from auditkit.findings.induction.measurements.heads import PREVIOUS_TOKEN, InductionHeads
from auditkit.findings.induction.measurements.paths import PreviousTokenPath
from auditkit.findings.induction.measurements.repeats import FIRST, ORDER, Repeats
from auditkit.findings.induction.measurements.scores import MATCH, readers
from auditkit.methods.head_search import map_of_means
from auditkit.methods.sequences import read_sequences
from auditkit.stats.effects.mean import Estimate
from tests.planted.inducing import HEADS, NOTHING, SIZE, Inducing, plant

pytestmark = pytest.mark.unit

PREVIOUS, INDUCTION = Inducing().previous, Inducing().induction


@pytest.fixture(scope="module")
def heads(inducing: HFAdapter) -> InductionHeads:
    plant(inducing, Inducing())
    searched = InductionHeads(Repeats(inducing, seed=0))
    assert searched.repeats.measured
    return searched


def test_the_planted_heads_are_found_exactly_by_both_halves(heads: InductionHeads) -> None:
    for exchanged in (False, True):
        assert heads.searched(exchanged=exchanged).confirmed == (INDUCTION,)
        assert heads.searched(PREVIOUS_TOKEN, exchanged).confirmed == (PREVIOUS,)
    assert heads.held_out() >= 0.9
    for where in (FIRST, ORDER):
        assert heads.repeats.gain(where) >= 4


def test_without_a_circuit_no_head_is_found_and_claims_say_so(inducing: HFAdapter) -> None:
    """A head that attends by distance alone has the same score and is not taken for one."""
    for planted in (NOTHING, replace(NOTHING, distance=(2, 1, 24)), replace(NOTHING, previous=PREVIOUS)):
        plant(inducing, planted)
        heads = InductionHeads(Repeats(inducing, seed=0))
        assert not heads.searched().found
        if planted.distance:
            assert heads.repeats.scores(MATCH)[:, 2, 1].min() > 0.9
        else:
            assert not heads.held_out() >= 0.4
        with pytest.raises(NotApplicable, match="the model has no induction heads: of 16 heads"):
            InductionAblation(heads).over_random(MEAN)
    plant(inducing, Inducing())


@pytest.mark.parametrize("seeds", [range(3), pytest.param(range(3, 100), marks=pytest.mark.slow)])
def test_random_weights_have_no_confirmed_head(inducing: HFAdapter, seeds: range) -> None:
    confirmed = 0
    for seed in seeds:
        plant(inducing, replace(NOTHING, noise=0.3, seed=seed))
        heads = InductionHeads(Repeats(inducing, seed=seed))
        confirmed += any(heads.searched(exchanged=exchanged).confirmed for exchanged in (False, True))
    assert confirmed <= len(seeds) // 20
    plant(inducing, Inducing())


def test_removing_the_planted_head_costs_the_repeat_and_random_heads_do_not(heads: InductionHeads) -> None:
    ablation = InductionAblation(heads)
    for name in ABLATIONS:
        assert ablation.raised(name) >= 4
        assert all(difference > 4 for difference in ablation.over_random(name))
    assert str(INDUCTION[1]) in ablation.notes()[0]


def test_an_ablated_loss_is_that_of_plain_forward_hooks(heads: InductionHeads) -> None:
    ablation, repeats = InductionAblation(heads), heads.repeats
    table = ablation._table.condition(MEAN)
    made, module = repeats.sequences, repeats.adapter.module
    layer, n = INDUCTION
    part = slice(n * SIZE, (n + 1) * SIZE)
    seen: list[torch.Tensor] = []
    row = heads.rows(False)[1][0]
    projection = module.model.layers[layer].self_attn.o_proj

    def run(number: int) -> torch.Tensor:
        with torch.no_grad():
            return module(torch.tensor([made.repeated[number].ids])).logits[0]

    watching = projection.register_forward_pre_hook(lambda _, args: seen.append(args[0][0, 26:50, part].clone()))
    for number in some_of(heads.rows(True)[1], SHARE):
        run(number)
    watching.remove()

    def hook(_, args):
        new = args[0].clone()
        new[0, 26:50, part] = torch.stack(seen).mean((0, 1))
        return (new,)

    handle = projection.register_forward_pre_hook(hook)
    logits = run(row)[26:50]
    handle.remove()
    expected = torch.nn.functional.cross_entropy(logits, torch.tensor(made.repeated[row].ids[27:]))
    index = list(ablation._table.values.index).index(made.ids[row])
    assert table[index] == pytest.approx(float(expected), abs=1e-4)


def test_the_path_into_the_keys_carries_the_planted_score(heads: InductionHeads) -> None:
    paths = PreviousTokenPath(heads)
    assert paths.share() >= 0.8
    assert all(difference > 0.5 for difference in paths.over_random())
    said = " ".join(paths.notes())
    assert "from layer 1, head 2 into the keys of layer 2, head 1" in said
    assert "the identity edit changed logits by at most" in said


def test_a_path_equals_plain_hooks_and_path_patching_into_keys(inducing: HFAdapter) -> None:
    """With noise in every head and MLP: the edits leave the direct path open and no other."""
    plant(inducing, Inducing(noise=0.05))
    heads = InductionHeads(Repeats(inducing, seed=0))
    repeats, paths = heads.repeats, PreviousTokenPath(heads)
    made, (pair, *_) = repeats.sequences, paths._pairs([0])
    reader, _ = readers(made)
    edited = Edited(pair.base, paths.edits(pair, [PREVIOUS], [INDUCTION]))
    got = read_sequences(inducing, [edited], reader).attention[0, 0, INDUCTION[0], INDUCTION[1]]

    (edits,) = path(
        inducing,
        [pair],
        [head(*PREVIOUS)[0, 26]],
        frozen=[mlp.layer(1), *(z.layer(1).head(n) for n in range(HEADS) if n != PREVIOUS[1])],
        receivers=[k.layer(2)[0, 26]],
    )
    by_path = read_sequences(inducing, [Edited(pair.base, edits)], reader).attention[
        0, 0, INDUCTION[0], INDUCTION[1]
    ]
    assert float(got) == pytest.approx(float(by_path), abs=1e-5)
    assert float(got) == pytest.approx(_hooked(inducing, pair), abs=1e-5)
    plain = read_sequences(inducing, [Edited(pair.base)], reader).attention[0, 0, INDUCTION[0], INDUCTION[1]]
    assert abs(float(plain) - float(got)) > 0.05


@torch.no_grad()
def _hooked(adapter: HFAdapter, pair) -> float:
    """Prefix matching of the planted head, when the block that it lies in is given the base run's stream with the
    planted previous-token head's part of the output projection exchanged on the first copy."""
    module, (layer, n) = adapter.module, PREVIOUS
    part = slice(n * SIZE, (n + 1) * SIZE)
    kept: dict[str, torch.Tensor] = {}
    attention = module.model.layers[layer].self_attn
    for name, prompt in (("base", pair.base), ("source", pair.source)):
        handle = attention.o_proj.register_forward_pre_hook(
            lambda _, args, name=name: kept.update({name: args[0][0]})
        )
        module(torch.tensor([prompt.ids]))
        handle.remove()
    change = (kept["source"] - kept["base"])[:26, part] @ attention.o_proj.weight[:, part].T

    def enter(_, args, kwargs):
        new = args[0].clone()
        new[0, :26] += change
        return (new, *args[1:]), kwargs

    module.set_attn_implementation("eager")
    handle = module.model.layers[layer + 1].register_forward_pre_hook(enter, with_kwargs=True)
    pattern = module(torch.tensor([pair.base.ids]), output_attentions=True).attentions[INDUCTION[0]][
        0, INDUCTION[1]
    ]
    handle.remove()
    module.set_attn_implementation("sdpa")
    return float(torch.stack([pattern[26 + i, 2 + i] for i in range(24)]).mean())


def test_attention_of_some_layers_costs_the_blocks_up_to_the_last_of_them(heads: InductionHeads) -> None:
    adapter, made = heads.repeats.adapter, heads.repeats.sequences
    reader, _ = readers(made)
    runs = [Edited(prompt) for prompt in made.repeated[:3]]
    whole = read_sequences(adapter, runs, reader).attention
    before = adapter.meter.token_layers
    some = read_sequences(adapter, runs, reader, losses_from=None, layers=[0, 2]).attention
    assert adapter.meter.token_layers - before == 3 * len(made.repeated[0]) * 3
    torch.testing.assert_close(some, whole[:, :, [0, 2]], rtol=0, atol=1e-6)


def test_a_map_of_means_has_the_intervals_of_estimates(heads: InductionHeads) -> None:
    values = heads.repeats.scores(MATCH).copy()
    values[:, 0, 0] = 0.25  # no spread, no interval
    drawn = map_of_means(values, "share", "caption", [INDUCTION])
    table = heads.repeats.table("x", "of attention", {})
    for layer, n in np.ndindex(*values.shape[1:]):
        effect = Estimate("x", "of attention", table, values[:, layer, n]).describe()
        got = (drawn.values[n][layer], drawn.lower[n][layer], drawn.upper[n][layer])
        for one, other in zip(got, (effect.estimate, effect.lower, effect.upper), strict=True):
            assert one == (other if other is None else pytest.approx(other, abs=1e-12))
    assert drawn.lower[0][0] is None
    assert drawn.outlined == [INDUCTION[::-1]]


def test_too_few_sequences_for_two_halves_are_undecided(inducing: HFAdapter) -> None:
    plant(inducing, Inducing())
    heads = InductionHeads(Repeats(inducing, seed=0, n_items=6))
    with pytest.raises(Inconclusive, match="too_few_clusters: 6 sequences"):
        heads.searched()
    assert heads.repeats.gain() >= 1


def test_donors_of_a_path_are_run_once_for_all_its_conditions(heads: InductionHeads) -> None:
    """Both runs that give activations, whatever is patched."""
    paths = PreviousTokenPath(heads)
    (pair,) = paths._pairs([3])
    runs = [Edited(pair.base, paths.edits(pair, [PREVIOUS], [INDUCTION])) for _ in range(3)]
    alone = donate(heads.repeats.adapter, runs[:1], 10**6).cost
    assert 0 < alone <= 2 * len(pair.base) * heads.repeats.adapter.layers
    assert donate(heads.repeats.adapter, runs, 10**6).cost == alone


def test_the_planted_head_copies_and_its_copy_is_the_logits_own(heads: InductionHeads) -> None:
    """Removing what the head adds at the end of the stream moves the logits by what it is said to write, to first
    order; with its output turned round it suppresses the copy."""
    plant(heads.repeats.adapter, Inducing())
    copying = heads.repeats.copying
    assert copying is not None
    assert np.unravel_index(np.abs(copying.mean(0)).argmax(), copying.shape[1:]) == INDUCTION
    assert copying[:, *INDUCTION].min() > 1
    attention = heads.repeats.adapter.module.model.layers[INDUCTION[0]].self_attn
    with torch.no_grad():
        attention.o_proj.weight[:, INDUCTION[1] * SIZE : (INDUCTION[1] + 1) * SIZE] *= -1
    heads.repeats.adapter.__dict__.pop("projections", None)
    turned = Repeats(heads.repeats.adapter, seed=0).copying
    assert turned is not None
    assert turned[:, *INDUCTION].max() < -1
    plant(heads.repeats.adapter, Inducing())
    heads.repeats.adapter.__dict__.pop("projections", None)
