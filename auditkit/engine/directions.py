"""Directions: what an edit gives that depends on the value it edits.

    project_out(residual.layer(12), r)                 h - (h.r) r, for a direction r of any length
    add(residual.layer(12), r, 0.1, relative=True)     h + 0.1 |h| r / |r|, at every position its own norm

An edit is `new = keep * value + factor * give`. Here what is given is made of the value at the same position: its part
along some directions (`Along`), or a direction as long as the value is (`AsLong`). Lengths and products are computed in
float32 at least, whatever the model runs in.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from auditkit.engine import arguments
from auditkit.engine.sites import Site, SiteError

_RANK = 1e-4
"""Share of a direction's length that must not lie in the span of the ones before it."""


@dataclass(frozen=True, eq=False)
class Along:
    """The part of a value along some directions.

    Attributes:
        basis: (directions, size) orthonormal rows.
    """

    basis: Tensor

    @property
    def size(self) -> int:
        """Length of the last axis of the values that it fits."""
        return int(self.basis.shape[-1])

    def of(self, value: Tensor) -> Tensor:
        """(..., size) of values of that shape."""
        wide, basis = _wide(value, self.basis)
        # Direction by direction, since a product of matrices sums in another order when the rows are others.
        parts = [(wide * one).sum(-1, keepdim=True) * one for one in basis]
        return torch.stack(parts).sum(0).to(value.dtype) if len(parts) > 1 else parts[0].to(value.dtype)


@dataclass(frozen=True, eq=False)
class AsLong:
    """A direction with the norm that the value has at each position.

    Attributes:
        unit: (size,) of length 1.
    """

    unit: Tensor

    @property
    def size(self) -> int:
        """Length of the last axis of the values that it fits."""
        return int(self.unit.shape[-1])

    def of(self, value: Tensor) -> Tensor:
        """(..., size) of values of that shape."""
        wide, unit = _wide(value, self.unit)
        length: Tensor = wide.norm(dim=-1, keepdim=True)
        return (length * unit).to(value.dtype)


FromValue = Along | AsLong
"""What is made of the edited value itself."""


def _wide(value: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
    dtype = torch.promote_types(value.dtype, torch.float32)
    return value.to(dtype), given.to(device=value.device, dtype=dtype)


def unit(site: Site, direction: Tensor) -> Tensor:
    """(size,) the direction with length 1, in float32.

    Raises:
        SiteError: no single vector, norm zero, or values that are not finite.
        TypeError: no tensor.
    """
    arguments.one(f"the direction at {site}", direction, Tensor, "a torch tensor")
    if direction.ndim != 1:
        raise SiteError(
            f"{site}: a direction of shape {tuple(direction.shape)} was given; give one vector (size,)"
        )
    return _units(site, direction[None])[0].float()


def orthonormal(site: Site, directions: Tensor) -> Tensor:
    """(directions, size) orthonormal rows with the span of these, in float32; of one direction its unit vector.

    Raises:
        SiteError: no vector or rows of vectors, norm zero, values that are not finite, or directions of which one lies
            in the span of those before it.
        TypeError: no tensor.
    """
    arguments.one(f"the directions at {site}", directions, Tensor, "a torch tensor")
    if not 1 <= directions.ndim <= 2 or not directions.numel():
        raise SiteError(
            f"{site}: directions of shape {tuple(directions.shape)} were given; give one vector (size,) or rows of "
            "vectors (directions, size)"
        )
    rows: list[Tensor] = []
    for number, row in enumerate(_units(site, directions.reshape(-1, directions.shape[-1]))):
        rest = row
        for _ in range(2):  # a second time, since the first leaves rounding of what it takes away
            for other in rows:
                rest = rest - (rest @ other) * other
        if float(rest.norm()) < _RANK:
            raise SiteError(
                f"{site}: direction {number} lies in the span of those before it; give independent ones"
            )
        rows.append(rest / rest.norm())
    return torch.stack(rows).float()


def _units(site: Site, directions: Tensor) -> Tensor:
    """(directions, size) with length 1, in float64."""
    wide = directions.detach().double()
    for row in wide:
        if not torch.isfinite(row).all():
            raise SiteError(f"{site}: a direction holds NaN or infinity")
        if not row.any():
            raise SiteError(f"{site}: a direction of norm zero points nowhere")
    largest = wide.abs().amax(-1, keepdim=True)  # else the square of a very long or short one overflows
    scaled = wide / largest
    length: Tensor = scaled.norm(dim=-1, keepdim=True)
    return scaled / length
