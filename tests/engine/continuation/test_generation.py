"""Generation: when edits act, when it stops, and numbers that cannot be trusted are refused."""

from __future__ import annotations

from types import SimpleNamespace

import msgspec
import pytest
import torch

from auditkit.adapters.chat import Prompt
from auditkit.adapters.protocol import Support
from auditkit.engine import batching
from auditkit.engine.continuation import generation
from auditkit.engine.continuation.generation import generate, likeliest
from auditkit.engine.continuation.timed import Continued, Timed
from auditkit.engine.edits import Edit, add, replace, scale, zero
from auditkit.engine.guards import GuardTripped, pieces_floor
from auditkit.engine.sites import SiteError, attention, block_input, mlp, pattern, residual

pytestmark = pytest.mark.unit

VECTOR = torch.linspace(-2, 2, 32)


def prompt(length: int, seed: int) -> Prompt:
    generator = torch.Generator().manual_seed(seed)
    return Prompt("", tuple(torch.randint(10, 300, (length,), generator=generator).tolist()))


PROMPTS = [prompt(9, 1), prompt(12, 2), prompt(9, 3), prompt(15, 4), prompt(7, 5), prompt(7, 6)]


def steered(when="all", steps=None, edit=None):
    return [Continued(p, (Timed(edit or add(residual.layer(2), VECTOR, 2.0), when, steps),)) for p in PROMPTS]


def test_ties_go_to_the_lowest_id() -> None:
    best, ids = likeliest(torch.tensor([[1.0, 3.0, 3.0, 2.0], [5.0, 5.0, 5.0, 5.0]]))
    assert best.tolist() == [3.0, 5.0]
    assert ids.tolist() == [1, 0]


def test_the_highest_logit_is_torchs_one_and_nan_where_one_is() -> None:
    logits = torch.randn(40, 333, generator=torch.Generator().manual_seed(0)).round(decimals=1)
    logits[3], logits[5, 7], logits[6, 8], logits[9, 2] = -torch.inf, -torch.inf, torch.inf, torch.nan
    best, ids = likeliest(logits)
    assert torch.equal(best.nan_to_num(99), logits.amax(-1).nan_to_num(99))
    assert ids[9] == 2
    rest = [row for row in range(40) if row != 9]
    assert ids[rest].tolist() == [int((logits[row] == best[row]).nonzero()[0, 0]) for row in rest]


@pytest.mark.parametrize("when", ["prompt", "generated", "all"])
def test_cached_equals_whole_and_batched_equals_single(tiny, when, monkeypatch) -> None:
    runs = steered(when)
    got = generate(tiny, runs, 8, stop=False)
    assert got.method == "cached"
    assert got.reason == ""
    whole = generate(tiny, runs, 8, stop=False, cached=False)
    assert (whole.method, whole.reason) == ("whole", "asked for")
    assert got.tokens == whole.tokens
    assert got.tokens == tuple(generate(tiny, [run], 8, stop=False).tokens[0] for run in runs)
    assert got.tokens != generate(tiny, PROMPTS, 8, stop=False).tokens
    monkeypatch.setattr(batching, "TOKEN_BUDGET", 30)
    assert generate(tiny, runs, 8, stop=False).tokens == got.tokens


def test_all_is_the_prompt_and_the_generated_tokens(tiny) -> None:
    edit = add(residual.layer(2), VECTOR, 2.0)
    both = [Continued(p, (edit, Timed(edit, "generated"))) for p in PROMPTS]
    assert generate(tiny, both, 6, stop=False).tokens == generate(tiny, steered(), 6, stop=False).tokens


def planted(adapter) -> tuple[Edit, int]:
    """An edit that leaves nothing but one direction at the end of the stream, and the token that it says."""
    with torch.no_grad():
        direction = adapter.module.lm_head.weight[123]
        token = int(adapter.module.lm_head(adapter.module.model.norm(direction)).argmax())
    return Edit(residual.layer(5), 0.0, direction.clone()), token


@pytest.mark.parametrize("step", [0, 2, 4])
def test_an_edit_at_a_step_decides_the_token_after_it_and_none_up_to_it(tiny, step) -> None:
    edit, token = planted(tiny)
    plain = generate(tiny, PROMPTS, 6, stop=False)
    got = generate(tiny, steered("generated", (step,), edit), 6, stop=False)
    for one, other in zip(plain.tokens, got.tokens, strict=True):
        assert other[: step + 1] == one[: step + 1]
        assert other[step + 1] == token
    assert any(one[step + 1] != token for one in plain.tokens)


def test_a_planted_edit_makes_every_token_the_planted_one(tiny) -> None:
    edit, token = planted(tiny)
    got = generate(tiny, steered("all", None, edit), 5, stop=False)
    assert got.tokens == ((token,) * 5,) * len(PROMPTS)


def test_the_last_token_is_never_read_and_so_never_edited(tiny) -> None:
    plain = generate(tiny, PROMPTS, 4, stop=False)
    assert generate(tiny, steered("generated", (3,)), 4, stop=False).tokens == plain.tokens


