"""Late edits: the same numbers as plain hooks on whole runs, at the price of the tails, guarded."""

from __future__ import annotations

from dataclasses import replace as changed

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from auditkit.adapters.chat import Prompt
from auditkit.adapters.protocol import Component, Memory, Support
from auditkit.engine.continuation.divergence import divergence
from auditkit.engine.continuation.late import late_divergence, late_losses
from auditkit.engine.continuation.prefix_cached import Tails
from auditkit.engine.continuation.timed import Continued
from auditkit.engine.edits import add, replace
from auditkit.engine.forward import capture
from auditkit.engine.guards import GuardTripped
from auditkit.engine.sites import SiteError, block_input, mlp, z

pytestmark = pytest.mark.unit

CONTINUATIONS = [(21, 22, 23), (31,), (41, 42), (51, 52, 53, 54)]
CUTS = (5, 11, 8, 3)


def prompt(length: int, seed: int) -> Prompt:
    generator = torch.Generator().manual_seed(seed)
    return Prompt("", tuple(torch.randint(10, 300, (length,), generator=generator).tolist()))


PROMPTS = [prompt(9, 1), prompt(12, 2), prompt(9, 3), prompt(15, 4)]


def vector(seed: int, width: int) -> torch.Tensor:
    return torch.randn(width, generator=torch.Generator().manual_seed(seed))


def hooked(adapter, row: int, layer: int, value: torch.Tensor | None) -> torch.Tensor:
    """Log probabilities over the window, by the plain module with a plain hook that overwrites one position."""

    def hook(module, args, kwargs):
        hidden = args[0].clone()
        hidden[0, CUTS[row]] = value
        return (hidden, *args[1:]), kwargs

    handles = []
    if value is not None:
        block = adapter.module.model.layers[layer]
        handles.append(block.register_forward_pre_hook(hook, with_kwargs=True))
    ids = [*PROMPTS[row].ids, *CONTINUATIONS[row][:-1]]
    with torch.no_grad():
        logits = adapter.module(torch.tensor([ids])).logits[0, -len(CONTINUATIONS[row]) :]
    for handle in handles:
        handle.remove()
    return logits.double().log_softmax(-1)


def test_the_windows_divergence_equals_plain_forward_hooks(tiny) -> None:
    tails = Tails(tiny, PROMPTS, CONTINUATIONS, CUTS)
    given_ = [vector(row, tiny.width) for row in range(4)]
    measured = late_divergence(tails, {"given": [[replace(block_input.layer(1)[0], value)] for value in given_]})
    for row, value in enumerate(given_):
        log_p, log_q = hooked(tiny, row, 1, None), hooked(tiny, row, 1, value)
        expected = (log_p.exp() * (log_p - log_q)).sum(-1)
        torch.testing.assert_close(measured["given"].nats[row], expected, rtol=0, atol=1e-5)
        assert measured["given"].agrees[row].tolist() == (log_p.argmax(-1) == log_q.argmax(-1)).tolist()
        assert float(expected.sum()) > 1e-3


@settings(max_examples=25)
@given(st.integers(0, 5), st.integers(1, 8), st.integers(0, 3), st.integers(0, 99))
def test_it_is_divergence_at_the_price_of_tails(tiny, layer: int, cut: int, row: int, seed: int) -> None:
    """Wherever the cut and the layer are."""
    one, tokens, value = PROMPTS[row], CONTINUATIONS[row], vector(seed, tiny.width)
    tails = Tails(tiny, [one], [tokens], [cut])
    late = late_divergence(tails, {"it": [[add(block_input.layer(layer)[0], value)]]})["it"]
    whole = divergence(
        tiny, [one], [tokens], {"it": [Continued(one, (add(block_input.layer(layer)[cut], value),))]}
    )
    torch.testing.assert_close(late.nats[0], whole.conditions["it"].nats[0], rtol=1e-4, atol=1e-5)


def test_what_is_read_is_what_a_whole_run_has(tiny) -> None:
    places = [(Component.BLOCK_INPUT, 0), (Component.MLP, 3)]
    read = Tails(tiny, PROMPTS, CONTINUATIONS, CUTS).read(places)
    for row, (one, tokens) in enumerate(zip(PROMPTS, CONTINUATIONS, strict=True)):
        _, seen = capture(tiny, tiny.batch([Prompt("", (*one.ids, *tokens[:-1]))]), places)
        for place in places:
            torch.testing.assert_close(read[row][place], seen[place][0, CUTS[row] :], rtol=1e-4, atol=1e-4)


