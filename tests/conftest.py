"""Shared by all tests: every test belongs to exactly one tier."""

from __future__ import annotations

import pytest

TIERS = ("unit", "model", "slow")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = __file__.rsplit("/", 1)[0]
    for item in items:
        if not str(item.path).startswith(here):
            continue
        tiers = [name for name in TIERS if item.get_closest_marker(name)]
        if len(tiers) != 1:
            raise pytest.UsageError(
                f"{item.nodeid} must carry exactly one of the marks {', '.join(TIERS)}: {tiers}"
            )
