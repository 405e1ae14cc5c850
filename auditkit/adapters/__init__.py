"""Adapters: the uniform way to open and touch a model.

An adapter runs batches of prompts, lets functions read or replace the activations at chosen components, and
says what it can and cannot do on this model. `open_model(spec)` turns what a user writes after `--model` into
an adapter.
"""

from __future__ import annotations

from typing import Any

__all__ = ["open_model"]


def open_model(spec: str, *, device: str = "auto", dtype: str = "auto", **options: Any) -> Any:
    """Open a model by alias, local directory, `.gguf` file or hub id; see `auditkit.adapters.hf.HFAdapter`."""
    from auditkit.adapters.hf import HFAdapter
    from auditkit.adapters.loading import load

    return HFAdapter(load(spec, device=device, dtype=dtype, **options))