def test_a_shared_head_is_run_once_and_conditions_cost_their_tails(tiny) -> None:
    same = [Prompt("", (*PROMPTS[3].ids[:12], token)) for token in (20, 30, 40)]
    tails = Tails(tiny, same, [(1, 2)] * 3, [12] * 3)
    run = tails.forced([[add(mlp.layer(0)[0], vector(0, tiny.width))]] * 3)
    before = tiny.meter.token_layers
    run.logits([0, 1, 2])
    assert tiny.meter.token_layers - before == (12 + 3 * 2) * tiny.layers
    before = tiny.meter.token_layers
    tails.forced().logits([0, 1, 2])
    assert tiny.meter.token_layers - before == 3 * 2 * tiny.layers


def test_a_row_costs_the_blocks_from_its_edit_on(tiny) -> None:
    """The plain run is made once: for the reference, for restarts, and for rows without edits."""
    same = [Prompt("", (*PROMPTS[3].ids[:12], token)) for token in (20, 30, 40)]
    tails = Tails(tiny, same, [(1, 2)] * 3, [12] * 3)
    value = vector(0, tiny.width)
    given_ = {
        str(n): [[add(block_input.layer(n)[0], value), replace(block_input.layer(n)[1], value)]] * 3
        for n in (1, 4)
    }
    given_["none"], given_["both"] = [[]] * 3, [[edits[0] for edits in (given_["1"][0], given_["4"][0])]] * 3
    assert [tails.start(edits[0]) for edits in given_.values()] == [1, 4, tiny.layers, None]
    made, reference = tails.together(given_), tails.forced()
    expected = {
        "reference": (12 + 3 * 2) * tiny.layers,
        "1": 3 * 2 * (tiny.layers - 1 + tiny.layers - 4 + tiny.layers),  # as many as fit are run at once
        "4": 0,
        "none": 0,
        "both": 0,
    }
    for name, run in {"reference": reference, **made}.items():
        before = tiny.meter.token_layers
        logits = run.logits([0, 1, 2])
        assert tiny.meter.token_layers - before == expected[name], name
        plain = Tails(tiny, same, [(1, 2)] * 3, [12] * 3, restarts=False).forced(given_.get(name))
        torch.testing.assert_close(logits, plain.logits([0, 1, 2]), rtol=1e-5, atol=1e-5)


def test_rows_of_several_lengths_keep_their_plain_runs(tiny) -> None:
    tails = Tails(tiny, PROMPTS, CONTINUATIONS, CUTS)
    tails._most = 1  # every condition in a batch of its own
    every = {
        str(n): [[add(block_input.layer(n)[0], vector(row, tiny.width))] for row in range(4)] for n in (1, 3, 5)
    }
    before, made = tiny.meter.token_layers, tails.together(every)
    for run in (tails.forced(), *made.values()):
        run.logits([0, 1, 2, 3])
    whole = [len(p) + len(c) - 1 for p, c in zip(PROMPTS, CONTINUATIONS, strict=True)]
    rests = sum(whole) - sum(CUTS)
    least = tiny.layers * sum(whole) + rests * sum(tiny.layers - n for n in (1, 3, 5))
    assert tiny.meter.token_layers - before == least


def test_restarts_that_miss_the_edited_run_are_given_up_and_the_reason_is_kept(tiny, monkeypatch) -> None:
    edits = {str(n): [[add(block_input.layer(n)[0], vector(0, tiny.width))]] * 4 for n in (2, 3)}
    expected = late_divergence(Tails(tiny, PROMPTS, CONTINUATIONS, CUTS, restarts=False), edits)
    restart = type(tiny).restart_window
    monkeypatch.setattr(type(tiny), "restart_window", lambda self, *args: 1.001 * restart(self, *args))
    tails = Tails(tiny, PROMPTS, CONTINUATIONS, CUTS)
    got = late_divergence(tails, edits)
    assert "restarts at block 2 (block_input) miss the logits of the edited run" in tails.missed
    for name in edits:
        torch.testing.assert_close(got[name].totals, expected[name].totals, rtol=1e-6, atol=1e-6)


