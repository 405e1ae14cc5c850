"""Edits equal plain hooks, graded ones meet at their ends, and bad ones are refused before anything runs."""

from __future__ import annotations

from dataclasses import replace as changed

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from auditkit.adapters.chat import Prompt
from auditkit.adapters.protocol import Component
from auditkit.claims.outcomes import NotApplicable
from auditkit.engine import edits
from auditkit.engine.edits import Edit, Edited
from auditkit.engine.forward import Donated, donate, execute, means
from auditkit.engine.patching.plain import patch
from auditkit.engine.sites import SiteError, attention, embeddings, k, mlp, pattern, residual, z

pytestmark = pytest.mark.unit

BUDGET = 1024


@pytest.fixture(scope="module")
def vector() -> torch.Tensor:
    return torch.randn(32, generator=torch.Generator().manual_seed(3))


def logits(adapter, run: Edited) -> torch.Tensor:
    return execute(adapter, [run], donate(adapter, [run], BUDGET))[0][0]


def by_hook(adapter, prompt: Prompt, module: str, change) -> torch.Tensor:
    """The reference: one plain hook; `change` maps the module's output to a new one."""

    def hook(module, args, output):
        value = output if isinstance(output, torch.Tensor) else output[0]
        new = change(value.clone())
        return new if isinstance(output, torch.Tensor) else (new, *output[1:])

    handle = adapter.module.get_submodule(module).register_forward_hook(hook)
    with torch.no_grad():
        ids = torch.tensor([prompt.ids])
        options = {"position_ids": torch.arange(ids.shape[1])[None], "use_cache": False, "logits_to_keep": 1}
        out = adapter.module(ids, attention_mask=torch.ones_like(ids), **options).logits[0, -1]
    handle.remove()
    return out


def at(positions: slice, change):
    def whole(value: torch.Tensor) -> torch.Tensor:
        value[:, positions] = change(value[:, positions])
        return value

    return whole


@pytest.mark.parametrize("factor", [0.0, 0.25, 0.5, 1.0])
def test_scaling_equals_a_plain_hook(tiny, pairs, factor) -> None:
    prompt = pairs[0].base
    got = logits(tiny, Edited(prompt, (edits.scale(mlp.layer(2)["word"], factor),), {"word": (3, 4)}))
    expected = by_hook(tiny, prompt, "model.layers.2.mlp", at(slice(3, 4), lambda x: factor * x))
    assert torch.equal(got, expected)


def test_steering_equals_a_plain_hook(tiny, pairs, vector) -> None:
    prompt = pairs[0].base
    got = logits(tiny, Edited(prompt, (edits.add(residual.layer(3)[2, 6], vector, 1.5),)))
    expected = by_hook(tiny, prompt, "model.layers.3", at(slice(2, 6), lambda x: x + 1.5 * vector))
    assert torch.equal(got, expected)


def test_zero_is_scaling_to_nothing(tiny, pairs) -> None:
    prompt = pairs[0].base
    got = logits(tiny, Edited(prompt, (edits.zero(attention.layer(1)),)))
    assert torch.equal(got, by_hook(tiny, prompt, "model.layers.1.self_attn", torch.zeros_like))


def test_the_mean_is_that_of_all_tokens_of_the_prompts(tiny, pairs) -> None:
    prompts = [pair.base for pair in pairs]
    kept: list[torch.Tensor] = []
    for prompt in prompts:
        by_hook(tiny, prompt, "model.layers.4.mlp", lambda x: kept.append(x[0].clone()) or x)
    got = means(tiny, prompts, mlp.layer(4), BUDGET)
    assert list(got) == [4]
    torch.testing.assert_close(got[4], torch.cat(kept).mean(0), rtol=0, atol=1e-5)
    run = Edited(prompts[0], edits.mean(mlp.layer(4)[1, 3], got))
    expected = by_hook(tiny, prompts[0], "model.layers.4.mlp", at(slice(1, 3), lambda x: got[4].expand_as(x)))
    assert torch.equal(logits(tiny, run), expected)


