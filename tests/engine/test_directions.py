"""Edits along directions equal plain hooks, at one layer and at all, in the prompt and in generated tokens."""

from __future__ import annotations

import pytest
import torch

from auditkit.engine.conditions import BASE
from auditkit.engine.directions import orthonormal
from auditkit.engine.edits import Edited, add, project_out
from auditkit.engine.forward import Donated, execute
from auditkit.engine.losses import losses
from auditkit.engine.sites import block_input, residual, z
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
    assert set(got["one"].ran.walked) == {"one", "all", "scored"}
    assert "heads" in got["one"].ran.reason
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
