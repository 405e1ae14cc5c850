"""Patching from the first edited block on equals patching in whole runs, costs less, and gives way to it."""

from __future__ import annotations

import pytest
import torch

from auditkit.adapters.chat import Prompt
from auditkit.adapters.protocol import Support
from auditkit.engine.edits import Edited, replace, scale
from auditkit.engine.pairs import PatchPair
from auditkit.engine.patching.paths import path
from auditkit.engine.patching.plain import patch
from auditkit.engine.patching.restarted import restarted
from auditkit.engine.sampling import Sample, sampling
from auditkit.engine.sites import SiteError, attention, mlp, residual

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
    assert tiny.meter.token_layers - between < 0.6 * (between - before)
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


@pytest.mark.parametrize(
    "edit",
    [
        residual.layer(1),
        scale(mlp.layer(1), 0.5),
        replace(mlp.layer(1), torch.zeros(1)),
        replace(mlp.layer(1), Prompt("", tuple(range(20, 29))), 0.5),
    ],
    ids=str,
)
def test_what_cannot_be_done_within_a_walk_is_done_in_whole_runs(tiny, pairs, edit) -> None:
    few = [pair for pair in pairs if len(pair.base) == 9]
    if isinstance(getattr(edit, "give", None), torch.Tensor):
        edit = replace(mlp.layer(1), torch.zeros(tiny.width))
    wanted = {"x": [[edit]] * len(few), "bands": [[mlp.layers(2, 3)]] * len(few)}
    plain, got = patch(tiny, few, wanted), restarted(tiny, few, wanted)
    for name, values in plain.conditions.items():
        close(got.conditions[name], values)


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
    for model in (
        Other(tiny, support=lambda: support, restart=never),
        Other(tiny, restart=lambda *given: tiny.restart(*given[:4])),  # the edits are not made
        Other(tiny, restart=lambda *given: tiny.restart(*given) * 1.01),
        Other(tiny, restart=lambda *_: {}[0:1]),
    ):
        close(restarted(model, pairs, wanted).conditions["band"], expected)


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
