"""Patching from the first edited block on equals patching in whole runs, costs less, and gives way to it."""

from __future__ import annotations

import pytest
import torch

from auditkit.adapters.chat import Prompt
from auditkit.adapters.protocol import Support
from auditkit.engine.edits import Edited, add, replace, scale, zero
from auditkit.engine.pairs import PatchPair
from auditkit.engine.patching import restarted as restarting
from auditkit.engine.patching.paths import path
from auditkit.engine.patching.plain import patch
from auditkit.engine.patching.restarted import ends, restarted
from auditkit.engine.sampling import Sample, sampling
from auditkit.engine.sites import SiteError, attention, block_input, embeddings, mlp, q, residual, z
from auditkit.methods.patching import guards

pytestmark = pytest.mark.unit


def conditions(adapter, pairs: list[PatchPair]) -> dict[str, list]:
    """Bands of every place and width, a path with sites held, other donors, and edits that differ from pair to pair."""
    last = adapter.layers - 1
    sender = mlp.layers(0, 1)["word"]
    return {
        **{f"{band}": [[band]] * len(pairs) for family in (mlp, attention) for first in range(last + 1)
           for band in (family.layer(first), family.layers(first, last), family.layers(0, first)["last"])},
        "both": [[mlp.layers(1, 2), attention.layer(last)["word"]]] * len(pairs),
        "held": path(adapter, pairs, [sender], frozen=[attention.layers(2, last)]),
        "by pair": [[mlp.layer(n % (last + 1))] for n in range(len(pairs))],
        "donor": [[replace(attention.layer(1), Prompt("", pair.base.ids[::-1]))] for pair in pairs],
        "base": [[replace(mlp.layers(0, last), pair.base)] for pair in pairs],
    }  # fmt: skip


