"""Edits along directions equal plain hooks, at one layer and at all, in the prompt and in generated tokens."""

from __future__ import annotations

import copy
from dataclasses import replace as changed

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from auditkit.adapters.loading.load import Loaded
from auditkit.adapters.nnterp import NnterpAdapter
from auditkit.engine.conditions import BASE
from auditkit.engine.continuation.divergence import divergence
from auditkit.engine.continuation.generation import generate
from auditkit.engine.continuation.late import late_divergence
from auditkit.engine.continuation.prefix_cached import Tails
from auditkit.engine.continuation.timed import Continued, Timed
from auditkit.engine.crosscheck import cross_check
from auditkit.engine.directions import Along, orthonormal
from auditkit.engine.edits import Edited, add, project_out, unchanging
from auditkit.engine.forward import Donated, execute
from auditkit.engine.guards import GuardTripped
from auditkit.engine.losses import loss, losses
from auditkit.engine.patching.plain import patch
from auditkit.engine.patching.restarted import restarted
from auditkit.engine.sampling import Sample, sampling
from auditkit.engine.sites import SiteError, block_input, mlp, pattern, residual, z
from auditkit.engine.token_logits import token_logits

pytestmark = pytest.mark.unit

TOKENS = (11, 12, 40)


@pytest.fixture(scope="module")
def r() -> torch.Tensor:
    return torch.randn(32, generator=torch.Generator().manual_seed(3))


def hooked(adapter, ids, changes, positions=slice(None), keep=0):
    """The reference: plain hooks after blocks; layer -> change of (1, position, width).

    Args:
        keep: the last positions whose logits (position, vocabulary) are read; 0 for all.
    """
    blocks, handles = adapter.module.model.layers, []
    for layer, change in changes.items():

        def hook(module, args, output, change=change):
            value = (output if isinstance(output, torch.Tensor) else output[0]).clone()
            value[:, positions] = change(value[:, positions])
            return value if isinstance(output, torch.Tensor) else (value, *output[1:])

        handles.append(blocks[layer].register_forward_hook(hook))
    with torch.no_grad():
        options = {"position_ids": torch.arange(len(ids))[None], "use_cache": False, "logits_to_keep": keep}
        logits = adapter.module(
            torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long), **options
        ).logits[0]
    for handle in handles:
        handle.remove()
    return logits


def removed(r):
    u = (r.double() / r.double().norm()).float()
    return lambda h: h - (h * u).sum(-1, keepdim=True) * u


def dosed(r, dose):
    u = (r.double() / r.double().norm()).float()
    return lambda h: h + dose * (h.norm(dim=-1, keepdim=True) * u)


def plain_logits(adapter, run):
    return execute(adapter, [run], Donated())[0][0]


@pytest.mark.parametrize("layers", [(3,), (1, 2, 3), range(6)], ids=["one", "band", "all"])
@pytest.mark.parametrize("positions", ["all", (4, 9)], ids=["everywhere", "some positions"])
def test_an_edit_along_a_direction_equals_plain_hooks(tiny, pairs, r, layers, positions) -> None:
    prompt, site = pairs[0].base, residual.layers(min(layers), max(layers))[positions]
    where = slice(None) if positions == "all" else slice(*positions)
    for edit, change in ((project_out(site, r), removed(r)), (add(site, r, 0.3, relative=True), dosed(r, 0.3))):
        expected = hooked(tiny, prompt.ids, dict.fromkeys(layers, change), where, 1)[-1]
        assert torch.equal(plain_logits(tiny, Edited(prompt, (edit,))), expected)


