"""Path patching against hooks written by hand, and on a circuit whose paths are known."""

from __future__ import annotations

import pytest
import torch

from auditkit.engine.patching.paths import path
from auditkit.engine.patching.plain import patch
from auditkit.engine.sites import SiteError, attention, mlp, residual

pytestmark = pytest.mark.unit


def outputs(adapter, prompt, touched: dict[str, torch.Tensor]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Logits with whole module outputs replaced, and every MLP's and attention's output: plain hooks."""
    kept: dict[str, torch.Tensor] = {}
    names = [f"model.layers.{n}.{part}" for n in range(6) for part in ("mlp", "self_attn")]

    def hook(name):
        def after(module, args, output):
            value = output if isinstance(output, torch.Tensor) else output[0]
            value = touched.get(name, value)
            kept[name] = value.clone()
            return value if isinstance(output, torch.Tensor) else (value, *output[1:])

        return after

    handles = [adapter.module.get_submodule(name).register_forward_hook(hook(name)) for name in names]
    with torch.no_grad():
        logits = adapter.module(torch.tensor([prompt.ids])).logits[0, -1]
    for handle in handles:
        handle.remove()
    return logits, kept


def test_frozen_sites_keep_the_base_value(tiny, pairs) -> None:
    pair = pairs[0]
    condition = path(tiny, [pair], [mlp.layer(1)], frozen=[attention.layers(2, 4)])
    got = patch(tiny, [pair], {"path": condition}).conditions["path"][0]
    source, base = outputs(tiny, pair.source, {})[1], outputs(tiny, pair.base, {})[1]
    held = {f"model.layers.{n}.self_attn": base[f"model.layers.{n}.self_attn"] for n in (2, 3, 4)}
    expected = outputs(tiny, pair.base, {"model.layers.1.mlp": source["model.layers.1.mlp"], **held})[0]
    torch.testing.assert_close(got, expected[list(pair.answers)], rtol=0, atol=1e-5)


def test_receivers_alone_pass_the_change_on(tiny, pairs) -> None:
    pair = pairs[0]
    condition = path(tiny, [pair], [mlp.layer(1)], frozen=[attention.layer(2)], receivers=[mlp.layer(4)])
    got = patch(tiny, [pair], {"path": condition}).conditions["path"][0]
    source, base = outputs(tiny, pair.source, {})[1], outputs(tiny, pair.base, {})[1]
    name, held = "model.layers.1.mlp", "model.layers.2.self_attn"
    _, sending = outputs(tiny, pair.base, {name: source[name], held: base[held]})
    expected = outputs(tiny, pair.base, {"model.layers.4.mlp": sending["model.layers.4.mlp"]})[0]
    torch.testing.assert_close(got, expected[list(pair.answers)], rtol=0, atol=1e-5)


def test_on_a_planted_path_freezing_the_carrier_leaves_nothing(planted, pairs) -> None:
    """MLP 2 writes at the word and attention 4 carries it; freezing another block changes nothing."""
    sender = [mlp.layer(2)["word"]]
    conditions = {
        "open": path(planted, pairs, sender),
        "carrier frozen": path(planted, pairs, sender, frozen=[attention.layer(4)]),
        "another frozen": path(planted, pairs, sender, frozen=[attention.layer(3)]),
        "through the carrier": path(planted, pairs, sender, receivers=[attention.layer(4)]),
    }
    patched = patch(planted, pairs, conditions)
    got = patched.conditions
    assert float((got["open"] - patched.base).abs().max()) > 1e-3
    torch.testing.assert_close(got["carrier frozen"], patched.base, rtol=0, atol=1e-5)
    torch.testing.assert_close(got["another frozen"], got["open"], rtol=0, atol=1e-5)
    torch.testing.assert_close(got["through the carrier"], got["open"], rtol=0, atol=1e-5)


def test_a_site_has_one_role_and_receivers_come_after_senders(tiny, pairs) -> None:
    with pytest.raises(SiteError, match="MLP of layer 1 at the word span is a sender and frozen at once"):
        path(tiny, pairs, [mlp.layer(1)["word"]], frozen=[mlp.layer(1)])
    with pytest.raises(SiteError, match="is a receiver and frozen at once"):
        path(tiny, pairs, [mlp.layer(1)], frozen=[attention.layers(2, 4)], receivers=[attention.layer(3)])
    with pytest.raises(SiteError, match="no change from layer 3 on reaches layer 2"):
        path(tiny, pairs, [mlp.layer(3)], receivers=[residual.layer(2)])
    with pytest.raises(SiteError, match="needs a sender"):
        path(tiny, pairs, [])
    path(tiny, pairs, [mlp.layer(1)["word"]], frozen=[mlp.layer(1)[5, 8]])  # other positions of the same MLP
