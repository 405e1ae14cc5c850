"""What numbers depend on besides the model and the plan: threads, versions, libraries, processor."""

from __future__ import annotations

import os
import re

import msgspec

from auditkit.record.schema import Claim
from auditkit.record.surroundings import versions

_LIBRARIES = {"mkl": r"Math Kernel Library Version (\S+)", "onednn": r"MKL-DNN v(\S+)", "blas": r"BLAS_INFO=(\w+)"}
_NAMED = 4

SLOW = 60.0
"""Seconds that opening a model may take before the user is told what can be the cause: the default model takes five."""


def slow_opening() -> str:
    """What can make opening a model slow, with what is known of this machine."""
    import torch

    cores = os.cpu_count() or 1
    load = f", load {os.getloadavg()[0]:.0f}" if hasattr(os, "getloadavg") else ""
    return (
        f"opening takes longer than {SLOW:.0f} s: weights may still be fetched, or the machine is busy ({cores} "
        f"cores{load}, {torch.get_num_threads()} threads here); beside other work, fewer threads are often faster: "
        "OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive"
    )


def made_with(threads: int | None = None) -> dict[str, str]:
    """Name -> value, for the record of each claim that this process measures.

    The order in which a sum is taken depends on the number of threads, the processor's instructions and the library
    that multiplies matrices, so the last digits of a number do too.

    Args:
        threads: of the processes that measure, where that is not this one.
    """
    import torch

    built = torch.__config__.show()
    found = {name: match[1] for name, pattern in _LIBRARIES.items() if (match := re.search(pattern, built))}
    found["processor instructions"] = torch.backends.cpu.get_cpu_capability()
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
        found["cuda"] = str(torch.version.cuda)
        found["cudnn"] = str(torch.backends.cudnn.version())
        found["float32 products"] = torch.get_float32_matmul_precision()
    return {"threads": str(threads or torch.get_num_threads()), **versions(), **found}


def measured_before(claim: Claim, now: dict[str, str]) -> Claim:
    """A claim that an earlier process measured, with a note where that had other threads, versions or libraries.

    Args:
        now: what the other claims of the run are made with.
    """
    then = claim.made_with
    other = [name for name in {**now, **then} if then.get(name) != now.get(name)]
    if not then or not other:
        return claim
    said = [f"{name} {then.get(name, 'none')} (this one: {now.get(name, 'none')})" for name in other[:_NAMED]]
    more = f" and {len(other) - _NAMED} more" if len(other) > _NAMED else ""
    note = f"measured by an earlier process with {', '.join(said)}{more}"
    return msgspec.structs.replace(claim, notes=(*claim.notes, note))