@pytest.mark.parametrize("positions", ["all", "end", (4, 9)], ids=["everywhere", "a named span", "some positions"])
def test_walks_equal_plain_hooks_whatever_the_padding(tiny, pairs, r, positions) -> None:
    prompts = [pair.base for pair in pairs]
    spans = [{"end": (len(prompt) - 3, len(prompt))} for prompt in prompts]
    other = r.flip(0)
    at = {"all": lambda n: slice(None), "end": lambda n: slice(n - 3, n)}.get(positions, lambda n: slice(4, 9))
    edits, hooks = {}, {}
    for layer in range(6):
        edits[f"out {layer}"] = (project_out(residual.layer(layer)[positions], r),)
        hooks[f"out {layer}"] = {layer: removed(r)}
        edits[f"dose {layer}"] = (add(residual.layer(layer)[positions], other, 0.2, relative=True),)
        hooks[f"dose {layer}"] = {layer: dosed(other, 0.2)}
    edits["band"] = (project_out(residual.layers(1, 3)[positions], torch.stack([r, other])),)
    edits["before"] = (project_out(block_input.layer(2)[positions], r),)
    edits["all"] = (
        project_out(residual.everywhere()[positions], r),
        add(residual.layer(2)[positions], other, 2.0),
    )
    basis = orthonormal(residual.layer(0), torch.stack([r, other]))
    hooks["band"] = dict.fromkeys((1, 2, 3), lambda h: h - (h @ basis.T) @ basis)
    hooks["before"] = {1: removed(r)}
    hooks["all"] = {**dict.fromkeys(range(6), removed(r)), 2: lambda h: removed(r)(h) + 2.0 * other}
    conditions = {name: [own] * len(prompts) for name, own in edits.items()}
    got = token_logits(tiny, prompts, TOKENS, conditions, spans)
    assert set(got.ran.walked) == set(conditions)
    for name, changes in hooks.items():
        for i, prompt in enumerate(prompts):
            expected = hooked(tiny, prompt.ids, changes, at(len(prompt)))[-1, list(TOKENS)]
            torch.testing.assert_close(got.conditions[name][i], expected, rtol=0, atol=2e-5)
    for i, prompt in enumerate(prompts):
        torch.testing.assert_close(got.base[i], hooked(tiny, prompt.ids, {})[-1, list(TOKENS)], rtol=0, atol=2e-5)


def test_losses_of_every_token_equal_plain_hooks(tiny, pairs, r) -> None:
    prompts = [pair.base for pair in pairs]
    spans = [(1, len(p)) if i % 2 else (4, len(p) - 2) for i, p in enumerate(prompts)]
    conditions = {
        "one": [[project_out(residual.layer(2), r)]] * len(prompts),
        "all": [[project_out(residual.everywhere(), r)]] * len(prompts),
        "scored": [[add(residual.layer(4)["scored"], r, 0.5, relative=True)]] * len(prompts),
        "heads": [[project_out(z.layer(1).head(0), r[:8])]] * len(prompts),
    }
    got = losses(tiny, prompts, spans, conditions)
    ran = got["one"].ran
    assert set(ran.walked) == {"one", "all", "scored"}
    assert "heads" in ran.reason
    assert 0 <= ran.identity_error <= 2e-5
    assert 0 <= ran.walk_error <= 2e-5
    changes = {
        "one": {2: removed(r)},
        "all": dict.fromkeys(range(6), removed(r)),
        "scored": {4: dosed(r, 0.5)},
        BASE: {},
    }
    for name, change in changes.items():
        for i, (prompt, (start, stop)) in enumerate(zip(prompts, spans, strict=True)):
            where = slice(start, stop) if name == "scored" else slice(None)
            logits = hooked(tiny, prompt.ids, change, where)[start - 1 : stop - 1].double()
            plain = hooked(tiny, prompt.ids, {})[start - 1 : stop - 1].double()
            wanted = torch.tensor(prompt.ids[start:stop])
            expected = logits.log_softmax(-1).gather(1, wanted[:, None])[:, 0]
            torch.testing.assert_close(got[name].log_probabilities[i], expected, rtol=0, atol=2e-5)
            nats = (plain.log_softmax(-1).exp() * (plain.log_softmax(-1) - logits.log_softmax(-1))).sum(-1)
            torch.testing.assert_close(got[name].divergences[i], nats, rtol=0, atol=2e-5)


# -- guards ----------------------------------------------------------------------------------------------------


