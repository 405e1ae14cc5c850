"""`--shard I/N`: one part of the claims, so that several machines measure one plan; `auditkit merge` joins the runs.

Every shard plans all claims, so that all have one plan and each can say what it leaves to the others. As with several
processes on one machine, a suite stays whole: its claims share what its fixtures have measured.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import pytest


def read_shard(text: str) -> tuple[int, int]:
    """(which, of how many) of "I/N", counted from 1.

    Raises:
        ValueError: in one line.
    """
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
    which, number = map(int, found.groups()) if found else (0, 0)
    if not 1 <= which <= number:
        raise ValueError(f"--shard {text}: write I/N, from 1/N to N/N")
    return which, number


def elsewhere(claims: Sequence[pytest.Item], text: str) -> set[pytest.Item]:
    """The claims that the other shards measure. Suites go, the largest first, to the shard with the fewest claims.

    Raises:
        pytest.UsageError: there are fewer suites than shards.
    """
    which, number = read_shard(text)
    suites = Counter(item.path.parent for item in claims)
    if number > len(suites):
        raise pytest.UsageError(
            f"--shard {text}: a suite stays in one shard, and {len(suites)} suites have claims; use at most "
            f"{len(suites)} shards"
        )
    loads = [0] * number
    place = {}
    for suite, size in sorted(suites.items(), key=lambda entry: (-entry[1], str(entry[0]))):
        place[suite] = loads.index(min(loads))
        loads[place[suite]] += size
    return {item for item in claims if place[item.path.parent] != which - 1}
