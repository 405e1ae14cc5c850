"""Imports of large libraries, without searches for garbage among what stays to the end.

torch and transformers make a million objects, nearly all of which live as long as the process. Every full collection
visits each of them again: eight collections while they are imported and six at the end of pytest took 2 of the 16
processor seconds that a short audit spends beside its claims.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_LARGE = frozenset({"torch", "transformers"})


@contextmanager
def lasting_imports() -> Iterator[None]:
    """Inside, no garbage is collected. What was made by then is never looked at again where a large library was new.

    A library is new once in a process, before a model is in memory: models are collected like all else.
    """
    collecting, before = gc.isenabled(), _LARGE & sys.modules.keys()
    gc.disable()
    try:
        yield
    finally:
        if (_LARGE & sys.modules.keys()) - before:
            gc.freeze()
        if collecting:
            gc.enable()
