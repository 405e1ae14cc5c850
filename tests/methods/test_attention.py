"""Shares of attention against eager attention and a direct computation, on families that differ where it matters."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor

from auditkit.adapters import open_model
from auditkit.adapters.chat import Prompt
from auditkit.adapters.hf.adapter import HFAdapter
from auditkit.adapters.loading.load import Loaded
from auditkit.adapters.loading.quiet import quiet
from auditkit.adapters.protocol import Component, Support
from auditkit.claims.outcomes import NotApplicable
from auditkit.data.prompts import Chat
from auditkit.engine.edits import Edited, replace
from auditkit.engine.sites import SiteError, embeddings, mlp, residual
from auditkit.methods.attention import answer_side, shares

pytestmark = pytest.mark.unit

ROUNDING = 2e-6
SIZES = {
    "vocab_size": 400, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 64, "pad_token_id": 0,
}  # fmt: skip
GPT2 = {
    "vocab_size": 400,
    "n_embd": 32,
    "n_layer": 3,
    "n_head": 4,
    "n_positions": 64,
    "pad_token_id": 0,
    "eos_token_id": 2,
}  # the family's own default lies beyond so few tokens
FAMILIES = {
    "llama": SIZES,  # groups of heads share keys and values
    "gemma3_text": SIZES | {"sliding_window": 8},  # norms of queries and keys, a norm behind the projection
    "gpt2": GPT2,  # no groups, another layout of weights, biases
    "gpt_oss": SIZES | {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 64},  # attention sinks
}


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", params=FAMILIES)
def adapter(request: pytest.FixtureRequest, tiny_llama: Path) -> HFAdapter:
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(3)
    with quiet():
        module = AutoModelForCausalLM.from_config(AutoConfig.for_model(request.param, **FAMILIES[request.param]))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    tokenizer = open_model(str(tiny_llama)).tokenizer
    return HFAdapter(
        Loaded("tiny", "tiny", "test", module.eval().requires_grad_(False), tokenizer, "0" * 64, "0" * 64)
    )


@pytest.fixture(scope="module")
def runs() -> list[Edited]:
    generator = torch.Generator().manual_seed(5)
    made = []
    for length, word, answer in (
        (9, (2, 3), (6, 9)),
        (14, (3, 5), (11, 14)),
        (9, (1, 2), (8, 9)),
        (11, (4, 6), (7, 11)),
    ):
        ids = torch.randint(3, 290, (length,), generator=generator).tolist()
        made.append(Edited(Prompt("", tuple(ids)), (), {"word": word, "answer": answer}))
    return made


def directly(adapter: HFAdapter, run: Edited) -> Tensor:
    """(query, count, layer, head) by eager attention of one prompt alone, values from hooks, and the weights."""
    twin = copy.deepcopy(adapter.module)
    twin.set_attn_implementation("eager")
    values: dict[int, Tensor] = {}
    if adapter.info.family == "gpt2":
        parts = [block.attn for block in twin.transformer.h]
        read = [(part.c_attn, lambda out: out[..., 64:].unflatten(-1, (4, 8))) for part in parts]
        weights = [part.c_proj.weight.reshape(4, 8, 32) for part in parts]
    else:
        parts = [block.self_attn for block in twin.model.layers]
        read = [(part.v_proj, lambda out: out.unflatten(-1, (2, 8)).repeat_interleave(2, -2)) for part in parts]
        weights = [part.o_proj.weight.T.reshape(4, 8, 32) for part in parts]
    for n, (module, by_head) in enumerate(read):
        module.register_forward_hook(
            lambda module, args, out, n=n, by_head=by_head: values.__setitem__(n, by_head(out)[0])
        )
    with torch.no_grad():
        patterns = twin(torch.tensor([run.prompt.ids]), output_attentions=True).attentions
    (first, last), (begin, end) = run.spans["word"], run.spans["answer"]
    layers = []
    for n, pattern in enumerate(patterns):
        lengths = torch.einsum("khs,hsw->khw", values[n], weights[n]).norm(dim=-1).T  # (head, key)
        p, w = pattern[0], pattern[0] * lengths[:, None]
        each = torch.stack(
            [
                p[..., first:last].sum(-1),
                p[..., first:last].sum(-1) / p[..., 1:].sum(-1),
                w[..., first:last].sum(-1) / w.sum(-1),
            ]
        )  # (count, head, query)
        layers.append(torch.stack([each[..., -1], each[..., begin:end].mean(-1)]))
    return torch.stack(layers, 2)


def test_all_counts_are_those_of_eager_attention(adapter: HFAdapter, runs: list[Edited], monkeypatch) -> None:
    got, logits = shares(adapter, runs, "word", ("last", "answer"))
    assert got.shape == (2, 4, 3, 3, 4)
    assert logits.shape == (4, 0)
    for i, run in enumerate(runs):
        torch.testing.assert_close(got[:, i], directly(adapter, run), rtol=0, atol=ROUNDING)
    monkeypatch.setattr("auditkit.methods.attention.QUERIES", 2)
    few, _ = shares(adapter, runs, "word", ("last", "answer"))
    torch.testing.assert_close(few, got, rtol=0, atol=ROUNDING)


def test_shares_lie_between_none_and_all_and_those_of_all_tokens_but_the_first_add_up(adapter, runs) -> None:
    spans = [{f"token {n}": (n, n + 1) for n in range(1, 9)} for _ in runs]
    short = [Edited(Prompt("", run.prompt.ids[:9]), (), span) for run, span in zip(runs, spans, strict=True)]
    each = torch.stack([shares(adapter, short, name)[0] for name in spans[0]])
    assert each.min() >= 0
    assert each.max() <= 1 + ROUNDING
    # No window hides the tokens from 1 on from the last of 9 tokens.
    torch.testing.assert_close(each.sum(0)[:, :, 1], torch.ones(1, 4, 3, 4), rtol=0, atol=1e-5)
    assert (each.sum(0)[:, :, 0] <= 1 + ROUNDING).all()


def test_attention_is_read_with_the_edits_in_place(adapter: HFAdapter, runs: list[Edited]) -> None:
    """Given all of another prompt, a run attends as that one does; given its own, as it did."""
    host, donor = runs[0], Edited(Prompt("", tuple(reversed(runs[2].prompt.ids))), (), runs[0].spans)
    own, other = (shares(adapter, [run], "word", ("last", "answer"))[0] for run in (host, donor))
    assert (own - other).abs().max() > 0.01
    whole, same, nowhere = (
        Edited(host.prompt, (edit,), host.spans)
        for edit in (
            replace(embeddings, donor.prompt),
            replace(mlp.layer(1)["word"], host.prompt),
            replace(residual.layer(adapter.layers - 1), donor.prompt),
        )
    )
    got, _ = shares(adapter, [whole, same, nowhere], "word", ("last", "answer"))
    if adapter.info.family != "gpt2":  # which adds positions to the embeddings
        torch.testing.assert_close(got[:, 0], other[:, 0], rtol=0, atol=ROUNDING)
    torch.testing.assert_close(got[:, 1], own[:, 0], rtol=0, atol=ROUNDING)
    torch.testing.assert_close(got[:, 2], own[:, 0], rtol=0, atol=ROUNDING)


def test_an_edit_of_values_changes_the_weighting_and_not_the_weights(
    adapter: HFAdapter, runs: list[Edited]
) -> None:
    from auditkit.engine.edits import scale
    from auditkit.engine.sites import v

    run = runs[1]
    plain, _ = shares(adapter, [run], "word")
    halved, _ = shares(adapter, [Edited(run.prompt, (scale(v.layer(1)["word"], 0.5),), run.spans)], "word")
    torch.testing.assert_close(halved[:, :, :2, :2], plain[:, :, :2, :2], rtol=0, atol=ROUNDING)
    before, after = plain[0, 0, 2, 1], halved[0, 0, 2, 1]
    torch.testing.assert_close(after, 0.5 * before / (1 - 0.5 * before), rtol=0, atol=ROUNDING)


def test_answer_logits_are_those_of_a_plain_run_and_the_cost_is_one_run(adapter, runs) -> None:
    before = adapter.meter.token_layers
    _, logits = shares(adapter, runs, "word", answers=[(11, 12)] * len(runs))
    assert adapter.meter.token_layers - before == adapter.layers * sum(len(run.prompt) for run in runs)
    for run, row in zip(runs, logits, strict=True):
        plain = adapter.run(adapter.batch([run.prompt]))[0, [11, 12]]
        torch.testing.assert_close(row, plain, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("spans", "message"),
    [({"word": (0, 2)}, "holds the first token"), ({"other": (1, 2)}, "no span named 'word'; this prompt has")],
)
def test_a_span_that_is_not_there_is_refused_before_anything_runs(adapter, runs, spans, message) -> None:
    before = adapter.meter.runs
    with pytest.raises(SiteError, match=message):
        shares(adapter, [*runs, Edited(runs[0].prompt, (), spans)], "word")
    assert adapter.meter.runs == before


def test_a_model_that_shows_no_attention_is_not_applicable(adapter, runs, monkeypatch) -> None:
    for component in (Component.PATTERN, Component.V):
        support = {**adapter.support(), component: Support(False, "it has none")}
        monkeypatch.setattr(adapter, "support", lambda support=support: support)
        with pytest.raises(NotApplicable, match="touched on this model: it has none"):
            shares(adapter, runs, "word")
        monkeypatch.undo()


def test_the_answer_side_is_what_follows_the_turn(tiny_llama: Path) -> None:
    adapter = open_model(str(tiny_llama))
    for start in ("The capital of France is", "Paris", ""):
        prompt = adapter.chat(Chat(system="You are a good student.", user="What is it?", assistant=start))
        first, last = answer_side(adapter, prompt)
        assert last == len(prompt)
        expected = start or "\n"
        assert adapter.tokenizer.decode(prompt.ids[first:last]) == expected
    assert answer_side(adapter, Prompt("nothing of a chat", (5, 6, 7))) == (2, 3)


@pytest.mark.parametrize("span", [(2, 4), (7, 9)])
def test_what_prompts_begin_with_is_run_once_and_changes_no_share(adapter, span, monkeypatch) -> None:
    """The span stands in what is run once, or behind it, in prompts of unequal length."""
    monkeypatch.setattr("auditkit.engine.continuation.shared_prefix.WORTH", 4)
    heads = [tuple(range(30, 36)), tuple(range(40, 47))]
    tails = [(50, 51, 52, 53), (60, 61, 62), (80, 61, 70, 71, 72)]
    runs = [
        Edited(Prompt("", head + tail), (), {"word": span, "answer": (len(head + tail) - 2, len(head + tail))})
        for head in heads
        for tail in tails
    ]
    before = adapter.meter.token_layers
    got, logits = shares(adapter, runs, "word", ("last", "answer"), [(11, 12)] * len(runs))
    spent = (adapter.meter.token_layers - before) / adapter.layers
    assert spent <= sum(map(len, heads)) + 2 * 3 * 5 < sum(len(run.prompt) for run in runs)
    for i, run in enumerate(runs):
        torch.testing.assert_close(got[:, i], directly(adapter, run), rtol=0, atol=2 * ROUNDING)
        plain = adapter.run(adapter.batch([run.prompt]))[0, [11, 12]]
        torch.testing.assert_close(logits[i], plain, rtol=0, atol=1e-4)