def test_a_walk_that_is_not_the_whole_run_is_given_up(tiny, pairs, r, monkeypatch) -> None:
    prompts = [pair.base for pair in pairs]
    conditions = {"out": [[project_out(residual.layer(2), r)]] * len(prompts)}
    expected = token_logits(tiny, prompts, TOKENS, conditions)
    restart = type(tiny).restart
    monkeypatch.setattr(type(tiny), "restart", lambda self, *args: 1.01 * restart(self, *args))
    got = token_logits(tiny, prompts, TOKENS, conditions)
    assert got.ran.walked == ()
    assert got.ran.walk_error == 0
    assert "restarted blocks do not give" in got.ran.reason
    torch.testing.assert_close(got.conditions["out"], expected.conditions["out"], rtol=0, atol=2e-5)
    monkeypatch.setattr(type(tiny), "restart", lambda self, *args: restart(self, *args) + 1e-6)
    near = token_logits(tiny, prompts, TOKENS, conditions)
    assert near.ran.walked == ("out",)
    assert near.ran.walk_error == pytest.approx(1e-6, abs=5e-7), "what walks miss within the noise is kept"


def test_an_edit_that_changes_something_with_factor_0_trips_the_guard(tiny, pairs, r, monkeypatch) -> None:
    monkeypatch.setattr(Along, "of", lambda self, value: torch.full_like(value, torch.nan))
    with pytest.raises(GuardTripped):
        token_logits(tiny, [pairs[0].base], TOKENS, {"out": [[project_out(residual.layer(2), r)]]})


def test_the_first_edited_block_and_token_are_where_the_work_begins(tiny, pairs, r) -> None:
    prompts = [pair.base for pair in pairs]
    few = 3
    sites = [residual.layer(layer)["end"] for layer in range(6)]
    conditions = {str(site): [[project_out(site, r)]] * len(prompts) for site in sites}
    spans = [{"end": (len(prompt) - few, len(prompt))} for prompt in prompts]
    before = tiny.meter.token_layers
    token_logits(tiny, prompts, TOKENS, conditions, spans)
    spent = tiny.meter.token_layers - before
    walks = len(prompts) * few * sum(range(6))
    tokens = sum(map(len, prompts))
    guards = 2 * tokens * 6 + 4 * few * (5 + 5) + 4 * 15 * 6  # at most: four prompts, plain, whole and walked
    assert tokens * 6 + walks < spent <= tokens * 6 + walks + guards


def test_generation_with_a_direction_removed_goes_on_as_if_run_again(tiny, pairs, r) -> None:
    edit = project_out(residual.layers(2, 4), r)
    for when in ("prompt", "generated", "all"):
        runs = [Continued(pair.base, (Timed(edit, when),)) for pair in pairs[:3]]
        said = generate(tiny, runs, 4, stop=False)
        assert said.method == "cached"
        assert said.tokens == generate(tiny, runs, 4, stop=False, cached=False).tokens
        # The first prompt again, by plain hooks: every token by a run of the whole.
        ids, change = list(pairs[0].base.ids), dict.fromkeys((2, 3, 4), removed(r))
        where = {"prompt": slice(0, len(ids)), "generated": slice(len(ids), None), "all": slice(None)}[when]
        for token in said.tokens[0]:
            assert token == int(hooked(tiny, ids, change, where)[-1].argmax())
            ids.append(token)


def test_divergence_under_a_dose_is_that_of_plain_hooks(tiny, pairs, r) -> None:
    prompt, tokens = pairs[0].base, (21, 22, 23)
    edit = Timed(add(residual.layer(3), r, 0.2, relative=True), "all")
    got = divergence(tiny, [prompt], [tokens], {"dose": [Continued(prompt, (edit,))]}).conditions["dose"].nats[0]
    ids, n = [*prompt.ids, *tokens[:-1]], len(tokens)
    plain, moved = (hooked(tiny, ids, change)[-n:].double() for change in ({}, {3: dosed(r, 0.2)}))
    expected = (plain.softmax(-1) * (plain.log_softmax(-1) - moved.log_softmax(-1))).sum(-1)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-6)


