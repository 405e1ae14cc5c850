"""One layout of a model that people have: how to build it, and what opening it comes to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

READ = "read"


@dataclass(frozen=True)
class Layout:
    """A row of the table of layouts.

    Attributes:
        name: what it is, in words.
        build: an empty folder -> what a user writes after `--model`.
        outcome: "read", or the sentence of the refusal, with {path} for what `build` returned.
    """

    name: str
    build: Callable[[Path], Path | str]
    outcome: str
