"""What numbers depend on besides the model: the plan, which is fixed before the model is opened, and threads, versions,
libraries, processor."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

import auditkit
from auditkit.claims.suites import root_of
from auditkit.gate.thresholds import Thresholds
from auditkit.pytest_plugin.claims import claim_id, statement_of
from auditkit.pytest_plugin.options import RunOptions
from auditkit.record.differences import claim_digest, data_digests, shared_digest
from auditkit.record.methods import code_of
from auditkit.record.schema import Claim, Plan
from auditkit.record.surroundings import versions
from auditkit.stats.intervals import ALPHA

_LIBRARIES = {"mkl": r"Math Kernel Library Version (\S+)", "onednn": r"MKL-DNN v(\S+)", "blas": r"BLAS_INFO=(\w+)"}
_NAMED = 4

SLOW = 60.0
"""Seconds that opening a model may take before the user is told what can be the cause: the default model takes five."""


def plan_of(options: RunOptions, root: Path, items: Sequence[pytest.Item], thresholds: Thresholds | None) -> Plan:
    """What is going to be asked: claims, the code and data of their suites, methods, settings, versions.

    Args:
        root: the project's folder.
    """
    roots = {folder: root_of(folder, root) for folder in {item.path.parent for item in items}}
    own = Path(auditkit.__file__).parent
    code = code_of(roots, own)
    shared = {folder: shared_digest(folder, above) for folder, above in roots.items()}
    return Plan(
        claims={
            claim_id(item): claim_digest(item.path, _qualified(item), statement_of(item), shared[item.path.parent])
            for item in items
        },
        thresholds=thresholds.listed() if thresholds is not None else {},
        code=code.digests,
        methods=code.methods,
        data=data_digests(own, roots, options.reports.absolute())
        | {f"{suite}/--data": digest for suite, digest in options.data_digests().items()},
        settings={**options.settings, "alpha": str(ALPHA)},
        versions=versions(),
    )


def _qualified(item: pytest.Item) -> str:
    """Name of the test function in its module, "Class.test_name" in a class."""
    return getattr(getattr(item, "function", None), "__qualname__", item.name)


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
