"""Teacher-forced divergence: equal to plain arithmetic on plain hooks, exactly 0 for equal runs, and guarded."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from auditkit.adapters.chat import Prompt
from auditkit.adapters.protocol import Component
from auditkit.engine import batching
from auditkit.engine.continuation import divergence as module
from auditkit.engine.continuation.divergence import compare, divergence, nats
from auditkit.engine.continuation.generation import generate
from auditkit.engine.continuation.timed import Continued, Timed
from auditkit.engine.continuation.transplant import PrefixGraft, prefixes
from auditkit.engine.edits import add, replace, scale
from auditkit.engine.guards import GuardTripped
from auditkit.engine.sites import SiteError, attention, block_input, mlp, residual

pytestmark = pytest.mark.unit

LOGITS = arrays("float32", (2, 7), elements=st.floats(-30, 30, width=32)).map(torch.from_numpy)


def prompt(length: int, seed: int) -> Prompt:
    generator = torch.Generator().manual_seed(seed)
    return Prompt("", tuple(torch.randint(10, 300, (length,), generator=generator).tolist()))


PROMPTS = [prompt(9, 1), prompt(12, 2), prompt(9, 3), prompt(15, 4)]
CONTINUATIONS = [(21, 22, 23), (31,), (41, 42), (51, 52, 53, 54)]


def log_probabilities(adapter, ids, window, hooks=()) -> torch.Tensor:
    """The reference: one prompt through the plain module with plain hooks, in float64."""
    handles = [adapter.module.get_submodule(name).register_forward_hook(hook) for name, hook in hooks]
    with torch.no_grad():
        logits = adapter.module(torch.tensor([ids])).logits[0, -window:]
    for handle in handles:
        handle.remove()
    return logits.double().log_softmax(-1)


def by_hand(p: torch.Tensor, q: torch.Tensor) -> list[float]:
    """The definition, one token of the vocabulary at a time."""
    return [
        math.fsum(math.exp(a) * (a - b) for a, b in zip(one, other, strict=True))
        for one, other in zip(p.tolist(), q.tolist(), strict=True)
    ]


@given(LOGITS, LOGITS)
def test_it_is_the_definition_and_never_negative_beyond_rounding(p: torch.Tensor, q: torch.Tensor) -> None:
    got = nats(p, q)
    expected = torch.tensor(by_hand(p.double().log_softmax(-1), q.double().log_softmax(-1)), dtype=torch.float64)
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-12)
    assert float(got.min()) >= -1e-12
    assert nats(p, p).tolist() == [0.0, 0.0]


@given(LOGITS, LOGITS, st.floats(-800, 800))
def test_a_constant_added_to_all_logits_changes_nothing(p: torch.Tensor, q: torch.Tensor, shift: float) -> None:
    torch.testing.assert_close(nats(p.double(), q.double() + shift), nats(p, q), rtol=1e-9, atol=1e-11)


def test_logits_far_apart_neither_overflow_nor_vanish() -> None:
    p, q = torch.tensor([[2000.0, 0.0], [0.0, 1.0]]), torch.tensor([[0.0, 2000.0], [0.0, 1.0]])
    assert nats(p, q).tolist() == pytest.approx([2000.0, 0.0])


@given(LOGITS, arrays("float32", (2, 7), elements=st.floats(-1, 1, width=32)).map(torch.from_numpy))
def test_logits_that_move_by_f_diverge_by_at_most_half_its_square(p: torch.Tensor, by: torch.Tensor) -> None:
    """The floor of the guards: Hoeffding's lemma."""
    moved = p.double() + by.double()
    assert float(nats(p.double(), moved).max()) <= float(by.abs().max()) ** 2 / 2 + 1e-12


def test_tokens_that_are_ruled_out_count_nothing_and_ruling_out_a_likely_one_is_infinite() -> None:
    p = torch.tensor([[0.0, 0.0, -torch.inf]])
    q = torch.tensor([[1.0, 1.0, -torch.inf]])
    assert nats(p, q).tolist() == [0.0]
    assert nats(p, torch.tensor([[0.0, -torch.inf, 0.0]])).tolist() == [math.inf]


