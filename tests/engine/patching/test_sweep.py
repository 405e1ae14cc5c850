"""The wavefront equals plain hooks site by site, does no work twice, and refuses numbers that cannot be trusted."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from auditkit.adapters.chat import Prompt
from auditkit.adapters.protocol import Component, Support
from auditkit.claims.outcomes import NotApplicable
from auditkit.engine.guards import GuardTripped
from auditkit.engine.pairs import PatchPair
from auditkit.engine.patching import rows
from auditkit.engine.patching.plain import patch
from auditkit.engine.patching.rows import planned
from auditkit.engine.patching.sweep import grid, sweep
from auditkit.engine.sites import SiteError, block_input, embeddings, k, middle, mlp, q, residual, v, z

pytestmark = pytest.mark.unit

BATCHED = 2e-5
"""Batching changes the order of sums: tolerance in units of the largest logit (measured: up to 2e-6)."""

MODULES = {
    Component.ATTENTION: "self_attn",
    Component.MIDDLE: "self_attn",
    Component.MLP: "mlp",
    Component.Q: "self_attn.q_proj",  # the rotation that follows depends on the position only
    Component.K: "self_attn.k_proj",
    Component.V: "self_attn.v_proj",
    Component.Z: "self_attn.o_proj",
}


@pytest.fixture(scope="session")
def pairs() -> list[PatchPair]:
    """Pairs of several lengths, the first difference at the start, in the middle, near the end, or nowhere."""
    generator = torch.Generator().manual_seed(2)
    made = []
    for length, differ in ((9, 3), (12, 0), (9, 8), (15, 6), (11, None)):
        ids = torch.randint(10, 290, (length,), generator=generator).tolist()
        other = list(ids)
        if differ is not None:
            other[differ] += 7
        word = differ or 0
        spans = {"word": (word, word + 1)}
        made.append(PatchPair(Prompt("", tuple(ids)), Prompt("", tuple(other)), (11, 12), spans))
    return made


WHOLE = (Component.BLOCK_INPUT, Component.RESIDUAL, Component.ATTENTION, Component.MLP)


def every(adapter, positions=("all", "word", "last", 3, (2, 6))):
    return grid(WHOLE, range(adapter.layers), positions)


def by_hooks(adapter, pair: PatchPair, site) -> torch.Tensor:
    """The reference: plain hooks on the module, one site in one run."""
    block = adapter.module.model.layers[site.first]
    module = block.get_submodule(MODULES.get(site.component, ""))
    start, stop = site.span(len(pair.base), pair.spans)
    heads = site.head_indices(adapter.heads, adapter.groups)
    size = adapter.module.config.head_dim if heads else adapter.width
    kept: list[torch.Tensor] = []
    entered: list[torch.Tensor] = []

    def see(value: torch.Tensor) -> torch.Tensor:
        value = value + entered[-1] if site.component is Component.MIDDLE else value
        if not kept:
            kept.append(value.clone())
        new = value.clone()
        for head in heads or range(1):
            part = (slice(None), slice(start, stop), slice(size * head, size * (head + 1)))
            new[part] = kept[0][part]
        return new - entered[-1] if site.component is Component.MIDDLE else new

    noting = block.register_forward_pre_hook(lambda m, args: entered.append(args[0].clone()))
    if site.component in (Component.BLOCK_INPUT, Component.Z):
        handle = module.register_forward_pre_hook(lambda m, args: (see(args[0]), *args[1:]))
    else:
        handle = module.register_forward_hook(
            lambda m, a, out: see(out) if isinstance(out, torch.Tensor) else (see(out[0]), *out[1:])
        )
    with torch.no_grad():
        adapter.module(torch.tensor([pair.source.ids]))
        logits = adapter.module(torch.tensor([pair.base.ids])).logits[0, -1]
    noting.remove()
    handle.remove()
    return logits[list(pair.answers)]


def close(got: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(got, expected, rtol=0, atol=BATCHED * max(1.0, float(expected.abs().max())))


@pytest.fixture(scope="session")
def swept(tiny, pairs):
    return sweep(tiny, pairs, every(tiny))


def test_every_component_layer_and_position_equals_plain_hooks(tiny, pairs, swept) -> None:
    assert (swept.method, swept.reason) == ("wavefront", "")
    expected = torch.stack([torch.stack([by_hooks(tiny, pair, site) for pair in pairs]) for site in swept.sites])
    close(swept.values, expected)
    assert float((expected - swept.base).abs().max()) > 0.1


@pytest.mark.parametrize(
    "site",
    [
        *(family.layer(layer)[at] for family in (middle, q, k, v, z) for layer in (0, 3, 5) for at in ("all", 7)),
        *(family.layer(4).head(0, 2)["word"] for family in (q, z)),
        *(family.layer(layer).head(1)[2, 6] for family in (k, v) for layer in (2, 5)),
    ],
    ids=str,
)
def test_sites_inside_attention_equal_plain_hooks(tiny, pairs, site) -> None:
    result = sweep(tiny, pairs, [site])
    expected = torch.stack([by_hooks(tiny, pair, site) for pair in pairs])
    close(result.values[0], expected)
    assert result.method == "wavefront"


def test_heads_of_one_sweep_do_not_mix(tiny, pairs) -> None:
    sites = [family.layer(2).head(i) for family in (q, z) for i in range(4)]
    sites += [family.layer(2).head(i) for family in (k, v) for i in range(2)]
    result = sweep(tiny, pairs, sites)
    expected = torch.stack([torch.stack([by_hooks(tiny, pair, site) for pair in pairs]) for site in sites])
    close(result.values, expected)
    differ = torch.pdist(expected.flatten(1), p=torch.inf)
    assert float(differ.min()) > 10 * BATCHED * float(expected.abs().max())


def test_the_embeddings_are_the_input_of_the_first_block(tiny, pairs) -> None:
    result = sweep(tiny, pairs, [embeddings["word"], block_input.layer(0)["word"]])
    assert torch.equal(*result.values)


def test_the_least_work_of_sites_inside_attention(tiny, pairs) -> None:
    """Pair 3 has 15 tokens and differs from token 6 on; 6 blocks."""
    both_runs = 2 * 6 * 15
    cases = {
        k.layer(2): 4 * 9,  # the own block and all later ones
        v.layer(5): 1,  # in the last block only the last query is read
        z.layer(2).head(1): 3 * 9 + 9,  # the later blocks, and the rest of the own one
        q.layer(5).head(1): 1,
        middle.layer(4)[7]: 8 + 1,
    }
    for site, least in cases.items():
        plan = planned(tiny, pairs[3:4], [site])
        assert plan.minimum == both_runs + least
        assert sweep(tiny, pairs[3:4], [site]).token_layers == plan.token_layers


def test_keys_that_the_cache_does_not_keep_are_an_error(tiny, pairs) -> None:
    def other(batch, touches=None):
        logits, memory = tiny.record(batch, touches)
        return logits, replace(memory, keys=[keys + 1e-3 for keys in memory.keys])

    with pytest.raises(GuardTripped, match="the k of layer 2 are not those that the model's cache keeps"):
        sweep(Tampered(tiny, record=other), pairs, [k.layer(2)])


def test_it_means_what_patch_means(tiny, pairs, swept) -> None:
    conditions = {str(i): [[site]] * len(pairs) for i, site in enumerate(swept.sites)}
    patched = patch(tiny, pairs, conditions)
    close(swept.values, torch.stack(list(patched.conditions.values())))
    close(swept.base, patched.base)
    close(swept.source, patched.source)


def test_one_pair_at_every_position_equals_plain_hooks(tiny, pairs) -> None:
    sites = every(tiny, range(len(pairs[3].base)))
    expected = torch.stack([by_hooks(tiny, pairs[3], site) for site in sites])
    close(sweep(tiny, pairs[3:4], sites).values[:, 0], expected)


def test_a_site_that_can_change_nothing_has_the_base_value_and_is_not_run(tiny, pairs) -> None:
    before_the_difference = grid(WHOLE, range(tiny.layers), range(3))
    last_layer = grid([Component.RESIDUAL, Component.MLP], [tiny.layers - 1], range(8))
    result = sweep(tiny, pairs[:1], [*before_the_difference, *last_layer])
    assert torch.equal(result.values, result.base.expand_as(result.values))
    # Two runs, and the restart of the guard's full patch and its identity row from the first difference.
    assert result.token_layers == 2 * 9 * 6 + 6 * 6 + 6 * 6
    assert result.minimum == 2 * 9 * 6


def test_a_planted_circuit_is_found_exactly(planted, pairs) -> None:
    """The word's position reaches the answer through MLP 2 (at the word) and attention 4 (at the last token)."""
    chosen = [pairs[0], pairs[1], pairs[3]]
    sites = [*grid([Component.MLP], range(6), ["word"]), *grid([Component.ATTENTION], range(6), ["last"])]
    result = sweep(planted, chosen, sites)
    moved = {
        str(site)
        for site, value in zip(sites, result.values, strict=True)
        if float((value - result.base).abs().max()) > 1e-4
    }
    assert moved == {"MLP of layer 2 at the word span", "attention of layer 4 at the last token"}
    close(result.values[6 + 4], result.source)


