"""The estimate is the slope of the exact effect, and what the screen misses is found and said."""

from __future__ import annotations

import math
from dataclasses import replace as changed

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from auditkit.adapters.protocol import Component, Support
from auditkit.claims.outcomes import NotApplicable
from auditkit.engine.edits import Edit, Edited, replace
from auditkit.engine.forward import donate, execute
from auditkit.engine.patching.plain import patch
from auditkit.engine.patching.screening import _share, attribution, screen
from auditkit.engine.patching.sweep import grid
from auditkit.engine.sites import (
    SiteError,
    attention,
    block_input,
    embeddings,
    head,
    k,
    middle,
    mlp,
    pattern,
    q,
    residual,
    v,
    z,
)

pytestmark = pytest.mark.unit

STEP = 0.01
SITES = [
    mlp.layer(1),
    mlp.layers(2, 4)["word"],
    attention.layer(3)[-1],
    residual.layer(2)["word"],
    block_input.layer(0),
    middle.layer(3)["word"],
    embeddings["word"],
    head(3, 2),
    z.layer(4).head(0, 3)["last"],
    v.layer(2).head(1)["word"],
    v.layer(1),
]
WITHIN = [
    q.layer(3).head(1),
    q.layer(2)["last"],
    k.layer(4).head(1)["word"],
    k.layer(3),
    pattern.layer(3).head(0, 2)[5, 8],
]


def slope(adapter, pair, make) -> float:
    """Five-point slope of the answer difference at 0; `make(strength)` gives edits that are nothing at 0."""
    values = []
    for strength in (2 * STEP, STEP, -STEP, -2 * STEP):
        run = Edited(pair.base, tuple(make(strength)), pair.spans)
        right, wrong = execute(adapter, [run], donate(adapter, [run], 1024))[0][0, list(pair.answers)].double()
        values.append(float(right - wrong))
    return (-values[0] + 8 * values[1] - 8 * values[2] + values[3]) / (12 * STEP)