def close(got: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(got, expected, rtol=0, atol=2e-5 * max(1.0, float(expected.abs().max())))


def test_it_equals_whole_runs_and_costs_less(tiny, pairs) -> None:
    wanted = conditions(tiny, pairs)
    before = tiny.meter.token_layers
    plain = patch(tiny, pairs, wanted)
    between = tiny.meter.token_layers
    got = restarted(tiny, pairs, wanted)
    assert tiny.meter.token_layers - between < 0.65 * (between - before)
    close(got.base, plain.base)
    close(got.source, plain.source)
    assert list(got.conditions) == list(plain.conditions)
    for name, values in plain.conditions.items():
        close(got.conditions[name], values)
    assert float((plain.conditions["both"] - plain.base).abs().max()) > 0.1
    close(got.conditions["base"], got.base)
    assert 0 <= got.identity_error < 1e-4
    assert 0 <= got.full_patch_error < 1e-4


def test_a_band_costs_the_blocks_and_tokens_behind_it(tiny) -> None:
    """All but the guards, which are the same whatever the number of pairs."""
    draw = torch.Generator().manual_seed(5)
    rows = torch.randint(10, 300, (12, 12), generator=draw).tolist()
    some = [
        PatchPair(Prompt("", tuple(row)), Prompt("", (*row[:3], 301 + n, *row[4:])), (11, 12))
        for n, row in enumerate(rows)
    ]
    costs = []
    for few in (some[:4], some):
        before = tiny.meter.token_layers
        restarted(tiny, few, {"late": [[mlp.layer(tiny.layers - 2)]] * len(few)})
        costs.append(tiny.meter.token_layers - before)
    # Of each of eight more pairs base and source whole, and two blocks on the tokens from the word on.
    assert costs[1] - costs[0] == 8 * (2 * tiny.layers * 12 + 2 * 9)


def test_a_condition_with_other_donors_is_the_same_alone_and_beside_others(tiny, pairs) -> None:
    """To the last bit: neither the runs that all share nor the donors of another condition are run otherwise."""
    together = restarted(tiny, pairs, conditions(tiny, pairs))
    for name in ("donor", "held", "both"):
        alone = restarted(tiny, pairs, {name: conditions(tiny, pairs)[name]})
        assert torch.equal(alone.conditions[name], together.conditions[name]), name
        assert torch.equal(alone.base, together.base)


def edits_of(adapter) -> dict[str, list]:
    """Edits of every arithmetic, at one place, on a prompt of nine tokens."""
    vector, many = torch.randn(adapter.width), torch.randn(6, adapter.width)
    donor = Prompt("", tuple(range(20, 29)))
    early = mlp.layers(0, 1)
    return {
        "scaled": [scale(mlp.layer(1), 0.5)],
        "none": [zero(attention.layers(1, 2)[4, 7])],
        "replaced": [replace(mlp.layer(1)[-1], vector)],
        "added": [
            add(mlp.layer(2)[3, 9], many),
            scale(mlp.layer(2)[5, 6], 0.2),
            add(attention.layer(3), vector, -2.0),
        ],
        "halfway": [replace(early, donor, 0.5)],
        "donor added": [add(early[2, 9], donor, 1.5)],
        "stream replaced": [replace(residual.layer(1), donor)],
        "stream moved": [add(residual.layer(0)[1, 9], vector, 3.0), scale(residual.layer(0)[-1], 0.5)],
        "block input": [replace(block_input.layer(2), donor)],
        "embeddings replaced": [replace(embeddings[2, 5], donor)],
        "heads scaled": [scale(z.layers(1, 2).head(1, 3), 0.3)],
        "heads replaced": [
            replace(z.layer(2).head(0)[3, 9], donor),
            replace(z.layer(3).head(2, 1), torch.randn(2, 8)),
        ],
        "all heads, the last block": [zero(z.layer(adapter.layers - 1))],
        "stream, then MLPs": [add(residual.layer(0)[3, 9], many), replace(mlp.layers(1, 3), donor)],
    }


def test_every_edit_of_a_walk_equals_that_of_whole_runs(tiny, pairs) -> None:
    few = [pair for pair in pairs if len(pair.base) == 9]
    wanted = {name: [edits] * len(few) for name, edits in edits_of(tiny).items()}
    plain = patch(tiny, few, wanted)
    for name, condition in wanted.items():
        before = tiny.meter.token_layers
        got = restarted(tiny, few, {name: condition})
        between = tiny.meter.token_layers
        patch(tiny, few, {name: condition})
        assert between - before != tiny.meter.token_layers - between, name  # not done in whole runs
        close(got.conditions[name], plain.conditions[name])
        assert float((got.conditions[name] - got.base).abs().max()) > 1e-3, name
    together = restarted(tiny, few, wanted)
    for name, values in plain.conditions.items():
        close(together.conditions[name], values)


def test_prompts_of_many_lengths_are_edited_where_each_is(tiny, pairs) -> None:
    vector = torch.randn(tiny.width)
    wanted = {
        "stream": [[add(residual.layer(1)["word"], vector)]] * len(pairs),
        "last": [[replace(mlp.layer(3)["last"], vector)]] * len(pairs),
        "by pair": [[add(residual.layer(n % 3)[1, 2], vector)] for n in range(len(pairs))],
    }
    plain, got = patch(tiny, pairs, wanted), restarted(tiny, pairs, wanted)
    for name, values in plain.conditions.items():
        close(got.conditions[name], values)


@pytest.mark.parametrize("which", ["after the last block", "on the way", "embeddings", "queries"])
def test_what_cannot_be_done_within_a_walk_is_done_in_whole_runs(tiny, pairs, which) -> None:
    few, vector = [pair for pair in pairs if len(pair.base) == 9], torch.randn(tiny.width)
    edits = {
        "after the last block": [add(residual.layer(tiny.layers - 1), vector)],
        "on the way": [add(residual.layer(2), vector), mlp.layer(1)],
        "embeddings": [scale(embeddings[1, 5], 0.5)],
        "queries": [scale(q.layer(1), 0.5)],
    }[which]
    wanted = {"x": [edits] * len(few), "bands": [[mlp.layers(2, 3)]] * len(few)}
    plain, got = patch(tiny, few, wanted), restarted(tiny, few, wanted)
    assert list(got.conditions) == list(wanted)
    for name, values in plain.conditions.items():
        close(got.conditions[name], values)


def test_a_source_that_is_another_pair_of_the_batch_runs_once(tiny) -> None:
    """Steering has no source: the base run stands for it, and costs nothing of its own."""
    prompts = [Prompt("", tuple(range(10 + n, 19 + n))) for n in range(12)]
    vector = torch.randn(tiny.width)
    costs = []
    for few in (prompts[:4], prompts):
        own = [PatchPair(prompt, prompt, (11, 12)) for prompt in few]
        before = tiny.meter.token_layers
        got = restarted(tiny, own, {"along": [[add(residual.layer(1)[1, 9], vector)]] * len(few)})
        costs.append(tiny.meter.token_layers - before)
        assert torch.equal(got.source, got.base)
    assert costs[1] - costs[0] == 8 * (tiny.layers * 9 + (tiny.layers - 2) * 8)


def test_runs_that_give_to_runs_are_whole(tiny, pairs) -> None:
    wanted = {
        "through": path(tiny, pairs, [mlp.layer(0)["word"]], receivers=[attention.layer(3)]),
    }
    assert isinstance(wanted["through"][0][0].give, Edited)
    close(restarted(tiny, pairs, wanted).conditions["through"], patch(tiny, pairs, wanted).conditions["through"])


class Other:
    """An adapter that behaves, except where a test says otherwise."""

    def __init__(self, adapter, **own) -> None:
        self.__dict__ |= own
        self._adapter = adapter

    def __getattr__(self, name):
        return getattr(self._adapter, name)


def test_a_model_that_cannot_be_restarted_or_restarts_wrongly_is_run_whole(tiny, pairs) -> None:
    wanted = {"band": [[mlp.layers(2, 3)]] * len(pairs)}
    expected = patch(tiny, pairs, wanted).conditions["band"]

    def never(*_):
        raise AssertionError("restarted")

    support = {**tiny.support(), "blockwise": Support(False, "no")}
    for model, why in (
        (Other(tiny, support=lambda: support, restart=never), ""),  # as the report's list of what is untested says
        (Other(tiny, restart=lambda *given: tiny.restart(*given[:4])), "the edit at mlp of layer 2 fired 0 times"),
        (Other(tiny, restart=lambda *given: tiny.restart(*given) * 1.01), "restarted edits miss the whole run's"),
        (Other(tiny, restart=lambda *_: {}[0:1]), "slice"),
    ):
        got = restarted(model, pairs, wanted)
        close(got.conditions["band"], expected)
        assert (why in got.whole) if why else not got.whole
        said = guards("bands", got)
        assert (
            f"Whole runs were made, since restarts from the first edited block failed: {got.whole}" in said
        ) == bool(why)
        assert ("Whole runs" in said) == bool(why)


def test_pairs_that_do_not_differ_and_no_pairs(tiny, pairs) -> None:
    same = [PatchPair(pair.base, pair.base, pair.answers, pair.spans) for pair in pairs]
    got = restarted(tiny, same, {"band": [[mlp.layers(1, 2)]] * len(same)})
    close(got.conditions["band"], got.base)
    with pytest.raises(SiteError, match="patching needs pairs"):
        restarted(tiny, [], {})


def test_edits_are_offered_for_a_cross_check(tiny, pairs) -> None:
    sample = Sample(100, 0)
    with sampling(sample):
        restarted(tiny, pairs, {"band": [[mlp.layers(1, 2)]] * len(pairs)})
    assert sample.offered == len(pairs)


@pytest.fixture
def long(tiny) -> list[PatchPair]:
    """Eight pairs of sixty tokens that differ in the fiftieth; no two pairs begin alike."""
    draw = torch.Generator().manual_seed(6)
    rows = torch.randint(10, 300, (8, 60), generator=draw).tolist()
    return [
        PatchPair(Prompt("", (10 + n, *row[1:])), Prompt("", (10 + n, *row[1:50], 301 + n, *row[51:])), (11, 12))
        for n, row in enumerate(rows)
    ]


LATE = "late"


def test_a_source_run_costs_the_tokens_from_where_it_differs(tiny, long) -> None:
    wanted = {LATE: [[mlp.layers(1, 2), attention.layer(tiny.layers - 1)]] * len(long)}
    plain = patch(tiny, long, wanted)
    before = tiny.meter.token_layers
    base, source = ends(tiny, long)
    assert tiny.meter.token_layers - before == 8 * (60 + 10) * tiny.layers
    got = restarted(tiny, long, wanted)
    for one, other in ((got.base, plain.base), (got.source, plain.source)):
        close(one, other)
    assert torch.equal(base, got.base)
    assert torch.equal(source, got.source)
    close(got.conditions[LATE], plain.conditions[LATE])


def test_what_base_prompts_begin_with_is_run_once(tiny, long) -> None:
    alike = [
        PatchPair(
            Prompt("", (*long[0].base.ids[:30], *pair.base.ids[30:])),
            Prompt("", (*long[0].base.ids[:30], *pair.source.ids[30:])),
            pair.answers,
        )
        for pair in long
    ]
    wanted = {LATE: [[mlp.layers(1, 2)]] * len(alike)}
    plain, before = patch(tiny, alike, wanted), tiny.meter.token_layers
    base, source = ends(tiny, alike)
    assert tiny.meter.token_layers - before == (30 + 8 * (30 + 10)) * tiny.layers
    got = restarted(tiny, alike, wanted)
    assert torch.equal(base, got.base)
    assert torch.equal(source, got.source)
    close(got.base, plain.base)
    close(got.source, plain.source)
    close(got.conditions[LATE], plain.conditions[LATE])


@pytest.mark.parametrize("held", [2**29, 0])
def test_both_runs_are_known_before_anything_is_edited(tiny, long, monkeypatch, held) -> None:
    monkeypatch.setattr(restarting, "HELD", held)
    wanted = {LATE: [[mlp.layers(1, 2)]] * len(long), "word": [[attention.layer(3)]] * len(long)}
    seen: list[torch.Tensor] = []

    def stop(base: torch.Tensor, source: torch.Tensor) -> None:
        seen.extend((base.clone(), source.clone()))
        raise LookupError("nothing to locate")

    before = tiny.meter.token_layers
    with pytest.raises(LookupError, match="nothing to locate"):
        restarted(tiny, long, wanted, known=stop)
    ended = tiny.meter.token_layers - before
    assert ended == 8 * (60 + 10) * tiny.layers
    got = restarted(tiny, long, wanted, known=lambda *_: None)
    spent = tiny.meter.token_layers - before - ended
    plain = restarted(tiny, long, wanted)
    alone = tiny.meter.token_layers - before - ended - spent
    assert torch.equal(seen[0], got.base)
    assert torch.equal(seen[1], got.source)
    assert spent - alone == (0 if held else ended), "what is not held is run again"
    for name, values in plain.conditions.items():
        assert torch.equal(values, got.conditions[name])
