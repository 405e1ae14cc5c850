"""Patching equals plain hooks, finds a planted circuit exactly, and refuses numbers that cannot be trusted."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from auditkit.adapters.chat import Prompt
from auditkit.adapters.protocol import Component, Support
from auditkit.claims.outcomes import NotApplicable
from auditkit.engine import batching
from auditkit.engine.guards import GuardTripped
from auditkit.engine.pairs import PatchPair, answer_logits, answered
from auditkit.engine.patching.plain import patch
from auditkit.engine.patching.screening import attribution
from auditkit.engine.patching.sweep import sweep
from auditkit.engine.sites import SiteError, attention, block_input, mlp, residual

pytestmark = pytest.mark.unit

BATCHED = 2e-5
"""Batching changes the order of sums: tolerance in units of the largest logit (measured: up to 9e-6)."""

SITES = [
    mlp.layer(1),
    mlp.layer(2)["word"],
    mlp.layers(1, 3)[4, 7],
    mlp.at_depth(0.2, 0.5),
    attention.layer(0)[-1],
    attention.everywhere()["word"],
    residual.layer(3)["last"],
    residual.layer(4)[3],
    block_input.layer(0)["word"],
]


def by_hooks(adapter, pair: PatchPair, site) -> torch.Tensor:
    """The reference: one pair, plain hooks on the module, nothing of the engine."""
    blocks = adapter.module.model.layers
    parts = {Component.MLP: "mlp", Component.ATTENTION: "self_attn", Component.RESIDUAL: ""}
    start, stop = site.span(len(pair.base), pair.spans)
    kept: dict[int, torch.Tensor] = {}

    def value_of(output):
        return output if isinstance(output, torch.Tensor) else output[0]

    def run(prompt: Prompt, edit: bool) -> torch.Tensor:
        def hook(layer: int):
            def after(module, args, output):
                if not edit:
                    kept[layer] = value_of(output).clone()
                    return None
                new = value_of(output).clone()
                new[:, start:stop] = kept[layer][:, start:stop]
                return new if isinstance(output, torch.Tensor) else (new, *output[1:])

            def before(module, args):
                if not edit:
                    kept[layer] = args[0].clone()
                    return None
                new = args[0].clone()
                new[:, start:stop] = kept[layer][:, start:stop]
                return (new, *args[1:])

            if site.component is Component.BLOCK_INPUT:
                return blocks[layer].register_forward_pre_hook(before)
            return blocks[layer].get_submodule(parts[site.component]).register_forward_hook(after)

        handles = [hook(layer) for layer in site.layer_indices(len(blocks))]
        with torch.no_grad():
            logits = adapter.module(torch.tensor([prompt.ids])).logits[0, -1]
        for handle in handles:
            handle.remove()
        return logits

    run(pair.source, edit=False)
    return run(pair.base, edit=True)[list(pair.answers)]


@pytest.mark.parametrize("site", SITES, ids=str)
def test_one_pair_equals_plain_hooks(tiny, pairs, site) -> None:
    patched = patch(tiny, pairs[:1], {"site": [[site]]})
    expected = by_hooks(tiny, pairs[0], site)
    torch.testing.assert_close(patched.conditions["site"][0], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("site", SITES, ids=str)
def test_batched_pairs_of_unequal_length_equal_plain_hooks(tiny, pairs, site) -> None:
    patched = patch(tiny, pairs, {"site": [[site]] * len(pairs)})
    expected = torch.stack([by_hooks(tiny, pair, site) for pair in pairs])
    scale = float(expected.abs().max())
    torch.testing.assert_close(patched.conditions["site"], expected, rtol=0, atol=BATCHED * max(scale, 1.0))


def test_chunking_does_not_change_the_result(tiny, pairs, monkeypatch) -> None:
    conditions = {"site": [[mlp.layers(1, 2)["word"]]] * len(pairs)}
    whole = patch(tiny, pairs, conditions)
    monkeypatch.setattr(batching, "TOKEN_BUDGET", 20)
    pieces = patch(tiny, pairs, conditions)
    for name in ("base", "source"):
        torch.testing.assert_close(getattr(whole, name), getattr(pieces, name), rtol=0, atol=1e-5)
    torch.testing.assert_close(whole.conditions["site"], pieces.conditions["site"], rtol=0, atol=1e-5)


def test_base_and_source_are_the_unpatched_runs(tiny, pairs) -> None:
    patched = patch(tiny, pairs, {})
    answers = [pair.answers for pair in pairs]
    base = answer_logits(tiny, [pair.base for pair in pairs], answers)
    source = answer_logits(tiny, [pair.source for pair in pairs], answers)
    torch.testing.assert_close(patched.base, base, rtol=0, atol=1e-5)
    torch.testing.assert_close(patched.source, source, rtol=0, atol=1e-5)
    assert torch.equal(patch(tiny, pairs, {}, base=base).base, base)


def test_conditions_may_differ_between_pairs(tiny, pairs) -> None:
    sites = [mlp.layer(number % 6) for number in range(len(pairs))]
    mixed = patch(tiny, pairs, {"mixed": [[site] for site in sites]}).conditions["mixed"]
    for row, (pair, site) in enumerate(zip(pairs, sites, strict=True)):
        torch.testing.assert_close(mixed[row], by_hooks(tiny, pair, site), rtol=0, atol=1e-5)


def test_no_site_changes_nothing_and_every_site_gives_the_source(tiny, pairs) -> None:
    patched = patch(tiny, pairs, {"none": [[]] * len(pairs), "all": [[block_input.layer(0)]] * len(pairs)})
    torch.testing.assert_close(patched.conditions["none"], patched.base, rtol=0, atol=1e-5)
    torch.testing.assert_close(patched.conditions["all"], patched.source, rtol=0, atol=1e-5)


def test_a_planted_circuit_is_found_exactly(planted, pairs) -> None:
    """The word's position reaches the answer through MLP 2 (at the word) and attention 4 (at the last token)."""
    conditions = {f"mlp {n}": [[mlp.layer(n)["word"]]] * len(pairs) for n in range(6)}
    conditions |= {f"attention {n}": [[attention.layer(n)["last"]]] * len(pairs) for n in range(6)}
    patched = patch(planted, pairs, conditions)
    moved = {name: float((value - patched.base).abs().max()) for name, value in patched.conditions.items()}
    assert {name for name, move in moved.items() if move > 1e-4} == {"mlp 2", "attention 4"}
    torch.testing.assert_close(patched.conditions["attention 4"], patched.source, rtol=0, atol=1e-5)


