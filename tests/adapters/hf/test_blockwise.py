"""Restarts of every family: offered where they are exact, refused with the reason where they are not."""

from __future__ import annotations

import pytest
import torch
from listed import agrees

from auditkit.adapters.chat import Prompt
from auditkit.adapters.errors import ModelError
from auditkit.adapters.hf import blockwise
from auditkit.adapters.hf.adapter import HFAdapter
from auditkit.adapters.hf.touches import keep
from auditkit.adapters.hf.walk import Cache
from auditkit.adapters.protocol import Component, Joining, Memory, Place, Shape, Support
from auditkit.engine.pairs import PatchPair
from auditkit.engine.patching.plain import patch
from auditkit.engine.patching.sweep import grid, sweep

pytestmark = pytest.mark.unit

BATCHED = 2e-5
"""In units of the largest logit; the largest difference seen over all families is 8e-7."""

REFUSED = {
    # the model gives its last stream the shape of the prompts, not of the rows
    "gpt_bigcode": "restarting from a block fails: RuntimeError: shape ",
    # convolutions keep a state of their own
    "lfm2_hybrid": "restarting from a block fails: IndexError",
}

OTHER_CACHE = {"deepseek_v3": "the cache of layer 0 keeps another k than attention meets"}


@pytest.fixture
def pairs() -> list[PatchPair]:
    """Longer than the families' windows; first differences at several places."""
    generator = torch.Generator().manual_seed(1)
    made = []
    for length, differ in ((9, 3), (12, 0), (9, 8), (15, 5)):
        ids = torch.randint(10, 290, (length,), generator=generator).tolist()
        other = [*ids[:differ], ids[differ] + 7, *ids[differ + 1 :]]
        spans = {"word": (differ, differ + 1)}
        made.append(PatchPair(Prompt("", tuple(ids)), Prompt("", tuple(other)), (11, 12), spans))
    return made


def test_restarts_are_offered_or_refused_with_the_reason(family: str, adapter: HFAdapter) -> None:
    support = adapter.support()["blockwise"]
    agrees(bool(support), family not in REFUSED, f"restarts of {family} ({support.reason})")
    assert bool(support) == (not support.reason)
    if not support:
        agrees(support.reason.startswith(REFUSED.get(family, "")), True, f"{family}: {support.reason}")


def test_a_sweep_equals_one_site_at_a_time(family: str, adapter: HFAdapter, pairs: list[PatchPair]) -> None:
    components = [component for component in Component if adapter.support()[component]]
    sites = grid(components, range(adapter.layers), ["all", "word", -1, 3, (2, 6)])
    sites = [site for site in sites if site.component is not Component.EMBEDDINGS or site.first == 0]
    sites += [site.head(adapter.groups - 1) for site in sites[::2] if site.component.shape is not Shape.STREAM]
    swept = sweep(adapter, pairs, sites)
    assert bool(swept.reason) == (swept.method == "plain")
    agrees(swept.method, "plain" if family in (*REFUSED, *OTHER_CACHE) else "wavefront", f"sweep of {family}")
    agrees(swept.reason.startswith((REFUSED | OTHER_CACHE).get(family, "")), True, f"{family}: {swept.reason}")
    # One site in each row, and many rows in each whole run.
    patched = patch(adapter, pairs * len(sites), {"one": [[site] for site in sites for _ in pairs]})
    expected = patched.conditions["one"].reshape(swept.values.shape)
    scale = float(expected.abs().max())
    torch.testing.assert_close(swept.values, expected, rtol=0, atol=BATCHED * scale)
    assert float((expected - swept.base).abs().max()) > 0.1 * scale  # there is something to get wrong


