"""Touches that everything needs: one that keeps a value, one that writes a kept value back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from auditkit.adapters.protocol import Place, Touch

if TYPE_CHECKING:
    from torch import Tensor


def keep(into: dict[Place, Tensor], place: Place, first: Touch | None = None) -> Touch:
    """A touch that stores the value, as it is once `first` has touched it."""

    def touch(value: Tensor) -> Tensor | None:
        new = None if first is None else first(value)
        into[place] = (value if new is None else new).detach().clone()
        return new

    return touch


def restore(values: Mapping[Place, Tensor], place: Place) -> Touch:
    """A touch that writes the stored value."""
    return lambda value: values[place].clone()
