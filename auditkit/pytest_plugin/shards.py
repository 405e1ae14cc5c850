"""`--shard I/N`: one part of the claims, so that several machines measure one plan; `auditkit merge` joins the runs.

Every shard plans all claims, so that all have one plan and each can say what it leaves to the others. As with several
processes on one machine, a suite stays whole: its claims share what its fixtures have measured.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest

from auditkit.pytest_plugin.options import refusal


def elsewhere(claims: Sequence[pytest.Item], which: int, number: int) -> set[pytest.Item]:
    """The claims that the other shards measure. Suites go, the largest first, to the shard with the fewest claims.

    Args:
        which: this shard, counted from 1.
        number: how many shards there are.

    Raises:
        pytest.UsageError: there are fewer suites than shards.
    """
    suites = Counter(item.path.parent for item in claims)
    if number > len(suites):
        raise refusal(
            f"--shard {which}/{number}: a suite stays in one shard, and {len(suites)} suites have claims; use at most "
            f"{len(suites)} shards"
        )
    loads = [0] * number
    place = {}
    for suite, size in sorted(suites.items(), key=lambda entry: (-entry[1], str(entry[0]))):
        place[suite] = loads.index(min(loads))
        loads[place[suite]] += size
    return {item for item in claims if place[item.path.parent] != which - 1}
