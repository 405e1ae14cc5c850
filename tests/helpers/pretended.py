"""GPUs that are pretended: tensors on them lie in main memory, and an operation on tensors of two of them is refused.

PyTorch lets a kind of device be registered once in a process, and for ever, so all of this belongs into a process of
its own:

    python tests/helpers/pretended.py measurements FOLDER ...  what every measurement of the engine comes to there
    python tests/helpers/pretended.py support FOLDER ...       what models can do there
    PYTHONPATH=tests/helpers pytest suites -p pretended ...    every model is spread over two of them, or with
                                                               AUDITKIT_PRETENDED=one on one
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, Self

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter, tree_map_only

aten = torch.ops.aten
NAME = "pretend"
CPU = torch.device("cpu")
_MOVES = (aten._to_copy.default, aten.copy_.default)
_INDEXED = (aten.index.Tensor, aten.index_put_.default, aten.index_put.default)


class Pretended(torch.Tensor):
    """A tensor that says it is on another device.

    Args:
        held: its numbers.
    """

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor, device: torch.device) -> Self:
        made: Self = torch.Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=device,
        )
        made.held = held
        return made

    def tolist(self) -> Any:
        return self.held.tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def _run(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Run an operation where its tensors are, or where it is asked to.

    Raises:
        RuntimeError: they are on more than one device.
    """
    given = [value for value in tree_iter((args, kwargs)) if isinstance(value, torch.Tensor)]
    asked = None if kwargs.get("device") is None else torch.device(kwargs["device"])
    if not any(isinstance(value, Pretended) for value in given) and (asked is None or asked.type != NAME):
        return func(*args, **kwargs)
    if func is aten._fused_sdp_choice.default:
        return 0  # the implementation in plain operations, which every device has
    # Indices may lie on the host, and so may single numbers.
    free = {id(index) for index in tree_iter(args[1] if func in _INDEXED else ())}
    held = [value for value in given if value.device != CPU or (value.dim() and id(value) not in free)]
    devices = {value.device for value in held}
    if len(devices) > 1 and func not in _MOVES:
        raise RuntimeError(f"{func} was given tensors on {' and '.join(sorted(map(str, devices)))}")
    args, kwargs = tree_map_only(Pretended, lambda value: value.held, (args, kwargs))
    if asked is not None and asked.type == NAME:
        kwargs = {**kwargs, "device": CPU}
    if func is aten.histc.default:
        args = (args[0].float(), *args[1:])  # of whole numbers, GPUs have it and processors do not
    got = func(*args, **kwargs)
    place = asked or (given if func in _MOVES else held)[0].device
    if place.type != NAME:
        return got
    changed = {id(value.held): value for value in given if isinstance(value, Pretended)}  # in place
    return tree_map_only(
        torch.Tensor,
        lambda value: changed[id(value)] if id(value) in changed else Pretended(value, place),
        got,
    )


