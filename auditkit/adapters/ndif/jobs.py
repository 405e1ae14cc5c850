"""One traced pass as a job for an NDIF server: what nnsight sends, and what comes back, checked against what was asked.

nnsight's own backend for servers reads results with Python's pickle; this one stands in its place.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from math import prod
from typing import Any

from nnsight import __version__
from nnsight.intervention.backends.base import Backend
from nnsight.schema.request import RequestModel
from torch import Tensor

from auditkit.adapters.errors import first_line
from auditkit.adapters.ndif.http import ServerError
from auditkit.adapters.ndif.server import Server

_BYTES = 8
"""Of the longest number that a tensor may be made of."""
_ROOM = 1024**2
"""Bytes of a result beside its numbers."""


class RemoteJob:
    """A backend of nnsight: called with a trace, it sends it, and keeps what the trace saved.

    Args:
        key: what the server calls the model.
        shapes: name -> shape of the tensors that the trace saves, -1 where any size will do.
        longest: the size that stands for -1 where bytes are counted.
    """

    def __init__(self, server: Server, key: str, shapes: Mapping[str, tuple[int, ...]], longest: int) -> None:
        self._server, self._key, self._shapes, self._longest = server, key, shapes, longest
        self.found: dict[str, Tensor] = {}

    def __call__(self, tracer: Any) -> None:
        """Run the trace on the server.

        Raises:
            ServerError: the server did not run it, or what it sent is not what was asked for.
        """
        interventions = Backend()(tracer)
        job = RequestModel(interventions=interventions, tracer=tracer).serialize(True)
        headers = {
            "nnsight-model-key": self._key,
            "nnsight-compress": "True",
            "nnsight-version": __version__,
            "python-version": sys.version.replace("\n", " "),
            "ndif-timestamp": str(time.time()),
            "ndif-callback": "",
        }
        numbers = sum(prod(self._longest if n < 0 else n for n in shape) for shape in self._shapes.values())
        self.found = self._checked(self._server.result(job, headers, _BYTES * numbers + _ROOM))

    def _checked(self, result: dict[str, Any]) -> dict[str, Tensor]:
        """The tensors that the trace has saved under one name."""
        saved = list(result.values())
        found = saved[0] if len(saved) == 1 else None
        if not isinstance(found, dict) or found.keys() != self._shapes.keys():
            raise ServerError(f"{self._server.name} sent a result of other names than were asked for")
        for name, shape in self._shapes.items():
            value = found[name]
            if not isinstance(value, Tensor) or not value.is_floating_point() or not _fits(value, shape):
                said = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
                raise ServerError(
                    f"{self._server.name} sent {first_line(RuntimeError(str(said)))} where numbers of shape {shape} "
                    "were asked for; its model is not the one that its repository's config describes"
                )
        return found


def _fits(value: Tensor, shape: tuple[int, ...]) -> bool:
    return value.ndim == len(shape) and all(
        wanted in (-1, size) for size, wanted in zip(value.shape, shape, strict=True)
    )