# -- guards ----------------------------------------------------------------------------------------------------


def test_guards_report_what_they_measured(tiny, pairs) -> None:
    patched = patch(tiny, pairs, {"site": [[mlp.layer(1)]] * len(pairs)})
    assert patched.identity_error <= tiny.info.parity_max_abs + 1e-6
    assert patched.full_patch_error <= tiny.info.parity_max_abs + 1e-6


class Tampered:
    """An adapter that behaves, except where a test tampers with it."""

    def __init__(self, adapter, run=None, support=None) -> None:
        self._adapter, self._run, self._support = adapter, run, support

    def __getattr__(self, name):
        return getattr(self._adapter, name)

    def run(self, batch, touches=None):
        return self._run(self._adapter, batch, touches) if self._run else self._adapter.run(batch, touches)

    def support(self):
        return self._support or self._adapter.support()


def test_an_edit_that_never_fires_is_an_error(tiny, pairs) -> None:
    def deaf(adapter, batch, touches):
        kept = {place: touch for place, touch in (touches or {}).items() if place != (Component.MLP, 2)}
        return adapter.run(batch, kept)

    with pytest.raises(GuardTripped, match="mlp of layer 2"):
        patch(Tampered(tiny, deaf), pairs, {"site": [[mlp.layer(2)]] * len(pairs)})


def test_an_edit_that_fires_twice_is_an_error(tiny, pairs) -> None:
    def twice(adapter, batch, touches):
        again = {p: (lambda value, t=t: (t(value), t(value))[1]) for p, t in (touches or {}).items()}
        return adapter.run(batch, again)

    with pytest.raises(GuardTripped, match="fired 2 times in one run instead of once"):
        patch(Tampered(tiny, twice), pairs, {"site": [[mlp.layer(2)]] * len(pairs)})


def test_an_identity_edit_that_changes_something_is_an_error(tiny, pairs) -> None:
    def noisy(adapter, batch, touches):
        logits = adapter.run(batch, touches)
        return logits + (0.01 if touches and (Component.MLP, 2) in touches else 0.0) * len(logits) * torch.rand(1)

    with pytest.raises(GuardTripped, match="identity edit changes"):
        patch(Tampered(tiny, noisy), pairs, {"site": [[mlp.layer(2)]] * len(pairs)})


def test_a_full_patch_that_misses_the_source_is_an_error(tiny, pairs) -> None:
    def half(adapter, batch, touches):
        embeddings = (Component.BLOCK_INPUT, 0)
        kept = dict(touches or {})
        if embeddings in kept:
            write = kept[embeddings]

            def half_written(value):
                new = write(value)
                return None if new is None else (new + value) / 2

            kept[embeddings] = half_written
        return adapter.run(batch, kept)

    with pytest.raises(GuardTripped, match="full patch misses the source run's logits"):
        patch(Tampered(tiny, half), pairs, {"site": [[mlp.layer(2)]] * len(pairs)})


def test_non_finite_logits_are_an_error(tiny, pairs) -> None:
    def broken(adapter, batch, touches):
        logits = adapter.run(batch, touches)
        logits[0, 5] = float("nan")
        return logits

    with pytest.raises(GuardTripped, match="logits contain NaN or infinity"):
        answer_logits(Tampered(tiny, broken), [pair.base for pair in pairs], [pair.answers for pair in pairs])