def test_resampling_takes_another_prompt_of_the_same_length(tiny, pairs) -> None:
    prompts = [pair.base for pair in pairs]
    drawn = edits.resample(mlp.layer(1), prompts[0], prompts, np.random.default_rng(0))
    assert drawn.give == prompts[2]  # the only other one of nine tokens
    as_pair = changed(pairs[0], source=prompts[2])
    expected = patch(tiny, [as_pair], {"site": [[mlp.layer(1)]]}).conditions["site"]
    got = patch(tiny, pairs[:1], {"site": [[drawn]]}).conditions["site"]
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)
    with pytest.raises(SiteError, match="none of 1 prompts to resample from is another one of 9 tokens"):
        edits.resample(mlp.layer(1), prompts[0], prompts[:1], np.random.default_rng(0))


@given(strength=st.floats(0, 1))
def test_a_graded_replacement_lies_between_nothing_and_everything(tiny, pairs, strength) -> None:
    """At the last residual stream, the head's input is linear in the strength up to the norm: compare activations."""
    pair = pairs[0]
    run = Edited(pair.base, (edits.replace(residual.layer(5), pair.source, strength),))
    place = (Component.RESIDUAL, 5)
    got = execute(tiny, [run], donate(tiny, [run], BUDGET), [place])[1][place]
    plain = [execute(tiny, [Edited(p)], Donated(), [place])[1][place] for p in (pair.base, pair.source)]
    torch.testing.assert_close(got, (1 - strength) * plain[0] + strength * plain[1], rtol=0, atol=1e-5)


def test_edits_at_one_site_apply_in_the_order_given(tiny, pairs, vector) -> None:
    site, prompt = mlp.layer(2)[1], pairs[0].base
    first = Edited(prompt, (edits.add(site, vector), edits.scale(site, 0.5)))
    second = Edited(prompt, (edits.scale(site, 0.5), edits.add(site, vector)))
    for run, change in ((first, lambda x: 0.5 * (x + vector)), (second, lambda x: 0.5 * x + vector)):
        expected = by_hook(tiny, prompt, "model.layers.2.mlp", at(slice(1, 2), change))
        assert torch.equal(logits(tiny, run), expected)


def test_rows_of_a_batch_have_their_own_edits(tiny, pairs, vector) -> None:
    runs = [
        Edited(pairs[0].base, (edits.zero(mlp.layer(1)[0]), edits.add(residual.layer(2)[-1], vector))),
        Edited(pairs[1].base),
        Edited(pairs[3].base, (edits.replace(mlp.layer(1), pairs[3].source),)),
        Edited(pairs[2].base, (edits.zero(mlp.layer(1)[0]),)),
    ]
    together = execute(tiny, runs, donate(tiny, runs, BUDGET))[0]
    alone = torch.stack([logits(tiny, run) for run in runs])
    torch.testing.assert_close(together, alone, rtol=0, atol=2e-5)


@pytest.mark.parametrize(
    ("places", "blocks"),
    [
        ([(Component.MLP, 2), (Component.ATTENTION, 0)], 3),
        ([(Component.BLOCK_INPUT, 2)], 2),
        ([(Component.EMBEDDINGS, 0), (Component.BLOCK_INPUT, 0)], 0),
        ([(Component.Z, 1), (Component.RESIDUAL, 1)], 2),
        ([(Component.MLP, 5)], 6),
    ],
)
def test_a_donor_runs_no_further_than_what_is_wanted_of_it(tiny, pairs, places, blocks) -> None:
    prompts = [pair.base for pair in pairs]
    wanted, before = dict.fromkeys(prompts, places), tiny.meter.token_layers
    given = donate(tiny, [], BUDGET, wanted)
    assert tiny.meter.token_layers - before == given.cost == blocks * sum(map(len, prompts))
    whole = donate(tiny, [], BUDGET, wanted, answered=True)
    assert whole.cost == tiny.layers * sum(map(len, prompts))
    assert set(whole.logits) == set(prompts)
    for key, value in whole.activations.items():
        assert torch.equal(given.activations[key], value)
    torch.testing.assert_close(
        tiny.run(tiny.batch(prompts[:1])), whole.logits[prompts[0]][None], rtol=0, atol=1e-5
    )


