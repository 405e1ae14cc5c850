"""Long work shows a bar on a terminal, and leaves nothing anywhere else."""

from __future__ import annotations

import io
import time

import pytest

from auditkit.engine.progress import progress, progress_to

pytestmark = pytest.mark.unit


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def slowly(stream: io.StringIO) -> str:
    with progress_to(stream):
        for _ in progress(range(3), "patching", 3):
            time.sleep(0.6)
    return stream.getvalue()


def test_a_terminal_sees_what_is_done_and_how_far() -> None:
    drawn = slowly(Terminal())
    assert "patching" in drawn
    assert "2/3" in drawn or "3/3" in drawn


def test_a_file_sees_nothing() -> None:
    assert slowly(io.StringIO()) == ""


def test_short_work_draws_no_bar() -> None:
    stream = Terminal()
    with progress_to(stream):
        assert list(progress([1, 2], "short", 2)) == [1, 2]
    assert "short" not in stream.getvalue()