def test_the_second_adapter_measures_the_same(tiny, pairs, r) -> None:
    second = NnterpAdapter(
        Loaded("t", "t", "t", copy.deepcopy(tiny.module), tiny.tokenizer, weights_sha256="", tokenizer_sha256="")
    )
    prompts, kept = [pair.base for pair in pairs[:3]], Sample(50, 0)
    conditions = {
        "out": [[project_out(residual.everywhere(), r)]] * 3,
        "dose": [[add(residual.layer(3)[-1], r, 0.3, relative=True)]] * 3,
    }
    with sampling(kept):
        ours = token_logits(tiny, prompts, TOKENS, conditions)
    checked = cross_check(second, kept.kept, tiny.info.parity_max_abs)
    assert (checked.measured, checked.agrees) == (6, True)
    theirs = token_logits(second, prompts, TOKENS, conditions)
    assert theirs.ran.walked == ()
    for name in conditions:
        torch.testing.assert_close(theirs.conditions[name], ours.conditions[name], rtol=0, atol=2e-5)
    wrong = [changed(one, logits=(one.logits[0] + 1, one.logits[1])) for one in kept.kept]
    assert cross_check(second, wrong, tiny.info.parity_max_abs).agrees is False


# -- what projecting and adding are ----------------------------------------------------------------------------

VECTORS = st.integers(0, 10_000).map(lambda seed: torch.randn(32, generator=torch.Generator().manual_seed(seed)))
STATES = VECTORS.map(
    lambda vector: 3 * torch.stack([vector.roll(k) * (1 + k) for k in range(10)]).reshape(2, 5, 32)
)
SITE = residual.layer(0)


def applied(edit, value):
    return edit.keep * value + edit.factor * edit.give.of(value)


@given(VECTORS, STATES, st.floats(1e-20, 1e20))
def test_projecting_out_twice_is_once_and_the_length_counts_for_nothing(r, states, length) -> None:
    once = applied(project_out(SITE, r), states)
    torch.testing.assert_close(applied(project_out(SITE, r), once), once, rtol=0, atol=1e-4)
    torch.testing.assert_close(applied(project_out(SITE, -length * r.double()), states), once, rtol=0, atol=1e-4)
    assert float((once @ (r / r.norm())).abs().max()) < 1e-4


@given(VECTORS, VECTORS, STATES)
def test_an_orthogonal_direction_is_the_identity(r, other, states) -> None:
    unit = r / r.norm()
    flat = applied(project_out(SITE, r), states)
    torch.testing.assert_close(applied(project_out(SITE, unit), flat), flat, rtol=0, atol=1e-4)
    both = (
        applied(project_out(SITE, torch.stack([r, other + 0.1 * r])), states)
        if not torch.equal(r, other)
        else flat
    )
    for one in (r, other):
        assert float((both @ (one / one.norm())).abs().max()) < 2e-4 or torch.equal(r, other)


@given(VECTORS, STATES, st.floats(-1, 1))
def test_what_is_added_along_a_direction_is_what_projecting_removes(r, states, dose) -> None:
    edit = add(SITE, r, dose, relative=True)
    moved = applied(edit, states)
    lengths = (moved - states).norm(dim=-1) / states.norm(dim=-1)
    torch.testing.assert_close(lengths, torch.full_like(lengths, abs(dose)), rtol=0, atol=1e-5)
    out = project_out(SITE, r)
    torch.testing.assert_close(applied(out, moved), applied(out, states), rtol=0, atol=1e-4)
    assert torch.equal(applied(unchanging(edit), states), states)
    assert torch.equal(applied(unchanging(out), states), states)