def test_heads_and_mlps_edited_in_several_blocks_join_at_the_first_of_them(tiny) -> None:
    same = [Prompt("", (*PROMPTS[3].ids[:12], token)) for token in (20, 30, 40)]
    size = tiny.sizes[Component.Z, 2]
    edits = [
        [
            replace(z.layer(4).head(0)[0, 2], vector(row, size)[None, None]),
            replace(z.layer(2).head(1)[1], vector(9 + row, size)[None, None]),
            add(mlp.layer(3)[0], vector(20 + row, tiny.width)),
        ]
        for row in range(3)
    ]
    tails = Tails(tiny, same, [(1, 2)] * 3, [12] * 3)
    assert tails.start(edits[0]) == 2
    assert tails.start([*edits[0], add(block_input.layer(2)[0], vector(3, tiny.width))]) == 2
    assert tails.start([*edits[0], add(block_input.layer(3)[0], vector(3, tiny.width))]) is None
    made = tails.together({"it": edits, "none": [[]] * 3})
    before = tiny.meter.token_layers
    logits = made["it"].logits([0, 1, 2])
    assert tiny.meter.token_layers - before == 12 * tiny.layers + 3 * 2 * (tiny.layers + tiny.layers - 2)
    plain = Tails(tiny, same, [(1, 2)] * 3, [12] * 3, restarts=False).forced(edits)
    torch.testing.assert_close(logits, plain.logits([0, 1, 2]), rtol=1e-5, atol=1e-5)
    assert (logits - made["none"].logits([0, 1, 2])).abs().max() > 1e-3
    late_losses(tails, {"it": edits})
    assert not tails.missed


def test_without_restarts_or_kept_keys_and_values_longer_runs_give_the_same(tiny, monkeypatch) -> None:
    value = vector(1, tiny.width)
    places = [(Component.BLOCK_INPUT, 2)]

    def both() -> tuple:
        tails = Tails(tiny, PROMPTS, CONTINUATIONS, CUTS)
        measured = late_divergence(tails, {"it": [[replace(block_input.layer(2)[0], value)]] * 4})
        return measured["it"].totals, tails.read(places)

    totals, read = both()
    for missing in ("blockwise", "generation"):
        offered = dict(tiny.support()) | {missing: Support(False, "not here")}
        with monkeypatch.context() as patched:
            patched.setattr(tiny, "support", lambda offered=offered: offered)
            others, reread = both()
        torch.testing.assert_close(totals, others, rtol=1e-6, atol=1e-5)
        for one, other in zip(read, reread, strict=True):
            torch.testing.assert_close(one[places[0]], other[places[0]], rtol=1e-4, atol=1e-4)


def test_tails_that_miss_the_whole_run_trip(tiny, monkeypatch) -> None:
    extend = type(tiny).extend

    def off(self, past, batch, touches=None, tokens=1):
        logits, memory = extend(self, past, batch, touches, tokens)
        spoilt = Memory(memory.batch, [keys * 1.5 for keys in memory.keys], memory.values)
        return logits, memory if past is not None else spoilt

    monkeypatch.setattr(type(tiny), "extend", off)
    with pytest.raises(GuardTripped, match="plain tails miss the logits of prompt 0"):
        late_divergence(
            Tails(tiny, PROMPTS, CONTINUATIONS, CUTS),
            {"it": [[add(mlp.layer(0)[0], vector(0, tiny.width))]] * 4},
        )


@pytest.mark.parametrize(
    ("cuts", "continuations", "wrong"),
    [
        ((0, 1, 1, 1), CONTINUATIONS, "a cut after 0 of a prompt's 9 tokens; give 1 to one less"),
        ((9, 1, 1, 1), CONTINUATIONS, "a cut after 9 of a prompt's 9 tokens"),
        (CUTS, [(1,), (), (1,), (1,)], "at least one token each"),
    ],
)
def test_cuts_and_windows_that_cannot_be(tiny, cuts, continuations, wrong: str) -> None:
    with pytest.raises(SiteError, match=wrong):
        Tails(tiny, PROMPTS, continuations, cuts)


