"""What pytest met while it collected, whoever left some of it out later. Every session loads this: nothing heavy."""

from __future__ import annotations

from pathlib import Path

import pytest


class Seen:
    """What the collected files hold, selected or not.

    Attributes:
        items: node id -> test.
        classes: node ids of classes that were met and not read.
        files: files that were read.
        whole: collecting came to its end.
    """

    def __init__(self) -> None:
        self.items: dict[str, pytest.Item] = {}
        self.classes: set[str] = set()
        self.files: set[Path] = set()
        self.whole = False


seen_key: pytest.StashKey[Seen] = pytest.StashKey()
