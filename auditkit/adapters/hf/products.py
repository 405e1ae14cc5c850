"""Which library multiplies matrices of float32, and in which type logits are.

torch multiplies float32 on x86 with MKL, and MKL leaves AVX-512 aside on processors that are not Intel's. oneDNN, which
torch carries as well, does not, and is about twice as fast there (`benchmarks/products.py`). So there, and for products
that are large enough, a model's linear layers go to oneDNN while the engine runs it. It rounds up to twice as much. A
row among others has the same bits whatever these are.

A model in a shorter type rounds its logits to that type: in bfloat16 those between 8 and 16 to sixteenths, which is
more than many effects. Its last product is therefore made in float32, from the weights and the stream as they are.

Whoever calls the module themselves gets what torch does.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from torch.overrides import TorchFunctionMode

from auditkit.adapters.hf.sharing import sharing

_SHORTER = (torch.bfloat16, torch.float16)
_WEIGHTS = 1 << 16
"""Smallest matrix, in elements, that is worth the detour."""
_ROWS = 2
"""Fewest rows: a single one is added up in another order than several are."""
_PART = 1 << 24
"""Most elements of a head that are held in float32 at once."""
_KEPT = "64"
"""Products that torch and oneDNN keep prepared, each by its numbers of rows and columns. Batches of prompts hardly ever
have as many rows as an earlier one, and either would keep 1024, which take half a megabyte each."""
for _capacity in ("LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY"):
    # Both are read at the first product, and no function sets them.
    os.environ.setdefault(_capacity, _KEPT)


@contextmanager
def multiplying(head: nn.Module | None = None) -> Iterator[None]:
    """While this is entered, large products of linear layers in float32 are made by what is fastest here, and heads of
    attention that share keys and values read them where they are (`sharing`).

    Args:
        head: the output embeddings; where they are one linear layer, they answer in float32 whatever their type.
    """
    shorter = head is not None and getattr(getattr(head, "weight", None), "dtype", None) in _SHORTER
    by = _Products(head if shorter else None, _idle()) if shorter or _idle() else nullcontext()
    with by, sharing():
        yield


@cache
def _idle() -> bool:
    """Whether MKL leaves AVX-512 aside on this processor, and oneDNN is there."""
    information = Path("/proc/cpuinfo")
    return (
        torch.backends.mkl.is_available()
        and torch.backends.mkldnn.is_available()
        and torch.backends.cpu.get_cpu_capability() == "AVX512"
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and information.is_file()
        and "GenuineIntel" not in information.read_text()
    )


class _Products(TorchFunctionMode):
    def __init__(self, head: nn.Module | None = None, onednn: bool = True) -> None:
        super().__init__()
        self.head, self.onednn = head, onednn

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is not linear or kwargs:
            return func(*args, **(kwargs or {}))
        # Asked of the head each time: weights that lie elsewhere are brought for the call alone.
        if self.head is not None and args[1] is self.head.weight:
            return self._in_float32(*args)
        return self._product(*args)

    def _in_float32(self, given: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """In parts of the vocabulary, so that a copy of the weights never exists as a whole."""
        given = given.float()
        parts = torch.split(weight, max(1, _PART // weight.shape[1]))
        made = torch.cat([self._product(given, part.float()) for part in parts], -1)
        return made if bias is None else made + bias.float()

    def _product(self, given: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        if not (self.onednn and _fits(given, weight)):
            return linear(given, weight, bias)
        # A copy: rows that are not contiguous are multiplied a thousand times slower.
        rows = given.reshape(-1, given.shape[-1]).contiguous()
        return _multiplied(rows, weight, bias).view(*given.shape[:-1], len(weight))


def _multiplied(given: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    made: Tensor = torch.ops.mkldnn._linear_pointwise(given, weight, bias, "none", [], "")
    return made


def _fits(given: Tensor, weight: Tensor) -> bool:
    return (
        weight.numel() >= _WEIGHTS
        and given.numel() >= _ROWS * given.shape[-1]
        and given.dtype == weight.dtype == torch.float32
        and given.device.type == weight.device.type == "cpu"
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and weight.is_contiguous()
    )
