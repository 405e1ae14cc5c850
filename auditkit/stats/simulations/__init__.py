"""Simulated experiments behind the error rates that the documentation states.

    python -m auditkit.stats.simulations docs/statistics.md [NAME ...]

replaces every block between `<!-- simulated: NAME -->` and `<!-- end -->` by its table, or only the blocks that are
named. Thousands of experiments are computed at once on arrays; tests check that these arrays give what the estimates of
a suite give. Seeds are fixed: the tables change only with the methods.

Each module holds the tables of one topic in `TABLES`: block name -> function that returns the Markdown table. A new
topic is registered below.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from pathlib import Path

from auditkit.stats.simulations import (
    crossings,
    groups,
    intervals,
    proportions,
    rates_paired,
    reuse,
    selection,
    sequences,
    skewed,
    strata,
)

TOPICS = (intervals, crossings, skewed, strata, reuse, sequences, proportions, rates_paired, groups, selection)


def tables() -> dict[str, Callable[[], str]]:
    """Block name -> function that simulates its table.

    Raises:
        ValueError: for a name that two topics give.
    """
    found: dict[str, Callable[[], str]] = {}
    for topic in TOPICS:
        twice = found.keys() & topic.TABLES.keys()
        if twice:
            raise ValueError(f"two simulations are called {', '.join(sorted(twice))}; rename one of them")
        found |= topic.TABLES
    return found


def write(page: Path, names: Collection[str] = (), made: dict[str, Callable[[], str]] | None = None) -> None:
    """Replace the table of every block of the page, or only of the blocks with these names.

    Args:
        made: the simulations to take the tables from; by default all there are.

    Raises:
        ValueError: for a name that no block has, or a block that no simulation makes; the page is then left alone.
    """
    made = tables() if made is None else made
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"<!-- simulated: (.+?) -->", text)
    unknown = [name for name in names if name not in blocks]
    if unknown:
        raise ValueError(f"{page} has no block {', '.join(unknown)}; it has {', '.join(blocks)}")
    wanted = set(names or blocks)
    orphans = [name for name in blocks if name in wanted and name not in made]
    if orphans:
        raise ValueError(f"no simulation makes the block {', '.join(orphans)}; there are {', '.join(made)}")

    def table(match: re.Match[str]) -> str:
        name = match[1]
        return f"<!-- simulated: {name} -->\n{made[name]()}\n<!-- end -->" if name in wanted else match[0]

    page.write_text(
        re.sub(r"<!-- simulated: (.+?) -->.*?<!-- end -->", table, text, flags=re.DOTALL), encoding="utf-8"
    )
