"""Which library multiplies matrices of float32.

torch multiplies float32 on x86 with MKL, and MKL leaves AVX-512 aside on processors that are not Intel's. oneDNN, which
torch carries as well, does not: on two cores of an EPYC it makes 500 GFLOP/s where MKL makes 225
(`benchmarks/products.py`). So there, and for products that are large enough, a model's linear layers go to oneDNN while
the engine runs it. It rounds as float32 does, only in another order. Whoever calls the module gets what torch does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_WEIGHTS = 1 << 16
"""Smallest matrix, in elements, that is worth the detour."""
_ROWS = 16
"""Fewest rows."""


def multiplying() -> AbstractContextManager[object]:
    """While this is entered, large products of linear layers in float32 are made by what is fastest here."""
    return _OneDNN() if _idle() else nullcontext()


@cache
def _idle() -> bool:
    """Whether MKL leaves AVX-512 aside on this processor, and oneDNN is there."""
    information = Path("/proc/cpuinfo")
    # Ignored: torch annotates neither `is_available`.
    return (
        torch.backends.mkl.is_available()  # type: ignore[no-untyped-call]
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and torch.backends.cpu.get_cpu_capability() == "AVX512"
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and information.is_file()
        and "GenuineIntel" not in information.read_text()
    )


class _OneDNN(TorchFunctionMode):
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is torch.nn.functional.linear and not kwargs and _fits(*args):
            given, weight, *bias = args
            made = torch.ops.mkldnn._linear_pointwise(
                given.reshape(-1, given.shape[-1]), weight, bias[0] if bias else None, "none", [], ""
            )
            return made.view(*given.shape[:-1], len(weight))
        return func(*args, **(kwargs or {}))


def _fits(given: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> bool:
    return (
        weight.numel() >= _WEIGHTS
        and given.numel() >= _ROWS * given.shape[-1]
        and given.dtype == weight.dtype == torch.float32
        and given.device.type == weight.device.type == "cpu"
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and weight.is_contiguous()
    )
