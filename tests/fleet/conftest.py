"""What the fleet's tests share."""

from __future__ import annotations

from collections.abc import Callable

import fleets
import pytest

from auditkit.record.schema import Run


@pytest.fixture
def leaving(a_run: Run) -> Callable[..., fleets.Act]:
    """`leaving(verdict)`: what a job does that leaves a record."""
    return fleets.leaving(a_run)
