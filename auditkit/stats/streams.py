"""Random generators derived from the run's seed and a name, so that each can be reproduced without the others."""

from __future__ import annotations

import hashlib

import numpy as np


def stream(seed: int, *names: str) -> np.random.Generator:
    """A generator that depends on `seed` and `names` only, not on what was drawn before."""
    digest = hashlib.sha256("\x1f".join((str(seed), *names)).encode(errors="surrogatepass")).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))