@pytest.mark.parametrize("site", SITES, ids=str)
def test_the_estimate_is_the_slope_of_the_exact_effect(tiny, pairs, site) -> None:
    pairs = pairs[:3]
    estimated = attribution(tiny, pairs, [site])[0]
    exact = [slope(tiny, pair, lambda s, p=pair: [Edit(site, 1 - s, p.source, s)]) for pair in pairs]
    torch.testing.assert_close(estimated, torch.tensor(exact), rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("site", WITHIN, ids=str)
def test_within_attention_only_what_follows_is_expanded(tiny, pairs, site) -> None:
    """The slope along the exact change of the attended values, made by hand from a run with the site restored."""
    pairs = pairs[:3]
    estimated = attribution(tiny, pairs, [site])[0]
    exact = []
    for pair in pairs:
        layer = site.first
        hold = replace(block_input.layer(layer), pair.base)
        restored = Edited(pair.base, (hold, replace(site, pair.source)), pair.spans)
        exact.append(slope(tiny, pair, lambda s, d=restored, n=layer: [Edit(z.layer(n), 1 - s, d, s)]))
    assert max(map(abs, exact)) > 1e-3
    torch.testing.assert_close(estimated, torch.tensor(exact), rtol=1e-2, atol=1e-3)


def test_batched_estimates_are_those_of_one_pair_at_a_time(tiny, pairs) -> None:
    sites = [*SITES, *WITHIN]
    together = attribution(tiny, pairs, sites)
    alone = torch.cat([attribution(tiny, [pair], sites) for pair in pairs], dim=1)
    torch.testing.assert_close(together, alone, rtol=1e-3, atol=1e-5)


def test_the_declared_cost_is_the_cost(tiny, pairs) -> None:
    """Source up to the MLP of layer 1, base with a pass back 3; queries: both donors and the held run 3; two key
    positions: 3 each."""
    before = tiny.meter.token_layers
    attribution(tiny, pairs[:2], [mlp.layer(1), q.layer(1), q.layer(3)["last"], k.layer(2)[3], k.layer(2)[4]])
    tokens = sum(len(pair.base) for pair in pairs[:2])
    assert tiny.meter.token_layers - before == tokens * (2 + tiny.layers * (3 + 3 + 2 * 3))


def test_on_a_planted_circuit_the_screen_finds_both_sites_and_misses_nothing(planted, pairs) -> None:
    sites = [*grid([Component.MLP], range(6), ["word"]), *grid([Component.ATTENTION], range(6), ["last"])]
    screened = screen(planted, pairs, sites, top=2, sample=10, generator=np.random.default_rng(0))
    assert {str(sites[i]) for i in screened.verified[:2]} == {
        str(mlp.layer(2)["word"]),
        str(attention.layer(4)["last"]),
    }
    assert len(screened.verified) == 12
    assert (screened.missed, screened.miss_rate) == ((), 0.0)
    assert screened.miss_interval[0] == 0
    assert 0.2 < screened.miss_interval[1] < 0.35  # Wilson: none of ten


def test_a_miss_is_counted(tiny, pairs, monkeypatch) -> None:
    """An estimate that ranks backwards: everything sampled is larger than what was chosen."""
    sites = grid([Component.MLP], range(6), ["all"])
    conditions = {str(n): [[site]] * len(pairs) for n, site in enumerate(sites)}
    patched = patch(tiny, pairs, conditions)
    effects = torch.stack([value[:, 0] - value[:, 1] for value in patched.conditions.values()])
    effects = effects - (patched.base[:, 0] - patched.base[:, 1])
    estimates = 1 / effects.mean(1, keepdim=True)
    monkeypatch.setattr("auditkit.engine.patching.screening.attribution", lambda *args: estimates)
    screened = screen(tiny, pairs, sites, top=1, sample=3, generator=np.random.default_rng(0))
    torch.testing.assert_close(screened.exact, effects[list(screened.verified)], rtol=0, atol=2e-5)
    assert (len(screened.missed), screened.miss_rate) == (3, 1.0)
    assert set(screened.missed) == set(screened.verified[1:])


def test_nothing_left_to_sample_is_no_evidence_of_no_misses(tiny, pairs) -> None:
    screened = screen(
        tiny, pairs, grid([Component.MLP], range(6), ["all"]), top=6, sample=5, generator=np.random.default_rng(0)
    )
    assert math.isnan(screened.miss_rate)
    assert screened.miss_interval == (0, 1)


@given(of=st.integers(1, 200), data=st.data())
def test_the_interval_of_a_share_holds_it(of, data) -> None:
    some = data.draw(st.integers(0, of))
    rate, (lower, upper) = _share(some, of)
    assert 0 <= lower <= rate <= upper <= 1
    assert lower < upper


def test_a_model_without_gradients_is_not_applicable(tiny, pairs) -> None:
    class Without:
        def __getattr__(self, name):
            return getattr(tiny, name)

        def support(self):
            return {**tiny.support(), "gradients": Support(False, "weights are elsewhere")}

    with pytest.raises(NotApplicable, match="attribution needs gradients: weights are elsewhere"):
        attribution(Without(), pairs, [mlp.layer(1)])


def test_bad_sites_are_refused_before_anything_runs(tiny, pairs) -> None:
    before = tiny.meter.runs
    with pytest.raises(SiteError, match="this model has layers 0 to 5"):
        attribution(tiny, pairs, [mlp.layer(6)])
    with pytest.raises(SiteError, match="no span named 'word'"):
        attribution(tiny, [changed(pair, spans={}) for pair in pairs], [mlp.layer(1)["word"]])
    with pytest.raises(SiteError, match="give at least one, 1 and 0"):
        screen(tiny, pairs, [], top=1, sample=0, generator=np.random.default_rng(0))
    assert tiny.meter.runs == before
