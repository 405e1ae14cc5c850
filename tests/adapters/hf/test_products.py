"""Linear layers by oneDNN: the same product up to rounding, and only where it is worth it and nothing is lost.
Logits in float32 where the model is in a shorter type."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import linear

from auditkit.adapters.hf import products

pytestmark = pytest.mark.unit

OFFERED = hasattr(torch.ops.mkldnn, "_linear_pointwise")
needs_onednn = pytest.mark.skipif(not OFFERED, reason="this torch is built without oneDNN")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Shapes of what oneDNN was given; everything else still runs."""
    seen: list[tuple[int, ...]] = []
    real = products._fits

    def fits(*args: torch.Tensor) -> bool:
        fit = real(*args)
        if fit:
            seen.append(tuple(args[0].shape))
        return fit

    monkeypatch.setattr(products, "_fits", fits)
    return seen


@needs_onednn
@settings(max_examples=25)
@given(
    rows=st.lists(st.integers(1, 9), min_size=1, max_size=3),
    tokens=st.sampled_from([1, 2, 64]),
    sides=st.sampled_from([(256, 256), (300, 400), (64, 1100)]),
    bias=st.booleans(),
    strided=st.booleans(),
)
def test_it_is_the_product_up_to_rounding(
    rows: list[int], tokens: int, sides: tuple[int, int], bias: bool, strided: bool
) -> None:
    draw = torch.Generator().manual_seed(0)
    n, k = sides
    given_ = torch.randn(*rows, tokens, k, generator=draw)
    if strided:
        given_ = given_.transpose(0, -2).contiguous().transpose(0, -2)
    weight = torch.randn(n, k, generator=draw)
    offset = torch.randn(n, generator=draw) if bias else None
    with torch.no_grad(), products._Products():
        made = linear(given_, weight, offset)
    expected = linear(given_.double(), weight.double(), None if offset is None else offset.double())
    assert made.shape == expected.shape
    torch.testing.assert_close(made.double(), expected, atol=2e-4, rtol=1e-5)


@pytest.mark.skipif(not products._idle(), reason="on this processor the engine leaves all products to torch")
@given(
    rows=st.integers(2, 300), more=st.integers(0, 300), inner=st.integers(100, 1600), outer=st.integers(700, 900)
)
def test_a_row_does_not_depend_on_the_rows_beside_it(rows: int, more: int, inner: int, outer: int) -> None:
    draw = torch.Generator().manual_seed(0)
    given_, weight = torch.randn(rows + more, inner, generator=draw), torch.randn(outer, inner, generator=draw)
    with torch.no_grad(), products._Products():
        assert torch.equal(linear(given_, weight)[:rows], linear(given_[:rows], weight))


@needs_onednn
def test_large_products_go_there_and_others_do_not(calls: list[tuple[int, ...]]) -> None:
    weight, few, many = torch.randn(256, 256), torch.randn(1, 256), torch.randn(64, 256)
    layer = torch.nn.Linear(256, 256)
    with products._Products():
        with torch.no_grad():
            linear(many, weight)
            layer(many)
            assert calls == [(64, 256)] * 2
            linear(few, weight)
            linear(many, weight[:255])
            linear(many.bfloat16(), weight.bfloat16())
            linear(many, torch.randn(256, 256).T)
            with torch.autocast("cpu", torch.bfloat16):
                assert linear(many, weight).dtype == torch.bfloat16
        layer(many).sum().backward()
    assert calls == [(64, 256)] * 2, "one row, a small matrix, another dtype, a view, autocast, gradients"
    assert layer.weight.grad is not None
    with torch.no_grad():
        linear(many, weight)
    assert len(calls) == 2, "nothing is left behind"


@pytest.mark.parametrize(
    ("capability", "processor", "takes"),
    [
        ("AVX512", "AuthenticAMD", OFFERED),
        ("AVX512", "GenuineIntel", False),
        ("AVX2", "AuthenticAMD", False),
    ],
)
def test_it_is_taken_only_where_mkl_leaves_half_of_the_processor_idle(
    monkeypatch: pytest.MonkeyPatch, capability: str, processor: str, takes: bool
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(products.Path, "is_file", lambda path: True)
    monkeypatch.setattr(products.Path, "read_text", lambda path: f"vendor_id : {processor}")
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    assert products._idle.__wrapped__() is takes


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("bias", [True, False])
def test_a_head_in_a_shorter_type_answers_in_float32(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, bias: bool
) -> None:
    monkeypatch.setattr(products, "_PART", 64 * 100)  # several parts, the last one shorter
    head, other = (torch.nn.Linear(64, 330, bias=bias, dtype=dtype) for _ in range(2))
    given_ = torch.randn(2, 3, 64).to(dtype)
    with torch.no_grad():
        expected = linear(given_.double(), head.weight.double(), head.bias.double() if bias else None)
        plain = head(given_)
        with products.multiplying(head):
            made = head(given_)
            assert other(given_).dtype == dtype, "only the head"
    assert made.dtype == torch.float32
    assert plain.dtype == dtype
    torch.testing.assert_close(made.double(), expected, atol=1e-5, rtol=1e-5)
    assert (plain.double() - expected).abs().max() > 1e-4, "what rounding to the shorter type costs"


def test_what_has_no_weights_of_a_shorter_type_is_left_alone() -> None:
    given_ = torch.randn(3, 64)
    for head in (torch.nn.Identity(), torch.nn.Linear(64, 330)):
        with torch.no_grad():
            plain = head(given_)
            with products.multiplying(head):
                assert torch.equal(head(given_), plain)


GROWTH = """
import ctypes, re
from pathlib import Path
import torch
from auditkit.adapters.hf import products

def mebibytes():
    ctypes.CDLL(None).malloc_trim(0)
    return int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024

weight = torch.randn(192, 192)
with torch.inference_mode():
    products._multiplied(torch.randn(64, 192), weight)
    before = mebibytes()
    for rows in range(65, 665):
        products._multiplied(torch.randn(rows, 192), weight)
print(mebibytes() - before)
"""


@needs_onednn
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="the kernel does not tell a process's memory")
def test_products_of_many_sizes_are_not_all_kept() -> None:
    """600 products with other numbers of rows: torch and oneDNN would keep all of them, some 300 MB."""
    kept = {name: value for name, value in os.environ.items() if not name.endswith("CACHE_CAPACITY")}
    told = subprocess.run([sys.executable, "-c", GROWTH], env=kept, capture_output=True, text=True, check=True)
    assert float(told.stdout) < 80