def test_edits_and_other_prompts_equal_plain_hooks(tiny) -> None:
    vector = torch.linspace(-3, 3, 32)
    steered = [
        Continued(
            p,
            (
                scale(mlp.layer(2)[3, 6], 0.5),
                Timed(add(residual.layer(3), vector), "generated"),
                Timed(add(residual.layer(1), vector, -1.0), "generated", (0, 2)),
            ),
        )
        for p in PROMPTS
    ]
    others = [Prompt("", (5, *p.ids)) for p in PROMPTS]
    got = divergence(tiny, PROMPTS, CONTINUATIONS, {"steered": steered, "others": others, "same": PROMPTS})
    for row, (p, tokens) in enumerate(zip(PROMPTS, CONTINUATIONS, strict=True)):
        length, window = len(p), len(tokens)

        def halve(m, a, out):
            out = out.clone()
            out[:, 3:6] *= 0.5
            return out

        def push(m, a, out, length=length):
            out = out.clone()
            out[:, length:] += vector
            return out

        def pull(m, a, out, length=length):
            out = out.clone()
            for step in (0, 2):
                out[:, length + step : length + step + 1] -= vector
            return out

        ids = (*p.ids, *tokens[:-1])
        base = log_probabilities(tiny, ids, window)
        hooks = (("model.layers.2.mlp", halve), ("model.layers.3", push), ("model.layers.1", pull))
        for name, q in (
            ("steered", log_probabilities(tiny, ids, window, hooks)),
            ("others", log_probabilities(tiny, (5, *ids), window)),
        ):
            assert got.conditions[name].nats[row].tolist() == pytest.approx(by_hand(base, q), rel=1e-4, abs=1e-7)
            assert torch.equal(got.conditions[name].agrees[row], base.argmax(-1) == q.argmax(-1))
            assert float(got.conditions[name].totals[row]) == pytest.approx(sum(by_hand(base, q)), rel=1e-4)
            assert float(got.conditions[name].totals[row]) > 1e-3
        assert got.conditions["same"].nats[row].tolist() == [0.0] * window
        assert got.conditions["same"].agrees[row].all()


def test_a_planted_circuit_is_the_only_one_that_moves_the_distribution(planted) -> None:
    """Only MLP 2 and the attention of layer 4 write to the stream; a donor differs at position 3."""
    donors = [Prompt("", (*p.ids[:3], 301, *p.ids[4:])) for p in PROMPTS]

    def condition(site):
        return [Continued(p, (replace(site, d),)) for p, d in zip(PROMPTS, donors, strict=True)]

    sites = {f"mlp {n}": mlp.layer(n)[3] for n in range(6)}
    sites |= {f"attention {n}": attention.layer(n)[-1] for n in range(6)}
    sites["everything"] = block_input.layer(0)
    got = divergence(planted, PROMPTS, CONTINUATIONS, {name: condition(site) for name, site in sites.items()})
    moved = {name for name, value in got.conditions.items() if float(value.totals.max()) > got.floor}
    assert moved == {"mlp 2", "attention 4", "everything"}
    # What the donor's whole prompt does, its embeddings do.
    source = divergence(planted, PROMPTS, CONTINUATIONS, {"donors": donors}).conditions["donors"]
    for one, other in zip(source.nats, got.conditions["everything"].nats, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-9)
    # The donor's attention at the prompt's last token decides the first token and none of the later ones.
    for value in got.conditions["attention 4"].nats:
        assert float(value[0]) > got.floor
        assert all(float(nat) <= got.floor for nat in value[1:])


def test_a_transplant_is_a_condition_like_any_other(tiny) -> None:
    own = [PrefixGraft(p, 4, p, 4) for p in PROMPTS]
    other = [PrefixGraft(p, 4, prompt(6, 9), 6) for p in PROMPTS]
    joined = [Prompt("", prompt(6, 9).ids + p.ids[4:]) for p in PROMPTS]
    conditions = {
        "own": prefixes(tiny, own, CONTINUATIONS),
        "other": prefixes(tiny, other, CONTINUATIONS),
        "joined": joined,
    }
    got = divergence(tiny, PROMPTS, CONTINUATIONS, conditions).conditions
    assert float(got["own"].totals.max()) <= 1e-9
    torch.testing.assert_close(got["other"].totals, got["joined"].totals, rtol=1e-4, atol=1e-9)
    assert float(got["other"].totals.min()) > 1e-3


def test_small_batches_change_nothing(tiny, monkeypatch) -> None:
    conditions = {"scaled": [Continued(p, (scale(mlp.layer(1), 0.0),)) for p in PROMPTS]}
    whole = divergence(tiny, PROMPTS, CONTINUATIONS, conditions).conditions["scaled"].totals
    runs = tiny.meter.runs
    divergence(tiny, PROMPTS, CONTINUATIONS, conditions)
    once = tiny.meter.runs - runs
    monkeypatch.setattr(batching, "TOKEN_BUDGET", 20)
    monkeypatch.setattr(module, "LOGIT_BUDGET", 1)
    runs = tiny.meter.runs
    pieces = divergence(tiny, PROMPTS, CONTINUATIONS, conditions).conditions["scaled"].totals
    assert tiny.meter.runs - runs > once
    torch.testing.assert_close(whole, pieces, rtol=1e-4, atol=1e-9)