# -- bad input -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("site", "message"),
    [
        (mlp.layer(6), "layers 6 to 6 asked for, this model has layers 0 to 5"),
        (mlp.layer(1)["persona"], "no span named 'persona'; this prompt has all, last, word"),
        (mlp.layer(1)[40], "positions 40 to 40 asked for, this prompt has positions 0 to 8"),
        (mlp.layer(1)[5, 5], "positions 5 to 4 asked for"),
    ],
)
def test_a_site_that_is_not_there_is_refused_before_anything_runs(tiny, pairs, site, message) -> None:
    runs = tiny.meter.runs
    with pytest.raises(SiteError, match=message):
        patch(tiny, pairs, {"site": [[site]] * len(pairs)})
    assert tiny.meter.runs == runs


def test_a_missing_component_is_not_applicable(tiny, pairs) -> None:
    support = {**tiny.support(), Component.MLP: Support(False, "it has none")}
    with pytest.raises(NotApplicable, match="MLP of layer 1 cannot be touched on this model: it has none"):
        patch(Tampered(tiny, support=support), pairs, {"site": [[mlp.layer(1)]] * len(pairs)})


def test_unequal_lengths_are_refused(pairs) -> None:
    with pytest.raises(SiteError, match="equal length"):
        replace(pairs[0], source=pairs[1].source)


def test_conditions_must_cover_every_pair(tiny, pairs) -> None:
    with pytest.raises(SiteError, match="edits for each of 5 pairs, got 1"):
        patch(tiny, pairs, {"site": [[mlp.layer(1)]]})


def test_a_device_too_small_for_a_batch_gives_the_same_numbers(tiny, pairs) -> None:
    """More than two prompts at once run out of memory: batches halve until they fit, and donors with them."""

    class Small(Tampered):
        def run(self, batch, touches=None):
            if len(batch) > 2:
                raise torch.OutOfMemoryError("no more")
            return self._adapter.run(batch, touches)

    conditions = {"site": [[mlp.layers(1, 2)["word"]]] * len(pairs)}
    small, whole = (patch(adapter, pairs, conditions) for adapter in (Small(tiny), tiny))
    for name in ("base", "source"):
        torch.testing.assert_close(getattr(small, name), getattr(whole, name), rtol=0, atol=1e-5)
    torch.testing.assert_close(small.conditions["site"], whole.conditions["site"], rtol=0, atol=1e-5)


def test_work_that_was_not_declared_is_an_error(tiny, pairs) -> None:
    """An adapter that runs twice as much as it is asked for, in silence."""

    def twice(adapter, batch, touches):
        adapter.run(batch)
        return adapter.run(batch, touches)

    with pytest.raises(GuardTripped, match="token-layers and had declared"):
        patch(Tampered(tiny, twice), pairs, {"site": [[mlp.layer(2)]] * len(pairs)})


# Several wrong answers


def with_wrong(pairs: list[PatchPair]) -> list[PatchPair]:
    return [replace(pair, answers=(11, 12, 40, 77)) for pair in pairs]


def test_of_several_wrong_answers_the_mean_is_read_in_every_way(tiny, pairs) -> None:
    """Plain patching, the wavefront and hooks agree on the right logit and the mean of three wrong ones."""
    several, sites = with_wrong(pairs), [mlp.layer(2)["word"], attention.layer(3)]
    patched = patch(tiny, several, {str(site): [[site]] * len(pairs) for site in sites})
    swept = sweep(tiny, several, sites)
    for row, site in enumerate(sites):
        raw = torch.stack([by_hooks(tiny, pair, site) for pair in several])
        expected = torch.stack([raw[:, 0], (raw[:, 1] + raw[:, 2] + raw[:, 3]) / 3], dim=1)
        for got in (patched.conditions[str(site)], swept.values[row]):
            torch.testing.assert_close(got, expected, rtol=0, atol=BATCHED * max(1.0, float(raw.abs().max())))


def test_the_gradient_is_that_of_the_difference_to_the_mean_of_the_wrong(tiny, pairs) -> None:
    """The mean over wrong answers is linear: its slope is the mean of the slopes against each."""
    sites = [mlp.layer(2)["word"]]
    several = attribution(tiny, with_wrong(pairs), sites)
    apart = [attribution(tiny, [replace(p, answers=(11, wrong)) for p in pairs], sites) for wrong in (12, 40, 77)]
    torch.testing.assert_close(several, sum(apart) / 3, rtol=1e-3, atol=1e-6)


def test_what_is_answered_comes_with_its_probability(tiny, pairs) -> None:
    prompts = [pair.base for pair in pairs]
    with torch.no_grad():
        plain = torch.stack([tiny.module(torch.tensor([prompt.ids])).logits[0, -1] for prompt in prompts])
    likeliest = [(int(row.argmax()), 11, 12) for row in plain]
    for answers, said in (([(11, 12, 40)] * len(pairs), False), (likeliest, True)):
        got = answered(tiny, prompts, answers)
        picked = plain.gather(1, torch.tensor(answers))
        torch.testing.assert_close(got.logits, picked, rtol=0, atol=1e-4)
        expected = plain.log_softmax(1).gather(1, torch.tensor(answers))[:, 0]
        torch.testing.assert_close(got.log_probability, expected, rtol=0, atol=1e-4)
        assert got.said.tolist() == [said] * len(pairs)
