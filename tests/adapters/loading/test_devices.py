"""Where weights go, and that it changes no number."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from auditkit.adapters.chat import Prompt
from auditkit.adapters.hf.adapter import HFAdapter
from auditkit.adapters.hf.walk import Cache, Walk
from auditkit.adapters.loading import devices
from auditkit.adapters.loading.load import load
from auditkit.adapters.protocol import Batch, Component, Joining, Memory, Support
from auditkit.engine.edits import Edited, add
from auditkit.engine.forward import Donated, Interventions
from auditkit.engine.pairs import PatchPair
from auditkit.engine.patching.plain import patch
from auditkit.engine.patching.sweep import grid, sweep
from auditkit.engine.sites import attention, head, mlp

pytestmark = pytest.mark.unit

GIB = 2**30
PAIRS = [
    PatchPair(Prompt("", ids), Prompt("", (*ids[:3], 99, *ids[4:])), (5, 6), {"word": (3, 4)})
    for ids in (tuple(range(10, 22)), tuple(range(40, 49)))
]


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def pretend(count: int, free: int) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index: (free, free))

    return pretend


@pytest.mark.parametrize(
    ("count", "size", "asked", "place", "dtype"),
    [
        (0, 140 * GIB, ("auto", "auto"), "cpu", torch.float32),
        (1, 140 * GIB, ("auto", "auto"), "cuda", torch.bfloat16),
        (8, 14 * GIB, ("auto", "auto"), "cuda", torch.bfloat16),
        (8, 140 * GIB, ("auto", "auto"), None, torch.bfloat16),
        (8, 40 * GIB, ("auto", "float32"), None, torch.float32),  # 80 GiB in twice the precision
        (8, 140 * GIB, ("cuda:3", "auto"), "cuda:3", torch.bfloat16),
        (1, 1 * GIB, ("spread", "auto"), None, torch.bfloat16),
        (8, 1 * GIB, ("cpu", "bfloat16"), "cpu", torch.bfloat16),
    ],
)
def test_a_model_is_spread_where_one_gpu_of_several_is_too_small(gpus, count, size, asked, place, dtype) -> None:
    gpus(count, 80 * GIB)
    config = SimpleNamespace(dtype=torch.bfloat16)
    devices.check(*asked)
    expected = None if place is None else torch.device(place)
    assert devices.chosen(*asked, config, size) == (expected, dtype)


@pytest.mark.parametrize(
    ("built", "why"),
    [
        ("13.0", "torch sees no CUDA GPU; use --device cpu"),
        (None, r"torch \S+ is a build without CUDA; install torch's build for your GPU, or use --device cpu"),
    ],
)
def test_spreading_needs_a_gpu(gpus, monkeypatch, built: str | None, why: str) -> None:
    gpus(0, 0)
    monkeypatch.setattr(torch.version, "cuda", built)
    monkeypatch.setattr(torch.version, "hip", None)
    with pytest.raises(devices.ModelError, match=f"device 'spread' was asked for, but {why}"):
        devices.check("spread", "auto")


def test_a_spread_model_is_loaded_by_map_and_never_moved(save_checkpoint, monkeypatch) -> None:
    """Without a GPU the map puts everything on the processor; what counts is that the map decides."""
    folder = str(save_checkpoint())
    plain = HFAdapter(load(folder))
    monkeypatch.setattr(devices, "chosen", lambda *_: (None, torch.float32))
    monkeypatch.setattr("torch.nn.Module.to", lambda *_: pytest.fail("a spread model was moved"))
    spread = load(folder)
    monkeypatch.undo()
    adapter = HFAdapter(spread)
    batch = plain.batch([PAIRS[0].base])
    assert torch.equal(adapter.run(batch), plain.run(batch))
    assert adapter.info.device == "cpu"


@pytest.mark.parametrize("elsewhere", ["cpu", "disk"])
def test_a_model_that_does_not_fit_on_the_gpus_is_refused_with_what_is_left_over(elsewhere: str) -> None:
    module: Any = torch.nn.ModuleList(
        [torch.nn.Linear(25_000, 20_000, bias=False, device="meta") for _ in range(4)]
    )
    module.hf_device_map = {"0": 0, "1": 1, "2": elsewhere, "3": elsewhere}
    with pytest.raises(
        devices.ModelError, match=r"^big: its weights take 8.0 GB, and 4.0 GB of .*--dtype bfloat16"
    ):
        devices.require_on_gpus(module, "big")
    module.hf_device_map = {"0": 0, "1": 1, "2": 0, "3": 1}
    devices.require_on_gpus(module, "big")
    module.hf_device_map = dict.fromkeys("0123", "cpu")  # as where there is no GPU at all
    devices.require_on_gpus(module, "big")


@pytest.mark.parametrize("kind", ["llama", "gemma3_text", "gpt2"])
def test_blocks_kept_elsewhere_change_no_number(kind: str, save_checkpoint, tmp_path: Path) -> None:
    """Accelerate fetches the middle block's weights from the disk for each call: the same hooks as between GPUs."""
    from accelerate import dispatch_model

    folder = str(save_checkpoint(kind))
    plain, loaded = HFAdapter(load(folder)), load(folder)
    module: Any = loaded.module
    prefix = "transformer.h" if kind == "gpt2" else "model.layers"
    parts = {name: "cpu" for name, child in module.named_modules() if name and not any(child.children())}
    where = {name: place for name, place in parts.items() if not name.startswith(prefix)}
    where |= {f"{prefix}.{layer}": "disk" if layer == 1 else "cpu" for layer in range(3)}
    spread = dispatch_model(
        module, where, main_device="cpu", offload_dir=str(tmp_path / "weights"), force_hooks=True
    )
    adapter = HFAdapter(replace(loaded, module=spread))
    assert adapter.info.device == "cpu + disk"
    assert {name for name, value in adapter.support().items() if value} == {
        name for name, value in plain.support().items() if value
    }
    sites = grid([Component.RESIDUAL, Component.MLP, Component.ATTENTION], range(3), ["all", "word", "last"])
    ours, theirs = sweep(adapter, PAIRS, sites), sweep(plain, PAIRS, sites)
    assert ours.method == "wavefront"
    assert torch.equal(ours.values, theirs.values)
    conditions = {"some": [[mlp.layers(0, 1)["word"], attention.layer(2), head(1, 2)]] * len(PAIRS)}
    some, other = (patch(model, PAIRS, conditions).conditions["some"] for model in (adapter, plain))
    assert torch.equal(some, other)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_measured_with_its_own_noise_floor(dtype: str, save_checkpoint) -> None:
    """Guards hold, the wavefront means what patching means, and both are near the same model in float32."""
    folder = str(save_checkpoint("llama"))
    half, full = HFAdapter(load(folder, dtype=dtype)), HFAdapter(load(folder))
    assert half.info.dtype == dtype
    sites = grid([Component.RESIDUAL, Component.MLP, Component.ATTENTION], range(3), ["all", "word"])
    swept = sweep(half, PAIRS, sites)
    conditions = {str(site): [[site]] * len(PAIRS) for site in sites}
    patched = torch.stack(list(patch(half, PAIRS, conditions).conditions.values()))
    exact = sweep(full, PAIRS, sites).values
    bound = 16 * torch.finfo(getattr(torch, dtype)).eps * float(exact.abs().max())
    assert swept.method == "wavefront"
    assert float((swept.values - patched).abs().max()) <= bound
    assert float((swept.values - exact).abs().max()) <= bound