# -- what cannot be edited ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: project_out(SITE, torch.zeros(32)), "a direction of norm zero points nowhere"),
        (lambda: project_out(SITE, torch.full((32,), torch.inf)), "a direction holds NaN or infinity"),
        (lambda: project_out(SITE, torch.ones(2, 32)), "direction 1 lies in the span of those before it"),
        (lambda: project_out(SITE, torch.ones(1, 2, 32)), r"directions of shape \(1, 2, 32\)"),
        (lambda: project_out(SITE, torch.ones(32), 1.5), "strength 1.5, give 0"),
        (lambda: add(SITE, torch.zeros(32), relative=True), "a direction of norm zero points nowhere"),
        (lambda: add(SITE, torch.ones(2, 32), relative=True), r"shape \(2, 32\) was given; give one vector"),
    ],
)  # fmt: skip
def test_a_direction_that_points_nowhere_is_refused_in_one_line(make, message) -> None:
    with pytest.raises(SiteError, match=message) as error:
        make()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (project_out(residual.layer(1), torch.ones(31)), "a direction of width 31 was given; this model has width 32"),
        (add(mlp.layer(1), torch.ones(33), relative=True), "a direction of width 33 was given"),
        (project_out(pattern.layer(0), torch.ones(9)), "attention probabilities have no direction; use z"),
        (project_out(residual.layer(6), torch.ones(32)), "this model has layers 0 to 5"),
        (project_out(residual.layer(1)[20], torch.ones(32)), "this prompt has positions 0 to 8"),
        (project_out(residual.layer(1)["end"], torch.ones(32)), "no span named 'end'"),
    ],
)  # fmt: skip
def test_a_direction_that_does_not_fit_is_refused_before_anything_runs(tiny, pairs, edit, message) -> None:
    before, prompts = tiny.meter.runs, [pairs[0].base]
    for measure in (
        lambda: token_logits(tiny, prompts, TOKENS, {"out": [[edit]]}),
        lambda: loss(tiny, prompts, [(1, 5)], [[edit]]),
    ):
        with pytest.raises(SiteError, match=message):
            measure()
    assert tiny.meter.runs == before


def test_spans_and_conditions_that_do_not_fit_are_refused(tiny, pairs, r) -> None:
    prompts, edit = [pair.base for pair in pairs[:2]], project_out(residual.layer(1), r)
    for measure, error, message in (
        (lambda: loss(tiny, prompts, [(0, 5)] * 2), SiteError, "the first token is predicted from nothing"),
        (lambda: loss(tiny, prompts, [(1, 50)] * 2), SiteError, "span 1 to 49 of prompt 0"),
        (lambda: loss(tiny, prompts, [(1, 5)]), SiteError, "2 prompts need a span each, got 1"),
        (lambda: loss(tiny, prompts, [(1, 5)] * 2, [edit, edit]), TypeError, "a list with one list of edits"),
        (lambda: token_logits(tiny, prompts, [], {}), SiteError, "no tokens to read"),
        (lambda: token_logits(tiny, [], TOKENS, {}), SiteError, "conditions need prompts"),
        (lambda: token_logits(tiny, prompts, TOKENS, {"": [[edit]] * 2}), SiteError, "a condition needs a name"),
        (lambda: token_logits(tiny, prompts, TOKENS, {"out": [[edit]]}), SiteError, "2 prompts need edits each"),
        (lambda: token_logits(tiny, prompts, TOKENS, {}, [{}]), SiteError, "need named spans each, got 1"),
    ):
        with pytest.raises(error, match=message):
            measure()
    assert torch.equal(loss(tiny, prompts, [(1, 5)] * 2).damage, torch.zeros(2, dtype=torch.float64))


# -- the other ways to run -------------------------------------------------------------------------------------


def test_restarted_patching_and_late_edits_take_directions(tiny, pairs, r) -> None:
    edits = {
        "mlp": project_out(mlp.layers(1, 3), r),
        "stream": add(residual.layer(2)["word"], r, 0.3, relative=True),
    }
    conditions = {name: [[edit]] * len(pairs) for name, edit in edits.items()}
    fast, plain = restarted(tiny, pairs, conditions), patch(tiny, pairs, conditions)
    for name in conditions:
        torch.testing.assert_close(fast.conditions[name], plain.conditions[name], rtol=0, atol=2e-5)
    prompt, tokens = pairs[0].base, (21, 22)
    cut, edit = len(prompt) - 1, project_out(block_input.layer(3)[-1], r)
    tails = Tails(tiny, [prompt], [tokens], [cut])
    late = late_divergence(tails, {"late": [[project_out(block_input.layer(3)[0], r)]]})["late"].nats[0]
    whole = divergence(tiny, [prompt], [tokens], {"late": [Continued(prompt, (edit,))]}).conditions["late"].nats[0]
    torch.testing.assert_close(late, whole, rtol=0, atol=1e-6)