def test_a_window_of_restarted_rows_is_that_of_the_plain_run(family: str, adapter: HFAdapter) -> None:
    """Rows that join with the run's own stream at every block, of prompts of different length."""
    prompts = [Prompt("", tuple(range(20 + n, 29 + 3 * n))) for n in range(2)]
    kept: dict[Place, torch.Tensor] = {}
    places = [(Component.BLOCK_INPUT, layer) for layer in range(adapter.layers)]
    batch = adapter.batch(prompts)
    if not adapter.support()["blockwise"]:
        with pytest.raises(ModelError, match="restarting from a block fails"):
            adapter.restart_window(Memory(batch, (), ()), 4, {}, 3)
        return
    _, memory = adapter.record(batch, {place: keep(kept, place) for place in places})
    rows = torch.tensor([1, 0])
    joining = {layer - 1: Joining(rows, kept[part, layer][rows, -4:]) for part, layer in places}
    before = adapter.meter.token_layers
    got = adapter.restart_window(memory, 4, joining, 3)
    assert adapter.meter.token_layers - before == 2 * 4 * sum(range(1, adapter.layers + 1))
    expected = adapter.predict(batch, tokens=3)[rows].repeat(adapter.layers, 1, 1)
    torch.testing.assert_close(got, expected, rtol=0, atol=BATCHED * float(expected.abs().max()))


def test_the_last_mlp_sees_the_last_token_only(llama: HFAdapter, pairs: list[PatchPair]) -> None:
    """Where the block allows it: Falcon adds to the MLP's output in place, so its whole last block is run."""
    seen: dict[int, set[int]] = {}
    mlps = [block.mlp for block in llama.module.model.layers[1:]]
    handles = [
        mlp.gate_proj.register_forward_hook(
            lambda module, args, output, number=number: seen.setdefault(number, set()).add(output.shape[1])
        )
        for number, mlp in enumerate(mlps)
    ]
    _, memory = llama.record(llama.batch([pairs[0].base]))
    seen.clear()
    joining = {0: Joining(torch.tensor([0, 0]), torch.randn(2, 5, llama.width))}
    llama.restart(memory, 5, joining, torch.tensor([[1, 2], [3, 4]]))
    for handle in handles:
        handle.remove()
    assert list(seen.values()) == [{5}] * (len(mlps) - 1) + [{1}]


def test_opening_and_sweeping_leave_the_module_as_it_was(adapter: HFAdapter, pairs: list[PatchPair]) -> None:
    sweep(adapter, pairs, grid([Component.RESIDUAL], range(2), ["all"]))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in adapter.module.modules())
    assert not any("forward" in m.__dict__ for m in adapter.module.modules())


def test_a_failing_block_leaves_the_module_as_it_was(
    llama: HFAdapter, pairs: list[PatchPair], monkeypatch
) -> None:
    _, memory = llama.record(llama.batch([pairs[0].base]))
    stream = torch.zeros(1, 2, 7)  # not the model's width
    joining = {0: Joining(torch.tensor([0]), stream)}
    with pytest.raises(RuntimeError):
        llama.restart(memory, 2, joining, torch.tensor([[1, 2]]))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in llama.module.modules())
    assert not any("forward" in m.__dict__ for m in llama.module.modules())


def test_restarts_that_miss_the_logits_are_not_offered(
    llama: HFAdapter, pairs: list[PatchPair], monkeypatch
) -> None:
    batch = llama.batch([Prompt("", pairs[0].base.ids[:5]), Prompt("", pairs[1].base.ids[:4])])
    plain = llama.run(batch)
    opened = (llama.module, llama._layout.blocks, llama._accepts, batch)
    assert blockwise.opened(*opened, plain)[1]
    none, support = blockwise.opened(*opened, plain + 0.01)
    assert none is None
    assert support.reason == (
        "a run that records keys and values misses the model's logits by 0.01, not by rounding"
    )

    def shifted(self: Cache, whole: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return whole[:, :, : self.prefix][rows.flip(0)]

    monkeypatch.setattr(Cache, "_before", shifted)
    assert blockwise.opened(*opened, plain)[1].reason.startswith("a restart from a block misses")


def test_a_model_without_restarts_says_so_when_asked(
    llama: HFAdapter, pairs: list[PatchPair], monkeypatch
) -> None:
    monkeypatch.setattr(llama, "blockwise", None)
    monkeypatch.setattr(llama, "_blockwise_support", Support(False, "not today"))
    with pytest.raises(ModelError, match="not today"):
        llama.record(llama.batch([pairs[0].base]))