def test_the_work_is_what_was_declared_and_near_the_minimum(tiny_deep) -> None:
    """A full grid on a deeper model: guards and shared walks cost at most 5 % on top of the least possible."""
    ids = tuple(range(20, 60))
    pair = PatchPair(Prompt("", ids), Prompt("", (19, *ids[1:])), (11, 12))
    before = tiny_deep.meter.token_layers
    result = sweep(tiny_deep, [pair], grid([Component.RESIDUAL], range(24), range(40)))
    assert result.token_layers == tiny_deep.meter.token_layers - before
    sites = 24 * 23 // 2 * (40 * 41 // 2)
    assert result.minimum == 2 * 24 * 40 + sites
    assert 1 <= result.share_of_minimum <= 1.05


@pytest.fixture(scope="session")
def tiny_deep(tiny_llama, tmp_path_factory):
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from auditkit.adapters import open_model

    config = LlamaConfig.from_pretrained(tiny_llama)
    config.num_hidden_layers = 24
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("deep")
    LlamaForCausalLM(config).eval().save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_llama).save_pretrained(folder)
    return open_model(str(folder))


@pytest.mark.parametrize("budget", [1, 40, 100_000])
def test_the_size_of_walks_does_not_change_the_result(tiny, pairs, swept, monkeypatch, budget) -> None:
    monkeypatch.setattr(rows, "ROW_BUDGET", budget)
    close(sweep(tiny, pairs, swept.sites).values, swept.values)