def test_what_is_given_goes_to_the_device_of_its_site() -> None:
    """A stand-in for a second GPU: the meta device, which no operation mixes with the processor's tensors."""
    elsewhere = torch.device("meta")
    walk = Walk(
        {
            0: Joining(torch.tensor([0]), torch.zeros(1, 2, 4, device=elsewhere)),
            1: Joining(torch.tensor([1]), torch.ones(1, 2, 4)),
        },
        torch.tensor([2, 2]),
    )
    for layer in range(2):
        walk.join(layer)
    assert (walk.stream.device, walk.stream.shape) == (elsewhere, (2, 2, 4))
    batch = Batch(torch.ones(2, 6, dtype=torch.long), torch.ones(2, 6, dtype=torch.long), (0, 0))
    kept = [torch.zeros(2, 2, 6, 4, device=elsewhere)]
    cache = Cache(Memory(batch, kept, kept), torch.tensor([0, 1]), 4, walk)
    fresh = torch.zeros(2, 2, 2, 4, device=elsewhere)
    assert all(shown.shape == (2, 2, 6, 4) for shown in cache.update(fresh, fresh, 0))
    prompt = Prompt("", (1, 2, 3))
    run = Edited(prompt, (add(mlp.layer(0)[1], torch.ones(4)),))
    interventions = Interventions(Sized(), Batch(batch.ids[:1, :3], batch.mask[:1, :3], (0,)), [run], Donated())
    value = interventions.touches[Component.MLP, 0](torch.zeros(1, 3, 4, device=elsewhere))
    assert value is not None
    assert value.device == elsewhere


class Sized:
    """As much of an adapter as placing an edit asks for."""

    layers, heads, groups, sizes = 2, 2, 2, {(Component.MLP, 0): 4}

    def support(self) -> dict[str, Support]:
        return dict.fromkeys(Component, Support(True))
