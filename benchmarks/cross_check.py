"""Cross-check on the default model: 200 random sites of one sweep, measured through both adapters.

Run: python benchmarks/cross_check.py [sites]
"""

from __future__ import annotations

import sys
import time

from auditkit.adapters.loading.catalogue import DEFAULT_MODEL
from auditkit.adapters.loading.load import load
from auditkit.adapters.protocol import Component
from auditkit.adapters.registry import adapter_factory
from auditkit.data.prompts import Chat
from auditkit.engine.crosscheck import cross_check
from auditkit.engine.pairs import PatchPair
from auditkit.engine.patching.sweep import grid, sweep
from auditkit.engine.sampling import Sample, sampling

COMPONENTS = (Component.RESIDUAL, Component.ATTENTION, Component.MLP)
QUESTION = "Which gas do plants take in? (A) oxygen (B) carbon dioxide"


def main(sites: int) -> None:
    loaded = load(DEFAULT_MODEL, device="cpu", dtype="float32")
    first = adapter_factory("hf")(loaded)
    base, source = (
        first.chat(Chat(user=QUESTION, system=f"You are a {who} student.", assistant="Answer: ("))
        for who in ("good", "bad")
    )
    (right,), (wrong,) = first.chat.encode("B"), first.chat.encode("A")
    pair = PatchPair(base, source, (right, wrong))
    sample = Sample(sites, seed=0)
    start = time.perf_counter()
    with sampling(sample):
        swept = sweep(first, [pair], grid(COMPONENTS, range(first.layers), range(-20, 0, 4)))
    middle = time.perf_counter()
    second = adapter_factory("nnterp")(loaded)
    result = cross_check(second, sample.kept, first.info.parity_max_abs)
    end = time.perf_counter()
    print(f"{len(base)} tokens, {sample.offered} sites by {swept.method} in {middle - start:.1f} s")
    print(f"{result.measured} again through nnterp in {end - middle:.1f} s; not measured: {result.missing}")
    print(
        f"largest difference {result.largest:.3g} logits at {result.where}; rounding explains {result.allowed:.3g}"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