def test_edits_that_cannot_be_made_are_refused_before_anything_runs(tiny) -> None:
    tails = Tails(tiny, PROMPTS, CONTINUATIONS, CUTS)
    good = replace(block_input.layer(0)[0], vector(0, tiny.width))
    wrong = {
        "counted from the cut on": changed(good, site=block_input.layer(0)),
        "give a tensor": changed(good, give=PROMPTS[0]),
        "this prompt has positions 0 to": changed(good, site=block_input.layer(0)[40]),
        r"a tensor of shape \(3,\)": changed(good, give=torch.zeros(3)),
    }
    before = tiny.meter.runs
    for message, edit in wrong.items():
        with pytest.raises(SiteError, match=message):
            late_divergence(tails, {"it": [[edit]] * 4})
    assert tiny.meter.runs == before


def test_conditions_in_one_batch_are_those_run_alone(tiny) -> None:
    """However many fit, and whatever order somebody takes them in."""
    tails = Tails(tiny, PROMPTS, CONTINUATIONS, CUTS)
    every = {
        str(n): [[add(block_input.layer(n % 6)[0], vector(10 * n + row, tiny.width))] for row in range(4)]
        for n in range(7)
    }
    every["none"] = [[] for _ in range(4)]
    plain = Tails(tiny, PROMPTS, CONTINUATIONS, CUTS, restarts=False)
    alone = {name: plain.forced(edits).logits([0, 1, 2, 3]) for name, edits in every.items()}
    for most in (1024, 60, 1):
        tails._most = most
        for names in (list(every), list(reversed(every))):
            together = tails.together(every)
            for name in names:
                torch.testing.assert_close(together[name].logits([0, 1, 2, 3]), alone[name], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(alone["none"], tails.forced().logits([0, 1, 2, 3]))


def test_where_memory_ends_fewer_conditions_are_run_at_once(tiny, monkeypatch) -> None:
    tails = Tails(tiny, PROMPTS, CONTINUATIONS, CUTS)
    every = {str(n): [[add(mlp.layer(0)[0], vector(n, tiny.width))]] * 4 for n in range(6)}
    expected = late_divergence(tails, every)
    batch, refused = type(tiny).batch, []

    def small(self, prompts):
        if len(prompts) > 5:
            refused.append(len(prompts))
            raise torch.OutOfMemoryError
        return batch(self, prompts)

    monkeypatch.setattr(type(tiny), "batch", small)
    got = late_divergence(tails, every)
    assert refused
    for name in every:
        torch.testing.assert_close(got[name].totals, expected[name].totals, rtol=1e-6, atol=1e-6)


def test_losses_under_late_edits_of_a_span_equal_plain_forward_hooks(tiny) -> None:
    """A head's output is replaced at several positions of the tail, by a tensor for each of them."""
    same = [prompt(14, seed) for seed in (5, 6, 7)]
    tokens = [(21, 22, 23), (31, 32, 33), (41, 42, 43)]
    tails = Tails(tiny, same, tokens, [9] * 3)
    size = tiny.sizes[Component.Z, 2]
    values = [torch.randn(4, size, generator=torch.Generator().manual_seed(row)) for row in range(3)]
    edits = [[replace(z.layer(2).head(1)[2, 6], value[:, None])] for value in values]
    losses = late_losses(tails, {"as it is": [[]] * 3, "replaced": edits})
    for row in range(3):
        ids = torch.tensor([[*same[row].ids, *tokens[row][:-1]]])
        for name, value in (("as it is", None), ("replaced", values[row])):

            def hook(module, args, value=value):
                if value is None:
                    return None
                changed_ = args[0].clone()
                changed_[0, 11:15, size : 2 * size] = value
                return (changed_, *args[1:])

            handle = tiny.module.model.layers[2].self_attn.o_proj.register_forward_pre_hook(hook)
            with torch.no_grad():
                logits = tiny.module(ids).logits[0, -3:]
            handle.remove()
            expected = torch.nn.functional.cross_entropy(logits, torch.tensor(tokens[row]), reduction="none")
            torch.testing.assert_close(losses[name][row].float(), expected, rtol=1e-4, atol=1e-4)