class Tampered:
    """An adapter that behaves, except where a test tampers with its restarts or its support."""

    def __init__(self, adapter, restart=None, support=None, record=None) -> None:
        self._adapter, self._restart, self._support = adapter, restart, support
        self.record = record or adapter.record

    def __getattr__(self, name):
        return getattr(self._adapter, name)

    def restart(self, *args):
        return self._restart(*args) if self._restart else self._adapter.restart(*args)

    def support(self):
        return self._support or self._adapter.support()


def test_a_walk_too_large_for_the_memory_is_halved(tiny, pairs, swept) -> None:
    failed = []

    def small_memory(memory, tokens, joining, answers):
        if len(answers) > 16:
            failed.append(len(answers))
            raise torch.OutOfMemoryError("too large")
        return tiny.restart(memory, tokens, joining, answers)

    result = sweep(Tampered(tiny, small_memory), pairs, swept.sites)
    assert failed
    close(result.values, swept.values)
    assert result.token_layers == swept.token_layers


def test_a_memory_too_small_for_one_row_is_an_error(tiny, pairs) -> None:
    def no_memory(*args):
        raise torch.OutOfMemoryError("too large")

    with pytest.raises(torch.OutOfMemoryError):
        sweep(Tampered(tiny, no_memory), pairs, [residual.layer(1)])


