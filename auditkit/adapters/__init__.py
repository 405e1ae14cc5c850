"""Adapters: the uniform way to open and touch a model.

An adapter runs batches of prompts, lets functions read or replace the activations at chosen components, and
says what it can and cannot do on this model. `open_model(spec)` turns what a user writes after `--model` into
an adapter.
"""

from __future__ import annotations

from typing import Any

__all__ = ["open_model"]


def open_model(
    spec: str, *, adapter: str = "hf", device: str = "auto", dtype: str = "auto", **options: Any
) -> Any:
    """Open a model by alias, local directory, `.gguf` file or hub id.

    Args:
        adapter: "hf" (`auditkit.adapters.hf.adapter.HFAdapter`), "nnterp"
            (`auditkit.adapters.nnterp.NnterpAdapter`), "vllm" (`auditkit.adapters.vllm.VLLMAdapter`), "ndif" for a
            model on an NDIF server (`auditkit.adapters.ndif.adapter.NdifAdapter`), or a name that another package has
            registered (see `auditkit.adapters.registry`).
        device, dtype, options: see `auditkit.adapters.loading.load.load`.

    Raises:
        ModelError: an unknown name of adapter or model, or a model that cannot be opened.
    """
    from auditkit.adapters import sandbox
    from auditkit.adapters.registry import adapter_factory, loader_of, require_known

    require_known(adapter)
    sandbox.begin()  # it imports for a second, and so does the next line
    factory = adapter_factory(adapter)
    from auditkit.adapters.loading.bounds import opening

    loaded = loader_of(factory)(spec, device=device, dtype=dtype, **options)
    with opening(loaded.source):
        return factory(loaded)
