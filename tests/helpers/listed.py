"""What is written down of each model family holds under the library versions that it was found with.

A family may gain or lose a capability with another release of transformers. Under the versions that docs/conformance.md
names, that is a failure. Under others it is told as a warning, so that the tests still pass on new releases and say
what changed there.
"""

from __future__ import annotations

import warnings
from importlib import metadata
from pathlib import Path

TABLE = Path(__file__).parents[2] / "docs" / "conformance.md"
_DECIDING = ("torch", "transformers", "nnterp", "nnsight")


class ConformanceChanged(UserWarning):
    """A family offers something else than the page says, under other versions than the page names."""


def made_with() -> str:
    """The line of the page that names the versions it was made with, for those that are installed."""
    # the build of torch ("+cpu") decides no capability
    found = [f"{name} {metadata.version(name).split('+')[0]}" for name in _DECIDING]
    return f"Made with {', '.join(found)}."


def same_versions() -> bool:
    """Whether the page was made with the installed versions."""
    return made_with() in TABLE.read_text().splitlines()


def agrees(found: object, listed: object, what: str) -> None:
    """Ask that what a family offers is what is written down of it.

    Raises:
        AssertionError: they differ under the versions of the page. Under others a `ConformanceChanged` warning says
            how they differ.
    """
    if found == listed:
        return
    message = f"{what}: {found!r}, written down is {listed!r}"
    if same_versions():
        raise AssertionError(message)
    warnings.warn(f"{message} ({made_with()})", ConformanceChanged, stacklevel=2)