def test_without_restarts_the_plain_way_is_taken_and_said(tiny, pairs, swept) -> None:
    support = {**tiny.support(), "blockwise": Support(False, "the blocks are remote")}
    sites = swept.sites[::7]
    result = sweep(Tampered(tiny, support=support), pairs, sites)
    assert (result.method, result.reason) == ("plain", "the blocks are remote")
    close(result.values, swept.values[::7])
    assert result.share_of_minimum > 2


# -- guards ----------------------------------------------------------------------------------------------------


def test_guards_report_what_they_measured(swept) -> None:
    assert 0 <= swept.identity_error <= 1e-5
    assert 0 < swept.full_patch_error <= 1e-5


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (0, "full patch misses the source run's logits by up to 0.01"),
        (1, "identity edit changes logits by up to 0.01"),
    ],
)
def test_a_guard_row_that_moves_is_an_error(tiny, pairs, row, message) -> None:
    """The walk's rows, in order of joining: the full patch and the identity edit at the embeddings, then the site."""

    def moved(*args):
        logits = tiny.restart(*args)
        assert len(logits) == 3
        logits[row] += 0.01
        return logits

    with pytest.raises(GuardTripped, match=message):
        sweep(Tampered(tiny, moved), pairs[2:3], [residual.layer(1)["last"]])


def test_work_that_was_not_declared_is_an_error(tiny, pairs) -> None:
    def twice(*args):
        tiny.restart(*args)
        return tiny.restart(*args)

    with pytest.raises(GuardTripped, match=r"ran \d+ token-layers and had declared \d+"):
        sweep(Tampered(tiny, twice), pairs[:1], [residual.layer(1)])


def test_an_edit_that_gets_no_answer_is_an_error(tiny, pairs) -> None:
    with pytest.raises(GuardTripped, match=r"a walk of \d+ edits gave \d+ finite answers"):
        sweep(Tampered(tiny, lambda *args: tiny.restart(*args)[1:]), pairs[:1], [residual.layer(1)])


def test_non_finite_answers_are_an_error(tiny, pairs) -> None:
    with pytest.raises(GuardTripped, match="finite answers"):
        sweep(Tampered(tiny, lambda *args: tiny.restart(*args) * torch.nan), pairs[:1], [residual.layer(1)])


# -- bad input -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("site", "message"),
    [
        (mlp.layer(6), "layers 6 to 6 asked for, this model has layers 0 to 5"),
        (mlp.layer(1)["persona"], "no span named 'persona'; this prompt has all, last, word"),
        (mlp.layer(1)[40], "positions 40 to 40 asked for, this prompt has positions 0 to 8"),
        (mlp.layers(1, 2), "MLP of layers 1-2: a sweep restores one layer at a time, this site has 2"),
    ],
)
def test_a_site_that_is_not_there_is_refused_before_anything_runs(tiny, pairs, site, message) -> None:
    runs = tiny.meter.runs
    with pytest.raises(SiteError, match=message):
        sweep(tiny, pairs, [residual.layer(0), site])
    assert tiny.meter.runs == runs


def test_a_missing_component_is_not_applicable(tiny, pairs) -> None:
    support = {**tiny.support(), Component.MLP: Support(False, "it has none")}
    with pytest.raises(NotApplicable, match="MLP of layer 1 cannot be touched on this model: it has none"):
        sweep(Tampered(tiny, support=support), pairs, [mlp.layer(1)])


def test_nothing_to_sweep_is_refused(tiny, pairs) -> None:
    with pytest.raises(SiteError, match="got 0 pairs and 1 sites"):
        sweep(tiny, [], [mlp.layer(1)])
    with pytest.raises(SiteError, match="equal length"):
        replace(pairs[0], source=pairs[1].source)
