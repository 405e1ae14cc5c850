"""A digest of what a measurement is of: prompts, sites, edits, tensors and numbers, wherever they lie in memory."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from enum import Enum

import numpy as np
from torch import Tensor, uint8

_SINGLE = (type(None), bool, int, float, str, bytes)


def fingerprint(value: object) -> str:
    """SHA-256 of a value, the same in every process; values that differ anywhere have another one.

    Raises:
        TypeError: a part of a kind that is not known here. Left out, it would make two measurements one.
    """
    return _digest(value, {}).hex()


def _digest(value: object, known: dict[int, bytes]) -> bytes:
    """The digest of one part; `known` has those of objects that were met before, by id: prompts occur in many edits."""
    if isinstance(value, Enum):
        return _of(type(value).__qualname__, value.name.encode())
    if isinstance(value, _SINGLE):
        return _of(type(value).__name__, value if isinstance(value, bytes) else repr(value).encode())
    if id(value) in known:
        return known[id(value)]
    if isinstance(value, np.generic):
        return _digest(value.item(), known)
    if isinstance(value, Tensor | np.ndarray):
        digest = _of_numbers(value)
    elif isinstance(value, Mapping):
        digest = _of("mapping", *(_digest(part, known) for item in value.items() for part in item))
    elif isinstance(value, tuple | list | range):
        digest = _of("sequence", *(_digest(part, known) for part in value))
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = (getattr(value, field.name) for field in dataclasses.fields(value))
        digest = _of(type(value).__qualname__, *(_digest(part, known) for part in fields))
    else:
        raise TypeError(f"no digest is known of a {type(value).__qualname__}")
    known[id(value)] = digest
    return digest


def _of_numbers(value: Tensor | np.ndarray) -> bytes:
    if isinstance(value, np.ndarray):
        return _of("numbers", str(value.dtype).encode(), repr(value.shape).encode(), value.tobytes())
    flat = value.detach().cpu().contiguous().reshape(-1).view(uint8)
    return _of("numbers", str(value.dtype).encode(), repr(tuple(value.shape)).encode(), flat.numpy().tobytes())


def _of(kind: str, *parts: bytes) -> bytes:
    """Each part is preceded by its length, so that no two lists of parts run together into one."""
    made = hashlib.sha256(kind.encode())
    for part in parts:
        made.update(len(part).to_bytes(8, "big"))
        made.update(part)
    return made.digest()
