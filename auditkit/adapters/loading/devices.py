"""Where a model's weights go, and in which precision."""

from __future__ import annotations

from typing import Any

import torch

from auditkit.adapters.errors import ModelError

DTYPES = ("auto", "float32", "bfloat16", "float16")

ROOM = 0.8
"""Share of a GPU's free memory that weights may take; the rest is for runs."""


def check(device: str, dtype: str) -> None:
    """Refuse what cannot be asked for, before weights are fetched.

    Raises:
        ModelError: an unknown device or dtype, or a GPU where there is none.
    """
    if dtype not in DTYPES:
        raise ModelError(f"unknown dtype {dtype!r}; use {', '.join(DTYPES)}")
    if device == "auto":
        return
    try:
        kind = "cuda" if device == "spread" else torch.device(device).type
    except RuntimeError:
        kind = "meta"
    if kind == "meta":
        raise ModelError(f"unknown device {device!r}; use auto, cpu, cuda, cuda:N or spread")
    if kind == "cuda" and not torch.cuda.is_available():
        raise ModelError(f"device '{device}' was asked for, but {_without_gpu()} use --device cpu")


def _without_gpu() -> str:
    """Why there is no GPU to use: a build of torch that cannot, or no GPU that it can."""
    if torch.version.cuda is None and torch.version.hip is None:
        return f"torch {torch.__version__} is a build without CUDA; install torch's build for your GPU, or"
    return "torch sees no CUDA GPU;"


def chosen(device: str, dtype: str, config: Any, size: int) -> tuple[torch.device | None, torch.dtype]:
    """The device, None to spread the model over all of them, and the dtype.

    Args:
        device: "auto", "spread" or a torch device, as `check` has let through.
        config: of the checkpoint, whose dtype "auto" takes on a GPU.
        size: bytes of the checkpoint's weights.
    """
    own = getattr(config, "dtype", None)
    own = own if isinstance(own, torch.dtype) else torch.float32
    if device == "auto":
        place = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    else:
        place = torch.device("cuda" if device == "spread" else device)
    natural = torch.float32 if place.type == "cpu" else own
    wanted = natural if dtype == "auto" else getattr(torch, dtype)
    if device == "spread" or (device == "auto" and place.type == "cuda" and _too_small(size, own, wanted)):
        return None, wanted
    return place, wanted


def _too_small(size: int, own: torch.dtype, wanted: torch.dtype) -> bool:
    """Whether one GPU of several cannot hold the weights and still have room to run."""
    needed = size * wanted.itemsize / own.itemsize
    return torch.cuda.device_count() > 1 and needed > ROOM * torch.cuda.mem_get_info(0)[0]


def require_on_gpus(module: Any, source: str) -> None:
    """Refuse a spread model of which the GPUs hold only a part.

    The rest would be copied from the host, or read from the disk, for every single run of the model.

    Raises:
        ModelError: in one line that says how much is left over, and what to do.
    """
    places: dict[str, Any] = getattr(module, "hf_device_map", None) or {}
    left = [name for name, place in places.items() if str(place) in ("cpu", "disk")]
    if not left or len(left) == len(places):
        return
    whole = sum(one.nbytes for one in module.parameters())
    within = tuple(f"{name}." for name in left)
    over = sum(one.nbytes for name, one in module.named_parameters() if f"{name}.".startswith(within))
    raise ModelError(
        f"{source}: its weights take {whole / 1e9:.1f} GB, and {over / 1e9:.1f} GB of them do not fit on the GPUs and "
        f"would be copied there for every run. Give more GPUs, a shorter type (--dtype bfloat16), or --device cpu"
    )


def described(module: Any) -> str:
    """The device, or devices, that hold a module."""
    spread = getattr(module, "hf_device_map", None)
    if not spread:
        return str(module.device)
    names = sorted({f"cuda:{place}" if isinstance(place, int) else str(place) for place in spread.values()})
    return " + ".join(names)