def test_donors_act_in_the_prompt(tiny) -> None:
    """The donor's embeddings everywhere: what follows is what follows the donor."""
    donors = [Prompt("", p.ids[::-1]) for p in PROMPTS]
    runs = [Continued(p, (replace(block_input.layer(0), d),)) for p, d in zip(PROMPTS, donors, strict=True)]
    assert generate(tiny, runs, 6, stop=False).tokens == generate(tiny, donors, 6, stop=False).tokens


def test_a_text_ends_where_the_model_ends_it(tiny, monkeypatch) -> None:
    free = generate(tiny, PROMPTS, 8, stop=False)
    end = free.tokens[0][2]
    monkeypatch.setattr(tiny, "ends", (end,))
    got = generate(tiny, PROMPTS, 8)
    for row, (one, all_) in enumerate(zip(got.tokens, free.tokens, strict=True)):
        expected = all_[: all_.index(end) + 1] if end in all_ else all_
        assert one == expected, row
    assert len(got.tokens[0]) <= 3
    assert generate(tiny, PROMPTS, 8, cached=False).tokens == got.tokens
    assert len(got.scores[0]) == len(got.tokens[0])


def test_texts_are_the_decoded_tokens(tiny) -> None:
    got = generate(tiny, PROMPTS[:1], 4, stop=False)
    assert got.texts[0] == tiny.tokenizer.decode(list(got.tokens[0]), skip_special_tokens=True)


def test_ends_come_from_the_model(tiny) -> None:
    assert tiny.ends == (tiny.module.config.eos_token_id,)


def test_the_cost_is_as_declared(tiny) -> None:
    before = tiny.meter.token_layers
    generate(tiny, PROMPTS, 5, stop=False)
    cached = [tiny.layers * (len(p) + 5 - 1) for p in PROMPTS]
    assert tiny.meter.token_layers - before == sum(cached) + sum(cached[:4]), "and whole runs of the first few"
    before = tiny.meter.token_layers
    generate(tiny, [Continued(p, (zero(mlp.layer(1)),)) for p in PROMPTS], 5, stop=False)
    assert tiny.meter.token_layers - before == sum(cached) + 3 * sum(cached[:4]), "and edits that change nothing"


@pytest.mark.parametrize("site", [block_input.layer(1), attention.layer(2), mlp.layer(0), pattern.layer(1)])
@pytest.mark.parametrize("position", ["last", 4, (3, 6), "all"])
def test_one_text_under_several_edits_goes_on_as_each_does_alone(tiny, site, position) -> None:
    edits = [scale(site[position], factor) for factor in (0.0, 0.3, 0.7)]
    runs = [Continued(p, chosen) for p in PROMPTS[:3] for chosen in ((), *((edit,) for edit in edits))]
    got = generate(tiny, runs, 6, stop=False)
    assert got.method == "cached"
    assert got.tokens == generate(tiny, runs, 6, stop=False, cached=False).tokens
    assert got.tokens == tuple(generate(tiny, [run], 6, stop=False).tokens[0] for run in runs)


@pytest.mark.parametrize(("position", "rest"), [("last", 1), (5, 4), ("all", 9)])
def test_what_edited_prompts_begin_with_is_run_once(tiny, monkeypatch, position, rest) -> None:
    monkeypatch.setattr(generation, "GUARDED_ROWS", 0)
    runs = [Continued(PROMPTS[0], (scale(mlp.layer(1)[position], k),)) for k in (0.0, 0.3, 0.7)]
    before = tiny.meter.token_layers
    generate(tiny, runs, 5, stop=False)
    assert tiny.meter.token_layers - before == tiny.layers * ((9 - rest) * (1 if rest < 9 else 3) + 3 * (rest + 4))


# -- guards ----------------------------------------------------------------------------------------------------


class Tampered:
    def __init__(self, adapter, extend=None, support=None) -> None:
        self._adapter, self._extend, self._support = adapter, extend, support

    def __getattr__(self, name):
        return getattr(self._adapter, name)

    def support(self):
        return self._support or self._adapter.support()

    def extend(self, past, batch, touches=None, tokens=1):
        return self._extend(self._adapter, past, batch, touches, tokens)


def test_an_adapter_that_keeps_the_keys_of_the_plain_run_is_found_out(tiny) -> None:
    """The classic mistake: later steps go on from the unedited prompt."""

    def forgetful(adapter, past, batch, touches, tokens):
        logits, _ = adapter.extend(past, batch, touches, tokens)
        spent = adapter.meter.token_layers  # the meter is not what gives it away here
        _, memory = adapter.extend(past, batch, None, tokens)
        adapter.meter.token_layers = spent
        return logits, memory

    with pytest.raises(GuardTripped, match="run as one sequence, the tokens generated for prompt 0 get scores"):
        generate(Tampered(tiny, forgetful), steered("prompt"), 5, stop=False)


