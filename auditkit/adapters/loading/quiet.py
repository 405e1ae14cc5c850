"""Loading without chatter: transformers' bars and warnings are not the user's news."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet() -> Iterator[None]:
    """Hide progress bars, log lines below errors, and Python warnings of transformers inside the block.

    Also where the run turns warnings into errors: one of a library's own would read as a model that cannot be loaded.
    What was made up or dropped while loading is not left to warnings; `causal.refuse_unlike` refuses it.
    """
    from transformers.utils import logging

    bars, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
