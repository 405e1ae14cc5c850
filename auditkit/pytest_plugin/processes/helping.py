"""What a process does when its own claims are decided: help those that are not done, and whose claims it can measure.

A helper measures the claims of another process, each as the test that it is, and lets its verdicts go. What comes of it
are rows of batches in the folder of the exchange (`auditkit.engine.exchange`), which the other process then need not
measure itself. Helpers begin at different claims, so that they divide measurements as well as batches.
"""

from __future__ import annotations

import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import pytest

from auditkit.engine.exchange.folder import Unwanted
from auditkit.pytest_plugin.conditions import made_with
from auditkit.pytest_plugin.options import RunOptions
from auditkit.pytest_plugin.terminal import say

_EVERY = 0.5
"""Seconds between two looks at whether anything is left to help with."""


@dataclass(frozen=True)
class Division:
    """How the processes of one run divide measurements.

    Attributes:
        folder: the one in which they exchange rows.
        asked: what decides numbers besides models and a measurement's own arguments, such as the digests of plans.
        claims: the claims of all of them.
        place: where among these this process begins to help, as a share of them, from 0 to below 1.
    """

    folder: Path
    asked: tuple[str, ...]
    claims: Sequence[pytest.Item]
    place: float

    def from_here(self) -> list[pytest.Item]:
        """All claims, in the order in which this process helps with them."""
        first = int(self.place * len(self.claims))
        return [*self.claims[first:], *self.claims[:first]]


class Helped(NamedTuple):
    """What came of helping with a claim.

    Attributes:
        set_up: its fixtures were made, and stand for the next claim.
        gave_way: it was left, since all that was left to run was under way in other processes.
        batches: that were run here.
    """

    set_up: bool
    gave_way: bool
    batches: int


def help_with(
    claims: Sequence[pytest.Item],
    wanted: Callable[[Sequence[pytest.Item]], list[pytest.Item]],
    measure: Callable[[pytest.Item, pytest.Item | None], Helped],
) -> int:
    """Measure claims as long as one is wanted. One that gave way comes again behind the others. How many were begun.

    Args:
        claims: at least one.
        wanted: those of some claims that another process has yet to decide.
        measure: measures a claim; its second argument is the claim that is going to be next, for which fixtures are
            kept.
    """
    begun, left, state = set[str](), deque(claims), claims[0].session._setupstate
    in_vain, began = 0, time.monotonic()
    try:
        with suppress(Unwanted), _while_any(claims, wanted):
            while left := deque(wanted(left)):
                item = left.popleft()
                begun.add(item.nodeid)
                helped = measure(item, left[0] if left else None)
                if helped.gave_way:
                    left.append(item)
                if not helped.set_up or not wanted([*left][:1]):  # made in part, or for a claim that nobody wants
                    state.teardown_exact(None)
                in_vain = in_vain + 1 if helped.gave_way and not helped.batches else 0
                if in_vain == 0:
                    began = time.monotonic()
                elif in_vain >= len(left):  # all that is left is under way: another round as long as the last one
                    time.sleep(max(_EVERY, time.monotonic() - began))
                    in_vain, began = 0, time.monotonic()
    finally:
        state.teardown_exact(None)
    return len(begun)


@contextmanager
def _while_any(
    claims: Sequence[pytest.Item], wanted: Callable[[Sequence[pytest.Item]], list[pytest.Item]]
) -> Iterator[None]:
    """End the block when no claim is wanted any more, whatever it does then: nobody waits for its results.

    Raises:
        Unwanted: in the block.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def look(number: int, frame: FrameType | None) -> None:
        if not wanted(claims):
            signal.setitimer(signal.ITIMER_REAL, 0)
            raise Unwanted("all claims were decided")

    before = signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, _EVERY, _EVERY)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before or signal.SIG_DFL)


def asked(plans: Iterable[str]) -> tuple[str, ...]:
    """What decides numbers besides the models and what a measurement is of.

    Args:
        plans: digests of what is asked of each model.
    """
    return (*sorted(plans), made_with().get("gpu", "no GPU"))


def division_of_shard(options: RunOptions, plans: Iterable[str], claims: Sequence[pytest.Item]) -> Division | None:
    """How a shard divides measurements with the others, where they name a folder.

    Args:
        plans: as for `asked`.
        claims: those of all shards.
    """
    folder, shard = options.exchange, options.shard
    if folder is None or shard is None:
        return None
    return Division(folder, asked(plans), claims, (shard[0] - 0.5) / shard[1])


class HelpingShard:
    """Lets a shard help when its record is written, so that nothing that happens then can cost it a claim.

    Args:
        help_others: helps.
        is_whole: whether every claim is recorded.
    """

    def __init__(self, help_others: Callable[[], None], is_whole: Callable[[], bool]) -> None:
        self._help, self._is_whole = help_others, is_whole

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Registered behind the session's own, which writes the record, and so called behind it."""
        if not self._is_whole():
            return
        try:
            _in_good_order(session, self._help)
        except KeyboardInterrupt:
            say(session.config, "stopped helping; its own claims are measured and recorded")


class HelpingWorker:
    """Lets a worker of xdist help when it has no tests left.

    Args:
        help_others: helps.
    """

    def __init__(self, help_others: Callable[[], None]) -> None:
        self._help = help_others

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        result = yield
        _in_good_order(session, self._help)
        return result


def _in_good_order(session: pytest.Session, help_others: Callable[[], None]) -> None:
    """Help; whatever goes wrong is said, and costs no claim."""
    try:
        help_others()
    except Exception as error:  # the claims of this process are decided, and those of others are not its own
        say(session.config, f"stopped helping: {type(error).__name__}: {error}")