def test_edits_that_change_nothing_and_do_are_an_error(tiny) -> None:
    def noisy(adapter, past, batch, touches, tokens):
        logits, memory = adapter.extend(past, batch, touches, tokens)
        if touches and past is not None:
            logits[..., 7] += 1e3
        return logits, memory

    with pytest.raises(GuardTripped, match="edits that change nothing change token 1 of prompt 0"):
        generate(Tampered(tiny, noisy), steered(), 5, stop=False)


def test_an_edit_that_does_not_fire_at_a_step_is_an_error(tiny) -> None:
    def deaf(adapter, past, batch, touches, tokens):
        return adapter.extend(past, batch, touches if past is None else None, tokens)

    with pytest.raises(GuardTripped, match="residual of layer 2 fired 0 times in one run instead of once"):
        generate(Tampered(tiny, deaf), steered(), 5, stop=False)


def test_logits_that_are_not_numbers_are_an_error(tiny) -> None:
    def broken(adapter, past, batch, touches, tokens):
        logits, memory = adapter.extend(past, batch, touches, tokens)
        return logits * float("nan"), memory

    with pytest.raises(GuardTripped, match="logits contain NaN"):
        generate(Tampered(tiny, broken), PROMPTS, 3)


def test_without_a_cache_the_whole_is_run_and_the_result_says_why(tiny) -> None:
    support = {**tiny.support(), "generation": Support(False, "it keeps a state of its own")}
    got = generate(Tampered(tiny, support=support), steered(), 5, stop=False)
    assert (got.method, got.reason) == ("whole", "it keeps a state of its own")
    assert got.tokens == generate(tiny, steered(), 5, stop=False).tokens


# -- bad input -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Timed(zero(mlp.layer(1)), "later"), "when is 'later'; say prompt, generated or all"),
        (lambda: Timed(zero(mlp.layer(1)), "prompt", (1,)), "steps count generated tokens"),
        (lambda: Timed(zero(mlp.layer(1)), "all", ()), r"steps \(\) asked for"),
        (lambda: Timed(zero(mlp.layer(1)), "all", (-1,)), r"steps \(-1,\) asked for"),
        (lambda: Timed(zero(mlp.layer(1)), "all", (2, 2)), r"steps \(2, 2\) asked for"),
        (lambda: Timed(zero(mlp.layer(1)[2]), "generated"), "named by their step, not by a position"),
        (lambda: Timed(zero(pattern.layer(1)), "all"), "have no fixed number of keys"),
        (lambda: Timed(replace(mlp.layer(1), PROMPTS[0]), "all"), "a donor has no generated tokens"),
        (
            lambda: Timed(add(mlp.layer(1), torch.ones(2, 32)), "all"),
            r"shape \(2, 32\) was given; give one for one",
        ),
    ],
)
def test_times_that_make_no_sense_are_refused(make, message) -> None:
    with pytest.raises(SiteError, match=message):
        make()


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (Timed(zero(mlp.layer(6)), "generated"), "this model has layers 0 to 5"),
        (zero(attention.layer(1)[40]), "this prompt has positions 0 to 8"),
        (Timed(add(mlp.layer(1), torch.ones(31)), "generated"), r"a tensor of shape \(31,\) was given"),
        (replace(mlp.layer(1), PROMPTS[1]), "the donor has 12 tokens and the prompt 9"),
    ],
)
def test_edits_that_cannot_be_made_are_refused_before_anything_runs(tiny, edit, message) -> None:
    runs = tiny.meter.runs
    with pytest.raises(SiteError, match=message):
        generate(tiny, [Continued(PROMPTS[0], (edit,))], 3)
    assert tiny.meter.runs == runs


def test_nothing_to_generate_is_refused(tiny) -> None:
    with pytest.raises(ValueError, match="0 tokens asked for"):
        generate(tiny, PROMPTS, 0)
    with pytest.raises(ValueError, match="no prompts"):
        generate(tiny, [], 3)


def test_scaling_by_one_is_the_plain_text(tiny) -> None:
    got = generate(tiny, steered("all", None, scale(mlp.everywhere(), 1.0)), 5, stop=False)
    assert got.tokens == generate(tiny, PROMPTS, 5, stop=False).tokens


@pytest.mark.parametrize(("parity", "floor"), [(1e-7, 160 * 2.0**-23 * 20), (0.125, 0.5)])
def test_runs_in_pieces_have_the_measured_floor_and_the_rounding_of_float32(tiny, parity, floor) -> None:
    """Whatever the dtype: in bfloat16 an epsilon is no rounding of sums, it is larger than any effect."""
    for dtype in ("float32", "bfloat16"):
        info = msgspec.structs.replace(tiny.info, parity_max_abs=parity, dtype=dtype)
        adapter = SimpleNamespace(info=info)
        assert pieces_floor(adapter, torch.tensor([3.0, -20.0])) == pytest.approx(floor)
