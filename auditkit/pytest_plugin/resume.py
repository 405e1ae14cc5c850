"""Interrupted runs: how Ctrl-C and SIGTERM end a session, which command goes on, and claims that are taken over.

A run that is stopped ends in good order and leaves no file half-written. In the run that goes on, its finished claims
stand: pytest runs them with its hooks, but without fixtures and body.
"""

from __future__ import annotations

import math
import shlex
import signal
import threading
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType

import pytest

from auditkit.claims.suites import as_written
from auditkit.pytest_plugin.baseline import without
from auditkit.pytest_plugin.options import RunOptions
from auditkit.pytest_plugin.outcomes import set_outcome
from auditkit.pytest_plugin.run import WrittenRun
from auditkit.record.identity import has_digest
from auditkit.record.schema import Claim

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_ONE_PRESS = 1.0
"""Seconds in which several signals count as one: the system tells a process of its parent's death once per thread."""


class Stop:
    """Lets SIGTERM end a session as Ctrl-C does, and knows that the session was told to end.

    pytest's own exit status does not say it: a second signal, while pytest still reports the first, leaves the status
    of a session in which all is well.
    """

    def __init__(self) -> None:
        self.told = False
        """A signal has told the session to end."""
        self._since = -math.inf

    def listen(self, config: pytest.Config) -> None:
        """Hear the signals until pytest is done. A Ctrl-C that the parent process had ignored stays ignored."""
        if threading.current_thread() is not threading.main_thread():
            return
        heard = [signal.SIGTERM]
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            heard.append(signal.SIGINT)
        before = {number: signal.signal(number, self._interrupt) for number in heard}

        def restore() -> None:
            for number, handler in before.items():
                signal.signal(number, handler or signal.SIG_DFL)

        config.add_cleanup(restore)

    @contextmanager
    def finishing(self) -> Iterator[None]:
        """Let the block come to its end when the session is told to stop; told a second time, it stops at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in _SIGNALS}

        def once(number: int, frame: FrameType | None) -> None:
            if self._is_new():
                for number in _SIGNALS:
                    signal.signal(number, self._interrupt)

        for number in _SIGNALS:
            signal.signal(number, once)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler or signal.SIG_DFL)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        self.told = True
        if self._is_new():
            raise KeyboardInterrupt

    def _is_new(self) -> bool:
        """Whether a signal is more than the echo of the last one."""
        now = time.monotonic()
        if now - self._since <= _ONE_PRESS:
            return False
        self._since = now
        return True


def go_on(args: Sequence[str], options: RunOptions, written: Sequence[WrittenRun], opened: bool) -> Iterator[str]:
    """The commands that continue an interrupted session, a line each, or that there is nothing to continue.

    Args:
        args: how pytest was called.
        written: the runs of the session.
        opened: a model was opened, so that a journal was begun.
    """
    cut = [run for run in written if run.cut_off]
    if not opened:
        again = "run the same command again"
        yield (
            again
            if options.resume is not None
            else f"nothing was measured, so there is nothing to resume: {again}"
        )
    for run in cut:
        if not has_digest(run.record.model):
            yield f"{run.folder} cannot be resumed: its weights have no digest, so they may have changed by then"
            continue
        several = len(options.models) > 1
        rest = without(args, ("model", "resume") if several else ("resume", "budget"))
        model = ["--model", run.spec] if several else []
        effort = [] if options.budget is None else ["--effort", options.effort]
        command = shlex.join([*as_written(rest), *model, *effort, "--resume", str(run.folder)])
        bare = "" if several else " (--resume alone takes the newest run that was cut off)"
        yield f"to go on: {command}{bare}"


class ResumedClaims:
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
