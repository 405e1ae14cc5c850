"""A progress bar for long work, shown where the run says and nowhere else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TextIO, TypeVar

T = TypeVar("T")

_stream: ContextVar[TextIO | None] = ContextVar("auditkit_progress_stream", default=None)


@contextmanager
def progress_to(stream: TextIO) -> Iterator[None]:
    """Draw progress bars on `stream` while the block runs (a test runner captures the usual ones)."""
    token = _stream.set(stream)
    try:
        yield
    finally:
        _stream.reset(token)


def progress(work: Iterable[T], description: str, total: int) -> Iterable[T]:
    """Iterate over `work` with a bar, on a terminal only; it vanishes when done."""
    from tqdm import tqdm

    stream = _stream.get()
    bar: Iterable[T] = tqdm(
        work,
        desc=description,
        total=total,
        file=stream,
        leave=False,
        dynamic_ncols=True,
        delay=1.0,
        disable=None if stream is None else not stream.isatty(),
    )
    return bar
