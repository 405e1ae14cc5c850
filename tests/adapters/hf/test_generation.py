"""Going on from a run, of every family: cached equals whole, batched equals single, edits equal plain hooks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from listed import agrees
from torch import Tensor

from auditkit.adapters.chat import Prompt
from auditkit.adapters.errors import ModelError
from auditkit.adapters.hf.adapter import HFAdapter
from auditkit.adapters.protocol import Batch, Component
from auditkit.claims.outcomes import NotApplicable
from auditkit.engine.continuation.divergence import divergence
from auditkit.engine.continuation.generation import generate
from auditkit.engine.continuation.timed import Continued, Timed
from auditkit.engine.edits import add, replace, scale, zero
from auditkit.engine.sites import Site, residual, v

pytestmark = pytest.mark.unit

ROUNDING = 1e-5
"""Largest fp32 difference between one computation in another order; the largest seen over all families is 2e-6."""

REFUSED = {"lfm2_hybrid": "going on from a run fails: IndexError"}  # convolutions keep a state of their own

BLOCKS = {
    **dict.fromkeys(
        (
            "gpt2",
            "gptj",
            "codegen",
            "gpt_neo",
            "gpt_bigcode",
            "bloom",
            "falcon",
            "falcon_sequential",
            "falcon_new",
        ),
        "transformer.h",
    ),
    "gpt_neox": "gpt_neox.layers",
    "mpt": "transformer.blocks",
    "biogpt": "biogpt.layers",
    **dict.fromkeys(("opt", "opt_projected"), "model.decoder.layers"),
}
TOKENS = 6
SPAN = (2, 4)
VECTOR = torch.linspace(-2, 2, 32)


@pytest.fixture(scope="module")
def prompts() -> list[Prompt]:
    """Longer than the families' windows, of three lengths."""
    generator = torch.Generator().manual_seed(3)
    return [Prompt("", tuple(torch.randint(3, 290, (n,), generator=generator).tolist())) for n in (7, 10, 7, 13)]


def slowly(adapter: HFAdapter, family: str, prompt: Prompt, donor: Prompt) -> tuple[list[int], Tensor]:
    """The reference: every step runs the whole sequence, unpadded, with plain hooks; nothing of the engine."""
    blocks: Any = adapter.module.get_submodule(BLOCKS.get(family, "model.layers"))
    kept: list[Tensor] = []
    length = len(prompt)

    def hook(layer: int, change):
        def after(module, args, output):
            value = (output if isinstance(output, Tensor) else output[0]).clone()
            change(value)
            return value if isinstance(output, Tensor) else (value, *output[1:])

        return blocks[layer].register_forward_hook(after)

    def run(ids: tuple[int, ...]) -> Tensor:
        with torch.no_grad():
            return adapter.module(torch.tensor([ids]), use_cache=False).logits[0, -1]

    def first(value: Tensor) -> None:
        value[:, slice(*SPAN)] = kept[0][:, slice(*SPAN)]
        value[:, length:] += VECTOR

    def second(value: Tensor) -> None:
        for step in (1, 3):
            value[:, length + step : length + step + 1] *= 0.25

    handle = hook(1, lambda value: kept.append(value))
    run(donor.ids)
    handle.remove()
    handles = [hook(1, first), hook(0, second)]
    ids, logits = prompt.ids, []
    for _ in range(TOKENS):
        logits.append(run(ids))
        ids = (*ids, int(logits[-1].argmax()))
    for handle in handles:
        handle.remove()
    return list(ids[length:]), torch.stack(logits)


def steered(prompt: Prompt) -> tuple[Continued, Prompt]:
    donor = Prompt("", tuple(reversed(prompt.ids)))
    edits = (
        replace(residual.layer(1)[SPAN], donor),
        Timed(add(residual.layer(1), VECTOR), "generated"),
        Timed(scale(residual.layer(0), 0.25), "generated", (1, 3)),
    )
    return Continued(prompt, edits), donor


def test_going_on_is_offered_or_refused_with_the_reason(family: str, adapter: HFAdapter) -> None:
    support = adapter.support()["generation"]
    agrees(bool(support), family not in REFUSED, f"generation of {family} ({support.reason})")
    assert bool(support) == (not support.reason)
    if not support:
        agrees(support.reason.startswith(REFUSED.get(family, "")), True, f"{family}: {support.reason}")


def test_predictions_at_every_position_are_the_modules_own(adapter: HFAdapter, prompts: list[Prompt]) -> None:
    batch = adapter.batch(prompts)
    got = adapter.predict(batch, None, 7)
    for row, prompt in enumerate(prompts):
        with torch.no_grad():
            plain = adapter.module(torch.tensor([prompt.ids])).logits[0, -7:]
        torch.testing.assert_close(got[row], plain, rtol=0, atol=ROUNDING)
    torch.testing.assert_close(got[:, -1], adapter.run(batch), rtol=0, atol=ROUNDING)
    with pytest.raises(ValueError, match="after the last 14 tokens asked for, this batch has 13 positions"):
        adapter.predict(batch, None, 14)


def test_a_run_in_pieces_is_the_whole_run(family: str, adapter: HFAdapter, prompts: list[Prompt]) -> None:
    """Pieces of several lengths, on prompts padded to different widths; a memory can be gone on from twice."""
    start = adapter.batch([Prompt("", p.ids[:-6]) for p in prompts])
    if not adapter.support()["generation"]:
        with pytest.raises(ModelError, match="going on from a run fails"):
            adapter.extend(None, start)
        return
    before = adapter.meter.token_layers
    _, memory = adapter.extend(None, start)
    shape = [keys.shape for keys in memory.keys]
    for pieces in ((6,), (1, 2, 3)):
        past, got, at = memory, [], -6
        for size in pieces:
            ids = torch.tensor([p.ids[at : at + size or None] for p in prompts])
            logits, past = adapter.extend(past, Batch(ids, torch.ones_like(ids), (0,) * len(ids)), None, size)
            got.append(logits)
            at += size
        whole = adapter.predict(adapter.batch(prompts), None, 6)
        torch.testing.assert_close(torch.cat(got, 1), whole, rtol=0, atol=ROUNDING)
        assert past.batch.width == 13
        assert [keys.shape for keys in memory.keys] == shape
    tokens = sum(map(len, prompts))
    assert adapter.meter.token_layers - before == 3 * (tokens - 6 * 4 + 2 * 6 * 4 + 2 * tokens)