class _Running(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class _Making(TorchFunctionMode):
    """Makes tensors from lists on the host first: PyTorch does so itself, out of reach of `_Running`."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in (torch.tensor, torch.as_tensor) and torch.device(kwargs.get("device") or CPU).type == NAME:
            place = kwargs.pop("device")
            return func(*args, **kwargs).to(place)
        if func in (torch.Tensor.__getitem__, torch.Tensor.__setitem__):
            index = args[1] if isinstance(args[1], tuple) else (args[1],)
            listed = tuple(torch.tensor(part) if isinstance(part, list) else part for part in index)
            args = (args[0], listed, *args[2:])
        return func(*args, **kwargs)


def pretend() -> None:
    """Have two such GPUs from now on."""
    from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

    _setup_privateuseone_for_python_backend(NAME)
    _Making().__enter__()
    _Running().__enter__()


def spread(module: Any, second: str = f"{NAME}:1") -> Any:
    """A module with some of its blocks on either of two devices, by the map that accelerate makes."""
    from accelerate import dispatch_model, infer_auto_device_map
    from accelerate.utils import compute_module_sizes

    from auditkit.adapters.hf.layout import blocks_of

    blocks = sum(value.nbytes for value in blocks_of(module).parameters())
    first = compute_module_sizes(module)[""] - blocks // 3  # embeddings, and two thirds of the blocks
    where = infer_auto_device_map(module, {"cpu": first}, no_split_module_classes=module._no_split_modules)
    gpus = {"cpu": f"{NAME}:0", "disk": second}
    return dispatch_model(
        module,
        {name: gpus[place] for name, place in where.items()},
        main_device="cpu" if second == "cpu" else f"{NAME}:0",
        force_hooks=True,
    )


PLACES: dict[str, Callable[..., Any]] = {
    "one": lambda module, *_: module.to(f"{NAME}:0"),
    "spread": lambda module, *_: spread(module),
    "host": lambda module, *_: spread(module, "cpu"),
}
"""What takes the place of `load._placed`."""
GRADIENTS = ("attribution", "direct effects")
"""Measured on a GPU and the host: PyTorch's autograd takes the device that is pretended to have one index."""


def opened(folder: str, which: str) -> Any:
    """An adapter on one of `PLACES`."""
    from auditkit.adapters.hf.adapter import HFAdapter
    from auditkit.adapters.loading import load

    load._placed = PLACES[which]
    return HFAdapter(load.load(folder))


def pytest_configure() -> None:
    from auditkit.adapters.loading import load

    pretend()
    load._placed = PLACES[os.environ.get("AUDITKIT_PRETENDED", "spread")]


def compared(folder: str, measure: bool) -> dict[str, Any]:
    """A model on one GPU beside the same model on two.

    Args:
        folder: of a model of three blocks of 32 units.
        measure: every measurement of the engine too.

    Returns:
        The devices of the spread one; which operations on two devices are refused; what each model cannot do; and for
        each measurement the error that it failed with, or the largest difference.
    """
    from measurements import NAMES, of, pairs_of_three_lengths, plain

    models = {which: opened(folder, which) for which in PLACES if measure or which != "host"}
    cannot = {
        which: {str(name): can.reason for name, can in model.support().items() if not can}
        for which, model in models.items()
    }
    differs: dict[str, float | str] = {}
    for name in NAMES if measure else ():
        measured = of(name)
        one = plain(measured(models["one"], pairs_of_three_lengths()))
        try:
            two = plain(measured(models["host" if name in GRADIENTS else "spread"], pairs_of_three_lengths()))
            differs[name] = difference(one, two)
        except Exception as error:
            differs[name] = f"{type(error).__name__}: {error}"
    return {"devices": models["spread"].info.device, "mixed": mixed(), "cannot": cannot, "differs": differs}


def mixed() -> dict[str, bool]:
    """Operation on tensors of two devices -> whether it is refused, which makes everything here a test."""
    one, other = (torch.zeros(2, device=f"{NAME}:{which}") for which in (0, 1))
    index = torch.tensor([0, 1])
    tried: dict[str, Callable[[], object]] = {
        "add another's": lambda: one + other,
        "add the host's": lambda: one + torch.ones(2),
        "add another's number": lambda: one + other.sum(),
        "add the host's number": lambda: one + torch.tensor(1.0),
        "join another's": lambda: torch.cat([one, other]),
        "index by another's": lambda: one[index.to(other.device)],
        "index by the host's": lambda: one[index],
        "put another's": lambda: one.__setitem__(index, other),
        "copy another's": lambda: one.copy_(other),
    }
    refused = {}
    for name, operation in tried.items():
        try:
            operation()
        except RuntimeError as error:
            refused[name] = "was given tensors on" in str(error)
        else:
            refused[name] = False
    return refused


def difference(one: Any, other: Any) -> float:
    """The largest between numbers in the same places; infinite where anything else differs."""
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        return max((difference(one[key], other[key]) for key in one), default=0.0)
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return max(map(difference, one, other), default=0.0)
    if repr(one) == repr(other):
        return 0.0
    numbers = isinstance(one, float) and isinstance(other, float) and math.isfinite(one - other)
    return abs(one - other) if numbers else math.inf


def main(what: str, *folders: str) -> None:
    pretend()
    torch.set_grad_enabled(False)
    print(json.dumps({folder: compared(folder, what == "measurements") for folder in folders}))


if __name__ == "__main__":
    main(*sys.argv[1:])
