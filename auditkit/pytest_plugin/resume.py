"""Claims of an interrupted run: they stand, and pytest runs them with its hooks, but without fixtures and body."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence

import pytest

from auditkit.pytest_plugin.outcomes import set_outcome
from auditkit.record.schema import Claim


class TakenOver:
    """Makes the reports of claims that an earlier process measured.

    Args:
        finished: node id -> the claim as the journal has it.
    """

    def __init__(self, items: Sequence[pytest.Item], finished: Mapping[str, Claim]) -> None:
        self.finished = finished
        for item in items:
            if item.nodeid in finished:
                # Replaced, not emptied: parametrised tests share the list. What no item asks for is not built.
                item.fixturenames = []  # type: ignore[attr-defined]  # of functions, not of items in general

    @pytest.hookimpl(tryfirst=True)
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> bool | None:
        return True if pyfuncitem.nodeid in self.finished else None

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        earlier = self.finished.get(item.nodeid)
        if earlier is not None and (call.when == "call" or (call.when == "setup" and not report.passed)):
            set_outcome(report, earlier, item)  # no entry: it is in the journal already
        return report
