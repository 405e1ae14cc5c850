"""What freed tensors took goes back to the system when a claim has ended."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from auditkit.pytest_plugin.measuring import give_back

pytestmark = pytest.mark.unit

STATUS = Path("/proc/self/status")


def mebibytes() -> float:
    told = re.search(r"RssAnon:\s+(\d+)", STATUS.read_text())
    assert told is not None
    return int(told[1]) / 1024


@pytest.mark.skipif(not STATUS.is_file(), reason="the kernel does not tell a process's memory")
def test_memory_between_what_is_kept_goes_back() -> None:
    give_back()
    freed, kept = [], []
    # 60 KiB each: glibc asks the system for larger ones one by one, and gives these back itself.
    for _ in range(3000):
        freed.append(torch.ones(15_360))
        kept.append(torch.ones(16))
    full = mebibytes()
    freed.clear()
    give_back()
    assert full - mebibytes() > 100
    assert all(one.sum() == 16 for one in kept)