def test_generation_with_edits_equals_plain_hooks_without_a_cache(
    family: str, adapter: HFAdapter, prompts: list[Prompt]
) -> None:
    runs, donors = zip(*map(steered, prompts), strict=True)
    got = generate(adapter, runs, TOKENS, stop=False)
    assert got.method == ("cached" if adapter.support()["generation"] else "whole")
    for row, (prompt, donor) in enumerate(zip(prompts, donors, strict=True)):
        tokens, logits = slowly(adapter, family, prompt, donor)
        assert list(got.tokens[row]) == tokens
        scores = torch.tensor(got.scores[row])
        torch.testing.assert_close(scores, logits.amax(-1), rtol=0, atol=ROUNDING)
    plain = generate(adapter, prompts, TOKENS, stop=False)
    assert plain.tokens != got.tokens  # there is something to get wrong


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma2", "mistral", "gpt_oss", "falcon_new"])
def test_every_component_acts_alike_cached_and_whole(
    name: str, open_family: Callable[[str], HFAdapter], prompts: list[Prompt]
) -> None:
    """In the prompt from a donor, and at generated tokens; a divergence from the plain run shows that it acts."""
    adapter, prompts = open_family(name), prompts[:2]
    conditions: dict[str, list[Continued]] = {}
    inside = {part for part in (Component.K, Component.V) if adapter.support()[part]}
    for component in (part for part in Component if adapter.support()[part]):
        layer = 0 if component is Component.EMBEDDINGS else 1
        conditions[component] = [
            Continued(p, (replace(Site(component, layer, layer, position=(len(p) - 3, len(p) - 1)), donor),))
            for p, donor in ((p, Prompt("", p.ids[::-1])) for p in prompts)
        ]
        if component is not Component.PATTERN:
            edit = Timed(scale(Site(component, layer, layer), 0.5), "generated")
            conditions[f"{component} generated"] = [Continued(p, (edit,)) for p in prompts]
    for kept in (True, False):
        runs = [run for name, some in conditions.items() if (name.split()[0] in inside) != kept for run in some]
        if not runs:
            continue
        got = generate(adapter, runs, 4, stop=False)
        whole = generate(adapter, runs, 4, stop=False, cached=False)
        assert got.method == ("cached" if kept else "whole")
        assert got.tokens == whole.tokens
        for one, other in zip(got.scores, whole.scores, strict=True):
            assert one == pytest.approx(other, abs=ROUNDING)
    moved = divergence(adapter, prompts, [(21, 22, 23)] * len(prompts), conditions)
    for name, condition in moved.conditions.items():
        assert float(condition.totals.min()) > moved.floor, name


def test_going_on_with_other_rows_is_refused(llama: HFAdapter) -> None:
    _, memory = llama.extend(None, llama.batch([Prompt("", (5, 6, 7))]))
    with pytest.raises(ValueError, match="2 prompts cannot go on from a run of 1"):
        llama.extend(memory, llama.batch([Prompt("", (1,)), Prompt("", (2,))]))


def test_padding_between_tokens_is_refused_and_before_the_first_is_not(llama: HFAdapter) -> None:
    whole = llama.batch([Prompt("", (5, 6, 7, 8, 9)), Prompt("", (5, 6))])
    _, memory = llama.extend(None, whole.columns(0, 2))
    got, _ = llama.extend(memory, whole.columns(2, 5))
    torch.testing.assert_close(got[:, 0], llama.run(whole), rtol=0, atol=ROUNDING)
    _, memory = llama.extend(None, whole.columns(0, 4))
    with pytest.raises(ValueError, match="padding between the tokens of a prompt"):
        llama.extend(memory, whole.columns(2, 5))


def test_edited_values_are_seen_by_every_later_step(llama: HFAdapter, prompts: list[Prompt]) -> None:
    """What the cache keeps are the values before the edit, so the whole is run again at every step."""
    runs = [Continued(p, (zero(v.layer(1)[SPAN]),)) for p in prompts]
    if not llama.support()[Component.V]:
        with pytest.raises(NotApplicable, match=r"values of layer 1 .* cannot be touched on this model"):
            generate(llama, runs, TOKENS)
        return
    got = generate(llama, runs, TOKENS, stop=False)
    assert (got.method, got.reason) == ("whole", "the v that later steps find kept are not the edited ones")

    def forget(module, args, output):
        output = output.clone()
        output[:, slice(*SPAN)] = 0
        return output

    handle = llama.module.model.layers[1].self_attn.v_proj.register_forward_hook(forget)
    for row, prompt in enumerate(prompts):
        ids, scores = prompt.ids, []
        for _ in range(TOKENS):
            with torch.no_grad():
                logits = llama.module(torch.tensor([ids]), use_cache=False).logits[0, -1]
            scores.append(float(logits.max()))
            ids = (*ids, int(logits.argmax()))
        assert got.tokens[row] == ids[-TOKENS:]
        assert list(got.scores[row]) == pytest.approx(scores, abs=ROUNDING)
    handle.remove()
    assert got.scores != generate(llama, prompts, TOKENS, stop=False).scores
