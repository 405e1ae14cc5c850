"""A seeded order that does not depend on the order of the input."""

from __future__ import annotations

import hashlib


def shuffle_key(seed: int, name: str) -> bytes:
    """Sort key that puts distinct names in a random order fixed by the seed.

    A digest instead of a random generator: every name keeps its key when others are added or removed,
    and the order is the same in every process and Python version.
    """
    return hashlib.sha256(f"{seed}:{name}".encode()).digest()