def test_a_donor_may_have_edits_of_its_own(tiny, pairs, vector) -> None:
    prompt = pairs[0].base
    steered = Edited(prompt, (edits.add(residual.layer(0)[1], vector),))
    got = logits(tiny, Edited(prompt, (edits.replace(residual.layer(3), steered),)))
    torch.testing.assert_close(got, logits(tiny, steered), rtol=0, atol=1e-6)


def test_each_donor_is_run_once(tiny, pairs) -> None:
    pair = pairs[0]
    runs = [Edited(pair.base, (edits.replace(mlp.layer(n), pair.source),)) for n in range(5)]
    before = tiny.meter.token_layers
    given_ = donate(tiny, runs, BUDGET)
    assert given_.cost == 5 * len(pair.base), "up to the last of five blocks"
    assert tiny.meter.token_layers - before == given_.cost


def test_noising_swaps_the_roles(tiny, pairs) -> None:
    back = pairs[0].swapped()
    assert (back.base, back.source) == (pairs[0].source, pairs[0].base)
    patched = patch(tiny, [back], {"all": [[residual.layer(5)]]})
    torch.testing.assert_close(patched.conditions["all"], patch(tiny, pairs[:1], {}).base, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            edits.add(mlp.layer(1), torch.zeros(31)),
            r"MLP of layer 1: a tensor of shape \(31,\) was given; give \(32,\)",
        ),
        (
            edits.add(mlp.layer(1)[0, 3], torch.zeros(2, 32)),
            r"shape \(2, 32\) was given; give \(32,\) or \(3, 32\)",
        ),
        (edits.zero(mlp.layer(6)), "layers 6 to 6 asked for, this model has layers 0 to 5"),
        (edits.zero(mlp.layer(0)[9]), "positions 9 to 9 asked for, this prompt has positions 0 to 8"),
        (edits.zero(mlp.layer(0)["word"]), "no span named 'word'; this prompt has all, last"),
        (edits.zero(mlp.layer(0)[4, 4]), "positions 4 to 3 asked for"),
        (Edit(mlp.layer(0), 0, Prompt("", (5, 6))), "the donor has 2 tokens and the prompt 9; give equal lengths"),
    ],
    ids=lambda value: "" if isinstance(value, str) else str(value.site),
)
def test_a_bad_edit_is_refused_before_anything_runs(tiny, pairs, edit, message) -> None:
    before = tiny.meter.runs
    pair = changed(pairs[0], spans={})
    with pytest.raises(SiteError, match=message):
        patch(tiny, [pair], {"bad": [[edit]]})
    assert tiny.meter.runs == before


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: edits.scale(mlp.layer(1), 1.5), "scaled by 1.5, give 0"),
        (lambda: edits.replace(mlp.layer(1), torch.zeros(32), -0.1), "strength -0.1"),
        (lambda: mlp.layer(1).head(2), "MLP of layer 1 has no heads; use z, q, k, v or pattern"),
        (lambda: z.layer(1).head(), "heads"),
        (lambda: z.layer(1).head(1, 1), "give different indices from 0 on"),
        (
            lambda: k.layer(0).head(2).head_indices(4, 2),
            "this model has 2 groups of heads that share keys and values",
        ),
        (lambda: pattern.layer(0).head(4).head_indices(4, 2), "this model has heads 0 to 3"),
        (lambda: embeddings.head(1), "embeddings has no heads"),
    ],
)
def test_a_site_or_strength_that_cannot_be_is_refused_at_once(make, message) -> None:
    with pytest.raises(SiteError, match=message):
        make()


def test_a_mean_needs_prompts_and_rows_of_one_length(tiny) -> None:
    with pytest.raises(SiteError, match="no prompts to take the mean over"):
        means(tiny, [], mlp.layer(0), BUDGET)
    with pytest.raises((SiteError, NotApplicable)):
        means(tiny, [Prompt("", (4, 5))], pattern.layer(0), BUDGET)
