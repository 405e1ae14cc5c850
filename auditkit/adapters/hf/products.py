"""Which library multiplies matrices of float32, and in which type logits are.

torch multiplies float32 on x86 with MKL, and MKL leaves AVX-512 aside on processors that are not Intel's. oneDNN, which
torch carries as well, does not, and is up to twice as fast there (`benchmarks/products.py`). So there, and for products
that are large enough, a model's linear layers go to oneDNN while the engine runs it. It is given the inner dimension in
the blocks in which MKL adds it up: the sums are then the same, bit for bit; by itself it rounds up to twice as much.

A model in a shorter type rounds its logits to that type: in bfloat16 those between 8 and 16 to sixteenths, which is
more than many effects. Its last product is therefore made in float32, from the weights and the stream as they are.

Whoever calls the module themselves gets what torch does.
"""

from __future__ import annotations

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
_ROWS = 64
"""Fewest rows: cutting the weights into blocks costs what it saves for fewer."""
_BLOCK = 192
"""Elements of the inner dimension that MKL adds up at a time, found by comparing bits."""
_PART = 1 << 24
"""Most elements of a head that are held in float32 at once."""


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
        rows, block = given.reshape(-1, given.shape[-1]), _block(given.shape[-1])
        made: Tensor | None = None
        for part, weights in zip(torch.split(rows, block, 1), torch.split(weight, block, 1), strict=True):
            # Copies: what is not contiguous is multiplied a thousand times slower.
            part, weights = part.contiguous(), weights.contiguous()
            if made is None:
                made = _multiplied(part, weights, bias)
            else:
                made += _multiplied(part, weights)
        assert made is not None
        return made.view(*given.shape[:-1], len(weight))


def _multiplied(given: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    made: Tensor = torch.ops.mkldnn._linear_pointwise(given, weight, bias, "none", [], "")
    return made


def _block(inner: int) -> int:
    """How many of `inner` elements MKL adds up at a time: what is too short for two blocks is halved."""
    return _BLOCK if inner >= 2 * _BLOCK else -(-inner // 2) if inner > _BLOCK else inner


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