class Small:
    """An adapter on a device with room for two rows."""

    def __init__(self, adapter) -> None:
        self._adapter = adapter

    def __getattr__(self, name):
        return getattr(self._adapter, name)

    def _fits(self, batch) -> None:
        if len(batch) > 2:
            raise torch.OutOfMemoryError("no room for three rows")

    def predict(self, batch, touches=None, tokens=1):
        self._fits(batch)
        return self._adapter.predict(batch, touches, tokens)

    def extend(self, past, batch, touches=None, tokens=1):
        self._fits(batch)
        return self._adapter.extend(past, batch, touches, tokens)


def test_a_small_device_gives_the_same_numbers(tiny) -> None:
    """Divergence, transplants and generation, guards included."""
    small = Small(tiny)
    edited = [Continued(p, (scale(mlp.layer(1), 0.0),)) for p in PROMPTS]
    grafts = [PrefixGraft(p, 4, prompt(6, 9), 6) for p in PROMPTS]
    got, expected = (
        divergence(a, PROMPTS, CONTINUATIONS, {"edited": edited, "graft": prefixes(a, grafts, CONTINUATIONS)})
        for a in (small, tiny)
    )
    for name in ("edited", "graft"):
        torch.testing.assert_close(
            got.conditions[name].totals, expected.conditions[name].totals, rtol=1e-4, atol=1e-9
        )
    assert generate(small, edited, 5, stop=False).tokens == generate(tiny, edited, 5, stop=False).tokens


# -- guards and bad input --------------------------------------------------------------------------------------


class Tampered:
    def __init__(self, adapter, predict) -> None:
        self._adapter, self._predict = adapter, predict

    def __getattr__(self, name):
        return getattr(self._adapter, name)

    def predict(self, batch, touches=None, tokens=1):
        return self._predict(self._adapter, batch, touches, tokens)


def scaled(site=None):
    return {"scaled": [Continued(p, (scale(site or mlp.layer(1), 0.0),)) for p in PROMPTS]}


def test_guards_report_what_they_measured(tiny) -> None:
    got = divergence(tiny, PROMPTS, CONTINUATIONS, scaled())
    assert 0 <= got.identity_error <= got.floor < 1e-6
    assert 0 <= got.full_patch_error <= got.floor


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ((Component.MLP, 1), "identity edit moves the distribution"),
        ((Component.BLOCK_INPUT, 0), "full patch misses the source run's distribution"),
    ],
)
def test_an_adapter_that_disturbs_is_found_out(tiny, place, message) -> None:
    def noisy(adapter, batch, touches, tokens):
        logits = adapter.predict(batch, touches, tokens)
        return logits + (0.05 * torch.linspace(-1, 1, logits.shape[-1]) if place in (touches or {}) else 0)

    with pytest.raises(GuardTripped, match=message):
        divergence(Tampered(tiny, noisy), PROMPTS, CONTINUATIONS, scaled())


def test_an_edit_that_never_fires_is_an_error(tiny) -> None:
    def deaf(adapter, batch, touches, tokens):
        return adapter.predict(batch, None, tokens)

    with pytest.raises(GuardTripped, match="fired 0 times in one run instead of once"):
        divergence(Tampered(tiny, deaf), PROMPTS, CONTINUATIONS, scaled())


def test_logits_that_are_not_numbers_are_an_error(tiny) -> None:
    def broken(adapter, batch, touches, tokens):
        logits = adapter.predict(batch, touches, tokens)
        logits[0, -1, 3] = float("nan")
        return logits

    with pytest.raises(GuardTripped):
        divergence(Tampered(tiny, broken), PROMPTS, CONTINUATIONS, {"same": PROMPTS})


@pytest.mark.parametrize(
    ("continuations", "conditions", "error", "message"),
    [
        (CONTINUATIONS[:2], {}, SiteError, "4 runs need one continuation of at least one token each"),
        ([(), *CONTINUATIONS[1:]], {}, SiteError, "4 runs need one continuation"),
        (CONTINUATIONS, {"few": PROMPTS[:2]}, SiteError, "2 runs need one continuation"),
        (CONTINUATIONS, scaled(mlp.layer(9)), SiteError, "this model has layers 0 to 5"),
        (CONTINUATIONS, scaled(mlp.layer(1)["who"]), SiteError, "no span named 'who'"),
    ],
)
def test_bad_input_is_refused_before_anything_runs(tiny, continuations, conditions, error, message) -> None:
    runs = tiny.meter.runs
    with pytest.raises(error, match=message):
        divergence(tiny, PROMPTS, continuations, conditions)
    assert tiny.meter.runs == runs


def test_other_windows_cannot_be_compared(tiny) -> None:
    own = [PrefixGraft(p, 4, p, 4) for p in PROMPTS]
    one = prefixes(tiny, own, CONTINUATIONS)
    with pytest.raises(ValueError, match="condition 'one' is not over the continuations of the reference"):
        compare(tiny, prefixes(tiny, own, [(1,)] * 4), {"one": one})
