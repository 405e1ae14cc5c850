"""Adapters by name: those of this package, and those that other packages register.

An adapter is registered as an entry point of the group `auditkit.adapters`: its name is what a user writes after
`--adapter`, its object is called with what `auditkit.adapters.loading.load.load` has loaded and returns the adapter (a
class whose constructor takes a `Loaded` will do). One that reads models in its own way has a function `load` as well.
Where the object has a function `ready`, that is called before weights are read. Nothing is imported before an adapter
is asked for by name.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING

from auditkit.adapters.errors import ModelError, first_line
from auditkit.adapters.imports import lasting_imports

if TYPE_CHECKING:
    from auditkit.adapters.loading.load import Loaded
    from auditkit.adapters.protocol import Adapter

GROUP = "auditkit.adapters"

Factory = Callable[["Loaded"], "Adapter"]
"""Opens what was loaded; raises `ModelError` or `IntegrityError` where it cannot, in one line."""

DEFAULT_ADAPTER = "hf"
NDIF = "ndif"
"""The adapter whose models' weights are on a server."""

_BUILT_IN = (
    EntryPoint(DEFAULT_ADAPTER, "auditkit.adapters.hf.adapter:HFAdapter", GROUP),
    EntryPoint("nnterp", "auditkit.adapters.nnterp:NnterpAdapter", GROUP),
    EntryPoint("vllm", "auditkit.adapters.vllm:VLLMAdapter", GROUP),
    EntryPoint(NDIF, "auditkit.adapters.ndif.adapter:NdifAdapter", GROUP),
)


def known_adapters() -> dict[str, EntryPoint]:
    """Name -> entry point. The names of this package mean its own adapters, whoever else registers them."""
    return {point.name: point for point in (*entry_points(group=GROUP), *_BUILT_IN)}


def require_known(name: str) -> EntryPoint:
    """The entry point of a name, without importing what it points at.

    Raises:
        ModelError: no such name; lists those there are.
    """
    known = known_adapters()
    if name not in known:
        raise ModelError(f"unknown adapter {name[:100]!r}; known are {', '.join(sorted(known))}")
    return known[name]


def adapter_factory(name: str) -> Factory:
    """What opens a loaded model through the adapter of this name.

    Raises:
        ModelError: no such name, its package cannot be imported, or it is not ready.
    """
    point = require_known(name)
    try:
        with lasting_imports():
            factory: Factory = point.load()
    except (ImportError, AttributeError) as error:
        raise ModelError(f"adapter {name!r} ({point.value}) cannot be imported: {first_line(error)}") from None
    ready = getattr(factory, "ready", None)
    if ready is not None:
        ready()
    return factory


def loader_of(factory: Factory) -> Callable[..., Loaded]:
    """What reads a model for an adapter: `auditkit.adapters.loading.load.load`, or a function `load` of its own that
    takes and gives the same, where the weights are not read here."""
    own: Callable[..., Loaded] | None = getattr(factory, "load", None)
    if own is not None:
        return own
    from auditkit.adapters.loading.load import load

    return load
